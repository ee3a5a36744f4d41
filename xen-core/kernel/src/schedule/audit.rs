//! What audits look at.

use core::sync::atomic::Ordering;

use machine::{Machine, Nanoseconds};

use super::{NEVER, Processor};
use crate::domain::VcpuHandle;

/// What is said of a queue, and what is so.
pub(crate) struct Hints {
    pub waiting: usize,
    pub said: bool,
    pub first: Option<u64>,
    pub head: u64,
}

impl<M: Machine> Processor<M> {
    /// What is said of the first in the queue to who looks without the lock, and what is so. Under the lock `said` looks
    /// whether the queue is said to hold anybody.
    pub(crate) fn hints(&self, said: impl FnOnce() -> bool) -> Hints {
        let queue = self.queue.lock();
        Hints {
            waiting: queue.iter().count(),
            said: said(),
            first: queue.first().map(|(turn, _)| turn.0),
            head: self.head.load(Ordering::Relaxed),
        }
    }

    /// The domain and index of the vCPU that runs here.
    pub fn runs(&self) -> Option<(u16, u32)> {
        self.running.own().map(|name| (name.domain.0, name.vcpu))
    }

    /// Visit the run queue. Says how many places it has.
    pub(crate) fn each_queued<E>(
        &self,
        visit: impl FnMut(&VcpuHandle<M>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let queue = self.queue.lock();
        queue.iter().try_for_each(visit)?;
        Ok(queue.places())
    }

    /// What the hardware timer is set to.
    pub(crate) fn programmed(&self) -> Option<Nanoseconds> {
        let programmed = self.programmed.load(Ordering::Relaxed);
        (programmed != NEVER).then_some(programmed)
    }

    /// Whether the running vCPU's slice has an end, or it gives way anyhow.
    pub(crate) fn will_reconsider(&self) -> bool {
        self.slice_end().is_some() || self.reschedule.load(Ordering::Relaxed)
    }

    /// When the running vCPU's slice ends.
    pub(crate) fn slice_end(&self) -> Option<Nanoseconds> {
        let slice_end = self.slice_end.load(Ordering::Relaxed);
        (slice_end != NEVER).then_some(slice_end)
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> Processor<M> {
    pub(crate) fn sabotage_queue(&self, change: impl FnOnce(&mut super::RunQueue<M>)) {
        change(&mut self.queue.lock());
    }

    pub(crate) fn sabotage_head(&self) {
        self.head.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn sabotage_slice(&self) {
        self.slice_end.store(NEVER, Ordering::SeqCst);
        self.reschedule.store(false, Ordering::SeqCst);
    }

    pub(crate) fn sabotage_programmed(&self, at: Option<Nanoseconds>) {
        self.programmed.store(at.unwrap_or(NEVER), Ordering::SeqCst);
    }
}
