//! Changing a guest that runs, so that it stays changed when it is made again.

use crate::config::GuestConfig;
use crate::domain::Domain;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::record::Phase;

/// Does `apply`, and notes in the guest's record what of its configuration is different now: a restart keeps it. A domain that these tools did
/// not make has no record, and is only changed.
pub fn change<T>(
    machine: &mut Machine,
    domain: &Domain,
    apply: impl FnOnce(&mut Machine) -> Result<T>,
    note: impl FnOnce(&mut GuestConfig),
) -> Result<T> {
    if domain.record.is_none() {
        return apply(machine);
    }
    // Nobody makes it anew or takes it away meanwhile.
    let _lock = machine.records.lock(domain.uuid())?;
    let record = machine.records.load(domain.uuid())?;
    if record.is_none() {
        // It went while we waited, and our waiting made its lock's file again.
        machine.records.remove(domain.uuid())?;
    }
    let current =
        record.filter(|record| record.phase == Phase::Complete && record.domain == Some(domain.id().0));
    let Some(mut record) = current else {
        return Err(Failure::new(format!(
            "`{}` is just being made again or taken away",
            domain.name
        ))
        .advise("try again"));
    };
    let result = apply(machine)?;
    note(&mut record.config);
    machine.records.save(&record)?;
    Ok(result)
}
