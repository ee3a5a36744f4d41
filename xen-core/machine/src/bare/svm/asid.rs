//! Address space identifiers: the tags that keep guests' translations apart in a processor's TLB.
//!
//! A vCPU has its tag on one processor at a time. To forget its translations it takes a fresh tag: the old one is not
//! handed out again before the processor has run out of tags, which begins a new turn by flushing everything. So flushing
//! one guest costs nothing but tags, and needs no support from hardware. Tags of older turns are void.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One processor's tags. Only that processor uses it; the atomics are for sharing the memory, not for order.
#[derive(Default)]
pub struct AsidAllocator {
    /// Tags below this exist; 0 is the host's.
    limit: AtomicU32,
    next: AtomicU32,
    turn: AtomicU64,
}

/// A tag, and the turn in which it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tag {
    pub asid: u32,
    pub turn: u64,
}

impl AsidAllocator {
    /// How many tags the processor has, 0 included. The first taken one flushes whatever was there before us.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit.max(2), Ordering::Relaxed);
        self.next.store(limit.max(2), Ordering::Relaxed);
    }

    /// Whether a tag that was taken here is still its owner's.
    #[inline]
    pub fn holds(&self, tag: Tag) -> bool {
        tag.turn == self.turn.load(Ordering::Relaxed)
    }

    /// A tag under which the TLB holds nothing; `true` with it when the whole TLB must be flushed to make that so.
    pub fn take(&self) -> (Tag, bool) {
        let next = self.next.load(Ordering::Relaxed);
        if next < self.limit.load(Ordering::Relaxed) {
            self.next.store(next.saturating_add(1), Ordering::Relaxed);
            return (
                Tag {
                    asid: next,
                    turn: self.turn.load(Ordering::Relaxed),
                },
                false,
            );
        }
        // 64 bits of turns do not come round.
        let turn = self.turn.load(Ordering::Relaxed).wrapping_add(1);
        self.turn.store(turn, Ordering::Relaxed);
        self.next.store(2, Ordering::Relaxed);
        (Tag { asid: 1, turn }, true)
    }

    /// A guest with a fresh tag was not entered after all, so that a flush that came with the tag may not have happened:
    /// the next tag begins a new turn, and flushes.
    pub fn distrust(&self) {
        self.next
            .store(self.limit.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_unique_within_a_turn_and_a_new_turn_flushes() {
        let tags = AsidAllocator::default();
        tags.set_limit(4);
        let (first, flush) = tags.take();
        assert!(flush && first.asid == 1);
        assert!(tags.holds(first) && !tags.holds(Tag::default()));
        assert_eq!(
            [tags.take(), tags.take()].map(|(tag, flush)| (tag.asid, flush)),
            [(2, false), (3, false)]
        );
        let (again, flush) = tags.take();
        assert!(flush && again.asid == 1 && !tags.holds(first) && tags.holds(again));
    }

    #[test]
    fn a_flush_that_may_not_have_happened_is_asked_for_again() {
        let tags = AsidAllocator::default();
        tags.set_limit(100);
        let (refused, flush) = tags.take();
        assert!(flush);
        tags.distrust();
        let (next, flush) = tags.take();
        assert!(flush && next.turn != refused.turn && !tags.holds(refused));
    }
}
