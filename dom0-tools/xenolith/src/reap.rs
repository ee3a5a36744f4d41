//! Cleaning up behind processes that were killed. Every command does this first.

use crate::domain::Domain;
use crate::failure::Result;
use crate::machine::Machine;
use crate::monitor;
use crate::record::{Phase, Record};
use crate::teardown;
use control::DomainId;

/// Takes away guests whose creator died, finishes removals that were interrupted, forgets guests that somebody else
/// destroyed, and starts monitors that are missing. Returns a line for each thing done.
pub fn reap(machine: &mut Machine) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for record in machine.records.all()? {
        // Somebody is at work on it.
        let Some(lock) = machine.records.try_lock(record.uuid)? else {
            continue;
        };
        let Some(record) = machine.records.load(record.uuid)? else {
            machine.records.remove(record.uuid)?;
            continue;
        };
        let name = &record.config.name;
        match record.phase {
            Phase::Building => {
                teardown::remove_guest(machine, &record, &lock)?;
                done.push(format!(
                    "took away guest `{name}`: its creator died before it was complete"
                ));
            }
            Phase::Leaving => {
                teardown::remove_guest(machine, &record, &lock)?;
                done.push(format!("finished taking away guest `{name}`"));
            }
            Phase::Complete if !exists(machine, &record)? => {
                teardown::remove_guest(machine, &record, &lock)?;
            }
            Phase::Complete => {
                if machine.records.try_lock_monitor(record.uuid)?.is_some() {
                    monitor::start(&record)?;
                }
            }
        }
    }
    Ok(done)
}

fn exists(machine: &Machine, record: &Record) -> Result<bool> {
    let Some(domain) = record.domain else {
        return Ok(false);
    };
    let info = machine.hypervisor.domain_info(DomainId(domain))?;
    Ok(info.is_some_and(|info| info.handle == record.uuid.0))
}

/// Takes a domain away on a user's demand.
pub fn destroy(machine: &mut Machine, domain: &Domain) -> Result<()> {
    let Some(record) = &domain.record else {
        return teardown::remove_domain(machine, domain.id(), None);
    };
    // A creator at work is not interrupted: its guest is destroyed when it is complete.
    let lock = machine.records.lock(record.uuid)?;
    match machine.records.load(record.uuid)? {
        Some(record) => teardown::remove_guest(machine, &record, &lock),
        // Somebody else did it while we waited.
        None => machine.records.remove(record.uuid),
    }
}
