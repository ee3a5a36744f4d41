//! Sets of processors, as the interface passes them and as people write them.

use crate::buffer::{Arguments, Placed};
use hypercall_abi::GuestHandle;
use hypercall_abi::xen::ControlBitmap;
use std::collections::BTreeSet;
use std::fmt;

/// The highest processor number that a set may name, and the bits of every bitmap that we pass: more than Xen 4.17 can drive.
pub const CPU_MAX: u32 = 4095;
const BYTES: usize = (CPU_MAX as usize + 1) / 8;

/// A set of processors, by number.
#[doc(alias = "xenctl_bitmap")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first `count` ones.
    pub fn first(count: u32) -> Self {
        (0..count).collect()
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this one is in it.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Takes one in. Numbers over [`CPU_MAX`] are not taken.
    pub fn insert(&mut self, cpu: u32) {
        if cpu <= CPU_MAX {
            self.0.insert(cpu);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, cpu: u32) {
        self.0.remove(&cpu);
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Those in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    /// Those of this set that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        self.0.difference(&other.0).copied().collect()
    }

    /// Those in either.
    pub fn union(&self, other: &Self) -> Self {
        self.0.union(&other.0).copied().collect()
    }

    fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for cpu in self.iter() {
            bytes[cpu as usize / 8] |= 1 << (cpu % 8);
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        let is_set = |cpu: &u32| bytes[*cpu as usize / 8] & 1 << (cpu % 8) != 0;
        (0..=CPU_MAX).filter(is_set).collect()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().filter(|cpu| *cpu <= CPU_MAX).collect())
    }
}

/// As ranges: `0-3,5`; nothing for none.
impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let texts = ranges.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        formatter.pad(&texts.collect::<Vec<_>>().join(","))
    }
}

/// A set's place among a hypercall's arguments.
#[derive(Clone, Copy)]
pub(crate) struct PlacedSet(Placed<[u8; BYTES]>);

/// Bytes of arguments that a set takes.
pub(crate) const SET_ROOM: usize = Arguments::room_for::<[u8; BYTES]>(1);

impl PlacedSet {
    pub(crate) fn new(arguments: &mut Arguments, set: &CpuSet) -> Self {
        Self(arguments.place(&set.to_bytes()))
    }

    /// What the call's structure says about it.
    pub(crate) fn bitmap(self) -> ControlBitmap {
        ControlBitmap {
            bitmap: GuestHandle::new(self.0.address),
            nr_bits: CPU_MAX + 1,
            ..Default::default()
        }
    }

    /// What the hypervisor left there.
    pub(crate) fn get(self, arguments: &Arguments) -> CpuSet {
        CpuSet::from_bytes(&arguments.get(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[u32]) -> CpuSet {
        cpus.iter().copied().collect()
    }

    #[test]
    fn sets_survive_the_bitmap() {
        for cpus in [&[][..], &[0], &[7, 8], &[0, 1, 2, 63, 64, CPU_MAX]] {
            assert_eq!(CpuSet::from_bytes(&set(cpus).to_bytes()), set(cpus));
        }
    }

    #[test]
    fn numbers_beyond_the_bitmap_are_not_taken() {
        let mut cpus = set(&[CPU_MAX + 1, u32::MAX, 3]);
        cpus.insert(CPU_MAX + 1);
        assert_eq!(cpus, set(&[3]));
    }

    #[test]
    fn neighbours_are_written_as_ranges() {
        for (cpus, text) in [
            (&[][..], ""),
            (&[4], "4"),
            (&[0, 1], "0-1"),
            (&[0, 1, 2, 3, 5, 8, 9], "0-3,5,8-9"),
        ] {
            assert_eq!(set(cpus).to_string(), text);
        }
    }
}
