//! A processor's run queue: who waits for it, by virtual time.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use machine::{Machine, Nanoseconds};

use super::share::Competition;
use super::virtual_time::{Rate, VirtualTime};
use crate::domain::VcpuHandle;

struct Entry<M: Machine> {
    turn: VirtualTime,
    since: Nanoseconds,
    vcpu: VcpuHandle<M>,
}

/// Who waits for a processor. The next one is the last entry, so that taking it moves none of the others; of those whose
/// turn is the same, who has waited longest is next.
///
/// A domain grows older while its other vCPUs run: a turn may have become too early, never too late. So only who is next
/// has to be looked at again ([`RunQueue::refresh`]).
pub struct RunQueue<M: Machine> {
    entries: Vec<Entry<M>>,
}

impl<M: Machine> RunQueue<M> {
    /// A queue in which nobody waits.
    pub const fn new() -> Self {
        RunQueue { entries: Vec::new() }
    }

    /// Have room for `count` entries, so that entering one never allocates.
    pub fn reserve(&mut self, count: usize) -> Result<(), TryReserveError> {
        let missing = count.saturating_sub(self.entries.len());
        self.entries.try_reserve(missing)
    }

    /// Places that there are, taken or not.
    #[cfg(any(test, feature = "testing", debug_assertions))]
    pub fn places(&self) -> usize {
        self.entries.capacity()
    }

    /// The turn of the next one, and how fast its domain ages.
    pub fn first(&self) -> Option<(VirtualTime, Rate)> {
        let entry = self.entries.last()?;
        Some((entry.turn, entry.vcpu.domain().share.rate()))
    }

    /// Whoever is next by a turn that its domain has outgrown waits for its later turn, unless it has waited for long: its
    /// siblings run elsewhere meanwhile, and it would wait for ever.
    pub fn refresh(&mut self, now: Nanoseconds, competition: Competition) {
        // Each one moves back once at most: those behind it have been looked at by then.
        for _ in 0..self.entries.len() {
            let outgrown = |entry: &mut Entry<M>| {
                let share = &entry.vcpu.domain().share;
                let waited = now.saturating_sub(entry.since);
                entry.turn.before(share.age()) && waited < share.patience(competition)
            };
            let Some(entry) = self.entries.pop_if(outgrown) else {
                return;
            };
            self.insert(entry.vcpu.domain().share.age(), entry.since, entry.vcpu);
        }
    }

    /// Too few places, for a test.
    #[cfg(test)]
    pub fn sabotage_places(&mut self) {
        self.entries.shrink_to(0);
    }

    /// Enter a vCPU that waits since then.
    pub fn insert(&mut self, turn: VirtualTime, since: Nanoseconds, vcpu: VcpuHandle<M>) {
        let comes_later =
            |other: &Entry<M>| turn.before(other.turn) || (turn == other.turn && since < other.since);
        let index = self.entries.partition_point(comes_later);
        self.entries.insert(index, Entry { turn, since, vcpu });
    }

    /// Take the next one out.
    pub fn pop(&mut self) -> Option<VcpuHandle<M>> {
        self.entries.pop().map(|entry| entry.vcpu)
    }

    /// Take out the next of those for which `wanted` holds, by their turns.
    pub fn take(
        &mut self,
        mut wanted: impl FnMut(VirtualTime, &VcpuHandle<M>) -> bool,
    ) -> Option<VcpuHandle<M>> {
        let index = self
            .entries
            .iter()
            .rposition(|entry| wanted(entry.turn, &entry.vcpu))?;
        Some(self.entries.remove(index).vcpu)
    }

    /// Everyone who waits, the next one first.
    pub fn iter(&self) -> impl Iterator<Item = &VcpuHandle<M>> {
        self.entries.iter().rev().map(|entry| &entry.vcpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn who_has_had_least_is_next_and_equals_take_turns() {
        let kernel = testing::kernel();
        let domain = testing::domain(&kernel, 1, 4, 1);
        let mut queue = RunQueue::new();
        for (index, time) in [30, 10, 30, u64::MAX].into_iter().enumerate() {
            queue.insert(VirtualTime(time), 0, testing::vcpu(&domain, index as u32));
        }
        // Before zero, the shorter way round.
        assert_eq!(queue.first(), Some((VirtualTime(u64::MAX), Rate::of(256))));
        let order = [3, 1, 0, 2];
        assert!(queue.iter().map(|vcpu| vcpu.index).eq(order));
        assert_eq!(
            queue.take(|_, vcpu| vcpu.index == 0).map(|vcpu| vcpu.index),
            Some(0)
        );
        assert!(queue.take(|_, _| false).is_none());
        let mut taken = core::iter::from_fn(|| queue.pop());
        assert!(taken.by_ref().map(|vcpu| vcpu.index).eq([3, 1, 2]));
        assert_eq!(queue.first(), None);
    }

    #[test]
    fn who_is_next_by_a_turn_that_its_domain_has_outgrown_waits_for_the_later_one() {
        let kernel = testing::kernel();
        let [busy, idle] = [1, 2].map(|id| testing::domain(&kernel, id, 2, 1));
        let mut queue = RunQueue::new();
        queue.insert(VirtualTime(0), 0, testing::vcpu(&busy, 0));
        queue.insert(VirtualTime(5), 0, testing::vcpu(&busy, 1));
        queue.insert(VirtualTime(10), 0, testing::vcpu(&idle, 0));
        busy.share.grow_older(20);
        queue.refresh(30, Competition::default());
        assert_eq!(queue.first().map(|(turn, _)| turn), Some(VirtualTime(10)));
        idle.share.grow_older(20);
        queue.refresh(30, Competition::default());
        let mut taken = core::iter::from_fn(|| queue.pop());
        assert!(taken.by_ref().map(|vcpu| vcpu.domain_id.0).eq([1, 1, 2]));
    }

    #[test]
    fn who_is_looked_at_again_does_not_lose_its_place_among_siblings() {
        let kernel = testing::kernel();
        let domain = testing::domain(&kernel, 1, 2, 1);
        let mut queue = RunQueue::new();
        queue.insert(VirtualTime(0), 1, testing::vcpu(&domain, 0));
        domain.share.grow_older(20);
        queue.insert(VirtualTime(20), 2, testing::vcpu(&domain, 1));
        queue.refresh(30, Competition::default());
        assert!(queue.iter().map(|vcpu| vcpu.index).eq([0, 1]));
    }
}
