//! A frame's word in the frame table: who owns the frame, what it is used for, how many references there are; and each step
//! from one state to the next.
//!
//! Free, claimed, referenced, let go, free again: processors take these steps on one word without a lock. Any number of them
//! may hold references and take or drop more; the one that drops the last scrubs the frame, and only then is it free. Here is
//! all that touches the words, so that `loom` can try every order of two and three processors' steps (the tests below).

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{FrameInfo, FrameUse, NO_OWNER};
use crate::sync::interleave;

/// Count (bits 0-31), owner (32-47), use (48-55), order of a free block (56-61), head of a free block (62), dirty (63: holds
/// bytes of its last use). All zeroes is a frame that is no memory of ours, without references.
pub(crate) struct FrameWord(AtomicU64);

const COUNT_MASK: u64 = 0xffff_ffff;
/// Past this many references further ones are refused, far from overflow.
const COUNT_LIMIT: u64 = 0x7fff_ffff;
const HEAD: u64 = 1 << 62;
const DIRTY: u64 = 1 << 63;

const fn word(count: u64, owner: u16, frame_use: FrameUse) -> u64 {
    count | ((owner as u64) << 32) | ((frame_use as u64) << 48)
}

const FREE: u64 = word(0, NO_OWNER, FrameUse::Free);
const CORE: u64 = word(1, NO_OWNER, FrameUse::Core);

fn word_use(bits: u64) -> FrameUse {
    FrameUse::from_bits((bits >> 48) as u8)
}

fn word_order(bits: u64) -> u32 {
    ((bits >> 56) & 0x3f) as u32
}

fn info(bits: u64) -> FrameInfo {
    FrameInfo {
        count: (bits & COUNT_MASK) as u32,
        owner: (bits >> 32) as u16,
        frame_use: word_use(bits),
    }
}

impl FrameWord {
    /// What it says now.
    pub(crate) fn info(&self) -> FrameInfo {
        interleave();
        info(self.0.load(Ordering::Acquire))
    }

    /// A frame that was nobody's is free from now on; `clean` says that it holds only zeroes. `false`: it was somebody's.
    pub(crate) fn give(&self, clean: bool) -> bool {
        let bits = FREE | if clean { 0 } else { DIRTY };
        self.0
            .compare_exchange(0, bits, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// A free frame that the allocator gave gets an owner, a use and its first reference; `clean` is called before, if the
    /// frame holds bytes of its last use. Nobody but the caller knows the frame: anything else is our own broken invariant.
    pub(crate) fn claim(&self, owner: u16, frame_use: FrameUse, clean: impl FnOnce()) {
        let before = self.0.load(Ordering::Acquire);
        assert!(
            word_use(before) == FrameUse::Free && before & COUNT_MASK == 0,
            "allocator gave a frame in use"
        );
        if before & DIRTY != 0 {
            clean();
        }
        let claimed = word(1, owner, frame_use);
        let swap = self
            .0
            .compare_exchange(before, claimed, Ordering::AcqRel, Ordering::Acquire);
        assert!(swap.is_ok(), "a frame changed hands twice");
    }

    /// One more reference to a guest's frame, whoever owns it. `false` for frames that are no guest's, are being freed, or
    /// have too many references.
    pub(crate) fn reference(&self) -> bool {
        interleave();
        let mut bits = self.0.load(Ordering::Acquire);
        loop {
            let count = bits & COUNT_MASK;
            let guests = matches!(word_use(bits), FrameUse::Ram | FrameUse::Shared);
            if !guests || count == 0 || count >= COUNT_LIMIT {
                return false;
            }
            // No carry out of the count: it is below its limit.
            let more = bits.wrapping_add(1);
            interleave();
            match self
                .0
                .compare_exchange_weak(bits, more, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(now) => bits = now,
            }
        }
    }

    /// Drop one reference. If it was the last, `scrub` is called, the frame is free (but in no list yet), and what it was is
    /// returned. While `scrub` runs nobody reaches the frame: no reference is left, and none can be had of a count of zero.
    pub(crate) fn put(&self, scrub: impl FnOnce()) -> Option<FrameInfo> {
        interleave();
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        assert!(before & COUNT_MASK != 0, "a reference dropped twice");
        if before & COUNT_MASK != 1 {
            return None;
        }
        scrub();
        self.0.store(FREE, Ordering::Release);
        Some(info(before))
    }

    /// A frame of the core's own is free from now on, with whatever bytes it holds.
    pub(crate) fn put_core(&self) {
        let swap = self
            .0
            .compare_exchange(CORE, FREE | DIRTY, Ordering::AcqRel, Ordering::Acquire);
        assert!(swap.is_ok(), "a frame freed that is not the core's");
    }

    // Free blocks are marked at their first frame. Only the allocator does it, under its lock, to frames that are free:
    // nobody else changes the word of such a frame, so a load and a store are as good as an exchange.

    /// A free block of this order begins here.
    pub(crate) fn is_head_of(&self, order: u32) -> bool {
        let bits = self.0.load(Ordering::Acquire);
        bits & HEAD != 0 && word_use(bits) == FrameUse::Free && word_order(bits) == order
    }

    /// From now on a free block of this order begins here; or, with `None`, none.
    pub(crate) fn mark_head(&self, order: Option<u32>) {
        let dirty = self.0.load(Ordering::Relaxed) & DIRTY;
        let head = order.map_or(0, |order| HEAD | (u64::from(order) << 56));
        self.0.store(FREE | dirty | head, Ordering::Release);
    }
}

/// A frame's whole word, for checks of the whole machine.
#[cfg(any(not(target_os = "none"), debug_assertions))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameState(u64);

#[cfg(any(not(target_os = "none"), debug_assertions))]
impl FrameState {
    /// Count, owner and use.
    pub fn info(self) -> FrameInfo {
        info(self.0)
    }

    /// References held.
    #[inline]
    pub fn count(self) -> u32 {
        (self.0 & COUNT_MASK) as u32
    }

    /// The owning domain's id.
    #[inline]
    pub fn owner(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// What the frame is used for.
    #[inline]
    pub fn frame_use(self) -> FrameUse {
        word_use(self.0)
    }

    /// It is the first of a block in the allocator's lists.
    #[inline]
    pub fn is_head(self) -> bool {
        self.0 & HEAD != 0
    }

    /// It holds bytes of its last use.
    #[inline]
    pub fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }
}

/// For checks of the whole machine.
#[cfg(any(not(target_os = "none"), debug_assertions))]
impl FrameWord {
    /// All that it says now. No other processor runs before that, on the host.
    pub(crate) fn state(&self) -> FrameState {
        FrameState(self.0.load(Ordering::Acquire))
    }

    /// Break it on purpose, so that checks can be seen to find it.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn sabotage(&self, change: impl FnOnce(FrameInfo) -> FrameInfo) {
        const INFO: u64 = (1 << 56) - 1;
        let bits = self.0.load(Ordering::Acquire);
        let changed = change(info(bits));
        let info = word(u64::from(changed.count), changed.owner, changed.frame_use);
        self.0.store((bits & !INFO) | info, Ordering::Release);
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p machine --release --lib interleavings`: every order in which processors' steps on one word
/// can happen, as the memory model allows them. The frame's bytes are a cell that loom watches: two processors that reach them at
/// once without an order between them, one of them writing, fail the test.
#[cfg(all(test, loom))]
mod interleavings {
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::*;

    const FIRST: u16 = 1;
    const SECOND: u16 = 2;

    struct Frame {
        word: FrameWord,
        bytes: UnsafeCell<u32>,
        /// The allocator's list under its lock: whether the frame is in it.
        listed: Mutex<bool>,
    }

    // SAFETY: that the cell is reached by one processor at a time is what the tests find out.
    unsafe impl Sync for Frame {}
    // SAFETY: as above.
    unsafe impl Send for Frame {}

    impl Frame {
        /// Claimed by the first domain, with one reference.
        fn claimed() -> Arc<Self> {
            let frame = Frame {
                word: FrameWord(AtomicU64::new(0)),
                bytes: UnsafeCell::new(0),
                listed: Mutex::new(false),
            };
            assert!(frame.word.give(true));
            frame
                .word
                .claim(FIRST, FrameUse::Ram, || unreachable!("a clean frame"));
            Arc::new(frame)
        }

        fn read(&self) -> u32 {
            // SAFETY: loom looks for accesses that are not ordered.
            self.bytes.with(|bytes| unsafe { *bytes })
        }

        fn write(&self, value: u32) {
            // SAFETY: loom looks for accesses that are not ordered.
            self.bytes.with_mut(|bytes| unsafe { *bytes = value });
        }

        /// Drop a reference as `Memory` does: the last one scrubs, then the frame goes to the list.
        fn put(&self) -> bool {
            let freed = self.word.put(|| self.write(0));
            if freed.is_some() {
                *self.listed.lock().unwrap() = true;
            }
            freed.is_some()
        }

        /// Take the frame from the list and claim it, if it is there.
        fn allocate(&self, owner: u16) -> bool {
            let listed = std::mem::take(&mut *self.listed.lock().unwrap());
            if listed {
                self.word
                    .claim(owner, FrameUse::Ram, || unreachable!("a scrubbed frame"));
            }
            listed
        }
    }

    #[test]
    fn of_several_that_let_go_exactly_one_frees() {
        loom::model(|| {
            let frame = Frame::claimed();
            assert!(frame.word.reference() && frame.word.reference());
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let frame = frame.clone();
                    thread::spawn(move || {
                        frame.read();
                        frame.put()
                    })
                })
                .collect();
            frame.read();
            let mut freed = usize::from(frame.put());
            for other in others {
                freed += usize::from(other.join().unwrap());
            }
            assert_eq!(freed, 1);
            assert_eq!(
                (frame.word.info().frame_use, frame.word.info().count),
                (FrameUse::Free, 0)
            );
        });
    }

    #[test]
    fn a_frame_is_not_scrubbed_under_who_got_a_reference_in_time() {
        loom::model(|| {
            let frame = Frame::claimed();
            frame.write(7);
            let late = {
                let frame = frame.clone();
                thread::spawn(move || {
                    let reached = frame.word.reference();
                    if reached {
                        assert_eq!(frame.read(), 7, "scrubbed while somebody held it");
                        frame.put();
                    }
                    reached
                })
            };
            let freed = frame.put();
            let reached = late.join().unwrap();
            assert!(freed || reached, "nobody freed it");
            assert_eq!(frame.word.info().frame_use, FrameUse::Free);
        });
    }

    #[test]
    fn the_next_owner_finds_nothing_of_the_last() {
        loom::model(|| {
            let frame = Frame::claimed();
            frame.write(7);
            let next = {
                let frame = frame.clone();
                thread::spawn(move || {
                    let got = frame.allocate(SECOND);
                    if got {
                        assert_eq!(frame.read(), 0, "bytes of the last owner");
                        frame.write(9);
                        assert!(frame.put());
                    }
                    got
                })
            };
            assert!(frame.put());
            let got = next.join().unwrap();
            // In the list again, or still: somebody gets it, clean.
            assert!(frame.allocate(FIRST), "lost; taken before: {got}");
            assert_eq!(frame.read(), 0);
        });
    }

    #[test]
    fn a_reference_by_number_meets_one_owner_or_the_next_and_never_a_free_frame() {
        loom::model(|| {
            let frame = Frame::claimed();
            frame.write(7);
            let reuse = {
                let frame = frame.clone();
                thread::spawn(move || {
                    frame.put();
                    if frame.allocate(SECOND) {
                        frame.read();
                        frame.put();
                    }
                })
            };
            // A foreign mapping looks the number up while it changes hands: what it holds stays what it is.
            if frame.word.reference() {
                let owner = frame.word.info().owner;
                assert!(matches!(owner, FIRST | SECOND));
                let seen = frame.read();
                assert_eq!(seen, if owner == FIRST { 7 } else { 0 });
                assert_eq!(frame.word.info().owner, owner, "changed hands under a reference");
                frame.put();
            }
            reuse.join().unwrap();
            assert_eq!(
                (frame.word.info().frame_use, frame.word.info().count),
                (FrameUse::Free, 0)
            );
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn references_end_far_from_overflow() {
        let frame = FrameWord(AtomicU64::new(word(COUNT_LIMIT - 1, 1, FrameUse::Ram)));
        assert!(frame.reference());
        assert!(!frame.reference(), "one more could wrap into the owner");
        assert_eq!(u64::from(frame.info().count), COUNT_LIMIT);
        assert_eq!(frame.put(|| unreachable!("not the last")), None);
        assert!(frame.reference());
    }

    #[test]
    fn marks_of_free_blocks_keep_what_the_frame_holds() {
        let frame = FrameWord(AtomicU64::new(0));
        assert!(frame.give(false) && !frame.give(true), "given once");
        frame.mark_head(Some(9));
        assert!(frame.is_head_of(9) && !frame.is_head_of(8));
        frame.mark_head(None);
        assert!(!frame.is_head_of(9));
        let mut cleaned = false;
        frame.claim(3, FrameUse::Shared, || cleaned = true);
        assert!(cleaned, "it was never said to be clean");
        assert_eq!((frame.info().owner, frame.info().count), (3, 1));
    }
}
