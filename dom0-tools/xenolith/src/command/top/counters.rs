//! What is known of vCPUs beside what they used: the time that they waited for a CPU, and why they left their guests.
//!
//! Xen's interface tells of another domain's vCPU how long it ran and no more. Our core publishes the rest among its performance counters
//! ([`vcpu_counter`]). What dom0's own vCPUs waited its kernel knows: `steal` in `/proc/stat`.

use control::{Counter, DomainId, Hypervisor};
use hypercall_abi::sysctl::vcpu_counter;
use std::collections::BTreeMap;

/// A vCPU: its domain's number and its own.
pub type Key = (u16, u32);

/// What is known of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Microseconds without a CPU that it could have used, modulo 2^32.
    pub runnable_us: Option<u32>,
    /// Exits by reason, modulo 2^32.
    pub exits: BTreeMap<String, u32>,
}

/// What is known of all vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<Key, Counted>);

impl Counters {
    /// Asks the hypervisor, and dom0's kernel for what it does not tell.
    pub fn take(hypervisor: &Hypervisor) -> control::Result<Self> {
        let mut counters = hypervisor
            .counters()?
            .map_or_else(Self::default, |all| Self::read(&all));
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        for (vcpu, steal) in steal_of(&stat) {
            let own = counters.0.entry((DomainId::CONTROL.0, vcpu)).or_default();
            own.runnable_us.get_or_insert(steal);
        }
        Ok(counters)
    }

    /// What is known of this one.
    pub fn of(&self, domain: DomainId, vcpu: u32) -> Option<&Counted> {
        self.0.get(&(domain.0, vcpu))
    }

    fn read(all: &[Counter]) -> Self {
        let columns: Vec<&str> = all
            .iter()
            .filter_map(|counter| counter.name.strip_prefix(vcpu_counter::COLUMN_PREFIX))
            .collect();
        let rows = all.iter().filter_map(|counter| {
            let key = key_of(counter.name.strip_prefix(vcpu_counter::ROW_PREFIX)?)?;
            let mut counted = Counted::default();
            for (column, value) in columns.iter().zip(&counter.values) {
                if *column == vcpu_counter::RUNNABLE {
                    counted.runnable_us = Some(*value);
                } else if let Some(reason) = column.strip_prefix(vcpu_counter::EXITS_PREFIX) {
                    counted.exits.insert(reason.to_owned(), *value);
                }
            }
            Some((key, counted))
        });
        Self(rows.collect())
    }
}

/// Of `3.1`, the domain and the vCPU.
fn key_of(text: &str) -> Option<Key> {
    let (domain, vcpu) = text.split_once('.')?;
    Some((domain.parse().ok()?, vcpu.parse().ok()?))
}

/// The `steal` of each `cpuN` line, which counts in hundredths of seconds, as microseconds.
fn steal_of(stat: &str) -> impl Iterator<Item = (u32, u32)> {
    const TICK_US: u64 = 10_000;
    stat.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let vcpu = words.next()?.strip_prefix("cpu")?.parse().ok()?;
        let ticks: u64 = words.nth(7)?.parse().ok()?;
        Some((vcpu, ticks.wrapping_mul(TICK_US) as u32))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(name: &str, values: &[u32]) -> Counter {
        Counter {
            name: name.to_owned(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn the_table_is_read_by_its_columns() {
        let counters = Counters::read(&[
            counter("something else", &[9]),
            counter("vcpu column runnable us", &[]),
            counter("vcpu column exits halt", &[]),
            counter("vcpu column something new", &[]),
            counter("vcpu column exits cpuid", &[]),
            counter("vcpu 0.0", &[5, 10, 0, 1]),
            counter("vcpu 3.1", &[6, 20, 0, 2]),
            // One that is too short tells nothing of the last.
            counter("vcpu 4.0", &[7, 30]),
            counter("vcpu x.y", &[1, 1, 1, 1]),
        ]);
        let of_three = counters.of(DomainId(3), 1).unwrap();
        assert_eq!(of_three.runnable_us, Some(6));
        let exits = BTreeMap::from([("cpuid".to_owned(), 2), ("halt".to_owned(), 20)]);
        assert_eq!(of_three.exits, exits);
        let short = counters.of(DomainId(4), 0).unwrap();
        assert_eq!(
            (short.exits.get("halt"), short.exits.get("cpuid")),
            (Some(&30), None)
        );
        assert_eq!(counters.of(DomainId(3), 0), None);
        assert_eq!(counters.0.len(), 3);
    }

    #[test]
    fn dom0s_kernel_tells_what_was_stolen() {
        let stat =
            "cpu  1 2 3 4 5 6 7 30 0 0\ncpu0 1 2 3 4 5 6 7 10 0 0\ncpu1 1 2 3 4 5 6 7 20 0 0\nintr 5\n";
        assert_eq!(steal_of(stat).collect::<Vec<_>>(), [(0, 100_000), (1, 200_000)]);
        assert_eq!(steal_of("cpu0 1 2\n").count(), 0);
    }
}
