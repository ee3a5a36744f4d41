//! Which vCPU runs where. (To come.)

use machine::Machine;

use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};

/// A processor's part of the scheduler.
pub struct Processor<M: Machine> {
    _marker: core::marker::PhantomData<fn() -> M>,
}

impl<M: Machine> Default for Processor<M> {
    fn default() -> Self {
        Processor { _marker: core::marker::PhantomData }
    }
}

impl<M: Machine> Kernel<M> {
    /// Something happened that this vCPU waits for, or that it must look at: end its block, and make it look if it runs.
    pub fn unblock(&self, _vcpu: &VcpuHandle<M>) {}

    /// Something that kept a vCPU from running may have ended: put it in a queue if it now wants to run.
    pub fn reconsider(&self, _vcpu: &VcpuHandle<M>) {}

    /// Stop all vCPUs of a domain, and wait until none runs. Nested; not for one's own domain.
    pub fn pause_domain(&self, _domain: &alloc::sync::Arc<Domain<M>>) {}

    /// Undo one [`Kernel::pause_domain`].
    pub fn unpause_domain(&self, _domain: &alloc::sync::Arc<Domain<M>>) {}

    /// Stop one vCPU, and wait until it does not run. Nested; not for oneself.
    pub fn pause_vcpu(&self, _vcpu: &VcpuHandle<M>) {}

    /// Undo one [`Kernel::pause_vcpu`].
    pub fn unpause_vcpu(&self, _vcpu: &VcpuHandle<M>) {}
}
