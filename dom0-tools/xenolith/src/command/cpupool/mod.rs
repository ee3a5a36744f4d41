//! `xenolith cpupool-list`, `-create`, `-destroy`, `-rename`, `-cpu-add`, `-cpu-remove`, `-migrate`

mod create;
mod members;

use crate::arguments::Cpupool;
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::output;
use crate::pool::{self, NamedPool};
use control::CpuSet;
use serde_json::{Value, json};

/// Longer names do not fit the store's customs.
const NAME_MAX: usize = 64;

/// Runs a command.
pub fn run(machine: &mut Machine, command: Cpupool, as_json: bool) -> Result<()> {
    match command {
        Cpupool::List { pool, cpus } => list(machine, pool.as_deref(), cpus, as_json),
        Cpupool::Create { settings } => create::create(machine, &settings, as_json),
        Cpupool::Destroy { pool } => create::destroy(machine, &pool, as_json),
        Cpupool::Rename { pool, name } => create::rename(machine, &pool, &name, as_json),
        Cpupool::CpuAdd { pool, cpus } => members::add(machine, &pool, &cpus, as_json),
        Cpupool::CpuRemove { pool, cpus } => members::remove(machine, &pool, &cpus, as_json),
        Cpupool::Migrate { domain, pool } => members::migrate(machine, &domain, &pool, as_json),
    }
}

fn list(machine: &mut Machine, wanted: Option<&str>, with_cpus: bool, as_json: bool) -> Result<()> {
    let pools = match wanted {
        Some(wanted) => vec![pool::find(machine, wanted)?],
        None => pool::all(machine)?,
    };
    if as_json {
        output::document(&Value::Array(pools.iter().map(describe).collect()));
        return Ok(());
    }
    let cpus = if with_cpus { "CPU LIST" } else { "CPUS" };
    let mut rows = vec![
        ["NAME", "ID", cpus, "SCHED", "DOMAINS"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(pools.iter().map(|NamedPool { pool, name }| {
        vec![
            name.clone(),
            pool.id.to_string(),
            match with_cpus {
                true => show(&pool.cpus),
                false => pool.cpus.len().to_string(),
            },
            pool.scheduler.name().to_owned(),
            pool.domains.to_string(),
        ]
    }));
    output::table(&rows);
    Ok(())
}

fn show(cpus: &CpuSet) -> String {
    match cpus.is_empty() {
        true => "none".to_owned(),
        false => cpus.to_string(),
    }
}

fn describe(pool: &NamedPool) -> Value {
    json!({
        "name": pool.name,
        "pool": pool.pool.id,
        "scheduler": pool.pool.scheduler.name(),
        "cpus": pool.pool.cpus.iter().collect::<Vec<_>>(),
        "domains": pool.pool.domains,
    })
}

/// Shows a pool as it is now.
fn done(machine: &mut Machine, pool: u32, what: &str, as_json: bool) -> Result<()> {
    let pool = pool::of_domain(machine, pool)?;
    match as_json {
        true => {
            let mut document = describe(&pool);
            document["done"] = json!(what);
            output::document(&document);
        }
        false => output::line(&format!(
            "{} (pool {}): {what}; {}, CPUs {}",
            pool.name,
            pool.pool.id,
            pool.pool.scheduler.name(),
            show(&pool.pool.cpus)
        )),
    }
    Ok(())
}

/// A name that nobody else has, and that cannot be taken for a number.
fn check_name(machine: &mut Machine, name: &str) -> Result<()> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty()
        || name.len() > NAME_MAX
        || !name.chars().all(allowed)
        || name.chars().all(|letter| letter.is_ascii_digit())
    {
        return Err(
            Failure::new(format!("`{name}` cannot be a CPU pool's name")).advise(format!(
                "use letters, digits, `-`, `_` and `.`, not digits alone, up to {NAME_MAX}"
            )),
        );
    }
    match pool::all(machine)?.iter().find(|pool| pool.name == name) {
        Some(pool) => Err(Failure::new(format!(
            "there is a CPU pool `{name}` already (number {})",
            pool.pool.id
        ))
        .advise("choose another name")),
        None => Ok(()),
    }
}
