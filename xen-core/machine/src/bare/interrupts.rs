//! When interrupts are taken, and what their handlers do: note them down, no more.
//!
//! The core runs with interrupts off. They are let in at two places: [`window`], after a guest was left because of one,
//! and [`wait`], when there is nothing to run. So no lock of the core's is ever held when a handler runs on the same
//! processor, and a handler only sets bits of [`Processor`](super::processor::Processor) and acknowledges.

use core::arch::asm;

use super::{lines, local_apic, processor, timer};

/// The vectors in use. A higher one is served first.
pub mod vector {
    /// The first of the vectors for devices' lines.
    pub const LINES: u8 = 0x30;
    /// One past the last of them.
    pub const LINES_END: u8 = LINES + crate::bare::processor::MAX_LINES as u8;
    /// The console's UART.
    pub const CONSOLE: u8 = 0xe0;
    /// The local APIC's timer.
    pub const TIMER: u8 = 0xf0;
    /// Another processor wants this one to look up.
    pub const KICK: u8 = 0xf1;
    /// The local APIC's own complaints.
    pub const APIC_ERROR: u8 = 0xfe;
    /// An interrupt that went away before it was taken: not to be acknowledged.
    pub const SPURIOUS: u8 = 0xff;
}

/// Let the interrupts that wait be taken, then shut them out again.
///
/// Called after a guest's exit by an interrupt (with the global interrupt flag set), from the core's ordinary stack.
#[inline]
pub fn window() {
    // SAFETY: handlers only touch the current processor's atomics and its APIC. The two NOPs outlast STI's shadow.
    unsafe { asm!("sti", "nop", "nop", "cli", options(nostack)) };
}

/// Wait until something happens, unless something has happened already.
pub fn wait() {
    let current = processor::current();
    timer::notice(current);
    // The controller looks once more at what it holds for us: emulators are known to forget to tell.
    local_apic::look_again();
    if current.has_pending() {
        return;
    }
    // SAFETY: as above. An interrupt that came since the look above is held back until HLT waits for it: STI takes
    // effect after the next instruction only.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// An interrupt's handler: all of them.
pub fn handle(number: u8) {
    let current = processor::current();
    match number {
        vector::TIMER => current.note_timer(),
        // Whoever kicks has noted it already.
        vector::KICK => {}
        vector::CONSOLE => current.note_console(),
        vector::LINES..vector::LINES_END => lines::fired(current, u32::from(number - vector::LINES)),
        vector::APIC_ERROR => local_apic::clear_error(),
        // Spurious ones, and what the legacy controller sends before it is silent, want no acknowledgement.
        _ => return,
    }
    local_apic::acknowledge();
}
