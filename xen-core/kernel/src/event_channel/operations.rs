//! What guests do with their event channels, once decoded and authorised.

use alloc::sync::Arc;
use core::ops::Range;

use hypercall_abi::event_channel::{Port, Status, fifo as abi, status};
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::GuestFrame;
use machine::memory::FrameReference;
use machine::stage_two::EntryKind;

use super::fifo::{Fifo, check_offset};
use super::table::{Slot, State, Table};
use super::{Pair, is_global};
use crate::Kernel;
use crate::domain::{Domain, MAX_VCPUS, VcpuHandle};

/// Ports that are closed in one piece of closing all.
const CLOSED_AT_ONCE: usize = 64;
/// How often a close looks again when other vCPUs of its own domain keep rebinding the port.
const ATTEMPTS: usize = 16;

impl<M: Machine> Kernel<M> {
    /// A new port of `domain` that `remote` may bind.
    ///
    /// # Errors
    /// ENOSPC, ENOMEM; EINVAL when the domain ends.
    pub fn allocate_unbound(&self, domain: &Arc<Domain<M>>, remote: DomainId) -> Result<Port, Error> {
        let mut table = domain.events.lock();
        let port = table.free_port()?;
        table.open(port, State::Unbound { remote }, 0);
        Ok(port)
    }

    /// Connect a new port of `local` to an unbound port that waits for it.
    ///
    /// # Errors
    /// EINVAL when the remote port is none that waits for this domain; ENOSPC, ENOMEM.
    pub fn bind_interdomain(
        &self,
        local: &Arc<Domain<M>>,
        remote: &Arc<Domain<M>>,
        remote_port: Port,
    ) -> Result<Port, Error> {
        let mut pair = Pair::lock(local, remote);
        if pair.remote().has_ended() {
            return Err(Error::EINVAL);
        }
        match pair.remote().slot(remote_port).map(|slot| &slot.state) {
            Some(State::Unbound { remote: expected }) if *expected == local.id => {}
            _ => return Err(Error::EINVAL),
        }
        let port = pair.local.free_port()?;
        let ours = State::Interdomain {
            remote: remote.clone(),
            port: remote_port,
        };
        let theirs = State::Interdomain {
            remote: local.clone(),
            port,
        };
        pair.local.open(port, ours, 0);
        let before = pair.remote().rebind(remote_port, theirs);
        // What was sent before there was a channel is lost: let the guest look once.
        let raised = pair.local.mark(local, port);
        drop(pair);
        drop(before);
        self.deliver(local, port, raised);
        Ok(port)
    }

    /// A new port for a virtual interrupt.
    ///
    /// # Errors
    /// EINVAL for an unknown one, or a global one on another vCPU than 0; ENOENT when there is no such vCPU; EEXIST when
    /// it is bound; ENOSPC, ENOMEM.
    pub fn bind_virq(&self, domain: &Arc<Domain<M>>, number: u32, vcpu: u32) -> Result<Port, Error> {
        if number >= virq::COUNT || (is_global(number) && vcpu != 0) {
            return Err(Error::EINVAL);
        }
        domain.vcpu(vcpu).ok_or(Error::ENOENT)?;
        let mut table = domain.events.lock();
        if table.virq_port(vcpu, number).is_some() {
            return Err(Error::EEXIST);
        }
        let port = table.free_port()?;
        table.set_virq(vcpu, number, port)?;
        table.open(port, State::Virq(number), vcpu);
        Ok(port)
    }

    /// A new port that notifies a vCPU of its own domain.
    ///
    /// # Errors
    /// ENOENT when there is no such vCPU; ENOSPC, ENOMEM.
    pub fn bind_ipi(&self, domain: &Arc<Domain<M>>, vcpu: u32) -> Result<Port, Error> {
        domain.vcpu(vcpu).ok_or(Error::ENOENT)?;
        let mut table = domain.events.lock();
        let port = table.free_port()?;
        table.open(port, State::Ipi, vcpu);
        Ok(port)
    }

    /// Notify the other end of a port.
    ///
    /// # Errors
    /// EINVAL when the port is closed, or one that only the hypervisor notifies.
    pub fn send_event(&self, domain: &Arc<Domain<M>>, port: Port) -> Result<(), Error> {
        let mut table = domain.events.lock();
        match &table.slot(port).ok_or(Error::EINVAL)?.state {
            State::Interdomain { remote, port: peer } => {
                let (remote, peer) = (remote.clone(), *peer);
                drop(table);
                self.send_to(domain, port, &remote, peer);
                Ok(())
            }
            State::Ipi => {
                let raised = table.mark(domain, port);
                drop(table);
                self.deliver(domain, port, raised);
                Ok(())
            }
            // Nobody is there yet; whoever binds it looks once.
            State::Unbound { .. } => Ok(()),
            State::Closed | State::Virq(_) => Err(Error::EINVAL),
        }
    }

    fn send_to(&self, domain: &Arc<Domain<M>>, port: Port, remote: &Arc<Domain<M>>, peer: Port) {
        let mut table = remote.events.lock();
        // Closed since: the send came after.
        let connected = table
            .peer(peer)
            .is_some_and(|(back, theirs)| theirs == port && Arc::ptr_eq(back, domain));
        if connected {
            let raised = table.mark(remote, peer);
            drop(table);
            self.deliver(remote, peer, raised);
        }
    }

    /// Close a port. Its other end waits for a new binding by this domain.
    ///
    /// # Errors
    /// EINVAL when it is not in use.
    pub fn close_port(&self, domain: &Arc<Domain<M>>, port: Port) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let mut table = domain.events.lock();
            let remote = match &table.slot(port).ok_or(Error::EINVAL)?.state {
                State::Closed => return Err(Error::EINVAL),
                State::Interdomain { remote, .. } => remote.clone(),
                _ => {
                    let closed = table.close(domain, port);
                    drop(table);
                    drop(closed);
                    return Ok(());
                }
            };
            drop(table);
            // Meanwhile the other end may have closed, and even bound the port again: the same domain, so that the locks
            // are the right ones. Only our own domain can have put something else in its place.
            let mut pair = Pair::lock(domain, &remote);
            let peer = pair
                .local
                .peer(port)
                .map(|(now, peer)| (Arc::ptr_eq(now, &remote), peer));
            if let Some((true, peer)) = peer {
                let ours = pair.local.close(domain, port);
                let theirs = pair.remote().rebind(peer, State::Unbound { remote: domain.id });
                drop(pair);
                drop((ours, theirs));
                return Ok(());
            }
        }
        Err(Error::EAGAIN)
    }

    /// What a port is bound to.
    ///
    /// # Errors
    /// EINVAL when there is no such port.
    pub fn port_status(&self, domain: &Domain<M>, port: Port) -> Result<Status, Error> {
        let table = domain.events.lock();
        let slot = table.slot(port).ok_or(Error::EINVAL)?;
        let mut answer = Status {
            domain: domain.id,
            port,
            vcpu: slot.vcpu,
            ..Status::default()
        };
        match &slot.state {
            State::Closed => answer.status = status::CLOSED,
            State::Unbound { remote } => {
                answer.status = status::UNBOUND;
                answer.set_remote(*remote, 0);
            }
            State::Interdomain { remote, port } => {
                answer.status = status::INTERDOMAIN;
                answer.set_remote(remote.id, *port);
            }
            State::Virq(number) => {
                answer.status = status::VIRQ;
                answer.set_interrupt(*number);
            }
            State::Ipi => answer.status = status::IPI,
        }
        Ok(answer)
    }

    /// Choose the vCPU that a port notifies. What is pending already stays where it was announced.
    ///
    /// # Errors
    /// ENOENT when there is no such vCPU; EINVAL when the port is closed or belongs to a vCPU by its nature.
    pub fn bind_vcpu(&self, domain: &Arc<Domain<M>>, port: Port, vcpu: u32) -> Result<(), Error> {
        domain.vcpu(vcpu).ok_or(Error::ENOENT)?;
        let mut table = domain.events.lock();
        let slot = table.slot_mut(port).ok_or(Error::EINVAL)?;
        let movable = match slot.state {
            State::Unbound { .. } | State::Interdomain { .. } => true,
            State::Virq(number) => is_global(number),
            State::Closed | State::Ipi => false,
        };
        if !movable {
            return Err(Error::EINVAL);
        }
        slot.vcpu = vcpu;
        Ok(())
    }

    /// Unmask a port, and deliver what was held back.
    ///
    /// # Errors
    /// EINVAL when there is no such port.
    pub fn unmask_port(&self, domain: &Arc<Domain<M>>, port: Port) -> Result<(), Error> {
        let mut table = domain.events.lock();
        table.slot(port).ok_or(Error::EINVAL)?;
        if table.is_open(port) {
            let raised = table.unmask(domain, port);
            drop(table);
            self.deliver(domain, port, raised);
        }
        Ok(())
    }

    /// FIFO ABI: take a vCPU's control block. The first one switches the domain to that ABI.
    ///
    /// # Errors
    /// ENOENT when there is no such vCPU; EINVAL for a bad place, a frame that is no writable memory of the domain's own,
    /// or a vCPU that has one; ENOMEM.
    pub fn init_control(
        &self,
        domain: &Arc<Domain<M>>,
        vcpu: u32,
        at: GuestFrame,
        offset: u32,
    ) -> Result<(), Error> {
        domain.vcpu(vcpu).ok_or(Error::ENOENT)?;
        let offset = check_offset(offset)?;
        let page = own_page(domain, at)?;
        let mut table = domain.events.lock();
        if let Some(fifo) = &mut table.fifo {
            fifo.set_block(vcpu, page, offset)?;
            // What became pending for this vCPU while it had no queues.
            let waiting = mark_again(domain, &mut table, 1..Port::MAX, |fifo, port, slot| {
                slot.vcpu == vcpu && fifo.is_pending(port)
            });
            drop(table);
            self.deliver_all(domain, waiting);
            return Ok(());
        }
        let mut fifo = Fifo::new(domain.vcpus.len())?;
        fifo.set_block(vcpu, page, offset)?;
        // What waits in the old ABI waits for its event word in the new one.
        for port in 1..table.size() {
            let pending = table.is_pending(domain, port);
            if let Some(slot) = table.slot_mut(port) {
                slot.deferred = pending && !matches!(slot.state, State::Closed);
                slot.priority = abi::PRIORITY_DEFAULT as u8;
            }
        }
        table.fifo = Some(fifo);
        Ok(())
    }

    /// FIFO ABI: take one more page of event words.
    ///
    /// # Errors
    /// EOPNOTSUPP in the 2-level ABI; ENOSPC when every port has a word; EINVAL for a frame that is no writable memory of
    /// the domain's own; ENOMEM.
    pub fn expand_array(&self, domain: &Arc<Domain<M>>, at: GuestFrame) -> Result<(), Error> {
        if domain.events.lock().fifo.is_none() {
            return Err(Error::EOPNOTSUPP);
        }
        let page = own_page(domain, at)?;
        let mut table = domain.events.lock();
        let first = table.fifo.as_mut().ok_or(Error::EOPNOTSUPP)?.add_page(page)?;
        let waiting = mark_again(
            domain,
            &mut table,
            first..first + abi::WORDS_PER_PAGE,
            |_, _, slot| core::mem::take(&mut slot.deferred),
        );
        drop(table);
        self.deliver_all(domain, waiting);
        Ok(())
    }

    fn deliver_all(&self, domain: &Arc<Domain<M>>, waiting: Waiting) {
        if waiting.newly {
            self.wake_pollers(domain, |_| true);
        }
        let mut rest = waiting.upcalls;
        while rest != 0 {
            let index = rest.trailing_zeros();
            rest &= rest - 1;
            if let Some(vcpu) = VcpuHandle::new(domain, index) {
                self.raise_upcall(&vcpu);
            }
        }
    }

    /// FIFO ABI: choose the queue that a port joins from now on.
    ///
    /// # Errors
    /// EINVAL when there is no such port or queue, ENOSYS in the 2-level ABI, EACCES when the port is closed.
    pub fn set_priority(&self, domain: &Arc<Domain<M>>, port: Port, priority: u32) -> Result<(), Error> {
        let mut table = domain.events.lock();
        let has_queues = table.fifo.is_some();
        let slot = table.slot_mut(port).ok_or(Error::EINVAL)?;
        if !has_queues {
            return Err(Error::ENOSYS);
        }
        if matches!(slot.state, State::Closed) {
            return Err(Error::EACCES);
        }
        if priority > abi::PRIORITY_MIN {
            return Err(Error::EINVAL);
        }
        slot.priority = priority as u8;
        Ok(())
    }

    /// Close ports of a domain and, after the last one, go back to the 2-level ABI. Returns whether that is done; else it
    /// is called again.
    pub fn reset_ports(&self, domain: &Arc<Domain<M>>) -> bool {
        for _ in 0..CLOSED_AT_ONCE {
            let port = {
                let mut table = domain.events.lock();
                let Some(port) = (table.cursor..table.size()).find(|&port| table.is_open(port)) else {
                    table.cursor = 0;
                    let fifo = table.fifo.take();
                    // Other vCPUs may have opened ports behind us: nothing is held back for a page that will not come.
                    table.forget_deferred();
                    drop(table);
                    // Gives the guest's pages back.
                    drop(fifo);
                    return true;
                };
                table.cursor = port;
                port
            };
            // Refused only if another vCPU of the domain has closed it already.
            let _ = self.close_port(domain, port);
        }
        false
    }

    /// Close a domain's ports for good, some at a time. Returns whether that is done; else it is called again.
    pub fn close_all_ports(&self, domain: &Arc<Domain<M>>) -> bool {
        domain.events.lock().end();
        self.reset_ports(domain) && domain.events.lock().in_use() == 0
    }
}

/// What marking many ports asks for: see [`super::Raised`].
#[derive(Default)]
struct Waiting {
    newly: bool,
    /// A bit for each vCPU.
    upcalls: u128,
}

/// Mark those open ports of a range that `wanted` picks.
fn mark_again<M: Machine>(
    domain: &Domain<M>,
    table: &mut Table<M>,
    ports: Range<Port>,
    wanted: impl Fn(&Fifo, Port, &mut Slot<M>) -> bool,
) -> Waiting {
    const { assert!(MAX_VCPUS <= u128::BITS) };
    let mut waiting = Waiting::default();
    for port in ports.start..ports.end.min(table.size()) {
        if table.is_open(port) && table.picks(port, &wanted) {
            let raised = table.mark(domain, port);
            waiting.newly |= raised.newly;
            waiting.upcalls |= raised.upcall.map_or(0, |vcpu| 1u128.unbounded_shl(vcpu));
        }
    }
    waiting
}

/// A page of the domain's own memory that it may write, held for as long as it is in use here.
fn own_page<M: Machine>(domain: &Domain<M>, at: GuestFrame) -> Result<FrameReference, Error> {
    let (page, leaf) = domain.physmap.get(at).ok_or(Error::EINVAL)?;
    if leaf.kind != EntryKind::Populated || !leaf.permissions.write {
        return Err(Error::EINVAL);
    }
    Ok(page)
}
