//! `xenolith vcpu-list`

use crate::domain::{self, Domain};
use crate::failure::Result;
use crate::machine::Machine;
use crate::output;
use crate::processors::Processors;
use control::{Affinity, CpuSet, VcpuInfo};
use serde_json::{Value, json};

/// Lists the virtual CPUs of all domains, or of some.
pub fn run(machine: &mut Machine, wanted: &[String], as_json: bool) -> Result<()> {
    let domains = match wanted {
        [] => domain::all(machine)?,
        names => names
            .iter()
            .map(|name| domain::find(machine, name))
            .collect::<Result<_>>()?,
    };
    let processors = Processors::load(&machine.hypervisor)?;
    let mut rows = vec![
        [
            "NAME",
            "ID",
            "VCPU",
            "CPU",
            "STATE",
            "TIME(S)",
            "MAY RUN ON",
            "PREFERS",
        ]
        .map(String::from)
        .to_vec(),
    ];
    let mut documents = Vec::new();
    for domain in &domains {
        for (vcpu, affinity) in vcpus(machine, domain)? {
            rows.push(row(domain, &vcpu, &affinity, &processors));
            documents.push(describe(domain, &vcpu, &affinity, &processors));
        }
    }
    match as_json {
        true => output::document(&Value::Array(documents)),
        false => output::table(&rows),
    }
    Ok(())
}

/// None of a domain that went meanwhile.
fn vcpus(machine: &Machine, domain: &Domain) -> Result<Vec<(VcpuInfo, Affinity)>> {
    let mut vcpus = Vec::new();
    for number in 0..domain.max_vcpus() {
        let Some(info) = machine.hypervisor.vcpu_info(domain.id(), number)? else {
            continue;
        };
        match machine.hypervisor.vcpu_affinity(domain.id(), number) {
            Err(error) if error.is_missing() => {}
            affinity => vcpus.push((info, affinity?)),
        }
    }
    Ok(vcpus)
}

/// What a virtual CPU is doing, in a word.
pub fn state(domain: &Domain, vcpu: &VcpuInfo) -> &'static str {
    match vcpu {
        VcpuInfo { online: false, .. } => "offline",
        VcpuInfo { running: true, .. } => "running",
        _ if domain.state() != "running" => domain.state(),
        VcpuInfo { blocked: true, .. } => "blocked",
        _ => "runnable",
    }
}

fn row(domain: &Domain, vcpu: &VcpuInfo, affinity: &Affinity, processors: &Processors) -> Vec<String> {
    vec![
        domain.name.clone(),
        domain.id().to_string(),
        vcpu.vcpu.to_string(),
        match vcpu.online {
            true => vcpu.cpu.to_string(),
            false => "-".to_owned(),
        },
        state(domain, vcpu).to_owned(),
        format!("{:.1}", seconds(vcpu)),
        processors.show(&affinity.hard),
        processors.show(&affinity.soft),
    ]
}

fn describe(domain: &Domain, vcpu: &VcpuInfo, affinity: &Affinity, processors: &Processors) -> Value {
    let there_are = |cpus: &CpuSet| cpus.intersection(processors.all()).iter().collect::<Vec<_>>();
    json!({
        "name": domain.name,
        "domain": domain.id().0,
        "vcpu": vcpu.vcpu,
        "state": state(domain, vcpu),
        "cpu": vcpu.online.then_some(vcpu.cpu),
        "cpu_seconds": seconds(vcpu),
        "hard_affinity": there_are(&affinity.hard),
        "soft_affinity": there_are(&affinity.soft),
    })
}

fn seconds(vcpu: &VcpuInfo) -> f64 {
    (vcpu.cpu_time / 1_000_000) as f64 / 1000.0
}
