//! What was used between two looks.

use super::counters::{Counted, Counters};
use super::devices::Moved;
use super::sample::{DomainSample, Sample};
use crate::command::vcpu_list::state;
use control::{DomainId, VcpuInfo};
use std::collections::BTreeMap;

/// What a vCPU used. Parts of one CPU's time are in per cent.
pub struct VcpuUsage {
    /// Its number.
    pub vcpu: u32,
    /// What it is doing now.
    pub state: &'static str,
    /// Where it is or was; nothing while it is offline.
    pub cpu: Option<u32>,
    /// It ran.
    pub busy: f64,
    /// It could have run and had no CPU; nothing where nobody knows.
    pub steal: Option<f64>,
    /// Exits per second by reason; nothing where nobody knows.
    pub exits: Option<BTreeMap<String, f64>>,
}

/// What a domain used.
pub struct DomainUsage<'a> {
    /// The domain, as it is now.
    pub sample: &'a DomainSample,
    /// All vCPUs' sum.
    pub busy: f64,
    /// All vCPUs' sum, of those of which it is known.
    pub steal: Option<f64>,
    /// Exits per second by reason.
    pub exits: Option<BTreeMap<String, f64>>,
    /// Bytes per second.
    pub moved: Moved,
    /// Each vCPU.
    pub vcpus: Vec<VcpuUsage>,
}

/// What everybody used.
pub struct Usage<'a> {
    /// Seconds between the two looks.
    pub seconds: f64,
    /// How busy each CPU was, in per cent.
    pub cpus: Vec<f64>,
    /// Domains that were there both times, and those that are new since.
    pub domains: Vec<DomainUsage<'a>>,
}

impl<'a> Usage<'a> {
    /// Between two looks.
    pub fn between(before: &Sample, after: &'a Sample) -> Self {
        let seconds = after.at.duration_since(before.at).as_secs_f64().max(1e-6);
        let idle = before.idle.iter().zip(&after.idle);
        let cpus = idle.map(|(before, after)| (100.0 - percent(*before, *after, seconds)).clamp(0.0, 100.0));
        let domains = after.domains.iter().map(|now| {
            let same = |old: &&DomainSample| {
                old.domain.id() == now.domain.id() && old.domain.uuid() == now.domain.uuid()
            };
            let counters = [&before.counters, &after.counters];
            domain(before.domains.iter().find(same), now, counters, seconds)
        });
        Self {
            seconds,
            cpus: cpus.collect(),
            domains: domains.collect(),
        }
    }
}

/// Nanoseconds as a part of the time that passed.
fn percent(before: u64, after: u64, seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds / 1e7
}

fn domain<'a>(
    before: Option<&DomainSample>,
    now: &'a DomainSample,
    [old, new]: [&Counters; 2],
    seconds: f64,
) -> DomainUsage<'a> {
    let id = now.domain.id();
    let usage = |info: &VcpuInfo| {
        let earlier = before.and_then(|before| before.vcpus.iter().find(|old| old.vcpu == info.vcpu));
        // What a new domain used, it used since it is there.
        let busy = percent(
            earlier.map_or(0, |earlier| earlier.cpu_time),
            info.cpu_time,
            seconds,
        );
        let (steal, exits) = counted(earlier.and(of(old, id, info)), of(new, id, info), seconds);
        VcpuUsage {
            vcpu: info.vcpu,
            state: state(&now.domain, info),
            cpu: info.online.then_some(info.cpu),
            busy,
            steal,
            exits,
        }
    };
    let vcpus: Vec<VcpuUsage> = now.vcpus.iter().map(usage).collect();
    let moved = before.map(|before| before.moved).unwrap_or_default();
    let rate = |before: u64, after: u64| (after.saturating_sub(before) as f64 / seconds) as u64;
    DomainUsage {
        sample: now,
        busy: vcpus.iter().map(|vcpu| vcpu.busy).sum(),
        steal: total(vcpus.iter().map(|vcpu| vcpu.steal)),
        exits: all_exits(&vcpus),
        moved: Moved {
            received: rate(moved.received, now.moved.received),
            sent: rate(moved.sent, now.moved.sent),
            read: rate(moved.read, now.moved.read),
            written: rate(moved.written, now.moved.written),
        },
        vcpus,
    }
}

fn of<'a>(counters: &'a Counters, domain: DomainId, info: &VcpuInfo) -> Option<&'a Counted> {
    counters.of(domain, info.vcpu)
}

/// Of one that was not there before, all is new: its counters began at zero.
fn counted(
    before: Option<&Counted>,
    after: Option<&Counted>,
    seconds: f64,
) -> (Option<f64>, Option<BTreeMap<String, f64>>) {
    let Some(after) = after else { return (None, None) };
    let nothing = Counted::default();
    let before = before.unwrap_or(&nothing);
    let steal = after.runnable_us.map(|now| {
        let waited = now.wrapping_sub(before.runnable_us.unwrap_or(0));
        f64::from(waited) / seconds / 1e4
    });
    let exits = after.exits.iter().map(|(reason, now)| {
        let count = now.wrapping_sub(before.exits.get(reason).copied().unwrap_or(0));
        (reason.clone(), f64::from(count) / seconds)
    });
    (steal, (!after.exits.is_empty()).then(|| exits.collect()))
}

fn total(parts: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    parts.flatten().reduce(|sum, part| sum + part)
}

fn all_exits(vcpus: &[VcpuUsage]) -> Option<BTreeMap<String, f64>> {
    let mut all: Option<BTreeMap<String, f64>> = None;
    for (reason, rate) in vcpus.iter().filter_map(|vcpu| vcpu.exits.as_ref()).flatten() {
        *all.get_or_insert_default().entry(reason.clone()).or_default() += rate;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_become_per_cent_of_a_cpu() {
        assert_eq!(percent(1_000_000_000, 1_500_000_000, 1.0), 50.0);
        assert_eq!(percent(0, 4_000_000_000, 2.0), 200.0);
        // A counter that went back is no use.
        assert_eq!(percent(5, 3, 1.0), 0.0);
    }

    #[test]
    fn counters_that_started_anew_still_count() {
        let counted_at = |runnable_us, halts| Counted {
            runnable_us: Some(runnable_us),
            exits: BTreeMap::from([("halt".to_owned(), halts)]),
        };
        let (steal, exits) = counted(
            Some(&counted_at(u32::MAX - 99_999, u32::MAX)),
            Some(&counted_at(100_000, 9)),
            2.0,
        );
        assert_eq!(steal, Some(10.0));
        assert_eq!(exits.unwrap().get("halt"), Some(&5.0));
    }

    #[test]
    fn what_nobody_knows_is_not_zero() {
        assert_eq!(counted(None, None, 1.0), (None, None));
        assert_eq!(total([None, None].into_iter()), None);
        assert_eq!(total([None, Some(2.0), Some(3.0)].into_iter()), Some(5.0));
    }
}
