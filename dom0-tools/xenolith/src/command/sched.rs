//! `xenolith sched`: weights and caps, and the parameters of schedulers.

use crate::arguments::Sched;
use crate::change::change;
use crate::config::cap_max;
use crate::domain::{self, Domain};
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::output;
use crate::placement::check_shares;
use crate::pool::{self, NamedPool};
use control::{FIRST_POOL, PoolParameters, Share};
use hypercall_abi::sysctl::scheduler_limit;
use serde_json::{Value, json};

/// Shows or sets.
pub fn run(machine: &mut Machine, wanted: &Sched, as_json: bool) -> Result<()> {
    if let Some(name) = &wanted.domain {
        let domain = domain::find(machine, name)?;
        return match (wanted.weight, wanted.cap) {
            (None, None) => show_domain(machine, &domain, as_json),
            (weight, cap) => set_domain(machine, &domain, weight, cap, as_json),
        };
    }
    let changes = wanted.rate_limit.is_some() || wanted.time_slice.is_some();
    let pools = match &wanted.cpupool {
        Some(name) => vec![pool::find(machine, name)?],
        // As xl does it: changed is the first, unless another is named.
        None if changes => vec![pool::of_domain(machine, FIRST_POOL)?],
        None => pool::all(machine)?,
    };
    if changes {
        return set_pools(machine, &pools, wanted, as_json);
    }
    show_pools(machine, &pools, !wanted.schedparam, as_json)
}

fn show_domain(machine: &mut Machine, domain: &Domain, as_json: bool) -> Result<()> {
    let pool = pool::of_domain(machine, domain.info.pool)?;
    let share = share_of(machine, domain, &pool)?;
    if as_json {
        let mut document = describe(domain, share);
        document["pool"] = json!(pool.name);
        document["scheduler"] = json!(pool.pool.scheduler.name());
        output::document(&document);
        return Ok(());
    }
    output::table(&[heading(), row(domain, share)]);
    Ok(())
}

fn set_domain(
    machine: &mut Machine,
    domain: &Domain,
    weight: Option<u32>,
    cap: Option<u32>,
    as_json: bool,
) -> Result<()> {
    let pool = pool::of_domain(machine, domain.info.pool)?;
    check_shares(&pool)?;
    let weight = weight.map(check_weight).transpose()?;
    let cap = cap.map(|cap| check_cap(cap, domain)).transpose()?;
    let scheduler = pool.pool.scheduler;
    let apply = |machine: &mut Machine| {
        let before = machine.hypervisor.domain_share(domain.id(), scheduler)?;
        let share = Share {
            weight: weight.unwrap_or(before.weight),
            cap: cap.unwrap_or(before.cap),
        };
        machine
            .hypervisor
            .set_domain_share(domain.id(), scheduler, share)?;
        Ok(share)
    };
    let share = change(machine, domain, apply, |config| {
        config.scheduling.weight = weight.or(config.scheduling.weight);
        config.scheduling.cap = cap.or(config.scheduling.cap);
    })?;
    if as_json {
        output::document(&describe(domain, Some(share)));
        return Ok(());
    }
    let limit = match share.cap {
        0 => "no cap".to_owned(),
        cap => format!("cap {cap} % of a CPU"),
    };
    output::line(&format!(
        "{} (domain {}): weight {}, {limit}",
        domain.name,
        domain.id(),
        share.weight
    ));
    Ok(())
}

fn check_weight(weight: u32) -> Result<u16> {
    let fits = u16::try_from(weight).ok().filter(|weight| *weight > 0);
    fits.ok_or_else(|| {
        Failure::new(format!("the weight cannot be {weight}"))
            .advise("give one from 1 to 65535; 256 is usual, 512 gets twice as much as that")
    })
}

fn check_cap(cap: u32, domain: &Domain) -> Result<u16> {
    let (vcpus, most) = (domain.max_vcpus(), cap_max(domain.max_vcpus()));
    let fits = u16::try_from(cap).ok().filter(|cap| *cap <= most);
    fits.ok_or_else(|| {
        Failure::new(format!(
            "the cap cannot be {cap}: `{}` has {vcpus} vCPUs",
            domain.name
        ))
        .advise(format!(
            "give one from 0 (no limit) to {most}: per cent of one CPU, 100 for each vCPU"
        ))
    })
}

/// Nothing where the scheduler has no shares, and of a domain that has just gone.
fn share_of(machine: &Machine, domain: &Domain, pool: &NamedPool) -> Result<Option<Share>> {
    let scheduler = pool.pool.scheduler;
    if !scheduler.has_shares() {
        return Ok(None);
    }
    match machine.hypervisor.domain_share(domain.id(), scheduler) {
        Err(error) if error.is_missing() => Ok(None),
        share => Ok(Some(share?)),
    }
}

fn set_pools(machine: &mut Machine, pools: &[NamedPool], wanted: &Sched, as_json: bool) -> Result<()> {
    use scheduler_limit::{RATE_LIMIT_MAX_US, RATE_LIMIT_MIN_US, TIME_SLICE_MAX_MS, TIME_SLICE_MIN_MS};
    if let Some(limit) = wanted.rate_limit
        && limit != 0
        && !(RATE_LIMIT_MIN_US..=RATE_LIMIT_MAX_US).contains(&limit)
    {
        return Err(
            Failure::new(format!("the rate limit cannot be {limit} microseconds")).advise(format!(
                "give one from {RATE_LIMIT_MIN_US} to {RATE_LIMIT_MAX_US}, or 0 for none"
            )),
        );
    }
    if let Some(slice) = wanted.time_slice
        && !(TIME_SLICE_MIN_MS..=TIME_SLICE_MAX_MS).contains(&slice)
    {
        return Err(
            Failure::new(format!("the time slice cannot be {slice} milliseconds")).advise(format!(
                "give one from {TIME_SLICE_MIN_MS} to {TIME_SLICE_MAX_MS}"
            )),
        );
    }
    let mut changes = Vec::new();
    for pool in pools {
        let scheduler = pool.pool.scheduler;
        let mut parameters = machine.hypervisor.pool_parameters(pool.pool.id, scheduler)?;
        for (what, now, wanted) in [
            ("rate limit", &mut parameters.rate_limit_us, wanted.rate_limit),
            ("time slice", &mut parameters.time_slice_ms, wanted.time_slice),
        ] {
            match (now, wanted) {
                (_, None) => {}
                (Some(now), Some(wanted)) => *now = wanted,
                (None, Some(_)) => {
                    return Err(Failure::new(format!(
                        "CPU pool `{}` is scheduled by {}, which has no {what}",
                        pool.name,
                        scheduler.name()
                    ))
                    .advise(
                        "name a pool with another scheduler: -p POOL; `xenolith cpupool-list` shows them",
                    ));
                }
            }
        }
        changes.push((pool.pool.id, scheduler, parameters));
    }
    for (pool, scheduler, parameters) in changes {
        machine
            .hypervisor
            .set_pool_parameters(pool, scheduler, parameters)?;
    }
    show_pools(machine, pools, false, as_json)
}

fn show_pools(machine: &mut Machine, pools: &[NamedPool], with_domains: bool, as_json: bool) -> Result<()> {
    let domains = domain::all(machine)?;
    let mut documents = Vec::new();
    for pool in pools {
        let scheduler = pool.pool.scheduler;
        let parameters = machine.hypervisor.pool_parameters(pool.pool.id, scheduler)?;
        let mut document = json!({
            "pool": pool.pool.id,
            "name": pool.name,
            "scheduler": scheduler.name(),
            "rate_limit_us": parameters.rate_limit_us,
            "time_slice_ms": parameters.time_slice_ms,
            "migration_delay_us": parameters.migration_delay_us,
        });
        let mut rows = vec![heading()];
        let mut inside = Vec::new();
        for domain in domains.iter().filter(|domain| domain.info.pool == pool.pool.id) {
            let share = share_of(machine, domain, pool)?;
            rows.push(row(domain, share));
            inside.push(describe(domain, share));
        }
        if with_domains {
            document["domains"] = Value::Array(inside);
        }
        documents.push(document);
        if !as_json {
            output::line(&headline(pool, &parameters));
        }
        if !as_json && with_domains {
            output::table(&rows);
        }
    }
    if as_json {
        output::document(&Value::Array(documents));
    }
    Ok(())
}

fn headline(pool: &NamedPool, parameters: &PoolParameters) -> String {
    let mut line = format!("{}: {}", pool.name, pool.pool.scheduler.name());
    for (name, value, unit) in [
        ("rate limit", parameters.rate_limit_us, "us"),
        ("time slice", parameters.time_slice_ms, "ms"),
        ("migration delay", parameters.migration_delay_us, "us"),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(", {name} {value} {unit}"));
        }
    }
    line
}

fn heading() -> Vec<String> {
    ["NAME", "ID", "WEIGHT", "CAP"].map(String::from).to_vec()
}

fn row(domain: &Domain, share: Option<Share>) -> Vec<String> {
    let show = |number: Option<u16>| number.map_or("-".to_owned(), |number| number.to_string());
    vec![
        domain.name.clone(),
        domain.id().to_string(),
        show(share.map(|share| share.weight)),
        show(share.map(|share| share.cap)),
    ]
}

fn describe(domain: &Domain, share: Option<Share>) -> Value {
    json!({
        "name": domain.name,
        "domain": domain.id().0,
        "weight": share.map(|share| share.weight),
        "cap": share.map(|share| share.cap),
    })
}
