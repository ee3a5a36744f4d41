//! What audits look at.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::Machine;

use super::{Domain, Domains};

impl<M: Machine> Domains<M> {
    /// Copy the table.
    pub(crate) fn copy_table(&self, into: &mut Vec<Arc<Domain<M>>>) {
        into.clear();
        into.extend(self.table.read().iter().cloned());
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> Domains<M> {
    pub(crate) fn sabotage(&self, change: impl FnOnce(&mut Vec<Arc<Domain<M>>>)) {
        change(&mut self.table.write());
    }
}
