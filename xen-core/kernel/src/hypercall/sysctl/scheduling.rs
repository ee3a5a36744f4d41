//! Pools of processors, and what their schedulers can be told.

use hypercall_abi::sysctl::{
    CpupoolOp, SchedCredit2, SchedulerOp, Sysctl, cpupool, scheduler_command, scheduler_limit,
};
use hypercall_abi::{DomainId, Error, payload};
use machine::Machine;
use machine::sync::atomic::Ordering;

use super::super::domctl::write_bitmap;
use crate::hypercall::Call;
use crate::schedule::policy::PolicyKind;

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// `XEN_SYSCTL_cpupool_op`.
pub fn pools<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: CpupoolOp = request.view();
    let kernel = call.kernel;
    let any = |number: u32| (number != cpupool::ANY).then_some(number);
    let processor = any(wanted.cpu).map(|number| number as usize);
    match wanted.operation {
        cpupool::CREATE => {
            let kind = PolicyKind::from_number(wanted.scheduler).ok_or(Error::ENOENT)?;
            // The answer has its place, or nothing is made.
            call.write(call.arguments[0], request)?;
            wanted.pool = kernel.create_pool(any(wanted.pool), kind)?;
        }
        cpupool::DESTROY => kernel.destroy_pool(wanted.pool)?,
        cpupool::INFO => {
            let (number, pool) = kernel.pools.at_or_after(wanted.pool).ok_or(Error::ENOENT)?;
            let kind = pool.kind().ok_or(Error::ENOENT)?;
            write_bitmap(call, &wanted.cpus, &pool.processors.load())?;
            wanted.pool = number;
            wanted.scheduler = kind.number();
            wanted.number_of_domains = kernel.domains_in_pool(number);
        }
        cpupool::ADD_CPU => kernel.add_to_pool(wanted.pool, processor)?,
        cpupool::REMOVE_CPU => kernel.remove_from_pool(wanted.pool, processor)?,
        cpupool::MOVE_DOMAIN => {
            let domain = u16::try_from(wanted.domain).map_err(|_| Error::ESRCH)?;
            let target = kernel.domains.get(DomainId(domain)).ok_or(Error::ESRCH)?;
            // The control domain stays where its tools are.
            if target.privileged {
                return Err(Error::EINVAL);
            }
            kernel.move_to_pool(&target, wanted.pool)?;
        }
        cpupool::FREE_INFO => write_bitmap(call, &wanted.cpus, &kernel.free_processors())?,
        _ => return Err(Error::ENOSYS),
    }
    request.set_view(&wanted);
    Ok(())
}

/// `XEN_SYSCTL_scheduler_op`: of credit2's parameters, the least time before a preemption.
pub fn parameters<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: SchedulerOp = request.view();
    let pool = call.kernel.pools.get(wanted.pool).ok_or(Error::ESRCH)?;
    let kind = pool.kind().ok_or(Error::ESRCH)?;
    if kind.number() != wanted.scheduler {
        return Err(Error::EINVAL);
    }
    if kind == PolicyKind::Pinned {
        return Err(Error::EOPNOTSUPP);
    }
    match wanted.command {
        scheduler_command::PUT_INFO => {
            let parameters: SchedCredit2 = payload::read(&wanted.parameters);
            let least = parameters.rate_limit_us;
            let limits = scheduler_limit::RATE_LIMIT_MIN_US..=scheduler_limit::RATE_LIMIT_MAX_US;
            if least != 0 && !limits.contains(&least) {
                return Err(Error::EINVAL);
            }
            let least = u64::from(least).saturating_mul(NANOSECONDS_PER_MICROSECOND);
            call.kernel.set_ratelimit(wanted.pool, least)?;
        }
        scheduler_command::GET_INFO => {
            let least = pool.ratelimit.load(Ordering::Relaxed) / NANOSECONDS_PER_MICROSECOND;
            let parameters = SchedCredit2 {
                rate_limit_us: least as u32,
            };
            payload::write(&mut wanted.parameters, &parameters);
        }
        _ => return Err(Error::EINVAL),
    }
    request.set_view(&wanted);
    Ok(())
}
