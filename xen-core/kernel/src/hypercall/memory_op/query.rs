//! Figures of a domain's memory.

use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::memory::{MemoryDomain, PodTarget, VnumaTopologyInfo, op};
use machine::Machine;

use super::super::{Answer, Call, DONE};
use super::value;

/// Frames a domain has, may have, or the highest one it maps.
pub fn of_domain<M: Machine>(call: &Call<'_, M>, operation: u32) -> Answer {
    let request: MemoryDomain = call.read(call.arguments[1])?;
    let domain = call.target(request.domain)?;
    value(match operation {
        op::CURRENT_RESERVATION => domain.owned_pages(call.machine()),
        op::MAXIMUM_RESERVATION => domain.max_pages.load(Ordering::Relaxed),
        _ => domain.physmap.highest().map_or(0, |frame| frame.0),
    })
}

/// The targets of populate-on-demand. Nothing here is populated on demand, so there is never anything to move, and the
/// figures say so; toolstacks set a target with every change of a domain's size.
pub fn populate_on_demand<M: Machine>(call: &Call<'_, M>) -> Answer {
    let mut request: PodTarget = call.read(call.arguments[1])?;
    let domain = call.target(request.domain)?;
    call.require_privilege()?;
    request.total_pages = domain.owned_pages(call.machine());
    request.pod_cache_pages = 0;
    request.pod_entries = 0;
    call.write(call.arguments[1], &request)?;
    DONE
}

/// The virtual NUMA topology: no domain has one.
pub fn virtual_numa<M: Machine>(call: &Call<'_, M>) -> Answer {
    let request: VnumaTopologyInfo = call.read(call.arguments[1])?;
    if request._padding != 0 {
        return Err(Error::EINVAL);
    }
    call.target(request.domain)?;
    Err(Error::EOPNOTSUPP)
}
