//! Sets of processors: where a vCPU may run, which processors idle, which belong to a pool.

use machine::ProcessorId;
use machine::sync::atomic::{AtomicU64, Ordering};

/// Processors that a set can name; the machine brings up no more.
pub const MOST_PROCESSORS: usize = 256;
const WORDS: usize = MOST_PROCESSORS / 64;

/// Which word of a set, and which bit of it.
fn place(processor: ProcessorId) -> (usize, u64) {
    (processor / 64, 1u64.wrapping_shl(processor as u32))
}

/// A set of processors.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessorSet([u64; WORDS]);

impl ProcessorSet {
    /// No processor.
    pub const EMPTY: ProcessorSet = ProcessorSet([0; WORDS]);
    /// Every processor, also those that come later.
    pub const ALL: ProcessorSet = ProcessorSet([u64::MAX; WORDS]);

    /// The first `count` processors.
    pub fn first_ones(count: usize) -> ProcessorSet {
        let mut set = ProcessorSet::EMPTY;
        for (index, word) in (0..).zip(&mut set.0) {
            let bits = count.saturating_sub(64 * index).min(64);
            *word = u64::MAX.checked_shr(64 - bits as u32).unwrap_or(0);
        }
        set
    }

    /// This one alone.
    pub fn one(processor: ProcessorId) -> ProcessorSet {
        let mut set = ProcessorSet::EMPTY;
        set.insert(processor);
        set
    }

    /// Those of the first 64 whose bits are set.
    #[cfg(any(test, feature = "testing"))]
    pub fn of_bits(bits: u64) -> ProcessorSet {
        ProcessorSet::from_bytes(&bits.to_le_bytes())
    }

    /// From a bitmap of the ABI; bits past its end are clear.
    pub fn from_bytes(bytes: &[u8]) -> ProcessorSet {
        let mut set = ProcessorSet::EMPTY;
        for (word, chunk) in set.0.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            for (to, from) in whole.iter_mut().zip(chunk) {
                *to = *from;
            }
            *word = u64::from_le_bytes(whole);
        }
        set
    }

    /// As a bitmap of the ABI.
    pub fn to_bytes(self) -> [u8; MOST_PROCESSORS / 8] {
        let mut bytes = [0; MOST_PROCESSORS / 8];
        let (words, _) = bytes.as_chunks_mut();
        for (to, word) in words.iter_mut().zip(self.0) {
            *to = word.to_le_bytes();
        }
        bytes
    }

    /// Put a processor in. One past the most is left out.
    pub fn insert(&mut self, processor: ProcessorId) {
        let (index, bit) = place(processor);
        if let Some(word) = self.0.get_mut(index) {
            *word |= bit;
        }
    }

    /// Take a processor out.
    pub fn remove(&mut self, processor: ProcessorId) {
        let (index, bit) = place(processor);
        if let Some(word) = self.0.get_mut(index) {
            *word &= !bit;
        }
    }

    /// Whether a processor is in it.
    pub fn contains(&self, processor: ProcessorId) -> bool {
        let (index, bit) = place(processor);
        self.0.get(index).is_some_and(|word| word & bit != 0)
    }

    /// What is in both.
    pub fn and(mut self, other: &ProcessorSet) -> ProcessorSet {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }

    /// What is in one or the other.
    pub fn or(mut self, other: &ProcessorSet) -> ProcessorSet {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
        self
    }

    /// Those after a processor, and those before it.
    pub fn split_at(&self, processor: ProcessorId) -> (ProcessorSet, ProcessorSet) {
        let before = ProcessorSet::first_ones(processor.min(MOST_PROCESSORS));
        let mut after = *self;
        for (word, before) in after.0.iter_mut().zip(before.0) {
            *word &= !before;
        }
        after.remove(processor);
        (after, self.and(&before))
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The one with the least number.
    pub fn first(&self) -> Option<ProcessorId> {
        self.iter().next()
    }

    /// The one with the greatest number.
    pub fn last(&self) -> Option<ProcessorId> {
        let (index, word) = (0..WORDS).zip(self.0).rev().find(|(_, word)| *word != 0)?;
        let bit = 63u32.saturating_sub(word.leading_zeros());
        Some(index.saturating_mul(64).saturating_add(bit as usize))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = ProcessorId> + use<> {
        (0..WORDS).zip(self.0).flat_map(|(index, word)| Bits {
            word,
            base: index.saturating_mul(64),
        })
    }
}

impl core::fmt::Debug for ProcessorSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if *self == ProcessorSet::ALL {
            return f.write_str("{all}");
        }
        f.debug_set().entries(self.iter()).finish()
    }
}

struct Bits {
    word: u64,
    base: usize,
}

impl Iterator for Bits {
    type Item = ProcessorId;
    fn next(&mut self) -> Option<ProcessorId> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word.wrapping_sub(1);
        Some(self.base.saturating_add(bit))
    }
}

/// A set that several processors change at once, a member at a time.
pub struct AtomicProcessorSet([AtomicU64; WORDS]);

impl AtomicProcessorSet {
    /// A set that begins like this.
    pub fn new(set: ProcessorSet) -> Self {
        AtomicProcessorSet(set.0.map(AtomicU64::new))
    }

    /// A set with nothing in it.
    pub const fn empty() -> Self {
        AtomicProcessorSet([const { AtomicU64::new(0) }; WORDS])
    }

    /// What is in it. Word by word: members that come or go meanwhile may be seen or not.
    pub fn load(&self) -> ProcessorSet {
        let mut set = ProcessorSet::EMPTY;
        for (word, shared) in set.0.iter_mut().zip(&self.0) {
            *word = shared.load(Ordering::SeqCst);
        }
        set
    }

    /// As [`AtomicProcessorSet::load`], where something else orders the access.
    pub fn glance(&self) -> ProcessorSet {
        let mut set = ProcessorSet::EMPTY;
        for (word, shared) in set.0.iter_mut().zip(&self.0) {
            *word = shared.load(Ordering::Relaxed);
        }
        set
    }

    /// Make it another. Whoever looks meanwhile sees members of both, never fewer than of one.
    pub fn store(&self, set: ProcessorSet) {
        for (shared, word) in self.0.iter().zip(set.0) {
            shared.fetch_or(word, Ordering::SeqCst);
        }
        for (shared, word) in self.0.iter().zip(set.0) {
            shared.fetch_and(word, Ordering::SeqCst);
        }
    }

    /// Whether a processor is in it.
    pub fn contains(&self, processor: ProcessorId) -> bool {
        let (index, bit) = place(processor);
        let word = self.0.get(index);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Put a processor in.
    pub fn insert(&self, processor: ProcessorId) {
        let (index, bit) = place(processor);
        if let Some(word) = self.0.get(index) {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Take a processor out. `false`: it was not in. Of several that take it out at once one is told that it was.
    pub fn remove(&self, processor: ProcessorId) -> bool {
        let (index, bit) = place(processor);
        let word = self.0.get(index);
        word.is_some_and(|word| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn members_come_and_go() {
        let mut set = ProcessorSet::EMPTY;
        for processor in [0, 63, 64, 255] {
            set.insert(processor);
        }
        set.insert(256);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 255]);
        assert_eq!((set.first(), set.last(), set.count()), (Some(0), Some(255), 4));
        set.remove(63);
        set.remove(1000);
        assert!(!set.contains(63) && set.contains(64) && !set.contains(256));
        assert_eq!(ProcessorSet::EMPTY.last(), None);
        assert_eq!(ProcessorSet::first_ones(70).count(), 70);
    }

    #[test]
    fn bitmaps_of_any_length_are_read_and_written() {
        let set = ProcessorSet::from_bytes(&[0b101, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 64]);
        assert_eq!(ProcessorSet::from_bytes(&set.to_bytes()), set);
        assert_eq!(ProcessorSet::from_bytes(&[1; 100]).count(), 32);
    }

    #[test]
    fn one_of_several_takes_a_member_out() {
        let set = AtomicProcessorSet::new(ProcessorSet::one(70));
        assert!(set.remove(70));
        assert!(!set.remove(70));
        set.store(ProcessorSet::one(3));
        assert_eq!(set.load(), ProcessorSet::one(3));
        set.insert(200);
        assert!(set.contains(200) && !set.contains(70));
    }
}
