//! A domain's ports: what each is bound to, and which are free.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hypercall_abi::event_channel::{Port, TWO_LEVEL_CHANNELS, fifo as abi};
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};
use machine::Machine;

use super::fifo::{Fifo, QueueName};
use super::{Raised, two_level};
use crate::domain::Domain;

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

/// Ports that are added to a table at a time, as Xen does: a port in them exists, in use or not.
const BUCKET: usize = 64;

/// What a port is bound to.
pub(super) enum State<M: Machine> {
    /// Not in use.
    Closed,
    /// Waits for another domain to bind it.
    Unbound {
        /// Who may.
        remote: DomainId,
    },
    /// Connected. The share in the other domain makes a cycle that closing breaks; all ports of a domain that ends are
    /// closed.
    Interdomain {
        /// The other domain.
        remote: Arc<Domain<M>>,
        /// Its port.
        port: Port,
    },
    /// A virtual interrupt.
    Virq(u32),
    /// Notifies an own vCPU.
    Ipi,
}

/// A port.
pub(super) struct Slot<M: Machine> {
    /// What it is bound to.
    pub state: State<M>,
    /// The vCPU that it notifies.
    pub vcpu: u32,
    /// FIFO: the queue it joins next.
    pub priority: u8,
    /// FIFO: it became pending before the guest gave a page for its event word.
    pub deferred: bool,
    /// FIFO: the queue it joined last. Kept from one use of the port to the next.
    pub last_queue: QueueName,
}

impl<M: Machine> Slot<M> {
    fn new() -> Self {
        Slot {
            state: State::Closed,
            vcpu: 0,
            priority: abi::PRIORITY_DEFAULT as u8,
            deferred: false,
            last_queue: QueueName::default(),
        }
    }
}

/// A domain's ports.
pub(super) struct Table<M: Machine> {
    buckets: Vec<Box<[Slot<M>]>>,
    max_port: Port,
    /// No port below this one is closed.
    first_free: Port,
    in_use: u32,
    /// The domain ends: nothing is opened any more.
    ended: bool,
    /// Per vCPU, the port of each virtual interrupt; 0 is none. Grows with the vCPUs that bind some.
    virqs: Vec<[Port; virq::COUNT as usize]>,
    /// The FIFO ABI, once the guest has asked for it; the 2-level one before.
    pub fifo: Option<Fifo>,
    /// Where closing all ports goes on.
    pub cursor: Port,
}

impl<M: Machine> Table<M> {
    pub fn new(max_port: Port) -> Result<Self, Error> {
        let mut table = Table {
            buckets: Vec::new(),
            max_port,
            // Port 0 is never valid: it stays closed below this.
            first_free: 1,
            in_use: 0,
            ended: false,
            virqs: Vec::new(),
            fifo: None,
            cursor: 0,
        };
        table.grow()?;
        Ok(table)
    }

    fn grow(&mut self) -> Result<(), Error> {
        let mut bucket = Vec::new();
        bucket.try_reserve_exact(BUCKET).map_err(|_| Error::ENOMEM)?;
        bucket.resize_with(BUCKET, Slot::new);
        self.buckets.try_reserve(1).map_err(|_| Error::ENOMEM)?;
        self.buckets.push(bucket.into_boxed_slice());
        Ok(())
    }

    /// Ports that exist: the number after the last one.
    pub fn size(&self) -> Port {
        self.buckets.len().saturating_mul(BUCKET) as Port
    }

    /// The highest port that may be in use.
    pub fn max_port(&self) -> Port {
        self.max_port
    }

    /// Ports in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    pub fn slot(&self, port: Port) -> Option<&Slot<M>> {
        self.buckets
            .get(port as usize / BUCKET)?
            .get(port as usize % BUCKET)
    }

    pub fn slot_mut(&mut self, port: Port) -> Option<&mut Slot<M>> {
        self.buckets
            .get_mut(port as usize / BUCKET)?
            .get_mut(port as usize % BUCKET)
    }

    pub fn is_open(&self, port: Port) -> bool {
        self.slot(port)
            .is_some_and(|slot| !matches!(slot.state, State::Closed))
    }

    /// The other end of a port, if it is connected.
    pub fn peer(&self, port: Port) -> Option<(&Arc<Domain<M>>, Port)> {
        match &self.slot(port)?.state {
            State::Interdomain { remote, port } => Some((remote, *port)),
            _ => None,
        }
    }

    /// The lowest port that can be opened.
    ///
    /// # Errors
    /// ENOSPC when the domain has as many as it may, ENOMEM, EINVAL when the domain ends.
    pub fn free_port(&mut self) -> Result<Port, Error> {
        if self.ended {
            return Err(Error::EINVAL);
        }
        let channels = if self.fifo.is_some() {
            abi::CHANNELS
        } else {
            TWO_LEVEL_CHANNELS
        };
        let limit = channels.min(self.max_port.saturating_add(1));
        let mut lowest_closed = None;
        for port in self.first_free..limit {
            if port >= self.size() {
                self.grow()?;
            }
            if self.is_open(port) {
                continue;
            }
            let lowest = *lowest_closed.get_or_insert(port);
            // A word that the guest has not yet taken off its queue cannot be queued for a new use.
            if !self.fifo.as_ref().is_some_and(|fifo| fifo.is_linked(port)) {
                self.first_free = lowest;
                return Ok(port);
            }
        }
        Err(Error::ENOSPC)
    }

    /// Put a port that [`Table::free_port`] gave into use.
    pub fn open(&mut self, port: Port, state: State<M>, vcpu: u32) {
        let Some(slot) = self.slot_mut(port) else { return };
        debug_assert!(matches!(slot.state, State::Closed), "a port opened twice");
        slot.state = state;
        slot.vcpu = vcpu;
        slot.priority = abi::PRIORITY_DEFAULT as u8;
        slot.deferred = false;
        self.in_use = self.in_use.saturating_add(1);
        if self.first_free == port {
            self.first_free = port.saturating_add(1);
        }
    }

    /// Take a port out of use, and out of what it was bound to on this side. The state is for the caller to drop, without
    /// a lock: it may hold the last share in a domain.
    #[must_use]
    pub fn close(&mut self, domain: &Domain<M>, port: Port) -> Option<State<M>> {
        // What waited is not for whoever opens the port next.
        match &self.fifo {
            Some(fifo) => fifo.clear_pending(port),
            None => two_level::clear_pending(domain, port),
        }
        let slot = self.slot_mut(port)?;
        if matches!(slot.state, State::Closed) {
            return None;
        }
        let state = core::mem::replace(&mut slot.state, State::Closed);
        slot.deferred = false;
        let vcpu = core::mem::take(&mut slot.vcpu);
        if let State::Virq(number) = state
            && let Some(entry) = self
                .virqs
                .get_mut(vcpu_of_virq(number, vcpu))
                .and_then(|row| row.get_mut(number as usize))
        {
            *entry = 0;
        }
        self.in_use = self.in_use.saturating_sub(1);
        self.first_free = self.first_free.min(port);
        Some(state)
    }

    /// Change what an open port is bound to; what it was is for the caller to drop, without a lock.
    #[must_use]
    pub fn rebind(&mut self, port: Port, state: State<M>) -> Option<State<M>> {
        self.slot_mut(port)
            .map(|slot| core::mem::replace(&mut slot.state, state))
    }

    /// Open nothing any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the domain ends.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The port that a vCPU's virtual interrupt is bound to.
    pub fn virq_port(&self, vcpu: u32, number: u32) -> Option<Port> {
        let port = *self.virqs.get(vcpu as usize)?.get(number as usize)?;
        (port != 0).then_some(port)
    }

    /// Bind a virtual interrupt to a port.
    ///
    /// # Errors
    /// ENOMEM; nothing has changed.
    pub fn set_virq(&mut self, vcpu: u32, number: u32, port: Port) -> Result<(), Error> {
        let needed = (vcpu as usize + 1).saturating_sub(self.virqs.len());
        self.virqs.try_reserve(needed).map_err(|_| Error::ENOMEM)?;
        for _ in 0..needed {
            self.virqs.push([0; virq::COUNT as usize]);
        }
        if let Some(entry) = self
            .virqs
            .get_mut(vcpu as usize)
            .and_then(|row| row.get_mut(number as usize))
        {
            *entry = port;
        }
        Ok(())
    }

    /// Mark an open port pending.
    pub fn mark(&mut self, domain: &Domain<M>, port: Port) -> Raised {
        match &mut self.fifo {
            None => {
                let vcpu = self.slot(port).map_or(0, |slot| slot.vcpu);
                two_level::mark(domain, port, vcpu)
            }
            Some(fifo) => {
                let bucket = self.buckets.get_mut(port as usize / BUCKET);
                match bucket.and_then(|bucket| bucket.get_mut(port as usize % BUCKET)) {
                    Some(slot) => fifo.mark(port, slot),
                    None => Raised::default(),
                }
            }
        }
    }

    /// Unmask an open port, and bring up what was held back.
    pub fn unmask(&mut self, domain: &Domain<M>, port: Port) -> Raised {
        match &self.fifo {
            None => {
                let vcpu = self.slot(port).map_or(0, |slot| slot.vcpu);
                two_level::unmask(domain, port, vcpu)
            }
            Some(fifo) if fifo.clear_mask(port) => self.mark(domain, port),
            Some(_) => Raised::default(),
        }
    }

    /// In the FIFO ABI, what `wanted` says of a port.
    pub fn picks(&mut self, port: Port, wanted: impl Fn(&Fifo, Port, &mut Slot<M>) -> bool) -> bool {
        let slot = self
            .buckets
            .get_mut(port as usize / BUCKET)
            .and_then(|bucket| bucket.get_mut(port as usize % BUCKET));
        match (&self.fifo, slot) {
            (Some(fifo), Some(slot)) => wanted(fifo, port, slot),
            _ => false,
        }
    }

    /// Hold nothing back any more: the FIFO ABI has ended.
    pub fn forget_deferred(&mut self) {
        for slot in self.buckets.iter_mut().flatten() {
            slot.deferred = false;
        }
    }

    /// Whether a port is pending.
    pub fn is_pending(&self, domain: &Domain<M>, port: Port) -> bool {
        match &self.fifo {
            None => two_level::is_pending(domain, port),
            Some(fifo) => fifo.is_pending(port) || self.slot(port).is_some_and(|slot| slot.deferred),
        }
    }
}

/// Global interrupts are entered for vCPU 0, wherever they are sent; the others never leave their vCPU.
fn vcpu_of_virq(number: u32, vcpu: u32) -> usize {
    if super::is_global(number) {
        0
    } else {
        vcpu as usize
    }
}
