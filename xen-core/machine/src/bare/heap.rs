//! The core's heap.
//!
//! Small blocks come from `talc`, which grows by blocks of frames and begins with a little memory of the image, so that
//! the heap works from the first instruction. Blocks of several pages are frames of their own: they go back to the
//! allocator the moment they are freed, and do not break up the heap.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::NonNull;

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use super::layout;
use super::physical_memory::memory;
use crate::address::{HostAddress, HostFrame, Order, PAGE_SIZE};
use crate::memory::Memory;
use crate::sync::Lock;

const EARLY_SIZE: usize = 64 << 10;
/// Blocks of this size and more are frames of their own.
const LARGE: usize = 2 * PAGE_SIZE;
/// What the heap grows by: 256 KiB.
const GROWTH: u32 = 6;
/// What it makes do with when memory is in pieces: 16 KiB, into which any block below [`LARGE`] fits.
const LEAST_GROWTH: u32 = 2;

struct Heap(Lock<Talc<Manual, DefaultBinning>>);

#[global_allocator]
static HEAP: Heap = Heap(Lock::new(Talc::new(Manual)));

#[repr(align(16))]
struct Early(#[expect(dead_code, reason = "reached by address only")] [u8; EARLY_SIZE]);
static mut EARLY: Early = Early([0; EARLY_SIZE]);

/// Bytes that could still be allocated.
pub fn available() -> usize {
    memory().map_or(0, |memory| {
        (memory.free_frames() as usize).saturating_mul(PAGE_SIZE)
    })
}

impl Heap {
    fn small(&self, layout: Layout) -> Option<NonNull<u8>> {
        let mut talc = self.0.lock();
        if !talc.is_metadata_established() {
            // SAFETY: nobody else uses this memory, and this happens once: the first claim of that size succeeds.
            let _ = unsafe { talc.claim((&raw mut EARLY).cast(), EARLY_SIZE) };
        }
        // SAFETY: the size is not zero (`GlobalAlloc`'s contract).
        if let Some(block) = unsafe { talc.allocate(layout) } {
            return Some(block);
        }
        let memory = memory()?;
        // When guests have taken memory page by page there may be no large block left, and plenty of small ones.
        let (order, first) = (LEAST_GROWTH..=GROWTH).rev().find_map(|order| {
            let order = Order::new(order)?;
            Some((order, memory.allocate_core_as_it_is(order)?))
        })?;
        // SAFETY: frames of the core's own, mapped by the direct map, from now on the heap's forever. A block is below
        // `LARGE` and so fits into a fresh claim.
        unsafe {
            talc.claim(memory.pointer(first.address()), PAGE_SIZE << order.value())?;
            talc.allocate(layout)
        }
    }
}

/// A layout's block as frames of its own: the order to take, and the frames to keep of it.
fn large(layout: Layout) -> Option<(Order, u64)> {
    if layout.size() < LARGE || layout.align() > PAGE_SIZE {
        return None;
    }
    let frames = layout.size().div_ceil(PAGE_SIZE);
    Some((
        Order::new(frames.next_power_of_two().trailing_zeros())?,
        frames as u64,
    ))
}

fn allocate_frames(memory: &Memory, order: Order, frames: u64, zeroed: bool) -> Option<*mut u8> {
    let first = if zeroed {
        memory.allocate_core(order)
    } else {
        memory.allocate_core_as_it_is(order)
    }?;
    // SAFETY: the rest of the block was just allocated and is used by nobody.
    unsafe {
        free_frames(
            memory,
            first.saturating_add(frames)..first.saturating_add(order.frames()),
        )
    };
    Some(memory.pointer(first.address()))
}

/// Give frames back as the largest aligned blocks they are made of.
///
/// # Safety
/// The core's own frames, that nobody uses any more.
unsafe fn free_frames(memory: &Memory, frames: Range<HostFrame>) {
    let mut frame = frames.start;
    while frame < frames.end {
        let order = Order::largest(frame.0, frames.end.0.saturating_sub(frame.0));
        // SAFETY: the caller's promise, for a part.
        unsafe { memory.free_core(frame, order) };
        frame = frame.saturating_add(order.frames());
    }
}

// SAFETY: blocks come from `talc` or are frames of their own, never both; which one is told by the same layout and, for
// those made before there were frames, by the address.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match (large(layout), memory()) {
            (Some((order, frames)), Some(memory)) => allocate_frames(memory, order, frames, false),
            _ => self.small(layout).map(NonNull::as_ptr),
        };
        block.unwrap_or(core::ptr::null_mut())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let (Some((order, frames)), Some(memory)) = (large(layout), memory()) {
            return allocate_frames(memory, order, frames, true).unwrap_or(core::ptr::null_mut());
        }
        let Some(block) = self.small(layout) else {
            return core::ptr::null_mut();
        };
        // SAFETY: a fresh block of this size.
        unsafe { block.write_bytes(0, layout.size()) };
        block.as_ptr()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let physical = layout::direct_map_to_physical(block);
        match (large(layout), physical, memory()) {
            (Some((_, frames)), Some(physical), Some(memory)) => {
                let first = HostAddress(physical).frame();
                // SAFETY: `alloc` took exactly these frames for this layout, and the caller is done with them.
                unsafe { free_frames(memory, first..first.saturating_add(frames)) };
            }
            // SAFETY: all other blocks are `talc`'s, allocated with this layout.
            _ => unsafe { self.0.lock().deallocate(block, layout) },
        }
    }
}
