//! What a scheduling policy decides, and what it may not.
//!
//! A policy chooses: the queue that a vCPU waits in and its turn there, who runs next, for how long. The mechanism
//! ([`schedule`](super)) does everything else and believes none of the answers: before a vCPU runs, it looks under the
//! lock of the vCPU's place whether it may run at all, and there. A policy that answers nonsense wastes time; it cannot
//! run a vCPU twice, or a paused one, or one elsewhere than its affinity and its pool allow.

use hypercall_abi::domctl::scheduler;
use machine::{Machine, Nanoseconds, ProcessorId};

use super::fair::Fair;
use super::pinned::Pinned;
use super::virtual_time::VirtualTime;
use crate::Kernel;
use crate::domain::VcpuHandle;

/// Where a vCPU should wait.
pub struct Placement {
    /// In this processor's queue.
    pub processor: ProcessorId,
    /// That one idled, and was taken out of those that do: nobody else calls it.
    pub claimed: bool,
}

/// Why a vCPU enters a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entering {
    /// It has begun to want a processor, or was moved.
    Woken,
    /// It gave its processor up and still wants one.
    Preempted,
}

/// A scheduling policy. One serves all processors of a pool; what it keeps is in the processors' and vCPUs' records.
pub trait Policy<M: Machine>: Sync {
    /// In which queue a vCPU that wants to run should wait.
    fn place(&self, kernel: &Kernel<M>, vcpu: &VcpuHandle<M>) -> Placement;
    /// Its turn there.
    fn turn(
        &self,
        kernel: &Kernel<M>,
        vcpu: &VcpuHandle<M>,
        queue: ProcessorId,
        entering: Entering,
    ) -> VirtualTime;
    /// Take the next one for this processor out of a queue.
    fn pick(&self, kernel: &Kernel<M>, here: ProcessorId) -> Option<VcpuHandle<M>>;
    /// A vCPU begins to run here: note it, and when to look again.
    fn begin(&self, kernel: &Kernel<M>, here: ProcessorId, vcpu: &VcpuHandle<M>, now: Nanoseconds);
    /// Something may have changed (a vCPU was queued here, or the time to look has come): should the running one give way?
    fn look(&self, kernel: &Kernel<M>, here: ProcessorId, now: Nanoseconds);
    /// It has run: count it.
    fn end(&self, kernel: &Kernel<M>, here: ProcessorId, vcpu: &VcpuHandle<M>, now: Nanoseconds);
    /// It gives its processor up of its own will.
    fn yields(&self, kernel: &Kernel<M>, here: ProcessorId, vcpu: &VcpuHandle<M>);
    /// It leaves for good, or may have to: its domain ends, its pool or its affinity has changed.
    fn forget(&self, kernel: &Kernel<M>, vcpu: &VcpuHandle<M>);
}

/// The policies that there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyKind {
    /// Shares in proportion to weights.
    Fair,
    /// A processor for each vCPU.
    Pinned,
}

impl PolicyKind {
    /// The one that Xen's number of a scheduler means: credit2, which its tools set weights and caps for, and null.
    pub fn from_number(number: u32) -> Option<PolicyKind> {
        match number {
            scheduler::CREDIT2 => Some(PolicyKind::Fair),
            scheduler::NULL => Some(PolicyKind::Pinned),
            _ => None,
        }
    }

    /// Xen's number for it.
    pub fn number(self) -> u32 {
        match self {
            PolicyKind::Fair => scheduler::CREDIT2,
            PolicyKind::Pinned => scheduler::NULL,
        }
    }

    /// The policy itself.
    pub(super) fn policy<M: Machine>(self) -> &'static dyn Policy<M> {
        match self {
            PolicyKind::Fair => &Fair,
            PolicyKind::Pinned => &Pinned,
        }
    }
}
