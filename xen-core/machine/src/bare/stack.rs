//! Stacks with unmapped pages around them, so that an overflow is a fault and never another's data.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::address_space;
use super::layout::{self, STACKS};
use crate::address::PAGE_SIZE;

/// A processor's own stack.
pub const PROCESSOR_STACK: u64 = 64 << 10;
/// A stack for one kind of exception.
pub const EXCEPTION_STACK: u64 = 16 << 10;

/// Distance between two stacks' tops: what a stack does not fill stays unmapped.
const STRIDE: u64 = 128 << 10;
const PAGE: u64 = PAGE_SIZE as u64;
static STACKS_MADE: AtomicU64 = AtomicU64::new(0);
static BOOT: AtomicU64 = AtomicU64::new(0);

/// What each word of a stack holds that was never written.
const PAINT: u64 = 0x7a11_7a11_7a11_7a11;

/// Make a stack of `size` bytes; returns one past its highest byte.
pub fn make(size: u64) -> u64 {
    const { assert!(PROCESSOR_STACK <= STRIDE - 2 * PAGE && EXCEPTION_STACK <= STRIDE - 2 * PAGE) };
    let top = top_of(STACKS_MADE.fetch_add(1, Ordering::Relaxed));
    let bottom = top.saturating_sub(size);
    address_space::map_core_memory(bottom, size);
    for word in (bottom..top).step_by(size_of::<u64>()) {
        // SAFETY: memory that was just mapped here, and that nobody knows of yet.
        unsafe { (word as *mut u64).write_volatile(PAINT) };
    }
    top
}

/// Where a stack's slot ends; the topmost page of each stays unmapped, too.
fn top_of(number: u64) -> u64 {
    end_of(number.saturating_add(1)).saturating_sub(PAGE)
}

/// Where the slots of so many stacks end.
fn end_of(stacks: u64) -> u64 {
    STACKS.saturating_add(stacks.saturating_mul(STRIDE))
}

/// All addresses that stacks can have.
fn slots() -> core::ops::Range<u64> {
    STACKS..end_of(STACKS_MADE.load(Ordering::Relaxed))
}

/// Whether a word at this address can be read as part of a stack (or of the image's data, where the first stack is).
pub fn is_mapped(address: u64) -> bool {
    let image = layout::image_addresses();
    let in_image = image.start <= address && address.saturating_add(8) <= image.end;
    in_image || (slots().contains(&address) && address_space::is_mapped(address))
}

/// Whether an address lies between stacks: touching it was an overflow.
pub fn is_guard(address: u64) -> bool {
    slots().contains(&address) && !address_space::is_mapped(address)
}

/// Boot is over: what it used of the stack that is in use is noted, and the rest is painted again for what comes.
pub fn note_boot() {
    let here: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    BOOT.store(most_used(PROCESSOR_STACK), Ordering::Relaxed);
    let number = here.saturating_sub(STACKS) / STRIDE;
    let bottom = top_of(number).saturating_sub(PROCESSOR_STACK);
    // What this function calls stays clear of that.
    const OWN: u64 = 1024;
    for word in (bottom..here.saturating_sub(OWN)).step_by(size_of::<u64>()) {
        // SAFETY: on the stack in use, and so far down that nothing is there.
        unsafe { (word as *mut u64).write_volatile(PAINT) };
    }
}

/// The most that boot used of its processor's stack.
pub fn used_by_boot() -> u64 {
    BOOT.load(Ordering::Relaxed)
}

/// The most that was ever in use of the stacks of this size: of processors' since boot.
pub fn most_used(size: u64) -> u64 {
    let tops = (0..STACKS_MADE.load(Ordering::Relaxed)).map(top_of);
    tops.filter(|&top| is_of_size(top, size))
        .map(|top| {
            let bottom = top.saturating_sub(size);
            // SAFETY: mapped, for good. A processor that uses the stack meanwhile writes what was written before, or further
            // down than was looked: then this is the answer of a moment ago.
            let painted = |&word: &u64| unsafe { (word as *const u64).read_volatile() } == PAINT;
            let written = (bottom..top)
                .step_by(size_of::<u64>())
                .find(|word| !painted(word));
            top.saturating_sub(written.unwrap_or(top))
        })
        .max()
        .unwrap_or(0)
}

/// Whether the stack that ends there has this size: it is mapped so far down, and no further.
fn is_of_size(top: u64, size: u64) -> bool {
    let bottom = top.saturating_sub(size);
    address_space::is_mapped(bottom) && !address_space::is_mapped(bottom.saturating_sub(PAGE))
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
