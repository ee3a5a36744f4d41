//! `xenolith shutdown`, `reboot`, `destroy`, `pause`, `unpause`

use super::done;
use crate::arguments::Request;
use crate::config::Action;
use crate::domain::{self, Domain};
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::reap;
use crate::record::{Phase, Record};
use crate::store_tree::domain_path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Asks a guest to power off.
pub fn shutdown(machine: &mut Machine, request: &Request, as_json: bool) -> Result<()> {
    let domain = domain::find_guest(machine, &request.domain, "shut down")?;
    ask(machine, &domain, "poweroff")?;
    let waited = wait(machine, &domain, request, |machine, domain| {
        Ok(match machine.hypervisor.domain_info(domain.id())? {
            // Its record goes last: then all that it held is free.
            None => machine
                .records
                .load(domain.uuid())?
                .is_none_or(|record| record.domain != Some(domain.id().0)),
            // Where on_poweroff keeps it, a guest that stopped is one that is off.
            Some(info) => {
                let kept = |record: &Record| record.config.on_poweroff == Action::Preserve;
                info.shutdown.is_some() && domain.record.as_ref().is_none_or(kept)
            }
        })
    })?;
    done(&domain, "shutdown", waited, as_json);
    Ok(())
}

/// Asks a guest to restart.
pub fn reboot(machine: &mut Machine, request: &Request, as_json: bool) -> Result<()> {
    let domain = domain::find_guest(machine, &request.domain, "rebooted")?;
    ask(machine, &domain, "reboot")?;
    let waited = wait(machine, &domain, request, |machine, domain| {
        let Some(record) = machine.records.load(domain.uuid())? else {
            return match machine.hypervisor.domain_info(domain.id())? {
                None => Err(
                    Failure::new(format!("`{}` is gone: it was not made again", domain.name)).advise(
                        format!(
                            "its on_reboot may say so; /var/log/xenolith/guests/{}.log tells",
                            domain.name
                        ),
                    ),
                ),
                Some(_) => Ok(false),
            };
        };
        Ok(record.phase == Phase::Complete && record.domain.is_some_and(|now| now != domain.id().0))
    })?;
    done(&domain, "reboot", waited, as_json);
    Ok(())
}

/// Takes a guest away.
pub fn destroy(machine: &mut Machine, wanted: &str, as_json: bool) -> Result<()> {
    let domain = domain::find_guest(machine, wanted, "destroyed")?;
    reap::destroy(machine, &domain)?;
    done(&domain, "destroy", None, as_json);
    Ok(())
}

/// Stops a guest from running.
pub fn pause(machine: &mut Machine, wanted: &str, as_json: bool) -> Result<()> {
    let domain = domain::find_guest(machine, wanted, "paused")?;
    // The hypervisor counts pauses; one `unpause` is to be enough.
    if !domain.info.paused {
        machine.hypervisor.pause_domain(domain.id())?;
    }
    done(&domain, "pause", None, as_json);
    Ok(())
}

/// Lets a guest run.
pub fn unpause(machine: &mut Machine, wanted: &str, as_json: bool) -> Result<()> {
    let domain = domain::find_guest(machine, wanted, "unpaused")?;
    if domain.state() == "building" {
        return Err(Failure::new(format!("`{}` is still being made", domain.name))
            .advise("wait until `create` returns"));
    }
    if domain.info.paused {
        machine.hypervisor.unpause_domain(domain.id())?;
    }
    done(&domain, "unpause", None, as_json);
    Ok(())
}

/// Puts a request where the guest's kernel looks for it.
fn ask(machine: &mut Machine, domain: &Domain, what: &str) -> Result<()> {
    match domain.state() {
        "running" => {}
        "paused" => {
            return Err(Failure::new(format!(
                "`{}` is paused, and cannot hear the request",
                domain.name
            ))
            .advise(format!(
                "xenolith unpause {}; or take it away: xenolith destroy {}",
                domain.name, domain.name
            )));
        }
        state => {
            return Err(
                Failure::new(format!("`{}` does not run (it is {state})", domain.name))
                    .advise(format!("xenolith destroy {}", domain.name)),
            );
        }
    }
    machine
        .store
        .write(&format!("{}/control/shutdown", domain_path(domain.id())), what)?;
    Ok(())
}

/// Waits, if asked to, until `is_done`; returns how long.
fn wait(
    machine: &mut Machine,
    domain: &Domain,
    request: &Request,
    is_done: impl Fn(&mut Machine, &Domain) -> Result<bool>,
) -> Result<Option<Duration>> {
    if !request.wait {
        return Ok(None);
    }
    let started = Instant::now();
    while !is_done(machine, domain)? {
        if started.elapsed() > request.time() {
            let name = &domain.name;
            return Err(Failure::new(format!("`{name}` did not do it within {} s", request.timeout))
                .advise(format!("its kernel may hang, or may not know such requests; to take it away: xenolith destroy {name}")));
        }
        sleep(POLL_INTERVAL);
    }
    Ok(Some(started.elapsed()))
}
