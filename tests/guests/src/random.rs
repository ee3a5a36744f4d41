//! Repeatable garbage.

/// A xorshift generator: the same seed gives the same attack.
pub struct Random(u64);

impl Random {
    /// From a seed; zero, which the generator could never leave, becomes something else.
    pub const fn new(seed: u64) -> Random {
        Random(if seed == 0 { 0x9e37_79b9_7f4a_7c15 } else { seed })
    }

    /// Any 64 bits.
    #[allow(
        clippy::should_implement_trait,
        reason = "it never ends: an iterator's Option would only be in the way"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The low bits are the weakest.
        (self.next() >> 16) % limit.max(1)
    }

    /// Once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number as attackers like them: small, a power of two, one off it, all ones, or anything.
    pub fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(64),
            1 => 1 << self.below(64),
            2 => (1u64 << self.below(64)).wrapping_sub(1),
            3 => u64::MAX - self.below(16),
            4 => self.below(1 << 20),
            _ => self.next(),
        }
    }
}
