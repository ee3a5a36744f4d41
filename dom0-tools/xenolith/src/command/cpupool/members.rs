//! Who is in a CPU pool: processors and domains.

use super::create::check_free;
use super::done;
use crate::change::change;
use crate::domain;
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::pool::{self, NamedPool};
use crate::processors::Processors;
use control::{CpuSet, DomainId};
use xenolith::cpu_list::{self, CpuList};

fn cpus(machine: &Machine, text: &str) -> Result<CpuSet> {
    let list: CpuList = text
        .parse()
        .map_err(|()| Failure::new(format!("`{text}` is no list of CPUs")).advise(cpu_list::EXPECTED))?;
    Processors::load(&machine.hypervisor)?.resolve(&list)
}

/// Gives processors to a pool: all of them or none.
pub fn add(machine: &mut Machine, wanted: &str, text: &str, as_json: bool) -> Result<()> {
    let found = pool::find(machine, wanted)?;
    let cpus = cpus(machine, text)?;
    check_free(&cpus, &machine.hypervisor.free_cpus()?)?;
    let id = found.pool.id;
    let mut added = Vec::new();
    for cpu in cpus.iter() {
        if let Err(error) = machine.hypervisor.add_cpu_to_pool(id, cpu) {
            for cpu in added {
                let _ = pool::remove_cpu(machine, id, cpu);
            }
            return Err(error).context(format_args!("CPU {cpu}"));
        }
        added.push(cpu);
    }
    done(machine, id, &format!("CPUs {cpus} added"), as_json)
}

/// Takes processors from a pool: all of them or none.
pub fn remove(machine: &mut Machine, wanted: &str, text: &str, as_json: bool) -> Result<()> {
    let found = pool::find(machine, wanted)?;
    let cpus = cpus(machine, text)?;
    check_removal(&found, &cpus)?;
    let id = found.pool.id;
    let mut removed = Vec::new();
    for cpu in cpus.iter() {
        if let Err(error) = pool::remove_cpu(machine, id, cpu) {
            for cpu in removed {
                let _ = machine.hypervisor.add_cpu_to_pool(id, cpu);
            }
            return Err(error).context(format_args!("CPU {cpu}")).map_err(|failure| {
                failure
                    .advise("a vCPU may be bound to it: `xenolith vcpu-list` shows which may run only there")
            });
        }
        removed.push(cpu);
    }
    done(machine, id, &format!("CPUs {cpus} removed"), as_json)
}

fn check_removal(found: &NamedPool, cpus: &CpuSet) -> Result<()> {
    let own = &found.pool.cpus;
    let foreign = cpus.difference(own);
    if !foreign.is_empty() {
        return Err(
            Failure::new(format!("CPUs {foreign} are not in CPU pool `{}`", found.name))
                .advise(format!("it has {}", super::show(own))),
        );
    }
    if found.pool.domains > 0 && own.difference(cpus).is_empty() {
        return Err(Failure::new(format!(
            "CPU pool `{}` would have no CPU left for its {} domains",
            found.name, found.pool.domains
        ))
        .advise("leave one, or move its domains first: xenolith cpupool-migrate DOMAIN POOL"));
    }
    Ok(())
}

/// Moves a domain to another pool.
pub fn migrate(machine: &mut Machine, domain: &str, wanted: &str, as_json: bool) -> Result<()> {
    let domain = domain::find(machine, domain)?;
    if domain.id() == DomainId::CONTROL {
        return Err(
            Failure::new("the control domain cannot be moved to another CPU pool")
                .advise("move the others, or CPUs: xenolith cpupool-cpu-remove, cpupool-cpu-add"),
        );
    }
    let found = pool::find(machine, wanted)?;
    if found.pool.cpus.is_empty() {
        return Err(Failure::new(format!("CPU pool `{}` has no CPUs", found.name))
            .advise(format!("xenolith cpupool-cpu-add {} CPUS", found.name)));
    }
    let (id, name) = (found.pool.id, found.name);
    let apply = |machine: &mut Machine| {
        let moved = machine.hypervisor.move_domain_to_pool(id, domain.id());
        moved.context(format_args!("`{}`", domain.name))
    };
    change(machine, &domain, apply, |config| {
        config.scheduling.pool = Some(name)
    })?;
    done(machine, id, &format!("has `{}` now", domain.name), as_json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Pool, Scheduler};

    fn pool(domains: u32) -> NamedPool {
        NamedPool {
            name: "batch".to_owned(),
            pool: Pool {
                id: 1,
                scheduler: Scheduler::Credit2,
                cpus: CpuSet::first(2),
                domains,
            },
        }
    }

    #[test]
    fn a_pool_with_domains_keeps_a_cpu() {
        assert!(check_removal(&pool(1), &CpuSet::first(1)).is_ok());
        assert!(check_removal(&pool(0), &CpuSet::first(2)).is_ok());
        let failure = check_removal(&pool(3), &CpuSet::first(2)).unwrap_err();
        assert!(
            failure.message.contains("no CPU left for its 3 domains"),
            "{failure}"
        );
        let failure = check_removal(&pool(1), &CpuSet::first(3)).unwrap_err();
        assert!(failure.message.contains("CPUs 2 are not in"), "{failure}");
    }
}
