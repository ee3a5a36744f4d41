//! Stacks with unmapped pages around them, so that an overflow is a fault and never another's data.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::address_space;
use super::layout::STACKS;
use crate::address::PAGE_SIZE;

/// A processor's own stack.
pub const PROCESSOR_STACK: u64 = 64 << 10;
/// A stack for one kind of exception.
pub const EXCEPTION_STACK: u64 = 16 << 10;

/// Distance between two stacks' tops: what a stack does not fill stays unmapped.
const STRIDE: u64 = 128 << 10;
static STACKS_MADE: AtomicU64 = AtomicU64::new(0);

/// Make a stack of `size` bytes; returns one past its highest byte.
pub fn make(size: u64) -> u64 {
    assert!(size <= STRIDE - 2 * PAGE_SIZE as u64, "no room for guard pages");
    let number = STACKS_MADE.fetch_add(1, Ordering::Relaxed);
    // The topmost page of each slot stays unmapped, too.
    let top = STACKS + (number + 1) * STRIDE - PAGE_SIZE as u64;
    address_space::map_core_memory(top - size, size);
    top
}

/// Whether a word at this address can be read as part of a stack (or of the image's data, where the first stack is).
pub fn is_mapped(address: u64) -> bool {
    let image = super::layout::image();
    let in_image = (super::layout::IMAGE_BASE + image.start..super::layout::IMAGE_BASE + image.end - 8)
        .contains(&address);
    let made = STACKS + STACKS_MADE.load(Ordering::Relaxed) * STRIDE;
    in_image || ((STACKS..made).contains(&address) && address_space::is_mapped(address))
}

/// Whether an address lies between stacks: touching it was an overflow.
pub fn is_guard(address: u64) -> bool {
    let made = STACKS + STACKS_MADE.load(Ordering::Relaxed) * STRIDE;
    (STACKS..made).contains(&address) && !address_space::is_mapped(address)
}

/// Leave the stack that is in use forever and go on with `work` on another.
pub fn continue_on(top: u64, work: Box<dyn FnOnce()>) -> ! {
    extern "C" fn begin(work: *mut Box<dyn FnOnce()>) -> ! {
        // SAFETY: the pointer made below, handed over once.
        let work = unsafe { Box::from_raw(work) };
        work();
        unreachable!("the work on a stack of its own never ends");
    }
    let work = Box::into_raw(Box::new(work));
    // SAFETY: the new stack is mapped and unused; nothing on the old one is needed any more. The pushed zero ends
    // backtraces and aligns the stack as a call would.
    unsafe {
        core::arch::asm!(
            "mov rsp, {top}", "xor ebp, ebp", "push rbp", "jmp {begin}",
            top = in(reg) top, begin = sym begin, in("rdi") work, options(noreturn)
        )
    }
}
