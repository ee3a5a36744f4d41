//! CPU pools: processors with a scheduler of their own, and the domains that run there.

use crate::DomainId;
use crate::cpu_set::{CpuSet, PlacedSet, SET_ROOM};
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use crate::scheduling::Scheduler;
use crate::system::SYSCTL_ROOM;
use hypercall_abi::sysctl::{CpupoolOp, cpupool, op};

/// A pool.
#[doc(alias = "cpupool")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its number.
    pub id: u32,
    /// What decides in it.
    pub scheduler: Scheduler,
    /// Its processors.
    pub cpus: CpuSet,
    /// Domains in it.
    pub domains: u32,
}

/// The pool that there is from the start, with the control domain.
pub const FIRST_POOL: u32 = 0;

impl Hypervisor {
    /// All pools, in the order of their numbers.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_INFO")]
    pub fn pools(&self) -> Result<Vec<Pool>> {
        let mut pools: Vec<Pool> = Vec::new();
        let mut next = Some(FIRST_POOL);
        while let Some(first) = next {
            let Some(pool) = self.pool_from(first)? else { break };
            // A hypervisor that answers with an earlier one would be asked for ever.
            next = pool.id.checked_add(1).filter(|_| pool.id >= first);
            pools.push(pool);
        }
        Ok(pools)
    }

    /// The first pool whose number is at least this one.
    fn pool_from(&self, first: u32) -> Result<Option<Pool>> {
        let request = CpupoolOp {
            operation: cpupool::INFO,
            pool: first,
            ..Default::default()
        };
        match self.pool_op("get CPU pool", request) {
            Ok((reply, cpus)) => Ok(Some(Pool {
                id: reply.pool,
                scheduler: Scheduler::from_number(reply.scheduler),
                cpus,
                domains: reply.number_of_domains,
            })),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Processors that are in no pool.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_FREEINFO")]
    pub fn free_cpus(&self) -> Result<CpuSet> {
        let request = CpupoolOp {
            operation: cpupool::FREE_INFO,
            ..Default::default()
        };
        Ok(self.pool_op("get free CPUs", request)?.1)
    }

    /// All processors that are online: each is in a pool or free.
    pub fn online_cpus(&self) -> Result<CpuSet> {
        let pools = self.pools()?;
        let free = self.free_cpus()?;
        Ok(pools.iter().fold(free, |all, pool| all.union(&pool.cpus)))
    }

    /// Makes a pool without processors; answers its number.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_CREATE")]
    pub fn create_pool(&self, scheduler: Scheduler) -> Result<u32> {
        let request = CpupoolOp {
            operation: cpupool::CREATE,
            pool: cpupool::ANY,
            scheduler: scheduler.number(),
            ..Default::default()
        };
        Ok(self.pool_op("create CPU pool", request)?.0.pool)
    }

    /// Removes a pool without processors and domains.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_DESTROY")]
    pub fn destroy_pool(&self, pool: u32) -> Result<()> {
        let request = CpupoolOp {
            operation: cpupool::DESTROY,
            pool,
            ..Default::default()
        };
        self.pool_op("destroy CPU pool", request).map(drop)
    }

    /// Gives a pool a processor that is in none.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_ADDCPU")]
    pub fn add_cpu_to_pool(&self, pool: u32, cpu: u32) -> Result<()> {
        let request = CpupoolOp {
            operation: cpupool::ADD_CPU,
            pool,
            cpu,
            ..Default::default()
        };
        self.pool_op("add CPU to pool", request).map(drop)
    }

    /// Takes a processor from a pool.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_RMCPU")]
    pub fn remove_cpu_from_pool(&self, pool: u32, cpu: u32) -> Result<()> {
        let request = CpupoolOp {
            operation: cpupool::REMOVE_CPU,
            pool,
            cpu,
            ..Default::default()
        };
        self.pool_op("remove CPU from pool", request).map(drop)
    }

    /// Moves a domain to another pool.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN")]
    pub fn move_domain_to_pool(&self, pool: u32, domain: DomainId) -> Result<()> {
        let request = CpupoolOp {
            operation: cpupool::MOVE_DOMAIN,
            pool,
            domain: domain.0.into(),
            ..Default::default()
        };
        self.pool_op("move domain to CPU pool", request).map(drop)
    }

    fn pool_op(&self, operation: &'static str, mut request: CpupoolOp) -> Result<(CpupoolOp, CpuSet)> {
        self.with_arguments(SET_ROOM + SYSCTL_ROOM, |arguments| {
            let cpus = PlacedSet::new(arguments, &CpuSet::new());
            request.cpus = cpus.bitmap();
            // SAFETY: the structure is this command's; the bitmap is placed and as long as it says.
            unsafe { self.sysctl(operation, op::CPUPOOL_OP, &mut request, arguments) }?;
            Ok((request, cpus.get(arguments)))
        })
    }
}
