//! A domain's share of the processors: its weight, its cap, and what is left of it.

use machine::Nanoseconds;
use machine::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::fair::SLICE;
use super::virtual_time::{Rate, VirtualTime};

/// The weight of a domain that was given none.
pub const DEFAULT_WEIGHT: u32 = 256;
/// The greatest weight: Xen's.
pub const MOST_WEIGHT: u32 = 65535;
/// A cap is kept to in periods of this length.
pub const CAP_PERIOD: Nanoseconds = 10_000_000;
/// A capped vCPU that is given a processor may keep it for this long, however little is left: what it takes too much, the
/// next periods lack.
const LEAST_RUN: Nanoseconds = 100_000;

/// Of what it was not given in time, a capped domain keeps one part of so many of a period's for the next one.
const SAVED: i64 = 4;

/// For how long a vCPU waits while its siblings have their domain's share, if the share is all of a processor.
pub const PATIENCE: Nanoseconds = 20_000_000;

/// Who competes for how much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Competition {
    /// Processors of the pool.
    pub processors: u32,
    /// Weights of the domains that compete for them, in sum.
    pub weights: u64,
}

/// What a domain may have of the processors.
pub struct Share {
    weight: AtomicU32,
    /// In percent of one processor; 0 is no cap.
    cap: AtomicU32,
    /// What it has had of processors that others wanted, divided by its weight.
    age: AtomicU64,
    /// vCPUs that run or wait for a processor.
    contenders: AtomicU32,
    /// Its weight as it is counted among those that compete in its pool; 0 while it does not.
    counted: AtomicU32,
    /// What is left of the cap in this period; below zero, in two's complement, when too much was taken.
    budget: AtomicU64,
    /// When the period ends.
    period_end: AtomicU64,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            weight: AtomicU32::new(DEFAULT_WEIGHT),
            cap: AtomicU32::new(0),
            age: AtomicU64::new(0),
            contenders: AtomicU32::new(0),
            counted: AtomicU32::new(0),
            budget: AtomicU64::new(0),
            period_end: AtomicU64::new(0),
        }
    }
}

impl Share {
    /// The weight, 1 to [`MOST_WEIGHT`].
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The cap in percent of one processor; 0 is none.
    pub fn cap(&self) -> u32 {
        self.cap.load(Ordering::Relaxed)
    }

    /// Another weight and another cap, both in their limits. A period begins anew.
    pub(super) fn set(&self, weight: u32, cap: u32, now: Nanoseconds) {
        self.weight.store(weight, Ordering::Relaxed);
        let before = self.cap.swap(cap, Ordering::Relaxed);
        if before != cap {
            self.budget.store(quota(cap) as u64, Ordering::Relaxed);
            self.period_end
                .store(now.saturating_add(CAP_PERIOD), Ordering::Relaxed);
        }
    }

    /// How fast it ages while a vCPU of it runs.
    pub(super) fn rate(&self) -> Rate {
        Rate::of(self.weight())
    }

    /// Its age, in virtual time.
    pub fn age(&self) -> VirtualTime {
        VirtualTime(self.age.load(Ordering::Relaxed))
    }

    /// It has become so much older.
    pub(crate) fn grow_older(&self, by: u64) {
        self.age.fetch_add(by, Ordering::Relaxed);
    }

    /// Bring its age into bounds. Several processors may do so at once: then it ends a little outside of them.
    pub(super) fn bound_age(&self, least: Option<VirtualTime>, most: Option<VirtualTime>) {
        let age = self.age();
        let bounded = least.map_or(age, |least| age.or_later(least));
        let bounded = most.map_or(bounded, |most| bounded.or_earlier(most));
        if bounded != age {
            self.age.fetch_add(bounded.past(age) as u64, Ordering::Relaxed);
        }
    }

    /// One more vCPU wants to run. Says whether it is the first.
    pub(crate) fn joins(&self) -> bool {
        self.contenders.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// One fewer. Says whether it was the last.
    pub(crate) fn leaves(&self) -> bool {
        self.contenders.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Count it among those that compete for a pool's processors, of whose weights `sum` is the sum, or count it no more.
    /// What is counted twice at once may be wrong until the next time; the sum is always that of what is counted.
    pub(super) fn count_in(&self, sum: &AtomicU64, competes: bool) {
        let counted = if competes { self.weight() } else { 0 };
        let before = self.counted.swap(counted, Ordering::Relaxed);
        let change = u64::from(counted).wrapping_sub(u64::from(before));
        sum.fetch_add(change, Ordering::Relaxed);
    }

    /// vCPUs that run or wait for a processor.
    pub(crate) fn contenders(&self) -> u32 {
        self.contenders.load(Ordering::Relaxed)
    }

    /// How fast it ages while a vCPU of it runs, among those that compete. A weight that promises more than its vCPUs can use counts as one that promises just that: what a
    /// domain cannot have it does not save up. Beside nobody else nobody ages.
    pub(super) fn rate_among(&self, among: Competition) -> Rate {
        let (weight, vcpus) = (self.weight(), self.contenders());
        let others = among.weights.saturating_sub(u64::from(weight));
        let left = u64::from(among.processors.saturating_sub(vcpus));
        if others == 0 {
            return Rate(0);
        }
        let usable = others.saturating_mul(u64::from(vcpus)).checked_div(left);
        let usable = usable.map_or(weight, |usable| u32::try_from(usable).unwrap_or(u32::MAX));
        Rate::of(weight.min(usable).max(1))
    }

    /// For how long one of its vCPUs waits while its siblings run: a little, and twice as long as all of them in turn need
    /// to have a slice each.
    pub(super) fn patience(&self, among: Competition) -> Nanoseconds {
        let slices = u64::from(self.contenders()).saturating_mul(2 * SLICE);
        let part = u64::from(self.weight().max(1)).saturating_mul(u64::from(among.processors.max(1)));
        PATIENCE.saturating_add(slices.saturating_mul(among.weights) / part)
    }

    /// How long one of its vCPUs that begins to run now may do so; `None` without a cap. All that run take from the same.
    pub(super) fn allowance(&self, now: Nanoseconds) -> Option<Nanoseconds> {
        if self.cap() == 0 {
            return None;
        }
        let left = u64::try_from(self.left(now)).unwrap_or(0);
        let each = left / u64::from(self.contenders().max(1));
        Some(each.max(LEAST_RUN))
    }

    /// Whether its cap is used up, and until when.
    pub(super) fn exhausted(&self, now: Nanoseconds) -> Option<Nanoseconds> {
        if self.cap() == 0 || self.left(now) > 0 {
            return None;
        }
        Some(self.period_end.load(Ordering::Relaxed))
    }

    /// It has run for so long.
    pub(super) fn spend(&self, time: Nanoseconds) {
        if self.cap() != 0 {
            self.budget.fetch_sub(time, Ordering::Relaxed);
        }
    }

    /// What is left by now: periods that have ended since are added, and what was not used of them is gone.
    fn left(&self, now: Nanoseconds) -> i64 {
        let end = self.period_end.load(Ordering::Relaxed);
        if now >= end {
            let periods = (now.saturating_sub(end) / CAP_PERIOD).saturating_add(1);
            let next = end.saturating_add(periods.saturating_mul(CAP_PERIOD));
            let renewed = self
                .period_end
                .compare_exchange(end, next, Ordering::Relaxed, Ordering::Relaxed);
            // One of those who see the end renews; who comes second finds it done or under way.
            if renewed.is_ok() {
                let quota = quota(self.cap());
                let added = i64::try_from(periods).unwrap_or(i64::MAX).saturating_mul(quota);
                let _ = self
                    .budget
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        let most = quota.saturating_add(quota / SAVED);
                        Some((left as i64).saturating_add(added).min(most) as u64)
                    });
            }
        }
        self.budget.load(Ordering::Relaxed) as i64
    }
}

/// A cap's part of a period.
fn quota(cap: u32) -> i64 {
    i64::from(cap).saturating_mul((CAP_PERIOD / 100) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_renewed_each_period_and_what_was_taken_too_much_is_missing() {
        let share = Share::default();
        assert_eq!((share.allowance(0), share.exhausted(0)), (None, None));
        share.set(256, 25, 0);
        assert_eq!(share.allowance(0), Some(2_500_000));
        share.spend(2_600_000);
        assert_eq!(share.exhausted(3_000_000), Some(CAP_PERIOD));
        assert_eq!(share.exhausted(CAP_PERIOD), None);
        assert_eq!(share.allowance(CAP_PERIOD), Some(2_400_000));
        // Of what is not used, a little is saved.
        assert_eq!(share.allowance(10 * CAP_PERIOD), Some(3_125_000));
        share.spend(30_000_000);
        assert!(share.exhausted(11 * CAP_PERIOD).is_some());
        assert!(share.exhausted(22 * CAP_PERIOD).is_none());
        share.set(256, 0, 0);
        assert_eq!(share.exhausted(0), None);
    }

    #[test]
    fn siblings_share_what_is_left() {
        let share = Share::default();
        share.set(256, 100, 0);
        assert_eq!([0; 4].map(|_| share.joins()), [true, false, false, false]);
        assert_eq!(share.allowance(0), Some(2_500_000));
        assert_eq!([0; 4].map(|_| share.leaves()), [false, false, false, true]);
        assert_eq!(share.allowance(0), Some(10_000_000));
    }

    #[test]
    fn a_weight_that_promises_too_much_counts_as_what_can_be_used() {
        let share = Share::default();
        share.joins();
        let among = |processors: u32, weights: u64| share.rate_among(Competition { processors, weights });
        // Beside 128 on two processors, one vCPU can use as much as the other: one of them.
        assert_eq!(among(2, 256 + 128), Rate::of(128));
        assert_eq!(among(1, 256 + 128), Rate::of(256));
        assert_eq!(among(2, 256 + 1024), Rate::of(256));
        assert_eq!(among(2, 256), Rate(0), "alone");
    }
}
