//! The end: what is said last, and how every processor is stopped.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{console, local_apic, processor};

static CRASHING: AtomicBool = AtomicBool::new(false);

/// Stop this processor for good.
pub fn halt() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}

/// This machine cannot run Xenolith: say why and what to do, in one line, and stop.
pub fn refuse(reason: fmt::Arguments<'_>) -> ! {
    console::print(format_args!("Xenolith cannot start: {reason}\nhalted\n"));
    halt()
}

/// A broken invariant of our own: say where, stop every processor.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    console::print_unlocked(format_args!("\nXenolith panic on {}: {info}\n", Here));
    print_backtrace(frame_pointer());
    end()
}

/// Whether some processor is crashing: then a non-maskable interrupt means "stop".
pub fn is_crashing() -> bool {
    CRASHING.load(Ordering::Acquire)
}

/// Claim the crash for this processor and stop the others. The second one to get here just stops.
pub fn begin() {
    if CRASHING.swap(true, Ordering::AcqRel) {
        halt();
    }
    if processor::current_is_known() {
        local_apic::stop_others();
    }
}

/// The last line.
pub fn end() -> ! {
    console::print_unlocked(format_args!("halted\n"));
    halt()
}

/// The processor that speaks, for messages.
pub struct Here;

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if processor::current_is_known() {
            write!(f, "processor {}", processor::current().id)
        } else {
            write!(f, "a starting processor")
        }
    }
}

fn frame_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Return addresses along the chain of frame pointers, as long as it stays on stacks of ours.
pub fn print_backtrace(mut frame: u64) {
    console::print_unlocked(format_args!("called from:"));
    for _ in 0..24 {
        if !frame.is_multiple_of(8)
            || !super::stack::is_mapped(frame)
            || !super::stack::is_mapped(frame.saturating_add(8))
        {
            break;
        }
        // SAFETY: two aligned words inside a mapped stack.
        let [next, address] = unsafe { *(frame as *const [u64; 2]) };
        console::print_unlocked(format_args!(" {address:#x}"));
        if next <= frame {
            break;
        }
        frame = next;
    }
    console::print_unlocked(format_args!("\n"));
}
