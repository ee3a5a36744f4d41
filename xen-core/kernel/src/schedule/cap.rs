//! Caps: a domain that has had its part of a period waits for the next one.

use alloc::sync::Arc;
use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use machine::{Machine, Nanoseconds, ProcessorId};

use super::share::MOST_WEIGHT;
use super::{NEVER, runnable};
use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};
use crate::vcpu::{Place, stop};

impl<M: Machine> Kernel<M> {
    /// Set a domain's weight and its cap in percent of one processor (0: none).
    ///
    /// # Errors
    /// EINVAL for a weight out of 1 to 65535, or a cap of more than its vCPUs can use.
    pub fn set_share(&self, domain: &Arc<Domain<M>>, weight: u32, cap: u32) -> Result<(), Error> {
        let most = (domain.vcpus.len() as u32).saturating_mul(100);
        if weight == 0 || weight > MOST_WEIGHT || cap > most {
            return Err(Error::EINVAL);
        }
        domain.share.set(weight, cap, self.machine.now());
        self.count_competing(domain, domain.share.contenders() != 0);
        // Those that waited for what they had not used up under the old one.
        for index in 0..domain.vcpus.len() as u32 {
            if let Some(vcpu) = VcpuHandle::existing(domain, index) {
                self.end_renewal(&vcpu);
            }
        }
        Ok(())
    }

    /// Has the running vCPU's domain used its cap up?
    pub(super) fn check_cap(&self, here: ProcessorId, now: Nanoseconds) {
        let processor = self.processor(here);
        if now >= processor.cap_end.load(Ordering::Relaxed) {
            processor.reschedule.store(true, Ordering::Relaxed);
            // It has done its work: a deadline in the past would fire again at once.
            processor.cap_end.store(NEVER, Ordering::Relaxed);
        }
    }

    /// A vCPU has run for so long: if nothing is left, it waits.
    pub(super) fn spend_cap(&self, vcpu: &VcpuHandle<M>, time: Nanoseconds, now: Nanoseconds) {
        vcpu.domain().share.spend(time);
        if let Some(until) = vcpu.domain().share.exhausted(now) {
            vcpu.stops.fetch_or(stop::CAPPED, Ordering::SeqCst);
            self.wait_for_renewal(vcpu, until);
        }
    }

    /// A vCPU that its domain's cap stopped is to be looked at when the next period begins.
    pub(super) fn wait_for_renewal(&self, vcpu: &VcpuHandle<M>, until: Nanoseconds) {
        self.change_deadlines(vcpu, |deadlines| deadlines.renewal = Some(until));
        // Set to another cap meanwhile, or to none: whoever did that came before the deadline was there.
        if vcpu.domain().share.exhausted(self.machine.now()).is_none() {
            self.end_renewal(vcpu);
        }
    }

    /// A vCPU may have something left again. If it has not, whoever picks it sees that.
    pub(crate) fn end_renewal(&self, vcpu: &VcpuHandle<M>) {
        if vcpu.stops.fetch_and(!stop::CAPPED, Ordering::SeqCst) & stop::CAPPED != 0 {
            let mut place = vcpu.place.lock();
            if *place == Place::Off && !runnable(vcpu) {
                // Something else keeps it from running now: it does not wait for a processor any more.
                self.rest(vcpu, &mut place, self.machine.now());
            }
        }
        self.reconsider(vcpu);
    }
}
