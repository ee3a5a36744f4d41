//! Memory that runs out when a test says so: the n-th allocation fails, once or from then on.
//!
//! Two sources are watched, each with a count of its own: frames of the machine's allocator, and the host's heap, if the
//! program's global allocator is [`FailingHeap`]. What simulated guests and the fake machine itself allocate is exempt:
//! only the core's own allocations fail.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

/// What can run out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Frames of the machine's memory.
    Frames,
    /// The core's heap.
    Heap,
}

/// One source's countdown.
struct Count {
    /// Allocations until one fails; [`NEVER`] while none does.
    left: Cell<u64>,
    /// All later ones fail as well.
    lasting: Cell<bool>,
    /// Allocations seen and refused.
    seen: Cell<u64>,
    refused: Cell<u64>,
}

const NEVER: u64 = u64::MAX;

impl Count {
    const fn new() -> Count {
        Count {
            left: Cell::new(NEVER),
            lasting: Cell::new(false),
            seen: Cell::new(0),
            refused: Cell::new(0),
        }
    }

    fn refuses(&self) -> bool {
        if EXEMPT.get() != 0 {
            return false;
        }
        self.seen.set(self.seen.get() + 1);
        match self.left.get() {
            NEVER => false,
            0 => {
                if !self.lasting.get() {
                    self.left.set(NEVER);
                }
                self.refused.set(self.refused.get() + 1);
                true
            }
            more => {
                self.left.set(more - 1);
                false
            }
        }
    }
}

std::thread_local! {
    static FRAMES: Count = const { Count::new() };
    static HEAP: Count = const { Count::new() };
    /// How many callers want no failures at the moment. Outside of simulated processors there are none.
    static EXEMPT: Cell<u32> = const { Cell::new(1) };
}

fn with<R>(source: Source, act: impl FnOnce(&Count) -> R) -> R {
    match source {
        Source::Frames => FRAMES.with(act),
        Source::Heap => HEAP.with(act),
    }
}

/// Let the allocation after the next `after` ones fail, and with `lasting` all that follow.
pub fn arm(source: Source, after: u64, lasting: bool) {
    with(source, |count| {
        count.left.set(after);
        count.lasting.set(lasting);
    });
}

/// Let nothing fail any more. Returns whether the failure was still to come.
pub fn disarm(source: Source) -> bool {
    with(source, |count| {
        count.left.replace(NEVER) != NEVER && !count.lasting.get()
    })
}

/// Allocations that the core has asked for on this thread, and those refused.
pub fn counts(source: Source) -> (u64, u64) {
    with(source, |count| (count.seen.get(), count.refused.get()))
}

/// Whether the machine's allocator refuses this time.
pub(crate) fn frames_refused() -> bool {
    FRAMES.with(Count::refuses)
}

/// What `act` allocates does not fail.
pub fn exempt<R>(act: impl FnOnce() -> R) -> R {
    let _exempted = Exempted::new(1);
    act()
}

/// What `act` allocates is the core's, and may fail.
pub(super) fn watched<R>(act: impl FnOnce() -> R) -> R {
    let before = EXEMPT.replace(0);
    let _back = Exempted { back_to: before };
    act()
}

struct Exempted {
    back_to: u32,
}

impl Exempted {
    fn new(more: u32) -> Exempted {
        let back_to = EXEMPT.get();
        EXEMPT.set(back_to + more);
        Exempted { back_to }
    }
}

impl Drop for Exempted {
    fn drop(&mut self) {
        EXEMPT.set(self.back_to);
    }
}

/// The exemptions at the moment: a processor takes its own along when its turn ends.
pub(super) fn exemptions() -> u32 {
    EXEMPT.get()
}

/// Go on with such exemptions.
pub(super) fn set_exemptions(exempt: u32) {
    EXEMPT.set(exempt);
}

/// The host's heap, which fails when told so: for a program's `#[global_allocator]`.
pub struct FailingHeap;

// SAFETY: every request goes to the system's allocator as it is, or is refused with null, as the contract allows.
unsafe impl GlobalAlloc for FailingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if HEAP.try_with(Count::refuses).unwrap_or(false) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's contract, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what was given came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if HEAP.try_with(Count::refuses).unwrap_or(false) {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's contract, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if HEAP.try_with(Count::refuses).unwrap_or(false) {
            return core::ptr::null_mut();
        }
        // SAFETY: what was given came from the system's allocator; the rest is the caller's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
