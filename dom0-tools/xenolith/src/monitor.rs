//! The process that waits for a guest to stop, and does what its configuration says then.
//!
//! There is one for each guest, started by its creator. Should it die, the next command starts another.

use crate::config::Action;
use crate::create;
use crate::domain::reason_name;
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::record::{Phase, Record};
use crate::teardown;
use crate::uuid::Uuid;
use control::{DomainId, DomainInfo, ShutdownReason};
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LOG_DIRECTORY: &str = "/var/log/xenolith/guests";
/// A look without an event, in case one was missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// While somebody else is at work on the guest.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// A guest that lives no longer than this before it restarts, ...
const QUICK_RESTART: Duration = Duration::from_secs(10);
/// ... so many times one after the other, is taken away.
const QUICK_RESTARTS_MAX: u32 = 3;

/// Starts the monitor of a guest, detached from this process.
pub fn start(record: &Record) -> Result<()> {
    let log = open_log(&record.config.name)?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    Command::new(program)
        .args(["monitor", &record.uuid.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the guest's monitor")?;
    Ok(())
}

fn open_log(name: &str) -> Result<File> {
    let path = Path::new(LOG_DIRECTORY).join(format!("{name}.log"));
    fs::create_dir_all(LOG_DIRECTORY).context(LOG_DIRECTORY)?;
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .context(path.display())
}

/// What a look at the guest found.
enum Sight {
    /// There is nothing to watch over any more.
    Gone,
    /// Somebody makes it or takes it away.
    Busy,
    /// It runs, or rests where it is to be kept.
    Alive,
    /// It stopped.
    Stopped(Box<Record>, ShutdownReason),
}

/// Watches over a guest until it is gone.
pub fn run(uuid: Uuid) -> Result<()> {
    // The creator's terminal is not ours. Fails only for a process that has a session of its own already.
    let _ = rustix::process::setsid();
    let mut machine = Machine::open()?;
    let Some(_only_one) = machine.records.try_lock_monitor(uuid)? else {
        return Ok(());
    };
    let mut watching = machine.store.watch("@releaseDomain", "monitor").is_ok();
    let mut started = Instant::now();
    let mut kept = None;
    loop {
        match look(&mut machine, uuid)? {
            Sight::Gone => return Ok(()),
            Sight::Busy => sleep(BUSY_INTERVAL),
            Sight::Stopped(record, reason) if kept != record.domain => {
                let domain = record.domain;
                let lived = started.elapsed();
                if act(&mut machine, *record, reason, lived)? == Action::Preserve {
                    kept = domain;
                }
                started = Instant::now();
            }
            Sight::Alive | Sight::Stopped(..) => {
                if watching && machine.store.next_event(LOOK_INTERVAL).is_ok() {
                    continue;
                }
                // The daemon went away; guests go on, and so do we.
                sleep(RECONNECT_INTERVAL);
                if let Ok(store) = store_client::Store::connect() {
                    machine.store = store;
                    watching = machine.store.watch("@releaseDomain", "monitor").is_ok();
                }
            }
        }
    }
}

fn look(machine: &mut Machine, uuid: Uuid) -> Result<Sight> {
    let Some(record) = machine.records.load(uuid)? else {
        return Ok(Sight::Gone);
    };
    let lock = machine.records.try_lock(uuid)?;
    let Some(record) = machine.records.load(record.uuid)? else {
        return Ok(Sight::Gone);
    };
    if record.phase == Phase::Complete {
        let info = record
            .domain
            .map(|domain| machine.hypervisor.domain_info(DomainId(domain)))
            .transpose()?
            .flatten();
        return match (info, lock) {
            (
                Some(DomainInfo {
                    shutdown: Some(reason),
                    dying: false,
                    ..
                }),
                _,
            ) => Ok(Sight::Stopped(Box::new(record), reason)),
            (Some(_), _) => Ok(Sight::Alive),
            (None, None) => Ok(Sight::Busy),
            (None, Some(lock)) => {
                say(&record, "is gone: somebody else destroyed it");
                teardown::remove_guest(machine, &record, &lock)?;
                Ok(Sight::Gone)
            }
        };
    }
    match lock {
        None => Ok(Sight::Busy),
        Some(lock) => {
            say(&record, "was left half-made or half-removed: taking it away");
            teardown::remove_guest(machine, &record, &lock)?;
            Ok(Sight::Gone)
        }
    }
}

/// Does what the configuration says; returns what was done.
fn act(machine: &mut Machine, record: Record, reason: ShutdownReason, lived: Duration) -> Result<Action> {
    let config = &record.config;
    let mut action = match reason {
        ShutdownReason::PowerOff => config.on_poweroff,
        ShutdownReason::Reboot => config.on_reboot,
        ShutdownReason::Crash => config.on_crash,
        ShutdownReason::Watchdog => config.on_watchdog,
        ShutdownReason::Suspend | ShutdownReason::SoftReset | ShutdownReason::Other(_) => Action::Preserve,
    };
    let quick_restarts = if lived < QUICK_RESTART {
        record.quick_restarts + 1
    } else {
        0
    };
    say(
        &record,
        &format!("stopped ({}): {}", reason_name(reason), action.name()),
    );
    if action == Action::Restart && quick_restarts > QUICK_RESTARTS_MAX {
        say(&record, "restarts again and again: destroy");
        action = Action::Destroy;
    }
    if action == Action::Preserve {
        return Ok(action);
    }
    let lock = machine.records.lock(record.uuid)?;
    // While we waited for the lock, somebody may have taken it away, or changed what it is made from.
    let now = machine.records.load(record.uuid)?;
    let Some(record) = now.filter(|now| now.domain == record.domain) else {
        return Ok(action);
    };
    if action == Action::Destroy {
        teardown::remove_guest(machine, &record, &lock)?;
        return Ok(action);
    }
    let mut record = Record {
        phase: Phase::Building,
        quick_restarts,
        ..record
    };
    machine.records.save(&record)?;
    teardown::remove_domains(machine, &record)?;
    record.domain = None;
    let result = create::make(machine, &mut record, &lock, false, &mut |_| {});
    if let Err(Failure { message, advice }) = result {
        say(
            &record,
            &format!(
                "could not be made again: {message}; {}",
                advice.unwrap_or_default()
            ),
        );
    }
    Ok(action)
}

fn say(record: &Record, what: &str) {
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let domain = record
        .domain
        .map_or("no domain".to_owned(), |domain| format!("domain {domain}"));
    println!("{seconds} {} ({domain}) {what}", record.config.name);
}
