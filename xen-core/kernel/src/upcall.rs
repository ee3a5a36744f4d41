//! Telling a vCPU that an event waits.

use core::sync::atomic::Ordering;

use machine::Machine;

use crate::Kernel;
use crate::domain::VcpuHandle;

impl<M: Machine> Kernel<M> {
    /// An event waits for this vCPU: mark it in its `vcpu_info`, raise the upcall vector, and see that it runs or looks.
    pub fn raise_upcall(&self, vcpu: &VcpuHandle<M>) {
        if vcpu.set_upcall_pending() {
            let vector = vcpu.upcall_vector.load(Ordering::Acquire);
            if vector != 0 {
                vcpu.lapic.post(vector);
            }
        }
        self.unblock(vcpu);
    }
}
