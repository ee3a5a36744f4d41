//! Giving a domain its memory.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::{Error, Result};
use crate::hypervisor::Hypervisor;
use hypercall_abi::GuestHandle;
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{E820Entry, ForeignMemoryMap, MemoryMap, MemoryReservation, e820, op};
use rustix::io::Errno;

const POPULATE_NAME: &str = "populate guest memory";
/// Extents handed over in one call: its argument array stays within a few pages.
const EXTENTS_PER_CALL: usize = 2048;

/// What a range of guest-physical addresses is.
#[doc(alias = "XEN_HVM_MEMMAP_TYPE_RAM")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Ordinary memory.
    Ram = e820::RAM as isize,
    /// Not for the guest's use as memory.
    Reserved = e820::RESERVED as isize,
    /// ACPI tables; memory again when they have been read.
    Acpi = e820::ACPI as isize,
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
                    extent_start: GuestHandle::new(extents.address),
                    number_of_extents: frames.len() as u64,
                    extent_order: order,
                    domain,
                    ..MemoryReservation::default()
                });
                // SAFETY: this sub-operation takes this structure; the array has `count` entries.
                unsafe {
                    self.call(
                        POPULATE_NAME,
                        number::MEMORY_OP,
                        &[op::POPULATE_PHYSMAP.into(), placed.address],
                    )
                }
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
            number_of_extents: pages,
            domain,
            ..Default::default()
        };
        self.with_arguments(Arguments::room_for::<MemoryReservation>(1), |arguments| {
            let placed = arguments.place(&request);
            // SAFETY: this sub-operation takes this structure, without an array.
            unsafe {
                self.call(
                    "claim memory",
                    number::MEMORY_OP,
                    &[op::CLAIM_PAGES.into(), placed.address],
                )
            }
        })
        .map(drop)
    }

    /// Stores the memory map that the domain may ask for.
    #[doc(alias = "XENMEM_set_memory_map")]
    pub fn set_memory_map(&self, domain: DomainId, ranges: &[MemoryRange]) -> Result<()> {
        let entries: Vec<E820Entry> = ranges
            .iter()
            .map(|range| E820Entry::new(range.start, range.size, range.kind as u32))
            .collect();
        let room =
            Arguments::room_for::<E820Entry>(entries.len()) + Arguments::room_for::<ForeignMemoryMap>(1);
        self.with_arguments(room, |arguments| {
            let buffer = GuestHandle::new(arguments.place(entries.as_slice()).address);
            let map = MemoryMap {
                number_of_entries: ranges.len() as u32,
                _padding: 0,
                buffer,
            };
            let placed = arguments.place(&ForeignMemoryMap {
                domain,
                _padding: [0; 3],
                map,
            });
            let call = [op::SET_MEMORY_MAP.into(), placed.address];
            // SAFETY: this sub-operation takes this structure; the array has as many entries as it says.
            unsafe { self.call("set memory map", number::MEMORY_OP, &call) }
        })
        .map(drop)
    }
}
