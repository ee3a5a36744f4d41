//! A processor for each vCPU: no slices, no timer of the scheduler's, no latency but the machine's.
//!
//! The first vCPU that wants a processor of the pool owns it from then on, also while it sleeps, until its domain ends
//! or leaves, or it may not run there any more. A vCPU that finds none waits until one is free. Xen calls this "null".

use machine::sync::atomic::Ordering;

use machine::{Machine, Nanoseconds, ProcessorId};

use super::policy::{Entering, Placement, Policy};
use super::virtual_time::VirtualTime;
use super::{NEVER, Name};
use crate::Kernel;
use crate::domain::VcpuHandle;

/// A processor for each vCPU.
pub struct Pinned;

impl<M: Machine> Policy<M> for Pinned {
    /// Its own; else one that nobody owns; else any, where it waits for an owner to leave.
    fn place(&self, kernel: &Kernel<M>, vcpu: &VcpuHandle<M>) -> Placement {
        let allowed = kernel.allowed(vcpu);
        let last = vcpu.last_processor.load(Ordering::Relaxed) as usize;
        let name = Name::of(vcpu);
        let owned = kernel.owned_by(vcpu).filter(|&own| allowed.contains(own));
        let own = owned.or_else(|| {
            let preferred = allowed.contains(last).then_some(last);
            let mut candidates = preferred.into_iter().chain(allowed.iter());
            candidates.find(|&free| kernel.processor(free).owner.take(name))
        });
        let processor = own.or_else(|| allowed.first()).unwrap_or(0);
        if own.is_some() {
            vcpu.home.store(processor as u32, Ordering::SeqCst);
        }
        let claimed = kernel.idle.remove(processor);
        Placement { processor, claimed }
    }

    fn turn(&self, _: &Kernel<M>, vcpu: &VcpuHandle<M>, _: ProcessorId, _: Entering) -> VirtualTime {
        vcpu.domain().share.age()
    }

    /// The owner; without one, the first who may own it, wherever it waits.
    fn pick(&self, kernel: &Kernel<M>, here: ProcessorId) -> Option<VcpuHandle<M>> {
        let owner = &kernel.processor(here).owner;
        if let Some(name) = owner.get() {
            let owns = |_, vcpu: &VcpuHandle<M>| Name::of(vcpu) == name;
            let own = kernel.change_queue(here, |queue| queue.take(owns));
            if own.is_some() {
                return own;
            }
            // Entered elsewhere before it had this one.
            let waiting = kernel
                .waiting
                .load()
                .and(&kernel.pool_of(here).processors.glance());
            return waiting
                .iter()
                .find_map(|other| kernel.change_queue(other, |queue| queue.take(owns)));
        }
        let waiting = kernel
            .waiting
            .load()
            .and(&kernel.pool_of(here).processors.glance());
        let found = waiting.iter().find_map(|other| {
            kernel.change_queue(other, |queue| {
                queue.take(|_, vcpu| {
                    kernel.may_run_on(vcpu, here)
                        && kernel.owned_by(vcpu).is_none()
                        && owner.take(Name::of(vcpu))
                })
            })
        })?;
        found.home.store(here as u32, Ordering::SeqCst);
        Some(found)
    }

    fn begin(&self, kernel: &Kernel<M>, here: ProcessorId, _: &VcpuHandle<M>, _: Nanoseconds) {
        kernel.processor(here).slice_end.store(NEVER, Ordering::Relaxed);
    }

    fn look(&self, kernel: &Kernel<M>, here: ProcessorId, _: Nanoseconds) {
        kernel.processor(here).slice_end.store(NEVER, Ordering::Relaxed);
    }

    fn end(&self, _: &Kernel<M>, _: ProcessorId, _: &VcpuHandle<M>, _: Nanoseconds) {}

    fn yields(&self, _: &Kernel<M>, _: ProcessorId, _: &VcpuHandle<M>) {}

    /// Its processor is free: whoever waits may have it.
    fn forget(&self, kernel: &Kernel<M>, vcpu: &VcpuHandle<M>) {
        let home = vcpu.home.swap(u32::MAX, Ordering::SeqCst) as usize;
        if let Some(processor) = kernel.processors.get(home)
            && processor.owner.release(Name::of(vcpu))
        {
            kernel.machine.kick(home);
        }
    }
}
