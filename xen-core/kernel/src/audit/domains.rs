//! The table of domains, their lives, claims and pauses.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use machine::Machine;
use machine::sync::Lock;

use super::{Auditor, Violation, holds};
use crate::Kernel;
use crate::domain::Domain;
use crate::upcall::CALLBACK_PARAMETER;
use crate::vcpu::{Place, stop};

const TABLE: &str = "domains: the table is sorted, each number once";
const LIVES: &str = "domains: in the table until dead, and not after";
const LEFT: &str = "domains: a dead one holds nothing any more";
const STOPPED: &str = "domains: one that has shut down has stopped vCPUs";
const PAUSES: &str = "domains: the toolstack's pauses are among all pauses";
const COPIES: &str = "domains: the callback is the parameter's";
const ALLOTTED: &str = "domains: vCPUs that are not allotted are down";
const CLAIMS: &str = "claims: the total is the sum";

/// Every domain that was ever entered in the table and still lives, in the table or not: held by a channel, a queue, a
/// timer or a caller.
pub(crate) struct Registry<M: Machine>(Lock<Vec<Weak<Domain<M>>>>);

impl<M: Machine> Default for Registry<M> {
    fn default() -> Self {
        Registry(Lock::new(Vec::new()))
    }
}

impl<M: Machine> Registry<M> {
    /// Note a domain that is entered in the table.
    pub fn note(&self, domain: &Arc<Domain<M>>) {
        let mut all = self.0.lock();
        all.retain(|domain| domain.strong_count() != 0);
        machine::fallible::unrefused(|| all.push(Arc::downgrade(domain)));
    }

    /// List those that live.
    pub fn living(&self, into: &mut Vec<Arc<Domain<M>>>) {
        into.clear();
        into.extend(self.0.lock().iter().filter_map(Weak::upgrade));
    }
}

impl<M: Machine> Auditor<M> {
    pub(super) fn check_domains(&mut self, kernel: &Kernel<M>) -> Result<(), Violation> {
        kernel.domains.copy_table(&mut self.table);
        let table = &self.table;
        for pair in table.windows(2) {
            holds!(
                pair[0].id.0 < pair[1].id.0,
                TABLE,
                "d{} comes before d{}",
                pair[0].id.0,
                pair[1].id.0
            );
        }
        let mut claimed = 0;
        for domain in &self.domains {
            let id = domain.id.0;
            let found = table.iter().any(|other| Arc::ptr_eq(other, domain));
            let lifecycle = *domain.lifecycle.lock();
            holds!(
                id < DomainId::FIRST_RESERVED.0,
                TABLE,
                "d{id} has a reserved number"
            );
            holds!(
                found != lifecycle.dead,
                LIVES,
                "d{id} is {} and {} in the table",
                if lifecycle.dead { "dead" } else { "not dead" },
                if found { "is" } else { "is not" }
            );
            holds!(
                lifecycle.dying || !lifecycle.dead,
                LIVES,
                "d{id} is dead without dying"
            );
            claimed += domain.claimed.load(Ordering::Relaxed);
            check_pauses(domain, lifecycle.dying)?;
            if lifecycle.shutdown.is_some() {
                let allotted = domain.allotted_vcpus.load(Ordering::Relaxed) as usize;
                let runs = domain
                    .vcpus
                    .iter()
                    .take(allotted)
                    .find(|vcpu| vcpu.stops.load(Ordering::SeqCst) & stop::SHUTDOWN == 0);
                holds!(
                    runs.is_none(),
                    STOPPED,
                    "d{id} has shut down, its vCPU {} has not stopped",
                    runs.map_or(0, |vcpu| vcpu.index)
                );
            }
            check_copies(domain)?;
            if lifecycle.dead {
                self.counted.ended += 1;
                check_remains(domain, true)?;
            }
        }
        let total = *kernel.domains.claims.lock();
        holds!(
            total == claimed,
            CLAIMS,
            "{total} frames are claimed in all, {claimed} by the domains together"
        );
        Ok(())
    }
}

fn check_pauses<M: Machine>(domain: &Domain<M>, dying: bool) -> Result<(), Violation> {
    let pauses = domain.pauses.load(Ordering::SeqCst);
    let toolstack = domain.toolstack_pauses.load(Ordering::SeqCst);
    holds!(
        pauses >= toolstack + u32::from(dying),
        PAUSES,
        "d{} has {pauses} pauses, {toolstack} of them the toolstack's{}",
        domain.id.0,
        if dying { " and one of its destruction" } else { "" }
    );
    Ok(())
}

/// What is kept in two places for readers without a lock, and what was never allotted.
fn check_copies<M: Machine>(domain: &Domain<M>) -> Result<(), Violation> {
    let id = domain.id.0;
    let parameter = domain.hvm_parameters.lock()[CALLBACK_PARAMETER];
    let callback = domain.callback.load(Ordering::Relaxed);
    holds!(
        parameter == callback,
        COPIES,
        "d{id} has callback {callback:#x}, and {parameter:#x} as the parameter for it"
    );
    let allotted = domain.allotted_vcpus.load(Ordering::Relaxed) as usize;
    let up = domain.vcpus.iter().skip(allotted).find(|vcpu| vcpu.is_up());
    holds!(
        allotted <= domain.vcpus.len() && up.is_none(),
        ALLOTTED,
        "d{id} is allotted {allotted} of {} vCPUs, and vCPU {} is up",
        domain.vcpus.len(),
        up.map_or(0, |vcpu| vcpu.index)
    );
    Ok(())
}

/// What a dead domain may not hold. Its own pages stay with it until the last share in it goes. Unless all is `at_rest`,
/// another toolstack's call may still be placing pages in its map, which go with that call's share, and a processor may
/// just have taken one of its vCPUs from a queue, to find that it may not run.
pub(super) fn check_remains<M: Machine>(domain: &Domain<M>, at_rest: bool) -> Result<(), Violation> {
    let id = domain.id.0;
    let mapped = domain.physmap.highest();
    holds!(
        mapped.is_none() || !at_rest,
        LEFT,
        "dead d{id} still maps guest frame {:#x}",
        mapped.map_or(0, |at| at.0)
    );
    let (mappings, ports) = (domain.grants.mappings(), domain.events.ports_in_use());
    holds!(mappings == 0, LEFT, "dead d{id} has {mappings} grants mapped");
    holds!(ports == 0, LEFT, "dead d{id} has {ports} ports in use");
    let claimed = domain.claimed.load(Ordering::Relaxed);
    holds!(claimed == 0, LEFT, "dead d{id} claims {claimed} frames");
    for vcpu in &domain.vcpus {
        let queued = vcpu.deadlines.lock().queued;
        holds!(
            queued.is_none(),
            LEFT,
            "dead d{id} v{} has a deadline: {queued:?}",
            vcpu.index
        );
        let place = *vcpu.place.lock();
        holds!(
            place == Place::Off || (matches!(place, Place::Queued(_)) && !at_rest),
            LEFT,
            "dead d{id} v{} is {place:?}",
            vcpu.index
        );
        let areas = vcpu.runstate.lock().area.is_some() || vcpu.time_area.lock().is_some();
        holds!(!areas, LEFT, "dead d{id} v{} is still told its time", vcpu.index);
    }
    Ok(())
}
