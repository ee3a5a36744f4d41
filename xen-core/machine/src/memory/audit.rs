//! Looking at all frames at once, for checks of the whole machine: nothing here changes anything.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{FrameInfo, FrameUse, Memory, NONE, ORDERS, OWNERS};
use crate::address::{HostFrame, Order, PAGE_SIZE};
use crate::frame_word::FrameWord;

pub use crate::frame_word::FrameState;

/// What is wrong with the allocator's lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreeFault {
    /// A link leads out of memory, or to a frame that cannot begin a block of this order.
    Misplaced {
        /// The list.
        order: u32,
        /// Where the link leads.
        frame: u64,
    },
    /// The frame's word does not say that a free block of this order begins there.
    Mislabelled {
        /// The list.
        order: u32,
        /// The block's first frame.
        frame: u64,
    },
    /// The link backwards does not lead to where the walk came from.
    Unlinked {
        /// The list.
        order: u32,
        /// The block's first frame.
        frame: u64,
    },
    /// The block and its buddy are both free: they were not merged.
    Unmerged {
        /// The list.
        order: u32,
        /// The block's first frame.
        frame: u64,
    },
    /// The lists hold more or fewer frames than the counters say; a list that never ends does, too.
    Miscounted {
        /// Found in the lists.
        found: u64,
        /// By the allocator's own counter.
        counted: u64,
        /// By the counter that everybody reads.
        published: u64,
    },
}

impl core::fmt::Display for FreeFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            FreeFault::Misplaced { order, frame } => {
                write!(
                    f,
                    "the list of order {order} leads to frame {frame:#x}, where no block can begin"
                )
            }
            FreeFault::Mislabelled { order, frame } => {
                write!(
                    f,
                    "frame {frame:#x} is in the list of order {order} and its word denies it"
                )
            }
            FreeFault::Unlinked { order, frame } => {
                write!(
                    f,
                    "frame {frame:#x} in the list of order {order} does not lead back"
                )
            }
            FreeFault::Unmerged { order, frame } => {
                write!(
                    f,
                    "the block of order {order} at frame {frame:#x} and its buddy are both free"
                )
            }
            FreeFault::Miscounted {
                found,
                counted,
                published,
            } => write!(
                f,
                "{found} frames are in the lists, {counted} by the allocator's count, {published} as published"
            ),
        }
    }
}

impl Memory {
    /// Every frame's word, from frame 0 on.
    pub fn frame_states(&self) -> impl Iterator<Item = FrameState> {
        self.table.iter().map(FrameWord::state)
    }

    /// Visit each free block. The allocator is locked meanwhile.
    ///
    /// # Errors
    /// What is wrong with the lists.
    pub fn walk_free(&self, mut visit: impl FnMut(HostFrame, Order)) -> Result<(), FreeFault> {
        let lists = self.free.lock();
        let mut found = 0;
        let miscounted = |found| FreeFault::Miscounted {
            found,
            counted: lists.free_frames,
            published: self.free_frames.load(Ordering::Relaxed),
        };
        for order in 0..ORDERS as u32 {
            let mut previous = NONE;
            let mut frame = lists.heads[order as usize];
            while frame != NONE {
                let end = frame.checked_add(1 << order);
                let fits = end.is_some_and(|end| end <= self.table.len() as u64);
                if !fits || frame & ((1 << order) - 1) != 0 {
                    return Err(FreeFault::Misplaced { order, frame });
                }
                if !self.table[frame as usize].is_head_of(order) {
                    return Err(FreeFault::Mislabelled { order, frame });
                }
                let [next, back] = self
                    .links(frame)
                    .each_ref()
                    .map(|link| link.load(Ordering::Relaxed));
                if back != previous {
                    return Err(FreeFault::Unlinked { order, frame });
                }
                if self.is_free_head(frame ^ (1 << order), order) && order < Order::ONE_GIB.value() {
                    return Err(FreeFault::Unmerged { order, frame });
                }
                found += 1 << order;
                if found > lists.free_frames {
                    return Err(miscounted(found));
                }
                if let Some(order) = Order::new(order) {
                    visit(HostFrame(frame), order);
                }
                (previous, frame) = (frame, next);
            }
        }
        if found != lists.free_frames || found != self.free_frames.load(Ordering::Relaxed) {
            return Err(miscounted(found));
        }
        Ok(())
    }

    fn is_free_head(&self, frame: u64, order: u32) -> bool {
        self.table
            .get(frame as usize)
            .is_some_and(|entry| entry.is_head_of(order))
    }

    /// All words of one of the core's own tables.
    ///
    /// # Safety
    /// `frame` is a [`FrameUse::Core`] frame that the caller owns and that holds a table of 64-bit words.
    pub(crate) unsafe fn table_entries(&self, frame: HostFrame) -> &[AtomicU64; 512] {
        // SAFETY: the caller's frame, whole and aligned; atomics tolerate concurrent walks by hardware.
        unsafe { &*self.pointer(frame.address()).cast::<[AtomicU64; 512]>() }
    }

    /// Whether a frame that is free and said to be clean holds nothing but the allocator's links; `None` for all others.
    pub fn is_scrubbed(&self, frame: HostFrame) -> Option<bool> {
        // Held, so that nobody takes the frame meanwhile.
        let _lists = self.free.lock();
        let state = self.table.get(frame.0 as usize)?.state();
        if state.frame_use() != FrameUse::Free || state.is_dirty() {
            return None;
        }
        let links = if state.is_head() {
            size_of_val(self.links(frame.0))
        } else {
            0
        };
        let start = self.pointer(frame.address());
        // SAFETY: the frame is free and the allocator is locked, so that nobody writes to it; it lies in the direct map,
        // whole and aligned.
        let words = unsafe { core::slice::from_raw_parts(start.cast::<u64>(), PAGE_SIZE / 8) };
        Some(words[links / 8..].iter().all(|&word| word == 0))
    }

    /// The sum of [`Memory::frames_owned`] over all domains that there could be: slow, some ten thousand looks.
    pub fn frames_owned_by_all(&self) -> u64 {
        (0..OWNERS as u16)
            .map(|owner| u64::from(self.frames_owned(owner)))
            .sum()
    }
}

/// Breaking things on purpose, so that the checks can be seen to find it.
#[cfg(not(target_os = "none"))]
impl Memory {
    /// Change a frame's reference count without a reference.
    pub fn sabotage_count(&self, frame: HostFrame, by: i32) {
        self.table[frame.0 as usize].sabotage(|info| FrameInfo {
            count: info.count.wrapping_add_signed(by),
            ..info
        });
    }

    /// Change a frame's owner in its word alone.
    pub fn sabotage_owner(&self, frame: HostFrame, owner: u16) {
        self.table[frame.0 as usize].sabotage(|info| FrameInfo { owner, ..info });
    }

    /// Change a frame's use in its word alone.
    pub fn sabotage_use(&self, frame: HostFrame, frame_use: FrameUse) {
        self.table[frame.0 as usize].sabotage(|info| FrameInfo { frame_use, ..info });
    }

    /// Change the counter of the core's frames.
    pub fn sabotage_core_frames(&self, by: u64) {
        self.core_frames.fetch_add(by, Ordering::Relaxed);
    }

    /// Read a word of a frame, whoever has it.
    pub fn sabotage_read(&self, frame: HostFrame, offset: usize) -> u64 {
        assert!(offset + 8 <= PAGE_SIZE && offset.is_multiple_of(8) && (frame.0 as usize) < self.table.len());
        // SAFETY: inside the arena, in one page, aligned; tests call this where nobody else is at work.
        unsafe { self.pointer(frame.address()).add(offset).cast::<u64>().read() }
    }

    /// Write a word into a frame, whoever has it.
    pub fn sabotage_bytes(&self, frame: HostFrame, offset: usize, value: u64) {
        assert!(offset + 8 <= PAGE_SIZE && offset.is_multiple_of(8) && (frame.0 as usize) < self.table.len());
        // SAFETY: inside the arena, in one page, aligned; tests call this where nobody else is at work.
        unsafe {
            self.pointer(frame.address())
                .add(offset)
                .cast::<u64>()
                .write(value)
        };
    }
}
