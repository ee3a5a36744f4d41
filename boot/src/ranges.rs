//! A set of addresses as sorted, disjoint ranges: what of the memory is still free while the machine starts.

use alloc::vec::Vec;
use core::ops::Range;

/// A set of addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// The empty set.
    pub const fn new() -> Ranges {
        Ranges(Vec::new())
    }

    /// Add a range, merging it with those it touches.
    pub fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.0.retain(|other| {
            let apart = other.end < range.start || range.end < other.start;
            if !apart {
                range = range.start.min(other.start)..range.end.max(other.end);
            }
            apart
        });
        let at = self.0.partition_point(|other| other.start < range.start);
        self.0.insert(at, range);
    }

    /// Take a range out, splitting those it cuts.
    pub fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut rest = Vec::with_capacity(self.0.len().saturating_add(1));
        for other in self.0.drain(..) {
            let below = other.start..other.end.min(range.start);
            let above = other.start.max(range.end)..other.end;
            rest.extend([below, above].into_iter().filter(|part| !part.is_empty()));
        }
        self.0 = rest;
    }

    /// Take `length` bytes, aligned to `align` (a power of two), below `limit`; as high as possible, so that low memory
    /// stays for those who need it. `None` when there is no such stretch.
    pub fn take(&mut self, length: u64, align: u64, limit: u64) -> Option<u64> {
        let start = self.0.iter().rev().find_map(|range| {
            let start = range.end.min(limit).checked_sub(length)? & !(align - 1);
            (start >= range.start).then_some(start)
        })?;
        self.remove(&(start..start.saturating_add(length)));
        Some(start)
    }

    /// Whether the whole range is in the set.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .0
                .iter()
                .any(|other| other.start <= range.start && range.end <= other.end)
    }

    /// Whether any of the range is in the set.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        !range.is_empty()
            && self
                .0
                .iter()
                .any(|other| other.start < range.end && range.start < other.end)
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// Bytes in the set.
    pub fn total(&self) -> u64 {
        let lengths = self.0.iter().map(|range| range.end.saturating_sub(range.start));
        lengths.fold(0, u64::saturating_add)
    }

    /// One past the last address; 0 for the empty set.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[Range<u64>]) -> Ranges {
        let mut set = Ranges::new();
        ranges.iter().for_each(|range| set.insert(range.clone()));
        set
    }

    #[test]
    fn insertion_merges_what_touches() {
        assert_eq!(
            set(&[10..20, 30..40, 20..30]),
            set(core::slice::from_ref(&(10..40)))
        );
        assert_eq!(
            set(&[30..40, 10..20])
                .iter()
                .map(|range| range.start)
                .collect::<Vec<_>>(),
            [10, 30]
        );
        assert_eq!(set(&[0..100, 10..20]), set(core::slice::from_ref(&(0..100))));
        assert_eq!(set(core::slice::from_ref(&(5..5))), Ranges::new());
    }

    #[test]
    fn removal_splits() {
        let mut ranges = set(&[0..100, 200..300]);
        ranges.remove(&(50..250));
        assert_eq!(ranges, set(&[0..50, 250..300]));
        ranges.remove(&(10..20));
        assert_eq!(ranges, set(&[0..10, 20..50, 250..300]));
        assert_eq!(ranges.total(), 90);
        assert_eq!(ranges.end(), 300);
    }

    #[test]
    fn nothing_overlaps_nothing() {
        let mut ranges = set(core::slice::from_ref(&(0..100)));
        ranges.remove(&(50..50));
        assert!(!ranges.overlaps(&(50..50)) && ranges.contains(&(50..50)));
        assert!(ranges.overlaps(&(50..51)));
    }

    #[test]
    fn taking_is_aligned_and_below_the_limit() {
        let mut ranges = set(&[0x1000..0x5800, 0x10_0000..0x20_0000]);
        assert_eq!(ranges.take(0x1000, 0x1000, 0x8000), Some(0x4000));
        assert_eq!(ranges.take(0x1000, 0x1000, u64::MAX), Some(0x1f_f000));
        assert_eq!(ranges.take(0x4000, 0x1000, 0x8000), None);
        assert!(!ranges.overlaps(&(0x4000..0x5000)));
        assert!(ranges.contains(&(0x5000..0x5800)) && !ranges.contains(&(0x3fff..0x4001)));
    }
}
