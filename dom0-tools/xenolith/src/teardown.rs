//! Taking a guest away, with all that it holds.

use crate::device;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::record::{Lock, Phase, Record};
use crate::store_tree::{CONTROL_HOME, backends_path, domain_path};
use crate::uuid::Uuid;
use control::{DomainId, Error};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long others may take to let go of a dead domain's memory.
const DYING_TIME: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Takes away a guest that the tools made, whatever state it is in, and forgets it. The caller holds its lock.
pub fn remove_guest(machine: &mut Machine, record: &Record, _lock: &Lock) -> Result<()> {
    machine.records.save(&Record {
        phase: Phase::Leaving,
        ..record.clone()
    })?;
    remove_domains(machine, record)?;
    machine.records.remove(record.uuid)
}

/// As [`remove_guest`], but goes on remembering it: it is to be made again.
pub fn remove_domains(machine: &mut Machine, record: &Record) -> Result<()> {
    // The UUID finds the domain even if its creator died before it could write the number down.
    let of_guest = |uuid: Uuid| {
        move |info: &control::DomainInfo| info.handle == uuid.0 && info.domain != DomainId::CONTROL
    };
    let mut domains: Vec<DomainId> = machine
        .hypervisor
        .domains()?
        .iter()
        .filter(|info| of_guest(record.uuid)(info))
        .map(|info| info.domain)
        .collect();
    // The domain may be gone already, and only its entries be left; unless another one has the number now.
    if let Some(domain) = record.domain.map(DomainId)
        && !domains.contains(&domain)
        && machine.hypervisor.domain_info(domain)?.is_none()
    {
        domains.push(domain);
    }
    domains
        .into_iter()
        .try_for_each(|domain| remove_domain(machine, domain, Some(record.uuid)))
}

/// Takes away a domain.
pub fn remove_domain(machine: &mut Machine, domain: DomainId, uuid: Option<Uuid>) -> Result<()> {
    missing_is_fine(machine.hypervisor.pause_domain(domain))?;
    device::disconnect(&mut machine.store, domain)?;
    missing_is_fine(machine.hypervisor.destroy_domain(domain))?;
    let store = &mut machine.store;
    store.remove(&domain_path(domain))?;
    for (branch, top) in [
        (backends_path("console", domain), CONTROL_HOME),
        (format!("{CONTROL_HOME}/error/backend/vbd/{domain}"), CONTROL_HOME),
        (format!("{CONTROL_HOME}/error/backend/vif/{domain}"), CONTROL_HOME),
    ] {
        store.remove_branch(&branch, top)?;
    }
    if let Some(uuid) = uuid {
        store.remove_branch(&format!("/vm/{uuid}"), "")?;
    }
    // The daemon hears of the death by itself, too; whoever is first.
    let _ = store.release(domain.0);
    wait_until_gone(machine, domain)
}

fn wait_until_gone(machine: &Machine, domain: DomainId) -> Result<()> {
    let deadline = Instant::now() + DYING_TIME;
    while let Some(info) = machine.hypervisor.domain_info(domain)? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!(
                "domain {domain} is dead, but somebody still holds some of its {} pages",
                info.total_pages
            ))
            .advise("a daemon that maps its memory (xenstored, consoled) may hang; `xenolith list` shows when it has gone"));
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn missing_is_fine(result: control::Result<()>) -> std::result::Result<(), Error> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
