//! Waiting, polling, shutting down, and time passing.

use hypercall_abi::Error;
use hypercall_abi::sched::{Poll, RemoteShutdown, Shutdown, op};
use hypercall_abi::xen::virq;

use super::{Answer, DONE, Model};

const MOST_PORTS: u32 = 128;
const SEVERAL: u32 = u32::MAX;

impl Model {
    pub(super) fn sched_op(&mut self, [operation, argument, ..]: [u64; 6]) -> Answer {
        let (me, vcpu) = (self.caller.domain, self.caller.vcpu);
        match operation as u32 {
            op::YIELD => {}
            op::BLOCK => {
                let work = self.has_work(me, vcpu);
                self.vcpu_mut(me, vcpu).blocked = !work;
            }
            op::SHUTDOWN => {
                let request: Shutdown = self.read(argument)?;
                self.shut_down(me, request.reason as u8)?;
            }
            op::SHUTDOWN_CODE => {
                let request: Shutdown = self.read(argument)?;
                self.me_mut().shutdown_code.get_or_insert(request.reason as u8);
            }
            op::REMOTE_SHUTDOWN => {
                let request: RemoteShutdown = self.read(argument)?;
                self.privileged()?;
                if !self.exists(request.domain) {
                    return Err(Error::ESRCH.into());
                }
                self.shut_down(request.domain.0, request.reason as u8)?;
            }
            op::POLL => self.poll(argument)?,
            _ => return Err(Error::ENOSYS.into()),
        }
        DONE
    }

    /// Whether something waits that ends a wait: an NMI, or an event for which the domain-wide vector is called. The local
    /// APIC's interrupts wait too, but no guest that makes calls only ever switches its APIC on.
    fn has_work(&self, domain: u16, index: u32) -> bool {
        const BY_VECTOR: u64 = 2;
        let vcpu = self.vcpu(domain, index);
        let called = vcpu.upcall_vector == 0 && self.at(domain).parameters[0] >> 56 == BY_VECTOR;
        vcpu.nmi || (called && vcpu.upcall_pending())
    }

    fn poll(&mut self, argument: u64) -> Result<(), Error> {
        let request: Poll = self.read(argument)?;
        if request.number_of_ports > MOST_PORTS {
            return Err(Error::EINVAL);
        }
        let (me, index) = (self.caller.domain, self.caller.vcpu);
        let ports = request.ports.address();
        let polling = if request.number_of_ports == 1 {
            self.read::<u32>(ports)?.wrapping_add(1)
        } else {
            SEVERAL
        };
        let mut ready = Ok(false);
        for nth in 0..u64::from(request.number_of_ports) {
            ready = self
                .read_element::<u32>(ports, nth)
                .and_then(|port| self.is_pending(me, port));
            if ready != Ok(false) {
                break;
            }
        }
        let waits = ready == Ok(false) && !self.has_work(me, index);
        let vcpu = self.vcpu_mut(me, index);
        vcpu.polls = waits;
        if waits {
            vcpu.polling = polling;
            vcpu.poll_end = (request.timeout != 0).then_some(request.timeout);
        }
        ready.map(|_| ())
    }

    /// Time has come to `now`: what was due until then happens, the earliest first.
    pub fn time_passes(&mut self, now: u64) {
        self.told.now = now;
        let mut due: Vec<(u64, u16, u32)> = Vec::new();
        for domain in self.domains.values() {
            for vcpu in &domain.vcpus {
                let all = [vcpu.singleshot, vcpu.periodic, vcpu.poll_end];
                let first = all.into_iter().flatten().min().filter(|first| *first <= now);
                due.extend(first.map(|first| (first, domain.number, vcpu.index)));
            }
        }
        due.sort_unstable();
        for (_, domain, index) in due {
            self.timers_fire(domain, index);
        }
    }

    fn timers_fire(&mut self, domain: u16, index: u32) {
        let now = self.told.now;
        let vcpu = self.vcpu_mut(domain, index);
        let due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now);
        let mut tick = due(vcpu.singleshot);
        if tick {
            vcpu.singleshot = None;
        }
        if due(vcpu.periodic) {
            tick = true;
            // Ticks that were missed are one.
            vcpu.periodic = vcpu.periodic.map(|next| {
                let missed = (now - next) / vcpu.period;
                next.saturating_add(vcpu.period.saturating_mul(missed + 1))
            });
        }
        let polled = due(vcpu.poll_end);
        if polled {
            vcpu.poll_end = None;
        }
        if tick {
            self.raise_virq(domain, index, virq::TIMER);
        }
        if polled {
            let vcpu = self.vcpu_mut(domain, index);
            vcpu.polls = false;
            self.reconsider(domain, index);
        }
    }
}
