//! What audits look at.

use hypercall_abi::event_channel::Port;
use machine::Machine;
use machine::memory::FrameReference;

use super::EventChannels;
use crate::audit::Violation;
use crate::domain::{Domain, Lifecycle};

impl<M: Machine> EventChannels<M> {
    /// Ports in use.
    pub(crate) fn ports_in_use(&self) -> u32 {
        self.lock().in_use()
    }

    /// Visit the pages of the FIFO ABI that the guest gave.
    pub(crate) fn each_page<E>(&self, visit: impl FnMut(&FrameReference) -> Result<(), E>) -> Result<(), E> {
        match &self.lock().fifo {
            Some(fifo) => fifo.each_page(visit),
            None => Ok(()),
        }
    }

    /// Check the table, and visit the ends of channels between domains, by port: the port, the other domain, its port.
    /// Says how many ports are in use.
    ///
    /// # Errors
    /// The table is not in order.
    pub(crate) fn audit(
        &self,
        id: u16,
        vcpus: usize,
        lifecycle: &Lifecycle,
        connected: impl FnMut(Port, *const Domain<M>, Port),
    ) -> Result<u32, Violation> {
        self.lock().audit(id, vcpus, lifecycle, connected)
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> EventChannels<M> {
    pub(crate) fn sabotage_counts(&self, change: impl FnOnce(&mut u32, &mut Port)) {
        self.lock().sabotage_counts(change);
    }

    pub(crate) fn sabotage_virq(&self, vcpu: usize, number: usize, port: Port) {
        self.lock().sabotage_virqs(vcpu, number, port);
    }

    pub(crate) fn sabotage_tail(&self, vcpu: usize, priority: usize, tail: Port) {
        if let Some(fifo) = &mut self.lock().fifo {
            fifo.sabotage_tail(vcpu, priority, tail);
        }
    }

    /// Whom a port notifies, whether it is held back.
    pub(crate) fn sabotage_slot(&self, port: Port, change: impl FnOnce(&mut u32, &mut bool)) {
        if let Some(slot) = self.lock().slot_mut(port) {
            change(&mut slot.vcpu, &mut slot.deferred);
        }
    }

    /// Close one end of a channel only.
    pub(crate) fn sabotage_end(&self, domain: &Domain<M>, port: Port) {
        drop(self.lock().close(domain, port));
    }

    pub(crate) fn sabotage_ended(&self) {
        self.lock().end();
    }
}
