//! What audits look at.

use machine::Machine;
use machine::address::HostFrame;

use super::{GrantTable, Mapping};
use crate::audit::{Pinned, Violation};

impl<M: Machine> GrantTable<M> {
    /// Visit the table's frames.
    pub(crate) fn each_frame<E>(&self, visit: impl FnMut(HostFrame) -> Result<(), E>) -> Result<(), E> {
        self.table.lock().each_frame(visit)
    }

    /// Visit the entries that hold a page or are counted as used, by their numbers.
    pub(crate) fn each_pinned<E>(&self, visit: impl FnMut(Pinned) -> Result<(), E>) -> Result<(), E> {
        self.table.lock().each_pinned(visit)
    }

    /// Visit the mappings on record.
    ///
    /// # Errors
    /// The record itself is not in order.
    pub(crate) fn each_mapping(&self, id: u16, visit: impl FnMut(&Mapping<M>)) -> Result<(), Violation> {
        self.maptrack.lock().audit(id, visit)
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> GrantTable<M> {
    /// Change an entry's record: its user, readers, writers.
    pub(crate) fn sabotage_entry(&self, reference: u32, change: impl FnOnce(&mut u16, &mut u32, &mut u32)) {
        self.table.lock().sabotage(reference, change);
    }

    /// Change the first free handle, and how many are used.
    pub(crate) fn sabotage_handles(&self, change: impl FnOnce(&mut u32, &mut u32)) {
        self.maptrack.lock().sabotage(change);
    }

    /// Change a mapping on record.
    pub(crate) fn sabotage_mapping(&self, handle: u32, change: impl FnOnce(&mut Mapping<M>)) {
        let mut maptrack = self.maptrack.lock();
        if let Some(mut mapping) = maptrack.take(handle) {
            change(&mut mapping);
            maptrack.fill(handle, mapping);
        }
    }
}
