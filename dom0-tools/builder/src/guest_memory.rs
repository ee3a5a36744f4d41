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

    /// Whether pages that nobody has written to hold zeroes, as these do not: then a page of zeroes need not be written.
    ///
    /// Hypervisors clean what they hand on, but debug builds of Xen fill it with a pattern.
    pub fn is_clean(&self, fresh: &[u64]) -> Result<bool, Error> {
        let pages = self.hypervisor.map_foreign(self.domain, fresh)?;
        let mut contents = vec![0; pages.len()];
        pages.read_bytes(0, &mut contents);
        Ok(is_zero(&contents))
    }

    /// Writes bytes at a guest-physical address; pages of zeroes only when `zeroes` says so.
    /// What else a page holds that is written only in part, stays.
    pub fn write(
        &self,
        address: u64,
        bytes: &[u8],
        zeroes: Zeroes,
        written: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        // The copy works from the start of pages: what comes before the first full one goes by a mapping.
        let unaligned = (address.wrapping_neg() % PAGE).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(unaligned);
        if !head.is_empty() {
            let page = self.hypervisor.map_foreign(self.domain, &[address / PAGE])?;
            page.write_bytes((address % PAGE) as usize, head);
        }
        let pages: Vec<(u64, &[u8])> = (address.div_ceil(PAGE)..)
            .zip(rest.chunks(PAGE_SIZE))
            .filter(|(_, page)| zeroes == Zeroes::Write || !is_zero(page))
            .collect();
        for batch in pages.chunks(self.references.len()) {
            let granted: Vec<(GrantReference, &[u8])> = self
                .references
                .iter()
                .zip(batch)
                .map(|(reference, (_, page))| (*reference, *page))
                .collect();
            for ((reference, _), (frame, _)) in granted.iter().zip(batch) {
                self.grant(*reference, *frame);
            }
            self.copier.write(self.domain, &granted)?;
            written(batch.iter().map(|(_, page)| page.len() as u64).sum());
        }
        Ok(())
    }
}

/// What to do about pages of zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroes {
    /// They are there already.
    Skip,
    /// Write them as any others.
    Write,
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
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
