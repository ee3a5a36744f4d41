//! What audits look at.

use core::sync::atomic::Ordering;

use machine::{Machine, Nanoseconds, ProcessorId};

use super::{NEVER, Processor, may_run_on};
use crate::domain::VcpuHandle;

/// Whether a vCPU may run on a processor, if anywhere.
pub(crate) fn may_run<M: Machine>(vcpu: &VcpuHandle<M>, processor: ProcessorId) -> bool {
    may_run_on(vcpu, processor)
}

impl<M: Machine> Processor<M> {
    /// Visit the run queue. Says how many places it has.
    pub(crate) fn each_queued<E>(
        &self,
        visit: impl FnMut(&VcpuHandle<M>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let queue = self.queue.lock();
        queue.iter().try_for_each(visit)?;
        Ok(queue.capacity())
    }

    /// Whether it waits for work and nobody has called it.
    pub(crate) fn idles_uncalled(&self) -> bool {
        self.idle.load(Ordering::SeqCst)
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
    pub(crate) fn sabotage_queue(
        &self,
        change: impl FnOnce(&mut alloc::collections::VecDeque<VcpuHandle<M>>),
    ) {
        change(&mut self.queue.lock());
    }

    pub(crate) fn sabotage_slice(&self) {
        self.slice_end.store(NEVER, Ordering::SeqCst);
        self.reschedule.store(false, Ordering::SeqCst);
    }

    pub(crate) fn sabotage_idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::SeqCst);
    }

    pub(crate) fn sabotage_programmed(&self, at: Option<Nanoseconds>) {
        self.programmed.store(at.unwrap_or(NEVER), Ordering::SeqCst);
    }
}
