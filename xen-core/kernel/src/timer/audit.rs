//! What audits look at.

use machine::Machine;

use super::{Key, TimerQueue};
use crate::domain::VcpuHandle;

impl<M: Machine> TimerQueue<M> {
    /// Visit the entries, the latest first.
    pub(crate) fn each<E>(
        &self,
        mut visit: impl FnMut(Key, &VcpuHandle<M>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.entries.iter().try_for_each(|(key, vcpu)| visit(*key, vcpu))
    }

    /// How many entries it can have without an allocation.
    pub(crate) fn places(&self) -> usize {
        self.entries.capacity()
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> TimerQueue<M> {
    pub(crate) fn sabotage(&mut self, change: impl FnOnce(&mut alloc::vec::Vec<(Key, VcpuHandle<M>)>)) {
        change(&mut self.entries);
    }
}
