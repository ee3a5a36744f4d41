//! vCPUs: where each is, what it waits for, where its time went. Copied first, since queues' locks come before or after
//! theirs; schedule and timers are compared with the copies.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hypercall_abi::vcpu::runstate;
use machine::{Machine, Nanoseconds, ProcessorId};

use super::{Auditor, Violation, holds};
use crate::domain::VcpuHandle;
use crate::vcpu::{Place, stop};

const TIMES: &str = "vcpus: the times in all states add up to the time since creation";
const STATE: &str = "vcpus: the state on record is that of the place";
const EARLIEST: &str = "timers: a vCPU is entered for its earliest deadline";
const CPU_TIME: &str = "vcpus: a domain's processor time is that of its vCPUs";

/// A vCPU, as copied, and what the queues were found to hold of it.
pub(super) struct Copied {
    pub place: Place,
    pub deadline: Option<(ProcessorId, Nanoseconds)>,
    pub queued: u32,
    pub timers: u32,
}

/// All vCPUs of all domains.
#[derive(Default)]
pub(super) struct Tally {
    /// By domain, then vCPU.
    pub all: Vec<Copied>,
    /// Where each domain's begin.
    bases: Vec<usize>,
    /// By processor: which vCPU runs there.
    pub running: Vec<Option<(u16, u32)>>,
}

impl Tally {
    /// The copy of a domain's vCPU.
    pub fn of(&mut self, domain: usize, vcpu: u32) -> &mut Copied {
        &mut self.all[self.bases[domain] + vcpu as usize]
    }
}

impl<M: Machine> Auditor<M> {
    /// Copy, and check what needs no other.
    pub(super) fn tally_vcpus(&mut self, kernel: &crate::Kernel<M>) -> Result<(), Violation> {
        let now = kernel.machine.now();
        self.vcpus.all.clear();
        self.vcpus.bases.clear();
        for domain in &self.domains {
            let id = domain.id.0;
            self.vcpus.bases.push(self.vcpus.all.len());
            let mut cpu_time = 0u64;
            for vcpu in &domain.vcpus {
                let index = vcpu.index;
                let place = *vcpu.place.lock();
                let (info, created) = {
                    let runstate = vcpu.runstate.lock();
                    (runstate.info, runstate.created)
                };
                let sum = info
                    .time
                    .iter()
                    .fold(created, |sum, time| sum.wrapping_add(*time));
                holds!(
                    sum == info.state_entry_time && sum <= now,
                    TIMES,
                    "d{id} v{index} was created at {created}, its times are {:?}, it is in state {} since {}, and it is {now}",
                    info.time,
                    info.state,
                    info.state_entry_time
                );
                cpu_time = cpu_time.wrapping_add(info.time[runstate::RUNNING as usize]);
                let fits = match place {
                    Place::Running(_) => info.state == runstate::RUNNING,
                    Place::Queued(_) => info.state == runstate::RUNNABLE,
                    Place::Off if vcpu.stops.load(Ordering::SeqCst) & stop::CAPPED != 0 => {
                        info.state != runstate::RUNNING
                    }
                    Place::Off => matches!(info.state, runstate::BLOCKED | runstate::OFFLINE),
                };
                holds!(fits, STATE, "d{id} v{index} is {place:?} in state {}", info.state);
                let deadlines = *vcpu.deadlines.lock();
                let stops = vcpu.stops.load(Ordering::SeqCst);
                // One that waits for a processor, and does not sleep, is told when it has one.
                let told_later =
                    !matches!(place, Place::Running(_)) && stops & (stop::BLOCKED | stop::POLLING) == 0;
                let entered = deadlines.queued.map(|(_, at)| at);
                holds!(
                    entered == deadlines.earliest() || (told_later && entered.is_none()),
                    EARLIEST,
                    "d{id} v{index} is entered {:?}, its earliest deadline is {:?}",
                    deadlines.queued,
                    deadlines.earliest()
                );
                self.counted.timers += u64::from(deadlines.queued.is_some());
                self.vcpus.all.push(Copied {
                    place,
                    deadline: deadlines.queued,
                    queued: 0,
                    timers: 0,
                });
            }
            let counted = domain.cpu_time.load(Ordering::Relaxed);
            holds!(
                counted == cpu_time,
                CPU_TIME,
                "d{id} has {counted} ns on record, its vCPUs have {cpu_time}"
            );
        }
        self.counted.vcpus = self.vcpus.all.len() as u64;
        Ok(())
    }

    /// The index of a vCPU's domain, and the vCPU's.
    pub(super) fn name(
        domains: &[alloc::sync::Arc<crate::domain::Domain<M>>],
        vcpu: &VcpuHandle<M>,
    ) -> Option<(usize, u32)> {
        let domain = Self::index_of(domains, alloc::sync::Arc::as_ptr(vcpu.domain()))?;
        Some((domain, vcpu.index))
    }
}
