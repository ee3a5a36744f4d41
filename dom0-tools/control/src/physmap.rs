//! Giving a domain its memory.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::{Error, Result};
use crate::hypervisor::{Hypervisor, Number};
use crate::layout::{ForeignMemoryMap, MemoryReservation};
use rustix::io::Errno;
use zerocopy::FromZeros;

const POPULATE: u64 = 6;
const POPULATE_NAME: &str = "populate guest memory";
const SET_MEMORY_MAP: u64 = 13;
const CLAIM: u64 = 24;
/// Extents handed over in one call: its argument array stays within a few pages.
const EXTENTS_PER_CALL: usize = 2048;

/// What a range of guest-physical addresses is.
#[doc(alias = "XEN_HVM_MEMMAP_TYPE_RAM")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Ordinary memory.
    Ram = 1,
    /// Not for the guest's use as memory.
    Reserved = 2,
    /// ACPI tables; memory again when they have been read.
    Acpi = 3,
}

/// An entry of a guest's memory map.
#[doc(alias = "e820entry")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// What it is.
    pub kind: MemoryKind,
}

impl Hypervisor {
    /// Gives a domain memory: `1 << order` pages at each of the frames named.
    ///
    /// What was given stays given when it fails halfway: destroy the domain then.
    pub fn populate(&self, domain: DomainId, order: u32, frames: &[u64]) -> Result<()> {
        match self.try_populate(domain, order, frames)? {
            given if given == frames.len() => Ok(()),
            _ => Err(Error::new(POPULATE_NAME, Errno::NOMEM)),
        }
    }

    /// As [`populate`](Self::populate), but stops where memory of this order runs out: returns how many of the
    /// extents, from the first on, were given.
    #[doc(alias = "XENMEM_populate_physmap")]
    pub fn try_populate(&self, domain: DomainId, order: u32, frames: &[u64]) -> Result<usize> {
        let mut given = 0;
        for frames in frames.chunks(EXTENTS_PER_CALL) {
            let room = Arguments::room_for::<u64>(frames.len()) + Arguments::room_for::<MemoryReservation>(1);
            let done = self.with_arguments(room, |arguments| {
                let extents = arguments.place(frames);
                let placed = arguments.place(&MemoryReservation {
                    extents: extents.address,
                    count: frames.len() as u64,
                    order,
                    flags: 0,
                    domain: domain.0,
                    pad: [0; 3],
                });
                // SAFETY: this sub-operation takes this structure; the array has `count` entries.
                unsafe { self.call(POPULATE_NAME, Number::MemoryOp, &[POPULATE, placed.address]) }
            })?;
            given += done as usize;
            if (done as usize) < frames.len() {
                break;
            }
        }
        Ok(given)
    }

    /// Reserves this many pages for a domain, or takes back what is left of that with 0.
    #[doc(alias = "XENMEM_claim_pages")]
    pub fn claim_pages(&self, domain: DomainId, pages: u64) -> Result<()> {
        let request = MemoryReservation {
            count: pages,
            domain: domain.0,
            ..FromZeros::new_zeroed()
        };
        self.with_arguments(Arguments::room_for::<MemoryReservation>(1), |arguments| {
            let placed = arguments.place(&request);
            // SAFETY: this sub-operation takes this structure, without an array.
            unsafe { self.call("claim memory", Number::MemoryOp, &[CLAIM, placed.address]) }
        })
        .map(drop)
    }

    /// Stores the memory map that the domain may ask for.
    #[doc(alias = "XENMEM_set_memory_map")]
    pub fn set_memory_map(&self, domain: DomainId, ranges: &[MemoryRange]) -> Result<()> {
        // Xen's entries have no padding: 8 + 8 + 4 bytes.
        let mut entries = Vec::with_capacity(ranges.len() * 20);
        for range in ranges {
            entries.extend(range.start.to_ne_bytes());
            entries.extend(range.size.to_ne_bytes());
            entries.extend((range.kind as u32).to_ne_bytes());
        }
        let room = Arguments::room_for::<u8>(entries.len()) + Arguments::room_for::<ForeignMemoryMap>(1);
        self.with_arguments(room, |arguments| {
            let buffer = arguments.place(entries.as_slice());
            let placed = arguments.place(&ForeignMemoryMap {
                domain: domain.0,
                pad: [0; 3],
                count: ranges.len() as u32,
                pad2: 0,
                buffer: buffer.address,
            });
            // SAFETY: this sub-operation takes this structure; the array has `count` entries.
            unsafe {
                self.call(
                    "set memory map",
                    Number::MemoryOp,
                    &[SET_MEMORY_MAP, placed.address],
                )
            }
        })
        .map(drop)
    }
}
