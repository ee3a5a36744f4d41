//! `xenolith vcpu-set`: the domain's kernel is asked, through the store, to bring vCPUs up or take them down.

use super::seconds;
use crate::arguments::VcpuSet;
use crate::change::change;
use crate::domain::{self, Domain};
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::output;
use crate::store_tree::domain_path;
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Asks for so many vCPUs.
pub fn run(machine: &mut Machine, wanted: &VcpuSet, as_json: bool) -> Result<()> {
    let domain = domain::find(machine, &wanted.domain)?;
    check(machine, &domain, wanted)?;
    let (count, most) = (wanted.count, domain.max_vcpus());
    let apply = |machine: &mut Machine| {
        let home = domain_path(domain.id());
        machine.store.transaction(|store| {
            (0..most).try_for_each(|vcpu| {
                let state = if vcpu < count { "online" } else { "offline" };
                store.write(&format!("{home}/cpu/{vcpu}/availability"), state)
            })
        })?;
        Ok(())
    };
    change(machine, &domain, apply, |config| config.vcpus = count)?;
    let started = Instant::now();
    if wanted.wait {
        wait(machine, &domain, wanted)?;
    }
    if !as_json {
        let asked = if wanted.wait { "has" } else { "is asked for" };
        output::line(&format!(
            "{} (domain {}): {asked} {count} of {most} vCPUs",
            domain.name,
            domain.id()
        ));
        return Ok(());
    }
    let mut document = json!({
        "name": domain.name, "domain": domain.id().0, "vcpus": count, "max_vcpus": most,
    });
    if wanted.wait {
        document["waited_seconds"] = json!(seconds(started.elapsed()));
    }
    output::document(&document);
    Ok(())
}

fn check(machine: &Machine, domain: &Domain, wanted: &VcpuSet) -> Result<()> {
    let (name, count, most) = (&domain.name, wanted.count, domain.max_vcpus());
    if count == 0 || count > most {
        let raise = match domain.record {
            Some(_) => "; for more, set maxvcpus in its configuration and make it again",
            None => "",
        };
        return Err(Failure::new(format!("`{name}` cannot have {count} vCPUs"))
            .advise(format!("give a number from 1 to {most}{raise}")));
    }
    let cpus = machine.hypervisor.physical_info()?.cpus;
    if count > cpus && !wanted.ignore_host && count > domain.info.online_vcpus {
        return Err(Failure::new(format!(
            "{count} vCPUs are more than this machine has CPUs ({cpus})"
        ))
        .advise("they would wait for each other; if that is meant: --ignore-host"));
    }
    match domain.state() {
        "running" | "paused" => Ok(()),
        state => Err(Failure::new(format!("`{name}` does not run (it is {state})"))
            .advise("vCPUs come and go in domains that run")),
    }
}

fn wait(machine: &mut Machine, domain: &Domain, wanted: &VcpuSet) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(wanted.timeout);
    loop {
        let Some(info) = machine.hypervisor.domain_info(domain.id())? else {
            return Err(Failure::new(format!("`{}` is gone", domain.name)));
        };
        if info.online_vcpus == wanted.count {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "`{}` has {} vCPUs online after {} s, not {}",
                domain.name, info.online_vcpus, wanted.timeout, wanted.count
            ))
            .advise("the request stands; its kernel may be paused, busy, or built without CPU hot-plug"));
        }
        sleep(POLL_INTERVAL);
    }
}
