//! Arenas: the memory of fake machines. It lives as long as the program, since frames are `'static`; a machine that ends
//! with all its frames free hands its arena on to the next one of that size.

use alloc::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use alloc::boxed::Box;
use alloc::vec::Vec;
use std::sync::{Mutex, PoisonError};

use crate::address::{HostFrame, PAGE_SIZE};
use crate::memory::Memory;

/// Frames below this one are no memory, like firmware's and devices' on a real machine.
pub const FIRST_FREE_FRAME: u64 = 256;

static POOL: Mutex<Vec<&'static Memory>> = Mutex::new(Vec::new());

/// Memory of `mebibytes` in all, the reserved first one included.
pub(super) fn take(mebibytes: usize) -> &'static Memory {
    let frames = (mebibytes.max(2) << 20) as u64 / PAGE_SIZE as u64;
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    match pool.iter().position(|memory| memory.frame_count() == frames) {
        Some(index) => pool.swap_remove(index),
        None => make(frames),
    }
}

/// Keep an arena for the next machine, unless somebody still holds some of its frames.
pub(super) fn give_back(memory: &'static Memory) {
    if memory.free_frames() == memory.total_frames() {
        POOL.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

fn make(frames: u64) -> &'static Memory {
    let direct_map = zeroed_pages(frames as usize * PAGE_SIZE);
    let metadata = zeroed_pages(Memory::metadata_size(frames));
    // SAFETY: both are zeroed, page-aligned, of the size asked for, never freed and known to nobody else; the first
    // serves as host addresses from 0 to the number of frames.
    let memory = unsafe { Memory::new(direct_map, frames, metadata) };
    // SAFETY: these frames are inside the arena, and nobody else knows it.
    unsafe { memory.add_free(HostFrame(FIRST_FREE_FRAME), frames - FIRST_FREE_FRAME, true) };
    Box::leak(Box::new(memory))
}

fn zeroed_pages(bytes: usize) -> *mut u8 {
    let size = bytes.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
    let layout = Layout::from_size_align(size, PAGE_SIZE).expect("a size that fits the address space");
    // SAFETY: the layout's size is not zero.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        handle_alloc_error(layout);
    }
    start
}
