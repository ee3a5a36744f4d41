//! Event channels: ports that carry one bit from one domain, or from the hypervisor, to another.
//!
//! A domain's ports are a table behind one lock, held for a few dozen instructions. Sending takes the sender's lock to
//! learn the other end, then the receiver's to mark it there, never both: if the channel closes in between, the send
//! came after the close. Only binding and closing hold two tables, in the order of [`Pair::lock`].
//!
//! How a domain learns that a port is pending is its own choice between two ABIs: bitmaps in the shared page
//! ([`two_level`]) or queues of event words in pages of its own ([`fifo`]). What lies in those pages is the guest's to
//! destroy: nothing here believes it further than one word at a time.

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;
mod fifo;
mod operations;
mod table;
mod two_level;

#[cfg(test)]
mod fifo_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use machine::sync::atomic::Ordering;

use hypercall_abi::event_channel::Port;
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::sync::{Lock, LockGuard};

use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};
use crate::vcpu::{Vcpu, stop};
use table::Table;

/// A domain's event channels.
pub struct EventChannels<M: Machine> {
    table: Lock<Table<M>>,
}

impl<M: Machine> EventChannels<M> {
    /// None allocated; ports up to `max_port` may be.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(max_port: Port) -> Result<Self, Error> {
        Ok(EventChannels {
            table: Lock::new(Table::new(max_port)?),
        })
    }

    /// The highest port that may be in use.
    pub fn max_port(&self) -> Port {
        self.lock().max_port()
    }

    fn lock(&self) -> LockGuard<'_, Table<M>> {
        self.table.lock()
    }
}

/// Two domains' tables, locked; or one, when a domain talks to itself.
struct Pair<'a, M: Machine> {
    local: LockGuard<'a, Table<M>>,
    remote: Option<LockGuard<'a, Table<M>>>,
}

impl<'a, M: Machine> Pair<'a, M> {
    /// Lock both, the lower id first. An ended domain that is still connected may share its id with a newcomer, so
    /// that addresses decide between equals.
    fn lock(local: &'a Arc<Domain<M>>, remote: &'a Arc<Domain<M>>) -> Self {
        if Arc::ptr_eq(local, remote) {
            return Pair {
                local: local.events.lock(),
                remote: None,
            };
        }
        let rank = |domain: &Arc<Domain<M>>| (domain.id.0, Arc::as_ptr(domain).addr());
        if rank(local) < rank(remote) {
            let local = local.events.lock();
            Pair {
                local,
                remote: Some(remote.events.lock()),
            }
        } else {
            let remote = remote.events.lock();
            Pair {
                local: local.events.lock(),
                remote: Some(remote),
            }
        }
    }

    fn remote(&mut self) -> &mut Table<M> {
        self.remote.as_mut().unwrap_or(&mut self.local)
    }
}

/// What marking a port pending asks for once the table is unlocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Raised {
    /// The port was not pending before: who polls for it wakes.
    newly: bool,
    /// The vCPU that must be told.
    upcall: Option<u32>,
}

/// Whether a virtual interrupt exists once for the machine rather than for each vCPU.
fn is_global(number: u32) -> bool {
    !matches!(
        number,
        virq::TIMER | virq::DEBUG | virq::XENOPROF | virq::PERFORMANCE_COUNTER
    )
}

impl<M: Machine> Kernel<M> {
    /// Raise a virtual interrupt of one vCPU. Unless the guest has bound it, nothing happens.
    pub fn send_virq(&self, domain: &Arc<Domain<M>>, vcpu: u32, number: u32) {
        let (port, raised) = {
            let mut table = domain.events.lock();
            let Some(port) = table.virq_port(vcpu, number) else {
                return;
            };
            (port, table.mark(domain, port))
        };
        self.deliver(domain, port, raised);
    }

    /// Raise a virtual interrupt of the machine: it goes to the initial domain.
    pub fn send_global_virq(&self, number: u32) {
        if let Some(domain) = self.domains.get(DomainId(0)).filter(|domain| domain.privileged) {
            self.send_virq(&domain, 0, number);
        }
    }

    /// Mark one of a domain's ports pending, on the hypervisor's own behalf. Ports not in use are left alone.
    pub fn notify_port(&self, domain: &Arc<Domain<M>>, port: Port) {
        let raised = {
            let mut table = domain.events.lock();
            if !table.is_open(port) {
                return;
            }
            table.mark(domain, port)
        };
        self.deliver(domain, port, raised);
    }

    /// Whether a port is pending.
    ///
    /// # Errors
    /// EINVAL when there is no such port.
    pub fn is_pending(&self, domain: &Domain<M>, port: Port) -> Result<bool, Error> {
        let table = domain.events.lock();
        table.slot(port).ok_or(Error::EINVAL)?;
        Ok(table.is_pending(domain, port))
    }

    /// Tell whoever must know that a port became pending. No table is locked.
    fn deliver(&self, domain: &Arc<Domain<M>>, port: Port, raised: Raised) {
        if raised.newly {
            self.wake_pollers(domain, |polling| {
                polling == port.wrapping_add(1) || polling == u32::MAX
            });
        }
        if let Some(vcpu) = raised.upcall.and_then(|index| VcpuHandle::new(domain, index)) {
            self.raise_upcall(&vcpu);
        }
    }

    fn wake_pollers(&self, domain: &Arc<Domain<M>>, wanted: impl Fn(u32) -> bool) {
        let allotted = domain.allotted_vcpus.load(Ordering::Relaxed) as usize;
        let waits = |vcpu: &&Vcpu<M>| {
            // The port was marked by a locked instruction before this load; a poller stores this before it looks.
            let polling = vcpu.polling.load(Ordering::SeqCst);
            wanted(polling) && vcpu.stops.load(Ordering::SeqCst) & stop::POLLING != 0
        };
        for vcpu in domain.vcpus.iter().take(allotted).filter(waits) {
            if let Some(vcpu) = VcpuHandle::new(domain, vcpu.index) {
                self.unblock_poll(&vcpu);
            }
        }
    }

    /// A port that this vCPU polls for became pending: end its SCHEDOP_poll.
    pub fn unblock_poll(&self, vcpu: &VcpuHandle<M>) {
        if vcpu.stops.fetch_and(!stop::POLLING, Ordering::SeqCst) & stop::POLLING != 0 {
            self.reconsider(vcpu);
        }
    }
}
