//! Grants: the lenders' records and the borrowers' agree, entry by entry and page by page.

use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::grant_table::GrantReference;
use machine::Machine;
use machine::address::{GuestFrame, HostFrame, Order};

use super::{Auditor, Violation, holds};

const ENTRIES: &str = "grants: an entry in use holds its page, another none";
const PINS: &str = "grants: an entry's readers and writers are the mappings on record";
const USER: &str = "grants: who maps is who the entry was taken up for";
const PAGE: &str = "grants: what is mapped is the page that the entry holds";
const MAPPED: &str = "grants: each mapping on record is in the physmap, at a place of its own";

/// An entry that is in use.
pub(crate) struct Pinned {
    /// Its number.
    pub reference: GrantReference,
    /// Who uses it.
    pub user: u16,
    pub readers: u32,
    pub writers: u32,
    /// The page that it holds.
    pub page: Option<HostFrame>,
}

struct Active {
    granter: usize,
    pinned: Pinned,
    readers_found: u32,
    writers_found: u32,
}

/// A mapping on record.
struct Record {
    mapper: usize,
    at: u64,
    frame: HostFrame,
    /// The lender's index; `None` when it is gone.
    granter: Option<usize>,
    reference: GrantReference,
    write: bool,
    found: bool,
}

/// The books of all domains.
#[derive(Default)]
pub(super) struct Books {
    /// By lender and reference.
    active: Vec<Active>,
    /// By borrower and place.
    records: Vec<Record>,
    /// The chosen borrower's.
    chosen: core::ops::Range<usize>,
}

impl Books {
    pub fn open(&mut self) {
        self.active.clear();
        self.records.clear();
        self.chosen = 0..0;
    }

    /// Choose a borrower, whose map is walked next.
    pub fn choose(&mut self, mapper: usize, id: u16) -> Result<(), Violation> {
        let start = self.records.partition_point(|record| record.mapper < mapper);
        let end = self.records.partition_point(|record| record.mapper <= mapper);
        self.chosen = start..end;
        self.records[start..end].sort_unstable_by_key(|record| record.at);
        let twice = self.records[start..end]
            .windows(2)
            .find(|pair| pair[0].at == pair[1].at);
        holds!(
            twice.is_none(),
            MAPPED,
            "d{id} has two mappings on record at {:#x}",
            twice.map_or(0, |pair| pair[0].at)
        );
        Ok(())
    }

    fn find(&self, at: GuestFrame) -> Option<usize> {
        let records = &self.records[self.chosen.clone()];
        let index = records.binary_search_by_key(&at.0, |record| record.at).ok()?;
        Some(self.chosen.start + index)
    }

    /// Note that the chosen borrower maps a frame; `false` when that is not on record.
    pub fn mapped(&mut self, at: GuestFrame, frame: HostFrame, write: bool) -> bool {
        let Some(index) = self.find(at) else { return false };
        let record = &mut self.records[index];
        record.found = true;
        record.frame == frame && record.write == write
    }

    /// What is on record for a place, in words.
    pub fn on_record(&self, at: GuestFrame) -> String {
        match self.find(at).map(|index| &self.records[index]) {
            None => "nothing".into(),
            Some(record) => alloc::format!(
                "frame {:#x} by reference {}, {}",
                record.frame.0,
                record.reference,
                if record.write { "writable" } else { "read only" }
            ),
        }
    }

    /// Whether the walk came across all that the chosen borrower has on record.
    pub fn all_mapped(&self, id: u16) -> Result<(), Violation> {
        let missing = self.records[self.chosen.clone()]
            .iter()
            .find(|record| !record.found);
        holds!(
            missing.is_none(),
            MAPPED,
            "d{id} has a mapping on record at {:#x} that its physmap has not",
            missing.map_or(0, |record| record.at)
        );
        Ok(())
    }
}

impl<M: Machine> Auditor<M> {
    /// A lender's table: its pages, and the entries in use.
    pub(super) fn count_grants(&mut self, index: usize) -> Result<(), Violation> {
        let domain = &self.domains[index];
        let id = domain.id.0;
        let (ledger, active) = (&mut self.frames, &mut self.grants.active);
        domain.grants.each_frame(|frame| {
            ledger.hold(frame, Order::PAGE)?;
            super::shared::share(ledger, frame, index, id)
        })?;
        domain.grants.each_pinned(|pinned| {
            let used = pinned.readers != 0 || pinned.writers != 0;
            holds!(
                used == pinned.page.is_some(),
                ENTRIES,
                "entry {} of d{id} has {} readers, {} writers and {} page",
                pinned.reference,
                pinned.readers,
                pinned.writers,
                if pinned.page.is_some() { "a" } else { "no" }
            );
            if let Some(page) = pinned.page {
                ledger.hold(page, Order::PAGE)?;
            }
            active.push(Active {
                granter: index,
                pinned,
                readers_found: 0,
                writers_found: 0,
            });
            Ok(())
        })
    }

    /// A borrower's record.
    pub(super) fn count_mappings(&mut self, index: usize) -> Result<(), Violation> {
        let (domains, records) = (&self.domains, &mut self.grants.records);
        let domain = &domains[index];
        domain.grants.each_mapping(domain.id.0, |mapping| {
            records.push(Record {
                mapper: index,
                at: mapping.at.0,
                frame: mapping.frame,
                granter: Self::index_of(domains, mapping.granter.as_ptr()),
                reference: mapping.reference,
                write: mapping.write,
                found: false,
            });
        })
    }

    /// Every mapping stands for one pin of its entry, and every pin for a mapping.
    pub(super) fn check_books(&mut self) -> Result<(), Violation> {
        let Books { active, records, .. } = &mut self.grants;
        let id = |index: usize| self.domains[index].id.0;
        for record in records.iter() {
            // A lender that is gone keeps no books.
            let Some(granter) = record.granter else { continue };
            let (mapper, granting, reference) = (id(record.mapper), id(granter), record.reference);
            let found = active.binary_search_by_key(&(granter, reference), |entry| {
                (entry.granter, entry.pinned.reference)
            });
            let Ok(found) = found else {
                holds!(
                    false,
                    PINS,
                    "d{mapper} maps entry {reference} of d{granting}, which is not in use"
                );
                return Ok(());
            };
            let entry = &mut active[found];
            holds!(
                entry.pinned.user == mapper,
                USER,
                "d{mapper} maps entry {reference} of d{granting}, which was taken up for d{}",
                entry.pinned.user
            );
            holds!(
                entry.pinned.page == Some(record.frame),
                PAGE,
                "d{mapper} maps frame {:#x} by entry {reference} of d{granting}, which holds frame {:#x}",
                record.frame.0,
                entry.pinned.page.map_or(0, |page| page.0)
            );
            *(if record.write {
                &mut entry.writers_found
            } else {
                &mut entry.readers_found
            }) += 1;
        }
        for entry in active.iter() {
            let Active {
                granter,
                pinned,
                readers_found,
                writers_found,
            } = entry;
            holds!(
                pinned.readers == *readers_found && pinned.writers == *writers_found,
                PINS,
                "entry {} of d{} has {} readers and {} writers; on record are {readers_found} and {writers_found}",
                pinned.reference,
                id(*granter),
                pinned.readers,
                pinned.writers
            );
        }
        self.counted.grants += active.len() as u64;
        self.counted.mappings += records.len() as u64;
        Ok(())
    }
}
