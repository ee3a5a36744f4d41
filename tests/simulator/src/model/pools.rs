//! Pools of processors, and what their schedulers are told.

use std::collections::BTreeMap;

use hypercall_abi::domctl::{Domctl, SchedCredit2, SchedulerOp, scheduler, scheduler_command};
use hypercall_abi::sysctl::{
    CpupoolOp, SchedCredit2 as PoolCredit2, SchedulerOp as PoolSchedulerOp, Sysctl, cpupool,
    scheduler_command as pool_command,
};
use hypercall_abi::{Error, payload};

use super::control::Handled;
use super::{Model, Refusal};

const MOST_POOLS: u32 = 64;
const MOST_RATELIMIT: u32 = 500_000;
const LEAST_RATELIMIT: u32 = 100;

/// A pool.
#[derive(Clone, Default)]
pub struct Pool {
    /// Xen's number of its scheduler.
    pub scheduler: u32,
    /// A bit for each of its processors.
    pub processors: u64,
    /// Microseconds.
    pub ratelimit: u32,
}

/// The pools at the start: one, with all processors.
pub fn at_the_start(processors: u32) -> BTreeMap<u32, Pool> {
    let all = Pool {
        scheduler: scheduler::CREDIT2,
        processors: u64::MAX >> (64 - processors.min(64)),
        ratelimit: 0,
    };
    BTreeMap::from([(0, all)])
}

impl Model {
    fn free_processors(&self) -> u64 {
        let taken = self.pools.values().fold(0, |taken, pool| taken | pool.processors);
        self.all_processors() & !taken
    }

    fn domains_in(&self, pool: u32) -> Vec<u16> {
        let inside = self.domains.iter().filter(|(_, domain)| domain.pool == pool);
        inside.map(|(number, _)| *number).collect()
    }

    /// The processors of a domain's pool.
    pub(super) fn processors_of(&self, domain: u16) -> u64 {
        self.pools[&self.at(domain).pool].processors
    }

    /// vCPUs that may run nowhere in their pool may run on all of it.
    fn mend(&mut self, domain: u16) {
        let processors = self.processors_of(domain);
        for vcpu in &mut self.at_mut(domain).vcpus {
            if vcpu.hard_affinity & processors == 0 {
                vcpu.hard_affinity = u64::MAX;
            }
        }
    }

    pub(super) fn cpupool_op(&mut self, argument: u64, request: &Sysctl) -> Result<CpupoolOp, Refusal> {
        let mut wanted: CpupoolOp = request.view();
        let any = |number: u32| (number != cpupool::ANY).then_some(number);
        match wanted.operation {
            cpupool::CREATE => {
                if ![scheduler::CREDIT2, scheduler::NULL].contains(&wanted.scheduler) {
                    return Err(Error::ENOENT.into());
                }
                self.write(argument, request)?;
                let number = match any(wanted.pool) {
                    Some(number) if number >= MOST_POOLS => return Err(Error::ENOSPC.into()),
                    Some(number) if self.pools.contains_key(&number) => return Err(Error::EEXIST.into()),
                    Some(number) => number,
                    None => (0..MOST_POOLS)
                        .find(|number| !self.pools.contains_key(number))
                        .ok_or(Error::ENOSPC)?,
                };
                let pool = Pool {
                    scheduler: wanted.scheduler,
                    ..Pool::default()
                };
                self.pools.insert(number, pool);
                wanted.pool = number;
            }
            cpupool::DESTROY => {
                let pool = self.pools.get(&wanted.pool).ok_or(Error::ENOENT)?;
                if wanted.pool == 0 || pool.processors != 0 || !self.domains_in(wanted.pool).is_empty() {
                    return Err(Error::EBUSY.into());
                }
                self.pools.remove(&wanted.pool);
            }
            cpupool::INFO => {
                let (number, pool) = self.pools.range(wanted.pool..).next().ok_or(Error::ENOENT)?;
                self.write_bitmap(&wanted.cpus, pool.processors)?;
                (wanted.pool, wanted.scheduler) = (*number, pool.scheduler);
                wanted.number_of_domains = self.domains_in(wanted.pool).len() as u32;
            }
            cpupool::ADD_CPU => {
                let free = self.free_processors();
                if !self.pools.contains_key(&wanted.pool) {
                    return Err(Error::ENOENT.into());
                }
                let processor = match any(wanted.cpu) {
                    Some(processor) if processor >= self.told.processors => {
                        return Err(Error::EINVAL.into());
                    }
                    Some(processor) if free & (1 << processor) == 0 => return Err(Error::EBUSY.into()),
                    Some(processor) => processor,
                    None if free == 0 => return Err(Error::ENODEV.into()),
                    None => free.trailing_zeros(),
                };
                self.pools
                    .entry(wanted.pool)
                    .and_modify(|pool| pool.processors |= 1 << processor);
            }
            cpupool::REMOVE_CPU => {
                let members = self.pools.get(&wanted.pool).ok_or(Error::ENOENT)?.processors;
                let processor = match any(wanted.cpu) {
                    Some(processor) => processor,
                    None => members.checked_ilog2().ok_or(Error::EINVAL)?,
                };
                if processor >= 64 || members & (1 << processor) == 0 {
                    return Err(Error::EINVAL.into());
                }
                let domains = self.domains_in(wanted.pool);
                if members == 1 << processor && !domains.is_empty() {
                    return Err(Error::EBUSY.into());
                }
                self.pools
                    .entry(wanted.pool)
                    .and_modify(|pool| pool.processors &= !(1 << processor));
                domains.into_iter().for_each(|domain| self.mend(domain));
            }
            cpupool::MOVE_DOMAIN => {
                let number = u16::try_from(wanted.domain).map_err(|_| Error::ESRCH)?;
                let domain = self.domains.get(&number).ok_or(Error::ESRCH)?;
                if domain.privileged {
                    return Err(Error::EINVAL.into());
                }
                let pool = self.pools.get(&wanted.pool).ok_or(Error::ENOENT)?;
                if pool.processors == 0 {
                    return Err(Error::ENOENT.into());
                }
                if domain.pool != wanted.pool {
                    self.at_mut(number).pool = wanted.pool;
                    self.mend(number);
                }
            }
            cpupool::FREE_INFO => self.write_bitmap(&wanted.cpus, self.free_processors())?,
            _ => return Err(Error::ENOSYS.into()),
        }
        Ok(wanted)
    }

    pub(super) fn pool_scheduler_op(
        &mut self,
        mut wanted: PoolSchedulerOp,
    ) -> Result<PoolSchedulerOp, Error> {
        let pool = self.pools.get_mut(&wanted.pool).ok_or(Error::ESRCH)?;
        if pool.scheduler != wanted.scheduler {
            return Err(Error::EINVAL);
        }
        if pool.scheduler == scheduler::NULL {
            return Err(Error::EOPNOTSUPP);
        }
        match wanted.command {
            pool_command::GET_INFO => {
                let parameters = PoolCredit2 {
                    rate_limit_us: pool.ratelimit,
                };
                payload::write(&mut wanted.parameters, &parameters);
            }
            pool_command::PUT_INFO => {
                let PoolCredit2 { rate_limit_us } = payload::read(&wanted.parameters);
                if rate_limit_us != 0 && !(LEAST_RATELIMIT..=MOST_RATELIMIT).contains(&rate_limit_us) {
                    return Err(Error::EINVAL);
                }
                pool.ratelimit = rate_limit_us;
            }
            _ => return Err(Error::EINVAL),
        }
        Ok(wanted)
    }

    /// A domain's weight and cap.
    pub(super) fn scheduler_op(&mut self, number: u16, request: &mut Domctl) -> Handled {
        let mut wanted: SchedulerOp = request.view();
        let pool = &self.pools[&self.at(number).pool];
        if wanted.scheduler != pool.scheduler {
            return Err(Error::EINVAL.into());
        }
        let domain = self.at_mut(number);
        match wanted.command {
            _ if wanted.scheduler == scheduler::NULL => Err(Error::EOPNOTSUPP.into()),
            scheduler_command::GET_INFO => {
                let (weight, cap) = domain.share;
                payload::write(&mut wanted.parameters, &SchedCredit2 { weight, cap });
                request.set_view(&wanted);
                Ok(true)
            }
            scheduler_command::PUT_INFO => {
                let SchedCredit2 { weight, cap } = payload::read(&wanted.parameters);
                if weight == 0 || usize::from(cap) > 100 * domain.vcpus.len() {
                    return Err(Error::EINVAL.into());
                }
                domain.share = (weight, cap);
                Ok(false)
            }
            _ => Err(Error::EOPNOTSUPP.into()),
        }
    }
}
