//! What audits look at.

use alloc::sync::Arc;

use hypercall_abi::event_channel::{Port, fifo as abi};
use machine::Machine;

use super::{BUCKET, State, Table, vcpu_of_virq};
use crate::audit::{Violation, holds};
use crate::domain::{Domain, Lifecycle};

const CLOSED: &str = "event channels: a closed port carries nothing";
const COUNTED: &str = "event channels: ports in use are counted, and none below the first free one is closed";
const BOUND: &str = "event channels: an open port is within its domain's limits";
const VIRQS: &str = "event channels: virtual interrupts and their ports name each other";
const ENDED: &str = "event channels: tables end with their domains, empty";
const QUEUES: &str = "event channels: what ends a queue is a port that joined it last";

impl<M: Machine> Table<M> {
    /// See [`super::super::EventChannels::audit`].
    pub fn audit(
        &self,
        id: u16,
        vcpus: usize,
        lifecycle: &Lifecycle,
        mut connected: impl FnMut(Port, *const Domain<M>, Port),
    ) -> Result<u32, Violation> {
        let mut open = 0;
        let mut virqs = 0;
        let mut first_closed = Port::MAX;
        for (index, bucket) in self.buckets.iter().enumerate() {
            holds!(
                bucket.len() == BUCKET,
                BOUND,
                "d{id} has a bucket of {} ports",
                bucket.len()
            );
            for (offset, slot) in bucket.iter().enumerate() {
                let port = (index * BUCKET + offset) as Port;
                if let State::Closed = slot.state {
                    holds!(
                        slot.vcpu == 0 && !slot.deferred,
                        CLOSED,
                        "port {port} of d{id} is closed, for vCPU {}, {}",
                        slot.vcpu,
                        if slot.deferred {
                            "held back until it has a word"
                        } else {
                            "not held back"
                        }
                    );
                    if port != 0 {
                        first_closed = first_closed.min(port);
                    }
                    continue;
                }
                open += 1;
                holds!(
                    port != 0
                        && port <= self.max_port
                        && (slot.vcpu as usize) < vcpus
                        && u32::from(slot.priority) <= abi::PRIORITY_MIN,
                    BOUND,
                    "port {port} of d{id} is open, of at most {}, for vCPU {} of {vcpus}, in queue {}",
                    self.max_port,
                    slot.vcpu,
                    slot.priority
                );
                match &slot.state {
                    State::Interdomain { remote, port: peer } => connected(port, Arc::as_ptr(remote), *peer),
                    State::Virq(number) => {
                        virqs += 1;
                        let row = self.virqs.get(vcpu_of_virq(*number, slot.vcpu));
                        let entered = row.and_then(|row| row.get(*number as usize)).copied();
                        holds!(
                            entered == Some(port),
                            VIRQS,
                            "port {port} of d{id} is for virtual interrupt {number} of vCPU {}, whose port is {entered:?}",
                            slot.vcpu
                        );
                    }
                    State::Closed | State::Unbound { .. } | State::Ipi => {}
                }
                self.audit_deferred(id, port, slot.deferred)?;
            }
        }
        // Each port that is for one was found to be entered: there may be no other entry.
        let entered = self.virqs.iter().flatten().filter(|&&port| port != 0).count();
        holds!(
            entered == virqs,
            VIRQS,
            "d{id} has {virqs} ports for virtual interrupts, and {entered} virtual interrupts with ports"
        );
        holds!(
            open == self.in_use && self.first_free <= first_closed.min(self.size()),
            COUNTED,
            "d{id} has {open} ports in use and counts {}; port {first_closed} is closed, the first free one is said to be {}",
            self.in_use,
            self.first_free
        );
        holds!(
            !self.ended || lifecycle.dying,
            ENDED,
            "d{id} opens no ports any more and does not die"
        );
        holds!(
            !lifecycle.dead || (self.ended && open == 0 && self.fifo.is_none()),
            ENDED,
            "dead d{id} has {open} ports in use{}",
            if self.fifo.is_some() {
                ", and event queues"
            } else {
                ""
            }
        );
        self.audit_queues(id, vcpus)?;
        Ok(open)
    }

    /// An event is held back only while its port has no word to be noted in.
    fn audit_deferred(&self, id: u16, port: Port, deferred: bool) -> Result<(), Violation> {
        let words = self.fifo.as_ref().map(|fifo| fifo.words());
        holds!(
            !deferred || words.is_some_and(|words| port >= words),
            QUEUES,
            "port {port} of d{id} is held back, and has a word: {words:?} ports have one"
        );
        Ok(())
    }

    fn audit_queues(&self, id: u16, vcpus: usize) -> Result<(), Violation> {
        let Some(fifo) = &self.fifo else { return Ok(()) };
        holds!(
            fifo.vcpus() == vcpus,
            QUEUES,
            "d{id} has {vcpus} vCPUs and queues for {}",
            fifo.vcpus()
        );
        fifo.each_tail(|queue, tail, has_block| {
            let joined = self.slot(tail).map(|slot| slot.last_queue);
            holds!(
                has_block && tail < fifo.words() && joined == Some(queue),
                QUEUES,
                "{queue:?} of d{id} ends with port {tail}, which joined {joined:?} last ({} ports have words)",
                fifo.words()
            );
            Ok(())
        })
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> Table<M> {
    pub fn sabotage_counts(&mut self, change: impl FnOnce(&mut u32, &mut Port)) {
        change(&mut self.in_use, &mut self.first_free);
    }

    pub fn sabotage_virqs(&mut self, vcpu: usize, number: usize, port: Port) {
        self.virqs[vcpu][number] = port;
    }
}
