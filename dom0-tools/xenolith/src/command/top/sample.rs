//! One look at everything that `top` shows.

use super::counters::Counters;
use super::devices::{Moved, Sysfs};
use crate::domain::{self, Domain};
use crate::failure::Result;
use crate::machine::Machine;
use control::VcpuInfo;
use std::time::Instant;

/// A domain at one moment.
pub struct DomainSample {
    /// The domain.
    pub domain: Domain,
    /// Its vCPUs.
    pub vcpus: Vec<VcpuInfo>,
    /// What its devices have moved.
    pub moved: Moved,
}

/// Everything at one moment.
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Nanoseconds that each CPU was idle.
    pub idle: Vec<u64>,
    /// All domains.
    pub domains: Vec<DomainSample>,
    /// What else is known of vCPUs.
    pub counters: Counters,
}

impl Sample {
    /// Looks.
    pub fn take(machine: &mut Machine) -> Result<Self> {
        let sysfs = Sysfs::default();
        let mut domains = Vec::new();
        for domain in domain::all(machine)? {
            let mut vcpus = Vec::new();
            for vcpu in 0..domain.max_vcpus() {
                vcpus.extend(machine.hypervisor.vcpu_info(domain.id(), vcpu)?);
            }
            domains.push(DomainSample {
                moved: sysfs.moved(domain.id()),
                vcpus,
                domain,
            });
        }
        Ok(Self {
            // As close as can be to the counters that change fastest.
            at: Instant::now(),
            idle: machine.hypervisor.idle_times()?,
            domains,
            counters: Counters::take(&machine.hypervisor)?,
        })
    }
}
