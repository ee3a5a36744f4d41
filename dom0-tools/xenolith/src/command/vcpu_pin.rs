//! `xenolith vcpu-pin`

use crate::arguments::VcpuPin;
use crate::change::change;
use crate::config::Placement;
use crate::domain::{self, Domain};
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::output;
use crate::placement::check_reach;
use crate::pool;
use crate::processors::Processors;
use control::{Affinity, CpuSet};
use serde_json::{Value, json};
use xenolith::cpu_list::{self, CpuList};

/// Says where virtual CPUs may run.
pub fn run(machine: &mut Machine, wanted: &VcpuPin, as_json: bool) -> Result<()> {
    let domain = domain::find(machine, &wanted.domain)?;
    let vcpus = vcpus(&domain, &wanted.vcpu)?;
    let hard = list(&wanted.hard)?;
    let soft = wanted.soft.as_deref().map(list).transpose()?.flatten();
    if hard.is_none() && soft.is_none() {
        return Err(
            Failure::new("there is nothing to change: neither affinity is given")
                .advise("name CPUs in place of one `-`: xenolith vcpu-pin DOMAIN VCPU HARD [SOFT]"),
        );
    }
    let processors = Processors::load(&machine.hypervisor)?;
    let resolve = |list: &Option<CpuList>| list.as_ref().map(|list| processors.resolve(list)).transpose();
    let (hard_cpus, soft_cpus) = (resolve(&hard)?, resolve(&soft)?);
    let pool = pool::of_domain(machine, domain.info.pool)?;
    if let Some(cpus) = &hard_cpus {
        check_reach(cpus, &pool).context(format_args!("`{}` vCPU {}", domain.name, wanted.vcpu))?;
    }
    let apply = |machine: &mut Machine| set(machine, &domain, &vcpus, hard_cpus.as_ref(), soft_cpus.as_ref());
    let done = change(machine, &domain, apply, |config| {
        note(
            &mut config.scheduling.hard,
            hard.as_ref(),
            &vcpus,
            config.max_vcpus,
        );
        note(
            &mut config.scheduling.soft,
            soft.as_ref(),
            &vcpus,
            config.max_vcpus,
        );
    })?;
    report(&domain, &done, &processors, soft_cpus.is_some(), as_json);
    Ok(())
}

/// The virtual CPUs that are meant.
fn vcpus(domain: &Domain, wanted: &str) -> Result<Vec<u32>> {
    let count = domain.max_vcpus();
    if wanted == "all" {
        return Ok((0..count).collect());
    }
    match wanted.parse() {
        Ok(vcpu) if vcpu < count => Ok(vec![vcpu]),
        _ => Err(
            Failure::new(format!("`{}` has no vCPU `{wanted}`", domain.name)).advise(format!(
                "it has {}; `all` means all of them",
                CpuSet::first(count)
            )),
        ),
    }
}

/// Nothing for `-`.
fn list(text: &str) -> Result<Option<CpuList>> {
    if text == "-" {
        return Ok(None);
    }
    let list = text.parse();
    list.map(Some)
        .map_err(|()| Failure::new(format!("`{text}` is no list of CPUs")).advise(cpu_list::EXPECTED))
}

/// All of them or none.
fn set(
    machine: &Machine,
    domain: &Domain,
    vcpus: &[u32],
    hard: Option<&CpuSet>,
    soft: Option<&CpuSet>,
) -> Result<Vec<(u32, Affinity)>> {
    let hypervisor = &machine.hypervisor;
    let mut before = Vec::new();
    for &vcpu in vcpus {
        before.push((vcpu, hypervisor.vcpu_affinity(domain.id(), vcpu)?));
    }
    for (index, &vcpu) in vcpus.iter().enumerate() {
        if let Err(error) = hypervisor.set_vcpu_affinity(domain.id(), vcpu, hard, soft) {
            for (vcpu, Affinity { hard, soft }) in &before[..index] {
                // The first failure is the one to tell.
                let _ = hypervisor.set_vcpu_affinity(domain.id(), *vcpu, Some(hard), Some(soft));
            }
            return Err(error).context(format_args!("`{}` vCPU {vcpu}", domain.name));
        }
    }
    let after = vcpus
        .iter()
        .map(|&vcpu| Ok((vcpu, hypervisor.vcpu_affinity(domain.id(), vcpu)?)));
    after.collect()
}

fn note(kept: &mut Option<Placement>, list: Option<&CpuList>, vcpus: &[u32], count: u32) {
    let Some(list) = list else { return };
    if vcpus.len() == count as usize {
        *kept = Some(Placement::Together(list.clone()));
        return;
    }
    for &vcpu in vcpus {
        *kept = Some(Placement::with(kept.as_ref(), vcpu, count, list.clone()));
    }
}

fn report(
    domain: &Domain,
    done: &[(u32, Affinity)],
    processors: &Processors,
    soft_was_set: bool,
    as_json: bool,
) {
    let numbers = |cpus: &CpuSet| cpus.intersection(processors.all()).iter().collect::<Vec<_>>();
    let mut documents = Vec::new();
    for (vcpu, affinity) in done {
        let (hard, soft) = (processors.show(&affinity.hard), processors.show(&affinity.soft));
        documents.push(json!({
            "name": domain.name,
            "domain": domain.id().0,
            "vcpu": vcpu,
            "hard_affinity": numbers(&affinity.hard),
            "soft_affinity": numbers(&affinity.soft),
        }));
        if !as_json {
            output::line(&format!(
                "{} (domain {}) vCPU {vcpu}: may run on {hard}, prefers {soft}",
                domain.name,
                domain.id()
            ));
        }
        if soft_was_set && affinity.soft.intersection(&affinity.hard).is_empty() {
            eprintln!(
                "xenolith: vCPU {vcpu} may not run on any CPU that it prefers: the preference has no effect"
            );
        }
    }
    if as_json {
        output::document(&Value::Array(documents));
    }
}
