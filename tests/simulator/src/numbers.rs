//! Numbers that are the same in each run of one seed, and the kinds of them that make handlers stumble.

use hypercall_abi::DomainId;

/// A generator: splitmix64, which needs one addition and two multiplications for each number and has no bad seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Numbers(seed)
    }

    /// A sequence of its own for a part of the whole, which is the same for the same seed and part.
    pub fn part(seed: u64, part: u64) -> Self {
        let mut numbers = Numbers(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        numbers.next();
        numbers
    }

    /// The next number.
    #[allow(
        clippy::should_implement_trait,
        reason = "it never ends: an iterator's Option would be noise"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; zero when there is none.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number of a range, whose end may occur.
    pub fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True `share` times `of` such questions.
    pub fn chance(&mut self, share: u64, of: u64) -> bool {
        self.below(of) < share
    }

    /// One of a few.
    ///
    /// # Panics
    /// When there is none: lists here are constants.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// One of a few by its weight.
    ///
    /// # Panics
    /// When there is none: lists here are constants.
    pub fn weighted<T: Copy>(&mut self, from: &[(T, u32)]) -> T {
        let total: u64 = from.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let mut left = self.below(total);
        for &(value, weight) in from {
            match left.checked_sub(u64::from(weight)) {
                Some(rest) => left = rest,
                None => return value,
            }
        }
        from[0].0
    }

    /// A border, or close by: what comparisons, shifts and sums get wrong.
    pub fn border(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(u32::MAX) + self.below(2),
            3 => i64::MAX as u64 + self.below(2),
            4 => i32::MAX as u64 + self.below(2),
            5 => 1 << self.below(64),
            6 => (1u64 << self.below(64)).wrapping_sub(1),
            7 => (1u64 << self.below(64)).wrapping_add(1),
            8 => (self.below(64) << 12)
                .wrapping_add(self.below(17))
                .wrapping_sub(8),
            9 => u64::MAX - self.below(4096),
            10 => u64::from(u16::MAX) + self.below(2),
            _ => u64::MAX << self.below(64),
        }
    }

    /// Anything at all: small numbers, borders, addresses, reserved domains, noise.
    pub fn word(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => self.below(64),
            2 => u64::from(DomainId::FIRST_RESERVED.0) + self.below(16),
            3 => self.below(1 << 20),
            4 => self.below(256) << 12,
            5 => self.next(),
            _ => self.border(),
        }
    }

    /// A number close to another one, but not it.
    pub fn near(&mut self, value: u64) -> u64 {
        match self.below(6) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value ^ (1 << self.below(64)),
            3 => value ^ (1 << self.below(16)),
            4 => value.wrapping_add(self.within(2, 17)),
            _ => !value,
        }
    }

    /// How many elements an array has: few mostly, now and then enough for a call to be cut in pieces.
    pub fn length(&mut self, most: usize) -> usize {
        let length = match self.below(64) {
            0..20 => 1,
            20..40 => self.within(1, 4),
            40..58 => self.within(2, 12),
            58 => 0,
            59..63 => self.within(8, 48),
            _ => self.within(32, 320),
        };
        (length as usize).min(most)
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let mut first = Numbers::new(7);
        let mut second = Numbers::new(7);
        let mut third = Numbers::new(8);
        let values: Vec<u64> = (0..100).map(|_| first.next()).collect();
        assert!(values.iter().all(|&value| value == second.next()));
        assert!(values.iter().any(|&value| value != third.next()));
        assert_ne!(Numbers::part(7, 0), Numbers::part(7, 1));
        assert_eq!(Numbers::part(7, 3), Numbers::part(7, 3));
    }

    #[test]
    fn limits_are_kept_and_reached() {
        let mut numbers = Numbers::new(1);
        assert_eq!(numbers.below(0), 0);
        assert_eq!(numbers.below(1), 0);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[numbers.below(10) as usize] = true;
            assert!((5..=7).contains(&numbers.within(5, 7)));
            assert!(numbers.length(300) <= 300);
            assert_ne!(numbers.near(17), 17);
        }
        assert_eq!(seen, [true; 10]);
    }

    #[test]
    fn weights_are_shares() {
        let mut numbers = Numbers::new(1);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[numbers.weighted(&[(0, 1), (1, 0), (2, 3)])] += 1;
        }
        assert!((2000..3000).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
    }
}
