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
        let column = |name: &str| {
            let found = all.iter().find(|counter| counter.name == name);
            found.map(|counter| counter.values.as_slice()).unwrap_or_default()
        };
        let (domains, numbers) = (column(vcpu_counter::DOMAIN), column(vcpu_counter::NUMBER));
        let runnable = column(vcpu_counter::RUNNABLE);
        let reasons: Vec<(&str, &[u32])> = all
            .iter()
            .filter_map(|counter| {
                let reason = counter.name.strip_prefix(vcpu_counter::EXITS_PREFIX)?;
                Some((reason, counter.values.as_slice()))
            })
            .collect();
        let mut counters = Self::default();
        for (index, (domain, number)) in domains.iter().zip(numbers).enumerate() {
            let Ok(domain) = u16::try_from(*domain) else {
                continue;
            };
            let exits = reasons.iter().filter_map(|(reason, values)| {
                let count = values.get(index)?;
                Some(((*reason).to_owned(), *count))
            });
            let counted = Counted {
                runnable_us: runnable.get(index).copied(),
                exits: exits.collect(),
            };
            counters.0.insert((domain, *number), counted);
        }
        counters
    }
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
    fn columns_become_vcpus() {
        let counters = Counters::read(&[
            counter("something else", &[9]),
            counter("vcpu domain", &[0, 3, 3]),
            counter("vcpu number", &[0, 0, 1]),
            counter("vcpu runnable us", &[5, 6, 7]),
            counter("vcpu exits halt", &[10, 20, 30]),
            // One that is too short tells nothing of the last.
            counter("vcpu exits cpuid", &[1, 2]),
        ]);
        let second = counters.of(DomainId(3), 0).unwrap();
        assert_eq!(second.runnable_us, Some(6));
        assert_eq!(second.exits.get("cpuid"), Some(&2));
        let third = counters.of(DomainId(3), 1).unwrap();
        assert_eq!(
            (third.exits.get("halt"), third.exits.get("cpuid")),
            (Some(&30), None)
        );
        assert_eq!(counters.of(DomainId(1), 0), None);
    }

    #[test]
    fn dom0s_kernel_tells_what_was_stolen() {
        let stat =
            "cpu  1 2 3 4 5 6 7 30 0 0\ncpu0 1 2 3 4 5 6 7 10 0 0\ncpu1 1 2 3 4 5 6 7 20 0 0\nintr 5\n";
        assert_eq!(steal_of(stat).collect::<Vec<_>>(), [(0, 100_000), (1, 200_000)]);
        assert_eq!(steal_of("cpu0 1 2\n").count(), 0);
    }
}
