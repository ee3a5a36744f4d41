//! CPU pools as users see them: by name.

use crate::failure::{Failure, Result};
use crate::machine::Machine;
use control::{DomainId, Pool};
use rustix::io::Errno;
use std::thread::sleep;
use std::time::Duration;

/// A pool and its name.
pub struct NamedPool {
    /// What the hypervisor knows.
    pub pool: Pool,
    /// Its name.
    pub name: String,
}

/// Where a pool's entries in the store are.
pub fn pool_path(pool: u32) -> String {
    format!("/local/pool/{pool}")
}

/// All pools.
pub fn all(machine: &mut Machine) -> Result<Vec<NamedPool>> {
    let pools = machine.hypervisor.pools()?;
    pools.into_iter().map(|pool| named(machine, pool)).collect()
}

fn named(machine: &mut Machine, pool: Pool) -> Result<NamedPool> {
    let stored = machine.store.read(&format!("{}/name", pool_path(pool.id)))?;
    let name = stored.filter(|name| !name.is_empty());
    Ok(NamedPool {
        name: name.unwrap_or_else(|| format!("Pool-{}", pool.id)),
        pool,
    })
}

/// The pool with this name or number.
pub fn find(machine: &mut Machine, wanted: &str) -> Result<NamedPool> {
    let pools = all(machine)?;
    let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    let names = names.join(", ");
    let number = wanted.parse().ok();
    let mut candidates = pools.into_iter();
    let found = candidates.find(|pool| pool.name == wanted || Some(pool.pool.id) == number);
    found.ok_or_else(|| {
        Failure::new(format!("there is no CPU pool `{wanted}`")).advise(format!("there is: {names}"))
    })
}

/// The pool that a domain runs in.
pub fn of_domain(machine: &mut Machine, pool: u32) -> Result<NamedPool> {
    let found = all(machine)?
        .into_iter()
        .find(|candidate| candidate.pool.id == pool);
    found.ok_or_else(|| Failure::new(format!("CPU pool {pool} is gone")).advise("try again"))
}

/// The names of the domains in a pool.
pub fn members(machine: &mut Machine, pool: u32) -> Result<Vec<(DomainId, String)>> {
    let domains = crate::domain::all(machine)?;
    let members = domains.into_iter().filter(|domain| domain.info.pool == pool);
    Ok(members.map(|domain| (domain.id(), domain.name)).collect())
}

/// The hypervisor may need a moment until nothing of the pool runs on the processor; until it is done, it takes no other request of this kind.
const REMOVE_TRIES: u32 = 50;
const REMOVE_INTERVAL: Duration = Duration::from_millis(50);

/// Takes a processor from a pool, with some patience.
pub fn remove_cpu(machine: &Machine, pool: u32, cpu: u32) -> control::Result<()> {
    let mut tries = 0;
    loop {
        match machine.hypervisor.remove_cpu_from_pool(pool, cpu) {
            Err(error) if error.errno == Errno::AGAIN && tries < REMOVE_TRIES => sleep(REMOVE_INTERVAL),
            outcome => return outcome,
        }
        tries += 1;
    }
}
