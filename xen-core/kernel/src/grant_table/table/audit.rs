//! What audits look at.

use hypercall_abi::grant_table::{ENTRIES_PER_PAGE_V1, GrantReference};
use machine::address::HostFrame;

use super::Table;
use crate::audit::Pinned;

impl Table {
    pub fn each_frame<E>(&self, visit: impl FnMut(HostFrame) -> Result<(), E>) -> Result<(), E> {
        self.parts
            .iter()
            .map(|part| part.page.frame())
            .try_for_each(visit)
    }

    pub fn each_pinned<E>(&self, mut visit: impl FnMut(Pinned) -> Result<(), E>) -> Result<(), E> {
        for (index, part) in self.parts.iter().enumerate() {
            for (slot, active) in part.active.iter().enumerate() {
                if active.pinned() || active.page.is_some() {
                    visit(Pinned {
                        reference: (index * ENTRIES_PER_PAGE_V1 + slot) as GrantReference,
                        user: active.user.0,
                        readers: active.readers,
                        writers: active.writers,
                        page: active.page.as_ref().map(|page| page.frame()),
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl Table {
    /// Change an entry's record: its user, readers, writers.
    pub fn sabotage(&mut self, reference: GrantReference, change: impl FnOnce(&mut u16, &mut u32, &mut u32)) {
        if let Ok((_, _, active)) = self.entry(reference) {
            change(&mut active.user.0, &mut active.readers, &mut active.writers);
        }
    }
}
