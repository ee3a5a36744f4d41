//! How `top` shows what was used.

use super::usage::{DomainUsage, Usage, VcpuUsage};
use crate::command::list::PAGES_PER_MIB;
use crate::output;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is shown.
#[derive(Clone, Copy)]
pub struct Detail {
    /// Each vCPU, too.
    pub vcpus: bool,
    /// Reasons of exits, too.
    pub exits: bool,
}

/// Shows it as text.
pub fn show(usage: &Usage<'_>, detail: Detail) {
    let busy: f64 = usage.cpus.iter().sum();
    output::line(&format!(
        "{} CPUs, {busy:.0} % of {} busy, {} domains, {:.1} s",
        usage.cpus.len(),
        usage.cpus.len() * 100,
        usage.domains.len(),
        usage.seconds
    ));
    let mut rows = vec![
        [
            "NAME",
            "ID",
            "STATE",
            "CPU%",
            "STEAL%",
            "EXITS/S",
            "MIB",
            "NET IN/S",
            "OUT/S",
            "DISK RD/S",
            "WR/S",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for domain in &usage.domains {
        rows.push(row(domain));
        if detail.vcpus {
            rows.extend(domain.vcpus.iter().map(vcpu_row));
        }
    }
    output::table(&rows);
    if detail.exits {
        show_exits(usage);
    }
}

fn row(usage: &DomainUsage<'_>) -> Vec<String> {
    let domain = &usage.sample.domain;
    let moved = &usage.moved;
    vec![
        domain.name.clone(),
        domain.id().to_string(),
        domain.state().to_owned(),
        format!("{:.1}", usage.busy),
        known(usage.steal, 1),
        known(sum(usage.exits.as_ref()), 0),
        (domain.info.total_pages / PAGES_PER_MIB).to_string(),
        bytes(moved.received),
        bytes(moved.sent),
        bytes(moved.read),
        bytes(moved.written),
    ]
}

fn vcpu_row(usage: &VcpuUsage) -> Vec<String> {
    let place = usage.cpu.map_or("-".to_owned(), |cpu| format!("CPU {cpu}"));
    vec![
        format!("  vCPU {} {place}", usage.vcpu),
        String::new(),
        usage.state.to_owned(),
        format!("{:.1}", usage.busy),
        known(usage.steal, 1),
        known(sum(usage.exits.as_ref()), 0),
    ]
}

fn show_exits(usage: &Usage<'_>) {
    for domain in &usage.domains {
        let name = &domain.sample.domain.name;
        let Some(exits) = &domain.exits else {
            output::line(&format!("{name}: this hypervisor does not tell its exits"));
            continue;
        };
        let mut reasons: Vec<(&String, &f64)> = exits.iter().filter(|(_, rate)| **rate > 0.0).collect();
        reasons.sort_by(|one, other| other.1.total_cmp(one.1));
        let texts = reasons
            .iter()
            .map(|(reason, rate)| format!("{reason} {rate:.0}/s"));
        output::line(&format!("{name}: {}", texts.collect::<Vec<_>>().join(", ")));
    }
}

/// What nobody knows is no number.
fn known(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn sum(exits: Option<&BTreeMap<String, f64>>) -> Option<f64> {
    exits.map(|exits| exits.values().sum())
}

/// In the largest unit that leaves a number over one.
fn bytes(count: u64) -> String {
    match count {
        0..1024 => count.to_string(),
        1024..1_048_576 => format!("{:.1}K", count as f64 / 1024.0),
        _ => format!("{:.1}M", count as f64 / 1_048_576.0),
    }
}

/// The same as JSON.
pub fn document(usage: &Usage<'_>) -> Value {
    json!({
        "seconds": round(usage.seconds),
        "cpus": usage.cpus.iter().map(|busy| round(*busy)).collect::<Vec<_>>(),
        "domains": usage.domains.iter().map(describe).collect::<Vec<_>>(),
    })
}

fn describe(usage: &DomainUsage<'_>) -> Value {
    let domain = &usage.sample.domain;
    json!({
        "name": domain.name,
        "domain": domain.id().0,
        "state": domain.state(),
        "cpu_percent": round(usage.busy),
        "steal_percent": usage.steal.map(round),
        "exits_per_second": usage.exits.as_ref().map(rounded),
        "memory_mib": domain.info.total_pages / PAGES_PER_MIB,
        "network_received_bytes_per_second": usage.moved.received,
        "network_sent_bytes_per_second": usage.moved.sent,
        "disk_read_bytes_per_second": usage.moved.read,
        "disk_written_bytes_per_second": usage.moved.written,
        "vcpus": usage.vcpus.iter().map(describe_vcpu).collect::<Vec<_>>(),
    })
}

fn describe_vcpu(usage: &VcpuUsage) -> Value {
    json!({
        "vcpu": usage.vcpu,
        "state": usage.state,
        "cpu": usage.cpu,
        "cpu_percent": round(usage.busy),
        "steal_percent": usage.steal.map(round),
        "exits_per_second": usage.exits.as_ref().map(rounded),
    })
}

fn rounded(exits: &BTreeMap<String, f64>) -> BTreeMap<&str, f64> {
    exits
        .iter()
        .map(|(reason, rate)| (reason.as_str(), round(*rate)))
        .collect()
}

/// Two digits are enough.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        for (count, text) in [(0, "0"), (1023, "1023"), (1536, "1.5K"), (5 << 20, "5.0M")] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn what_nobody_knows_is_shown_as_such() {
        assert_eq!(known(None, 1), "-");
        assert_eq!(known(Some(2.25), 0), "2");
    }
}
