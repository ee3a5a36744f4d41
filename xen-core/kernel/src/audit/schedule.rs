//! The scheduler: each vCPU is in one place, and what should run is on its way to.

use core::sync::atomic::Ordering;

use machine::Machine;

use super::{Auditor, Violation, holds};
use crate::Kernel;
use crate::vcpu::{Place, stop};

const QUEUED: &str = "schedule: a queued vCPU is in its queue once, and in no other";
const RUNNING: &str = "schedule: one vCPU runs on a processor";
const OFF: &str = "schedule: a vCPU that may run is queued or runs";
const BLOCKED: &str = "schedule: a vCPU that waits has nothing to wake it";
const IDLE: &str = "schedule: no processor idles beside a vCPU that it may run";
const PLACES: &str = "schedule: queues have a place set aside for each vCPU";
const POLLS: &str = "schedule: a vCPU that polls has said for what";
const BEHIND: &str = "schedule: who waits behind a running vCPU has an end of its slice in sight";
const TOLD: &str = "schedule: a processor whose vCPU must stop or look has been called";
const HINTS: &str = "schedule: what is said of a queue without its lock is so";
const CONTENDERS: &str = "schedule: a domain knows how many of its vCPUs want a processor";
const CAPPED: &str = "schedule: a vCPU stopped by a cap waits for the cap's next period";
const PINNED: &str = "schedule: a vCPU may run where it is queued";

impl<M: Machine> Auditor<M> {
    pub(super) fn check_schedule(&mut self, kernel: &Kernel<M>) -> Result<(), Violation> {
        let count = kernel.processors.len();
        let all = kernel.domains.vcpus();
        for (number, processor) in kernel.processors.iter().enumerate() {
            let (domains, vcpus) = (&self.domains, &mut self.vcpus);
            let places = processor.each_queued(|vcpu| {
                let id = vcpu.domain_id.0;
                let Some((domain, index)) = Self::name(domains, vcpu) else {
                    holds!(
                        false,
                        QUEUED,
                        "queue {number} holds d{id} v{}, which never was in the table",
                        vcpu.index
                    );
                    return Ok(());
                };
                let copied = vcpus.of(domain, index);
                copied.queued += 1;
                holds!(
                    copied.place == Place::Queued(number) && copied.queued == 1,
                    QUEUED,
                    "queue {number} holds d{id} v{index}, which is {:?} and was found {} times",
                    copied.place,
                    copied.queued
                );
                holds!(
                    kernel.may_run_on(vcpu, number),
                    PINNED,
                    "queue {number} holds d{id} v{index}, which may run on {:?}",
                    kernel.allowed(vcpu)
                );
                Ok(())
            })?;
            let hints = processor.hints(|| kernel.waiting.contains(number));
            holds!(
                hints.said == (hints.waiting != 0),
                HINTS,
                "queue {number} holds {} vCPUs, and is said to hold {}",
                hints.waiting,
                if hints.said { "some" } else { "none" }
            );
            holds!(
                hints.first.is_none_or(|first| first == hints.head),
                HINTS,
                "the first in queue {number} is {:?}, and is said to be {:?}",
                hints.first,
                hints.head
            );
            holds!(
                places >= all,
                PLACES,
                "queue {number} has {places} places for {all} vCPUs"
            );
        }
        self.vcpus.running.clear();
        self.vcpus.running.resize(count, None);
        for index in 0..self.domains.len() {
            let mut wanting = 0;
            for vcpu in 0..self.domains[index].vcpus.len() as u32 {
                self.check_place(index, vcpu)?;
                wanting += u32::from(self.vcpus.of(index, vcpu).place != Place::Off);
            }
            let counted = self.domains[index].share.contenders();
            holds!(
                counted == wanting,
                CONTENDERS,
                "d{} counts {counted} vCPUs that want a processor, and has {wanting}",
                self.domains[index].id.0
            );
        }
        for number in 0..count {
            self.check_idle(kernel, number)?;
        }
        self.check_told(kernel)?;
        self.check_slices(kernel)
    }

    /// A vCPU that runs although it may not any more, or for which something came since it was last looked for, is on a
    /// processor that somebody has called.
    fn check_told(&mut self, kernel: &Kernel<M>) -> Result<(), Violation> {
        let Some(called) = self.called else { return Ok(()) };
        let Auditor { vcpus, domains, .. } = self;
        for (number, domain) in domains.iter().enumerate() {
            let paused = domain.pauses.load(Ordering::SeqCst) != 0;
            for vcpu in &domain.vcpus {
                let Place::Running(processor) = vcpus.of(number, vcpu.index).place else {
                    continue;
                };
                if called(&kernel.machine, processor) {
                    continue;
                }
                let (id, index) = (vcpu.domain_id.0, vcpu.index);
                holds!(
                    !paused && vcpu.wants_to_run(),
                    TOLD,
                    "d{id} v{index} ({:#x}{}) may not run, and runs on {processor}",
                    vcpu.stops.load(Ordering::SeqCst),
                    if paused { ", paused" } else { "" }
                );
                holds!(
                    !vcpu.lapic.has_requests() && !vcpu.nmi_pending.load(Ordering::SeqCst),
                    TOLD,
                    "d{id} v{index} runs on {processor}, and does not see that an interrupt was requested"
                );
            }
        }
        Ok(())
    }

    fn check_place(&mut self, domain: usize, index: u32) -> Result<(), Violation> {
        let Auditor { vcpus, domains, .. } = self;
        let vcpu = &domains[domain].vcpus[index as usize];
        let id = vcpu.domain_id.0;
        let copied = vcpus.of(domain, index);
        let (place, queued) = (copied.place, copied.queued);
        let stops = vcpu.stops.load(Ordering::SeqCst);
        match place {
            Place::Queued(queue) => holds!(
                queued == 1,
                QUEUED,
                "d{id} v{index} is queued on {queue}, and that queue holds it {queued} times"
            ),
            Place::Running(processor) => match vcpus.running.get_mut(processor) {
                Some(slot @ None) => *slot = Some((id, index)),
                Some(Some(other)) => holds!(
                    false,
                    RUNNING,
                    "d{id} v{index} and d{} v{} run on {processor}",
                    other.0,
                    other.1
                ),
                None => holds!(
                    false,
                    RUNNING,
                    "d{id} v{index} runs on {processor}, which there is not"
                ),
            },
            Place::Off => {
                let pauses = domains[domain].pauses.load(Ordering::SeqCst);
                holds!(
                    pauses != 0 || !vcpu.wants_to_run(),
                    OFF,
                    "d{id} v{index} is off, and nothing keeps it from running"
                );
            }
        }
        holds!(
            stops & stop::CAPPED == 0
                || vcpu.deadlines.lock().renewal.is_some()
                || domains[domain].is_dying(),
            CAPPED,
            "d{id} v{index} has had what its cap allows, and will not be looked at again"
        );
        holds!(
            stops & stop::POLLING == 0 || vcpu.polling.load(Ordering::SeqCst) != 0,
            POLLS,
            "d{id} v{index} polls for nothing, and nothing will wake it"
        );
        // What is noted in the guest's own page may be the guest's own writing.
        if stops & (stop::BLOCKED | stop::POLLING) != 0 && stops & stop::DOWN == 0 {
            let (vector, nmi) = (vcpu.lapic.would_offer(), vcpu.nmi_pending.load(Ordering::SeqCst));
            holds!(
                vector.is_none() && !nmi,
                BLOCKED,
                "d{id} v{index} ({stops:#x}) waits with vector {vector:?}{} for it",
                if nmi { " and an NMI" } else { "" }
            );
        }
        Ok(())
    }

    /// Whoever makes a vCPU wait for a processor that runs another sees to it that the slice ends: by itself, or by calling
    /// the processor, which then sees to it.
    fn check_slices(&self, kernel: &Kernel<M>) -> Result<(), Violation> {
        let Some(called) = self.called else { return Ok(()) };
        for (number, processor) in kernel.processors.iter().enumerate() {
            let Some((id, index)) = self.vcpus.running[number] else {
                continue;
            };
            if processor.will_reconsider() || called(&kernel.machine, number) {
                continue;
            }
            processor.each_queued(|vcpu| {
                holds!(
                    !kernel.promised(number, vcpu),
                    BEHIND,
                    "d{} v{} waits in queue {number}, where d{id} v{index} runs and nothing will end that",
                    vcpu.domain_id.0,
                    vcpu.index
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// A processor that idles and that nobody has called has seen all queues, and nothing for itself in them but what another
    /// processor was called for.
    fn check_idle(&self, kernel: &Kernel<M>, number: usize) -> Result<(), Violation> {
        let called = |processor: usize| {
            self.called
                .is_some_and(|called| called(&kernel.machine, processor))
        };
        let idles = kernel.idle.contains(number);
        // At rest, one that runs nothing waits, also when it was chosen for a vCPU: then it must have been called.
        let waits = self.called.is_some() && self.vcpus.running[number].is_none();
        if !(idles || waits) || called(number) {
            return Ok(());
        }
        for (queue, processor) in kernel.processors.iter().enumerate() {
            if called(queue) || !(idles || queue == number) {
                continue;
            }
            processor.each_queued(|vcpu| {
                holds!(
                    !kernel.promised(number, vcpu),
                    IDLE,
                    "processor {number} idles, and d{} v{} waits in queue {queue}",
                    vcpu.domain_id.0,
                    vcpu.index
                );
                Ok(())
            })?;
        }
        Ok(())
    }
}
