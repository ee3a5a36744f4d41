//! Writing into the memory of a domain that does not run yet.
//!
//! The obvious way, mapping its pages here, costs dom0's kernel two hypercalls for each page: more than all the
//! rest of building. But until the domain runs, its grant table is ours to fill in: so it grants us the pages that are to be
//! written, a table's worth at a time, and the hypervisor copies into them, many with one call.

use crate::error::Error;
use control::{DomainId, GrantCopier, GrantReference, Hypervisor, PAGE_SIZE, Resource, ResourceMapping};
use hypercall_abi::grant_table::{ENTRIES_PER_PAGE_V1, GrantEntryV1, entry_flag, reserved};
use std::sync::atomic::Ordering;

const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes of an entry in version 1 of the layout, which every domain starts with.
const ENTRY_SIZE: usize = size_of::<GrantEntryV1>();

/// The domain's memory, through its grant table. Dropping it takes the temporary grants back.
pub struct GuestMemory<'a> {
    domain: DomainId,
    table: ResourceMapping,
    copier: GrantCopier,
    references: Vec<GrantReference>,
    hypervisor: &'a Hypervisor,
}

impl<'a> GuestMemory<'a> {
    /// Gets hold of the table.
    pub fn open(hypervisor: &'a Hypervisor, domain: DomainId) -> Result<Self, Error> {
        Ok(Self {
            domain,
            table: hypervisor.map_resource(domain, Resource::GrantTable, 0, 1)?,
            copier: GrantCopier::open()?,
            references: (reserved::COUNT..ENTRIES_PER_PAGE_V1 as u32)
                .map(GrantReference)
                .collect(),
            hypervisor,
        })
    }

    /// Lets dom0 use a page of the domain.
    pub fn grant(&self, reference: GrantReference, frame: u64) {
        let entry = reference.0 as usize * ENTRY_SIZE;
        // Flags and domain share a word, which makes the entry valid: it is written last.
        self.table.store_u32(entry + 4, frame as u32, Ordering::Release);
        self.table.store_u32(
            entry,
            u32::from(DomainId::CONTROL.0) << 16 | u32::from(entry_flag::PERMIT_ACCESS),
            Ordering::Release,
        );
    }

    /// Writes bytes at a guest-physical address. What else a page holds that is written only in part, stays.
    pub fn write(&self, address: u64, bytes: &[u8], written: &mut dyn FnMut(u64)) -> Result<(), Error> {
        // The copy works from the start of pages: what comes before the first full one goes by a mapping.
        let unaligned = (address.wrapping_neg() % PAGE).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(unaligned);
        if !head.is_empty() {
            let page = self.hypervisor.map_foreign(self.domain, &[address / PAGE])?;
            page.write_bytes((address % PAGE) as usize, head);
        }
        let first = address.div_ceil(PAGE);
        for (index, part) in rest.chunks(self.references.len() * PAGE_SIZE).enumerate() {
            let start = first + (index * self.references.len()) as u64;
            let pages = part.len().div_ceil(PAGE_SIZE);
            for (frame, reference) in (start..).zip(&self.references[..pages]) {
                self.grant(*reference, frame);
            }
            self.copier.write(self.domain, &self.references[..pages], part)?;
            written(part.len() as u64);
        }
        Ok(())
    }
}

impl Drop for GuestMemory<'_> {
    fn drop(&mut self) {
        for reference in &self.references {
            self.table
                .store_u32(reference.0 as usize * ENTRY_SIZE, 0, Ordering::Release);
            self.table
                .store_u32(reference.0 as usize * ENTRY_SIZE + 4, 0, Ordering::Release);
        }
    }
}
