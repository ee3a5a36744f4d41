//! The FIFO ABI: each port has an event word in a page that the guest gave; each vCPU has sixteen queues, linked lists
//! through those words, whose heads are in a control block that the guest gave as well.
//!
//! The hypervisor appends, the guest takes off. Which word ends a queue only the hypervisor knows; whether that word is
//! still in the queue its LINKED bit says, and linking on to it is one compare-and-swap that fails when the guest took it
//! off meanwhile: then the queue was empty, and the new event is its head. A guest that writes nonsense into its words
//! loses its own events; no walk is made along its links, and no loop waits for it.

use alloc::vec::Vec;

use hypercall_abi::Error;
use hypercall_abi::event_channel::{FifoControlBlock, Port, fifo as abi};
use machine::Machine;
use machine::address::PAGE_SIZE;
use machine::memory::FrameReference;

use super::Raised;
use super::table::Slot;

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

const PENDING: u32 = 1 << abi::PENDING;
const MASKED: u32 = 1 << abi::MASKED;
const LINKED: u32 = 1 << abi::LINKED;
const BUSY: u32 = 1 << abi::BUSY;
const QUEUES: usize = abi::MAX_QUEUES as usize;
/// Pages of event words that hold a word for each port.
const MAX_PAGES: usize = (abi::CHANNELS / abi::WORDS_PER_PAGE) as usize;
/// Offsets in the control block.
const READY: usize = 0;
const HEADS: usize = 8;
/// Attempts to link on to a word that its guest keeps changing although it is marked busy.
const ATTEMPTS: u32 = 4;

/// One of a domain's queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct QueueName {
    vcpu: u32,
    priority: u8,
}

/// A vCPU's queues.
struct Queues {
    /// The guest's control block: its page and the offset in it, checked to fit and to be aligned.
    block: Option<(FrameReference, usize)>,
    /// The port that was appended last to each queue; 0 when none is known.
    tails: [Port; QUEUES],
}

/// A domain's event words and queues.
pub(super) struct Fifo {
    pages: Vec<FrameReference>,
    vcpus: Vec<Queues>,
}

impl Fifo {
    /// For a domain of so many vCPUs: no words and no control blocks yet.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(vcpus: usize) -> Result<Fifo, Error> {
        let mut all = Vec::new();
        all.try_reserve_exact(vcpus).map_err(|_| Error::ENOMEM)?;
        all.resize_with(vcpus, || Queues {
            block: None,
            tails: [0; QUEUES],
        });
        Ok(Fifo {
            pages: Vec::new(),
            vcpus: all,
        })
    }

    /// Set a vCPU's control block, at an offset that [`check_offset`] accepts.
    ///
    /// # Errors
    /// EINVAL when it has one, ENOENT when there is no such vCPU.
    pub fn set_block(&mut self, vcpu: u32, page: FrameReference, offset: usize) -> Result<(), Error> {
        let queues = self.vcpus.get_mut(vcpu as usize).ok_or(Error::ENOENT)?;
        if queues.block.is_some() {
            return Err(Error::EINVAL);
        }
        queues.block = Some((page, offset));
        Ok(())
    }

    /// Add a page of event words. Returns the first port that has its word in it.
    ///
    /// # Errors
    /// ENOSPC when every port has a word, ENOMEM.
    pub fn add_page(&mut self, page: FrameReference) -> Result<Port, Error> {
        if self.pages.len() >= MAX_PAGES {
            return Err(Error::ENOSPC);
        }
        self.pages.try_reserve(1).map_err(|_| Error::ENOMEM)?;
        self.pages.push(page);
        Ok((self.pages.len() - 1) as Port * abi::WORDS_PER_PAGE)
    }

    fn word(&self, port: Port) -> Option<Word<'_>> {
        let page = self.pages.get((port / abi::WORDS_PER_PAGE) as usize)?;
        Some(Word {
            page,
            offset: (port % abi::WORDS_PER_PAGE) as usize * size_of::<u32>(),
        })
    }

    /// Mark a port pending and queue it, unless it is masked or in a queue.
    pub fn mark<M: Machine>(&mut self, port: Port, slot: &mut Slot<M>) -> Raised {
        let Some(word) = self.word(port) else {
            // The guest gives the page later, and then sees the event.
            let newly = !core::mem::replace(&mut slot.deferred, true);
            return Raised { newly, upcall: None };
        };
        let before = word.set(PENDING);
        let upcall = before & (MASKED | LINKED) == 0 && self.append(port, slot);
        Raised {
            newly: before & PENDING == 0,
            upcall: upcall.then_some(slot.vcpu),
        }
    }

    /// Put a port at the end of its queue; true when the vCPU must be told.
    fn append<M: Machine>(&mut self, port: Port, slot: &mut Slot<M>) -> bool {
        let queue = QueueName {
            vcpu: slot.vcpu,
            priority: slot.priority,
        };
        let ready = self
            .vcpus
            .get(queue.vcpu as usize)
            .is_some_and(|queues| queues.block.is_some());
        // Without a control block there is no queue. The event stays pending.
        if !ready || self.word(port).is_none_or(|word| word.set(LINKED) & LINKED != 0) {
            return false;
        }
        // It was in no queue until now. Where it was the last one before, nothing may be linked on to it.
        if let Some(tail) = self.tail_mut(slot.last_queue)
            && *tail == port
        {
            *tail = 0;
        }
        slot.last_queue = queue;
        let tail = self
            .tail_mut(queue)
            .map_or(0, |tail| core::mem::replace(tail, port));
        if tail != 0 && self.word(tail).is_some_and(|word| word.link_to(port)) {
            return false;
        }
        self.start_queue(queue, port)
    }

    /// The queue was empty: `port` is its head. True when the guest did not know of the queue.
    fn start_queue(&self, queue: QueueName, port: Port) -> bool {
        let Some((page, offset)) = self
            .vcpus
            .get(queue.vcpu as usize)
            .and_then(|queues| queues.block.as_ref())
        else {
            return false;
        };
        let bit = 1u32.unbounded_shl(u32::from(queue.priority));
        let head = HEADS + usize::from(queue.priority) * size_of::<u32>();
        // Inside the page and aligned, as was checked when the block was set: no access fails.
        let _ = page.store_u32(offset.saturating_add(head), port);
        page.fetch_or_u32(offset.saturating_add(READY), bit)
            .is_ok_and(|before| before & bit == 0)
    }

    fn tail_mut(&mut self, queue: QueueName) -> Option<&mut Port> {
        self.vcpus
            .get_mut(queue.vcpu as usize)?
            .tails
            .get_mut(usize::from(queue.priority))
    }

    /// Clear the mask; true when the port is pending.
    pub fn clear_mask(&self, port: Port) -> bool {
        self.word(port)
            .is_some_and(|word| word.clear(MASKED) & PENDING != 0)
    }

    pub fn clear_pending(&self, port: Port) {
        if let Some(word) = self.word(port) {
            word.clear(PENDING);
        }
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.load() & PENDING != 0)
    }

    pub fn is_linked(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.load() & LINKED != 0)
    }
}

/// Whether a control block may begin at this offset in its page.
///
/// # Errors
/// EINVAL.
pub(super) fn check_offset(offset: u32) -> Result<usize, Error> {
    let offset = offset as usize;
    if offset > PAGE_SIZE - size_of::<FifoControlBlock>() || !offset.is_multiple_of(8) {
        return Err(Error::EINVAL);
    }
    Ok(offset)
}

/// An event word in the guest's page. The offset is inside it and aligned: no access fails.
struct Word<'a> {
    page: &'a FrameReference,
    offset: usize,
}

impl Word<'_> {
    fn load(&self) -> u32 {
        self.page.load_u32(self.offset).unwrap_or(0)
    }

    fn set(&self, bits: u32) -> u32 {
        self.page.fetch_or_u32(self.offset, bits).unwrap_or(0)
    }

    fn clear(&self, bits: u32) -> u32 {
        self.page.fetch_and_u32(self.offset, !bits).unwrap_or(0)
    }

    /// Make `port` the next after this word, if this word is in a queue; false when it is in none any more.
    fn link_to(&self, port: Port) -> bool {
        let mut current = self.load();
        if let Some(linked) = self.try_link(&mut current, port) {
            return linked;
        }
        // The guest changed the word just now. While it is marked busy, a guest that keeps to the ABI waits.
        current = self.set(BUSY) | BUSY;
        for _ in 0..ATTEMPTS {
            if let Some(linked) = self.try_link(&mut current, port) {
                if !linked {
                    self.clear(BUSY);
                }
                return linked;
            }
        }
        // This one does not keep to it, and has lost the event.
        self.clear(BUSY);
        true
    }

    /// One attempt; `None` when the word changed under it, and `current` is what it is now.
    fn try_link(&self, current: &mut u32, port: Port) -> Option<bool> {
        if *current & LINKED == 0 {
            return Some(false);
        }
        let linked = (*current & !(BUSY | abi::LINK_MASK)) | port;
        match self.page.compare_exchange_u32(self.offset, *current, linked) {
            Ok(Ok(_)) => Some(true),
            Ok(Err(now)) => {
                *current = now;
                None
            }
            Err(_) => Some(false),
        }
    }
}
