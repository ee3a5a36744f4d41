//! Giving a new guest its processors and its share of them.

use crate::config::{Placement, Scheduling};
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::pool::{self, NamedPool};
use crate::processors::Processors;
use control::{CpuSet, DomainId, FIRST_POOL, Share};

/// What a guest's configuration asks for, on this machine: found out before the guest is made.
pub struct Prepared {
    /// Where it is made.
    pub pool: u32,
    share: Option<(NamedPool, Option<u16>, Option<u16>)>,
    /// For each virtual CPU: where it may run, where it should run.
    affinities: Vec<[Option<CpuSet>; 2]>,
}

impl Prepared {
    /// Finds the pool and the processors.
    pub fn new(machine: &mut Machine, wanted: &Scheduling, vcpus: u32) -> Result<Self> {
        // A hypervisor without pools is not asked for them by guests that do not care.
        if *wanted == Scheduling::default() {
            return Ok(Self {
                pool: FIRST_POOL,
                share: None,
                affinities: vec![],
            });
        }
        let pool = match &wanted.pool {
            Some(name) => pool::find(machine, name)?,
            None => pool::of_domain(machine, FIRST_POOL)?,
        };
        if pool.pool.cpus.is_empty() {
            return Err(Failure::new(format!("CPU pool `{}` has no CPUs", pool.name))
                .advise(format!("xenolith cpupool-cpu-add {} CPUS", pool.name)));
        }
        let shares = wanted.weight.is_some() || wanted.cap.is_some();
        if shares {
            check_shares(&pool)?;
        }
        let processors = Processors::load(&machine.hypervisor)?;
        let placements = [("cpus", &wanted.hard), ("cpus_soft", &wanted.soft)];
        let mut affinities = Vec::new();
        for vcpu in 0..vcpus {
            let mut sets = [None, None];
            for ((key, placement), set) in placements.iter().zip(&mut sets) {
                *set = cpus_of(&processors, placement.as_ref(), vcpu)
                    .context(format_args!("`{key}`, vCPU {vcpu}"))?;
            }
            if let Some(hard) = &sets[0] {
                check_reach(hard, &pool).context(format_args!("`cpus`, vCPU {vcpu}"))?;
            }
            affinities.push(sets);
        }
        Ok(Self {
            pool: pool.pool.id,
            share: shares.then_some((pool, wanted.weight, wanted.cap)),
            affinities,
        })
    }

    /// Gives them to the guest, before it runs.
    pub fn apply(&self, machine: &Machine, domain: DomainId) -> Result<()> {
        let hypervisor = &machine.hypervisor;
        for (vcpu, [hard, soft]) in (0..).zip(&self.affinities) {
            if hard.is_some() || soft.is_some() {
                hypervisor.set_vcpu_affinity(domain, vcpu, hard.as_ref(), soft.as_ref())?;
            }
        }
        if let Some((pool, weight, cap)) = &self.share {
            let scheduler = pool.pool.scheduler;
            let before = hypervisor.domain_share(domain, scheduler)?;
            let share = Share {
                weight: weight.unwrap_or(before.weight),
                cap: cap.unwrap_or(before.cap),
            };
            hypervisor.set_domain_share(domain, scheduler, share)?;
        }
        Ok(())
    }
}

fn cpus_of(processors: &Processors, placement: Option<&Placement>, vcpu: u32) -> Result<Option<CpuSet>> {
    let list = placement.and_then(|placement| placement.of(vcpu));
    list.map(|list| processors.resolve(list)).transpose()
}

/// Weights and caps mean nothing to some schedulers.
pub fn check_shares(pool: &NamedPool) -> Result<()> {
    match pool.pool.scheduler {
        scheduler if scheduler.has_shares() => Ok(()),
        scheduler => Err(Failure::new(format!(
            "CPU pool `{}` is scheduled by {}, which has no weights and caps",
            pool.name,
            scheduler.name()
        ))
        .advise("leave them out, or move the domain to a pool with credit2: xenolith cpupool-migrate")),
    }
}

/// A virtual CPU must be able to run somewhere in its pool.
pub fn check_reach(cpus: &CpuSet, pool: &NamedPool) -> Result<()> {
    if cpus.intersection(&pool.pool.cpus).is_empty() {
        return Err(Failure::new(format!(
            "it could run nowhere: CPU pool `{}` has none of CPUs {cpus}",
            pool.name
        ))
        .advise(format!("name at least one of the pool's: {}", pool.pool.cpus)));
    }
    Ok(())
}
