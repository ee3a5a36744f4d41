//! Making a guest: from its configuration to a domain that runs.

use crate::config::GuestConfig;
use crate::device::{self, PreparedDisk, PreparedInterface};
use crate::domain;
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::monitor;
use crate::placement::Prepared;
use crate::record::{Lock, Phase, Record};
use crate::store_tree;
use crate::teardown;
use crate::uuid::Uuid;
use builder::{Plan, Step};
use control::DomainId;
use std::fs;
use std::path::Path;

/// Makes a new guest and starts it, or leaves it paused.
pub fn create(
    machine: &mut Machine,
    config: GuestConfig,
    paused: bool,
    progress: &mut dyn FnMut(Step),
) -> Result<Record> {
    let (mut record, lock) = reserve(machine, config)?;
    make(machine, &mut record, &lock, paused, progress)?;
    Ok(record)
}

/// Makes the guest of a record whose lock the caller holds. When it fails, the guest is gone, record included.
pub fn make(
    machine: &mut Machine,
    record: &mut Record,
    lock: &Lock,
    paused: bool,
    progress: &mut dyn FnMut(Step),
) -> Result<()> {
    let result = assemble(machine, record, paused, progress);
    if result.is_err() {
        // The first failure is the one to tell. If this one fails, too, the record stays, and the next command tries again.
        let _ = teardown::remove_guest(machine, record, lock);
    }
    result
}

/// Writes a record for a guest whose name and UUID nobody else has.
fn reserve(machine: &mut Machine, config: GuestConfig) -> Result<(Record, Lock)> {
    let _names = machine.records.lock_names()?;
    let uuid = match config.uuid {
        Some(uuid) => uuid,
        None => Uuid::random()?,
    };
    let records = machine.records.all()?;
    let name = &config.name;
    let advice = "choose another name, or destroy that guest first";
    if let Some(domain) = domain::all(machine)?.iter().find(|domain| domain.name == *name) {
        return Err(Failure::new(format!(
            "there is a domain `{name}` already (number {})",
            domain.id()
        ))
        .advise(advice));
    }
    if records.iter().any(|record| record.config.name == *name) {
        return Err(
            Failure::new(format!("a guest `{name}` is just being made or taken away")).advise(advice),
        );
    }
    if records.iter().any(|record| record.uuid == uuid) {
        return Err(
            Failure::new(format!("there is a guest with the UUID {uuid} already"))
                .advise("remove uuid= from one of the configurations"),
        );
    }
    device::check_sharing(&config, uuid, &records)?;
    let lock = machine.records.lock(uuid)?;
    let record = Record {
        uuid,
        phase: Phase::Building,
        domain: None,
        config,
        quick_restarts: 0,
    };
    machine.records.save(&record)?;
    Ok((record, lock))
}

fn assemble(
    machine: &mut Machine,
    record: &mut Record,
    paused: bool,
    progress: &mut dyn FnMut(Step),
) -> Result<()> {
    let config = record.config.clone();
    // Cheap to find out before the kernel is unpacked; checked once more before the domain is made.
    builder::check_machine(&machine.hypervisor, &config.shape())?;
    let placement = Prepared::new(machine, &config.scheduling, config.max_vcpus)?;
    let kernel = read("kernel", &config.kernel)?;
    let ramdisk = config
        .ramdisk
        .as_deref()
        .map(|path| read("ramdisk", path))
        .transpose()?;
    let plan = Plan::new(&kernel, ramdisk.as_deref(), &config.command_line, config.shape())
        .context(config.kernel.display())?;
    let disks = config
        .disks
        .iter()
        .map(PreparedDisk::new)
        .collect::<Result<Vec<_>>>()?;
    let interfaces = config
        .interfaces
        .iter()
        .enumerate()
        .map(|(index, interface)| PreparedInterface::new(interface, record.uuid, index))
        .collect::<Result<Vec<_>>>()?;

    let built = builder::build(
        &machine.hypervisor,
        record.uuid.0,
        placement.pool,
        &plan,
        progress,
    )?;
    record.domain = Some(built.domain.0);
    machine.records.save(record)?;
    placement.apply(machine, built.domain)?;

    let store = &mut machine.store;
    store.transaction(|store| store_tree::write(store, record, &built, &disks, &interfaces))?;
    store.introduce(built.domain.0, built.store_frame, built.store_port.0)?;
    device::connect(store, built.domain, &disks, &interfaces)?;

    monitor::start(record)?;
    if !paused {
        machine.hypervisor.unpause_domain(built.domain)?;
    }
    record.phase = Phase::Complete;
    machine.records.save(record)
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path)
        .context(format_args!("{what} {}", path.display()))
        .map_err(|failure| {
            failure.advise(format!(
                "set {what} in the configuration to a file that can be read"
            ))
        })
}

/// The domain of a guest that is complete.
pub fn domain_of(record: &Record) -> Option<DomainId> {
    record.domain.map(DomainId)
}
