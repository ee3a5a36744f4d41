//! When interrupts are taken, and what their handlers do: note them down, no more.
//!
//! The core runs with interrupts off. They are let in at two places: [`window`], after a guest was left because of one,
//! and [`wait`], when there is nothing to run. So no lock of the core is ever held when a handler runs on the same
//! processor, and a handler only sets bits of [`Processor`](super::processor::Processor) and acknowledges.

use core::arch::asm;

/// Let the interrupts that wait be taken, then shut them out again.
///
/// Called after a guest's exit by an interrupt (with the global interrupt flag set), from the core's ordinary stack.
#[inline]
pub fn window() {
    // SAFETY: handlers only touch the current processor's atomics and its APIC. The two NOPs outlast STI's shadow.
    unsafe { asm!("sti", "nop", "nop", "cli", options(nostack)) };
}
