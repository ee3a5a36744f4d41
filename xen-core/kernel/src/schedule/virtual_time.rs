//! The time by which shares are measured: what a domain has had of its processors, divided by its weight.

use machine::Nanoseconds;

/// A point in virtual time. Points wrap around; two are compared by the shorter way between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VirtualTime(pub u64);

impl VirtualTime {
    /// How far this is past another; negative when it is before.
    pub fn past(self, other: VirtualTime) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// Whether it comes before another.
    pub fn before(self, other: VirtualTime) -> bool {
        self.past(other) < 0
    }

    /// So much later.
    pub fn later(self, by: u64) -> VirtualTime {
        VirtualTime(self.0.wrapping_add(by))
    }

    /// So much earlier.
    pub fn earlier(self, by: u64) -> VirtualTime {
        VirtualTime(self.0.wrapping_sub(by))
    }

    /// The later of two.
    pub fn or_later(self, other: VirtualTime) -> VirtualTime {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two.
    pub fn or_earlier(self, other: VirtualTime) -> VirtualTime {
        if other.before(self) { other } else { self }
    }
}

/// How fast a domain ages while one of its vCPUs runs: 16 binary places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate(pub u64);

impl Rate {
    /// The rate of a domain with `weight`. At the default weight of 256 a nanosecond is 256 units.
    pub fn of(weight: u32) -> Rate {
        Rate((1 << 32) / u64::from(weight.max(1)))
    }

    /// Who runs for so long gets so much older.
    pub fn virtual_of(self, time: Nanoseconds) -> u64 {
        ((u128::from(time).wrapping_mul(u128::from(self.0))) >> 16) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_compared_the_shorter_way_round() {
        let last = VirtualTime(u64::MAX);
        assert!(last.before(last.later(2)) && !last.later(2).before(last));
        assert_eq!(last.later(2).past(last), 2);
        assert_eq!(last.or_later(last.later(1)), VirtualTime(0));
        assert_eq!(last.or_earlier(last.later(1)), last);
        assert_eq!(VirtualTime(1).earlier(2), last);
    }

    #[test]
    fn twice_the_weight_ages_half_as_fast() {
        assert_eq!(Rate::of(256).virtual_of(1000), 256_000);
        assert_eq!(Rate::of(512).virtual_of(1000), 128_000);
        // The greatest weight is not rounded away, nor does the least one wrap around within an hour.
        assert_eq!(Rate::of(65535).virtual_of(1_000_000), 1_000_015);
        assert!(Rate::of(1).virtual_of(3_600_000_000_000) < u64::MAX / 2);
    }
}
