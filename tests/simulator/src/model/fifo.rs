//! The FIFO ABI: an event word for each port in pages that the guest gave, and sixteen queues for each vCPU, whose heads
//! are in its control block. The hypervisor appends; the guest takes off.

use hypercall_abi::Error;
use hypercall_abi::event_channel::{FifoControlBlock, fifo as abi};

use super::Model;
use super::event_channel::{Binding, Port};
use super::memory::{Kind, PAGE_SIZE, PageReference};
use super::pending::Raised;

const PENDING: u32 = 1 << abi::PENDING;
const MASKED: u32 = 1 << abi::MASKED;
const LINKED: u32 = 1 << abi::LINKED;
const BUSY: u32 = 1 << abi::BUSY;
const HEADS: usize = 8;
const MOST_PAGES: usize = (abi::CHANNELS / abi::WORDS_PER_PAGE) as usize;

/// A domain's event words and queues.
pub struct Fifo {
    pages: Vec<PageReference>,
    vcpus: Vec<Queues>,
}

/// A vCPU's queues.
#[derive(Clone, Default)]
struct Queues {
    /// The control block: its page, and where in it.
    block: Option<(PageReference, usize)>,
    /// The port that joined each queue last.
    tails: [u32; 16],
}

impl Fifo {
    fn word(&self, port: u32) -> Option<(&PageReference, usize)> {
        let page = self.pages.get((port / abi::WORDS_PER_PAGE) as usize)?;
        Some((page, (port % abi::WORDS_PER_PAGE) as usize * 4))
    }

    fn load(&self, port: u32) -> u32 {
        self.word(port).map_or(0, |(page, at)| page.load(at))
    }

    /// Change a port's word; as it was before.
    fn change(&self, port: u32, change: impl FnOnce(u32) -> u32) -> u32 {
        let Some((page, at)) = self.word(port) else {
            return 0;
        };
        let before = page.load(at);
        page.store(at, change(before));
        before
    }

    /// Whether the port is in a queue.
    pub fn is_linked(&self, port: u32) -> bool {
        self.load(port) & LINKED != 0
    }

    /// Whether it is pending.
    pub fn is_pending(&self, port: u32) -> bool {
        self.load(port) & PENDING != 0
    }

    /// It is pending no longer.
    pub fn clear_pending(&self, port: u32) {
        self.change(port, |word| word & !PENDING);
    }

    /// It is masked no longer; whether it is pending.
    pub fn unmask(&self, port: u32) -> bool {
        self.change(port, |word| word & !MASKED) & PENDING != 0
    }
}

impl Model {
    pub(super) fn mark_in_fifo(&mut self, domain: u16, port: u32) -> Raised {
        let events = &mut self.at_mut(domain).events;
        let slot = &mut events.ports[port as usize];
        let Some(fifo) = &mut events.fifo else {
            return Raised::default();
        };
        if fifo.word(port).is_none() {
            let newly = !std::mem::replace(&mut slot.deferred, true);
            return Raised { newly, tell: false };
        }
        let before = fifo.change(port, |word| word | PENDING);
        let newly = before & PENDING == 0;
        let queue = (slot.vcpu, slot.priority);
        let queues = fifo.vcpus.get(slot.vcpu as usize);
        let block = queues.and_then(|queues| queues.block.clone());
        // Masked, in a queue already, or without a queue to be in: it stays as it is.
        let (true, Some((page, offset))) = (before & (MASKED | LINKED) == 0, block) else {
            return Raised { newly, tell: false };
        };
        fifo.change(port, |word| word | LINKED);
        let (vcpu, priority) = slot.last_queue;
        let old_tail = &mut fifo.vcpus[vcpu as usize].tails[priority as usize];
        if *old_tail == port {
            *old_tail = 0;
        }
        slot.last_queue = queue;
        let tail = std::mem::replace(&mut fifo.vcpus[queue.0 as usize].tails[queue.1 as usize], port);
        if tail != 0 && fifo.is_linked(tail) {
            fifo.change(tail, |word| (word & !(BUSY | abi::LINK_MASK)) | port);
            return Raised { newly, tell: false };
        }
        // The queue was empty.
        page.store(offset + HEADS + queue.1 as usize * 4, port);
        let ready: u32 = page.load(offset);
        page.store(offset, ready | 1 << queue.1);
        Raised {
            newly,
            tell: ready & 1 << queue.1 == 0,
        }
    }

    fn own_writable_page(&self, frame: u64) -> Result<PageReference, Error> {
        match self.me().map.page(frame) {
            Some((page, entry)) if entry.kind == Kind::Own && entry.writable => Ok(page.clone()),
            _ => Err(Error::EINVAL),
        }
    }

    /// Take a vCPU's control block; the first one brings the domain to this ABI.
    pub(super) fn init_control(&mut self, vcpu: u32, frame: u64, offset: u32) -> Result<(), Error> {
        self.check_vcpu(vcpu)?;
        let offset = offset as usize;
        if offset > PAGE_SIZE - size_of::<FifoControlBlock>() || !offset.is_multiple_of(8) {
            return Err(Error::EINVAL);
        }
        let page = self.own_writable_page(frame)?;
        let me = self.caller.domain;
        if let Some(fifo) = &mut self.me_mut().events.fifo {
            let block = &mut fifo.vcpus[vcpu as usize].block;
            if block.is_some() {
                return Err(Error::EINVAL);
            }
            *block = Some((page, offset));
            // What became pending for it while it had no queues.
            self.mark_again(|slot, fifo, port| slot.vcpu == vcpu && fifo.is_pending(port));
            return Ok(());
        }
        // What is pending in the bitmap waits for its word.
        for port in 1..self.me().events.ports.len() as u32 {
            let pending = self.is_pending_in_page(me, port);
            let slot = &mut self.me_mut().events.ports[port as usize];
            slot.deferred = pending && slot.binding != Binding::Closed;
            slot.priority = abi::PRIORITY_DEFAULT;
        }
        let mut vcpus = vec![Queues::default(); self.me().vcpus.len()];
        vcpus[vcpu as usize].block = Some((page, offset));
        self.me_mut().events.fifo = Some(Fifo {
            pages: Vec::new(),
            vcpus,
        });
        Ok(())
    }

    /// Take a page of event words; what waited for its word becomes pending in it.
    pub(super) fn expand_array(&mut self, frame: u64) -> Result<(), Error> {
        if self.me().events.fifo.is_none() {
            return Err(Error::EOPNOTSUPP);
        }
        let page = self.own_writable_page(frame)?;
        let events = &mut self.me_mut().events;
        let fifo = events.fifo.as_mut().ok_or(Error::EOPNOTSUPP)?;
        if fifo.pages.len() >= MOST_PAGES {
            return Err(Error::ENOSPC);
        }
        fifo.pages.push(page);
        let page = fifo.pages.len() as u32 - 1;
        self.mark_again(|slot, _, port| {
            port / abi::WORDS_PER_PAGE == page && std::mem::take(&mut slot.deferred)
        });
        Ok(())
    }

    /// Mark those of the caller's open ports that are wanted, and then tell who must know.
    fn mark_again(&mut self, wanted: impl Fn(&mut Port, &Fifo, u32) -> bool) {
        let me = self.caller.domain;
        let mut newly = false;
        let mut upcalls = std::collections::BTreeSet::new();
        for port in 1..self.me().events.ports.len() as u32 {
            let events = &mut self.me_mut().events;
            let (slot, Some(fifo)) = (&mut events.ports[port as usize], &events.fifo) else {
                return;
            };
            let vcpu = slot.vcpu;
            if slot.binding == Binding::Closed || !wanted(slot, fifo, port) {
                continue;
            }
            let raised = self.mark(me, port);
            newly |= raised.newly;
            if raised.tell {
                upcalls.insert(vcpu);
            }
        }
        if newly {
            self.wake_pollers(me, None);
        }
        for vcpu in upcalls {
            self.raise_upcall(me, vcpu);
        }
    }
}
