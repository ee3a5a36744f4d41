//! `xenolith list`

use crate::domain::{self, Domain};
use crate::failure::Result;
use crate::machine::Machine;
use crate::output;
use serde_json::{Value, json};

/// Pages of 4 KiB in a MiB.
pub const PAGES_PER_MIB: u64 = 256;

/// Lists all domains, or one.
pub fn run(machine: &mut Machine, wanted: Option<&str>, as_json: bool) -> Result<()> {
    let domains = match wanted {
        Some(wanted) => vec![domain::find(machine, wanted)?],
        None => domain::all(machine)?,
    };
    if as_json {
        output::document(&Value::Array(domains.iter().map(describe).collect()));
        return Ok(());
    }
    let mut rows = vec![
        ["NAME", "ID", "MIB", "VCPUS", "STATE", "TIME(S)"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(domains.iter().map(row));
    output::table(&rows);
    Ok(())
}

fn row(domain: &Domain) -> Vec<String> {
    let state = match domain.reason() {
        Some(reason) if domain.state() == "shutdown" => format!("shutdown ({reason})"),
        _ => domain.state().to_owned(),
    };
    vec![
        domain.name.clone(),
        domain.id().to_string(),
        memory(domain).to_string(),
        domain.info.online_vcpus.to_string(),
        state,
        format!("{:.1}", cpu_seconds(domain)),
    ]
}

/// A domain as JSON.
pub fn describe(domain: &Domain) -> Value {
    json!({
        "name": domain.name,
        "domain": domain.id().0,
        "uuid": domain.uuid().to_string(),
        "state": domain.state(),
        "reason": domain.reason(),
        "memory_mib": memory(domain),
        "pages": domain.info.total_pages,
        "vcpus": domain.info.online_vcpus,
        "cpu_seconds": cpu_seconds(domain),
    })
}

fn memory(domain: &Domain) -> u64 {
    domain.info.total_pages / PAGES_PER_MIB
}

fn cpu_seconds(domain: &Domain) -> f64 {
    (domain.info.cpu_time / 1_000_000) as f64 / 1000.0
}
