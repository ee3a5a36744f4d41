//! Deadlines: each is in one queue, and hardware will say when the first is due.

use machine::Machine;

use super::{Auditor, Violation, holds};
use crate::Kernel;

const ENTERED: &str = "timers: vCPUs and timer queues name each other, each entry once";
const ORDER: &str = "timers: a queue is in order";
const PROGRAMMED: &str = "timers: hardware is set to the first deadline, or earlier";
const PLACES: &str = "timers: queues have a place set aside for each vCPU";

impl<M: Machine> Auditor<M> {
    pub(super) fn check_timers(&mut self, kernel: &Kernel<M>) -> Result<(), Violation> {
        let now = kernel.machine.now();
        let all = kernel.domains.vcpus();
        for (number, processor) in kernel.processors.iter().enumerate() {
            let timers = processor.timers.lock();
            let mut before = None;
            let (domains, vcpus) = (&self.domains, &mut self.vcpus);
            timers.each(|key, vcpu| {
                let (deadline, id, index) = key;
                holds!(
                    before.is_none_or(|before| before > key),
                    ORDER,
                    "queue {number} has {key:?} after {before:?}"
                );
                before = Some(key);
                let name = Self::name(domains, vcpu);
                let Some((domain, vcpu)) = name else {
                    holds!(
                        false,
                        ENTERED,
                        "timer queue {number} holds d{id} v{index}, which never was in the table"
                    );
                    return Ok(());
                };
                let copied = vcpus.of(domain, vcpu);
                copied.timers += 1;
                holds!(
                    copied.deadline == Some((number, deadline)) && copied.timers == 1 && vcpu == index,
                    ENTERED,
                    "timer queue {number} holds d{id} v{index} for {deadline}; the vCPU is entered {:?}, found {} times",
                    copied.deadline,
                    copied.timers
                );
                Ok(())
            })?;
            holds!(
                timers.places() >= all,
                PLACES,
                "timer queue {number} has {} places for {all} vCPUs",
                timers.places()
            );
            let first = [timers.first(), processor.slice_end()]
                .into_iter()
                .flatten()
                .min();
            drop(timers);
            let programmed = processor.programmed();
            // The end of time never comes, and nothing is set for it.
            let first = first.filter(|&first| first != u64::MAX);
            holds!(
                first.is_none_or(|first| first <= now || programmed.is_some_and(|at| at <= first)),
                PROGRAMMED,
                "processor {number} is set to {programmed:?}, its first deadline is {first:?}, it is {now}"
            );
        }
        for (index, domain) in self.domains.iter().enumerate() {
            for vcpu in 0..domain.vcpus.len() as u32 {
                let copied = self.vcpus.of(index, vcpu);
                holds!(
                    copied.timers == u32::from(copied.deadline.is_some()),
                    ENTERED,
                    "d{} v{vcpu} is entered {:?}, and found in timer queues {} times",
                    domain.id.0,
                    copied.deadline,
                    copied.timers
                );
            }
        }
        Ok(())
    }
}
