//! `xenolith info`

use super::list::{PAGES_PER_MIB, describe};
use crate::device::interface_name;
use crate::domain;
use crate::failure::Result;
use crate::machine::Machine;
use crate::output;
use crate::store_tree::{backends_path, domain_path};
use control::{DomainId, Hypervisor};
use hypercall_abi::io::xenbus::State;
use serde_json::{Map, Value, json};
use store_client::Store;

const KIB_PER_PAGE: u64 = 4;

/// Tells about the machine and its hypervisor.
pub fn machine(as_json: bool) -> Result<()> {
    let hypervisor = Hypervisor::open()?;
    let (version, physical) = (hypervisor.version()?, hypervisor.physical_info()?);
    let kib = |pages: u64| pages * KIB_PER_PAGE;
    show(
        &json!({
            "hypervisor": {
                "version": format!("{}.{}{}", version.major, version.minor, version.extra),
                "capabilities": version.capabilities,
                "command_line": version.command_line,
            },
            "cpus": physical.cpus,
            "cpu_mhz": physical.cpu_khz / 1000,
            "memory": {
                "total_kib": kib(physical.total_pages),
                "free_kib": kib(physical.free_pages),
                "scrub_kib": kib(physical.scrub_pages),
                "outstanding_kib": kib(physical.outstanding_pages),
            },
            "domains": hypervisor.domains()?.len(),
        }),
        as_json,
    );
    Ok(())
}

/// Tells everything about a domain.
pub fn domain(machine: &mut Machine, wanted: &str, as_json: bool) -> Result<()> {
    let domain = domain::find(machine, wanted)?;
    let mut document = describe(&domain);
    let record = domain.record.as_ref();
    let store = &mut machine.store;
    // The hypervisor's limit has room for pages that are no ordinary memory; the configuration's has not.
    let max_memory = record.map_or(domain.info.max_pages / PAGES_PER_MIB, |record| {
        record.config.max_memory
    });
    document["max_memory_mib"] = json!(max_memory);
    document["max_vcpus"] = json!(domain.max_vcpus());
    document["config"] = json!(record.and_then(|record| record.config.path.as_ref()));
    document["on_poweroff"] = json!(record.map(|record| record.config.on_poweroff));
    document["on_reboot"] = json!(record.map(|record| record.config.on_reboot));
    document["on_crash"] = json!(record.map(|record| record.config.on_crash));
    document["disks"] = disks(store, domain.id())?;
    document["interfaces"] = interfaces(store, domain.id())?;
    let console = store.read(&format!("{}/console/tty", domain_path(domain.id())))?;
    document["console"] = json!(console.filter(|tty| !tty.is_empty()));
    show(&document, as_json);
    Ok(())
}

fn disks(store: &mut Store, guest: DomainId) -> Result<Value> {
    let base = backends_path("vbd", guest);
    let mut disks = Vec::new();
    for number in store.children(&base)? {
        let mut get = |key: &str| store.read(&format!("{base}/{number}/{key}"));
        disks.push(json!({
            "device": get("dev")?,
            "number": number.parse::<u32>().ok(),
            "target": get("physical-device-path")?,
            "source": get("params")?,
            "mode": get("mode")?,
            "state": state_name(get("state")?),
        }));
    }
    Ok(Value::Array(disks))
}

fn interfaces(store: &mut Store, guest: DomainId) -> Result<Value> {
    let base = backends_path("vif", guest);
    let mut interfaces = Vec::new();
    for index in store.children(&base)? {
        let mut get = |key: &str| store.read(&format!("{base}/{index}/{key}"));
        interfaces.push(json!({
            "index": index.parse::<u32>().ok(),
            "mac": get("mac")?,
            "bridge": get("bridge")?,
            "backend": interface_name(guest, &index),
            "state": state_name(get("state")?),
        }));
    }
    Ok(Value::Array(interfaces))
}

fn state_name(state: Option<String>) -> &'static str {
    match State::parse(state.unwrap_or_default().as_bytes()) {
        State::Initialising => "initialising",
        State::InitialisationWait | State::Initialised => "waiting",
        State::Connected => "connected",
        State::Closing => "closing",
        State::Closed => "closed",
        State::Reconfiguring | State::Reconfigured => "reconfiguring",
        State::Unknown => "unknown",
    }
}

fn show(document: &Value, as_json: bool) {
    if as_json {
        return output::document(document);
    }
    let mut rows = Vec::new();
    if let Value::Object(fields) = document {
        flatten("", fields, &mut rows);
    }
    output::fields(&rows);
}

/// Turns nested fields into lines of a name and a value.
fn flatten(prefix: &str, fields: &Map<String, Value>, rows: &mut Vec<Vec<String>>) {
    for (key, value) in fields {
        let name = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => flatten(&format!("{name}."), inner, rows),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Object(inner) = item {
                        flatten(&format!("{name}.{index}."), inner, rows);
                    }
                }
            }
            Value::Null => {}
            Value::String(text) => rows.push(vec![name, text.clone()]),
            other => rows.push(vec![name, other.to_string()]),
        }
    }
}
