//! Memory operations: reservations, what lies where in a physmap, memory maps, claims and resources.
//!
//! A command carries its progress in the bits above [`COMMAND_BITS`]: a long operation that is cut puts there how many
//! extents are done and has the guest call again.

pub mod claim;
mod map;
mod placement;
mod query;
mod reservation;
mod resource;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;

use hypercall_abi::memory::{COMMAND_BITS, op};
use hypercall_abi::{DomainId, Error};
use machine::Machine;

use super::{Answer, Call, Outcome};
use crate::domain::Domain;

/// Answer a memory operation.
///
/// # Errors
/// As Xen's for each operation; ENOSYS and EOPNOTSUPP for those not offered.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let command = call.arguments[0];
    let operation = (command & ((1 << COMMAND_BITS) - 1)) as u32;
    let start = command >> COMMAND_BITS;
    match operation {
        op::INCREASE_RESERVATION | op::DECREASE_RESERVATION | op::POPULATE_PHYSMAP => {
            reservation::adjust(call, operation, start)
        }
        op::ADD_TO_PHYSMAP => placement::add(call, start),
        op::ADD_TO_PHYSMAP_BATCH => placement::add_batch(call, start),
        op::ACQUIRE_RESOURCE => resource::acquire(call, start),
        _ if start != 0 => Err(Error::EINVAL),
        _ => at_once(call, operation),
    }
}

/// The operations that are never cut.
fn at_once<M: Machine>(call: &mut Call<'_, M>, operation: u32) -> Answer {
    match operation {
        op::MAXIMUM_RAM_PAGE => value(call.machine().memory().frame_count()),
        op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
            query::of_domain(call, operation)
        }
        op::REMOVE_FROM_PHYSMAP => placement::remove(call),
        op::CLAIM_PAGES => claim::claim(call),
        op::MEMORY_MAP => map::read_own(call),
        op::SET_MEMORY_MAP => map::set(call),
        op::MACHINE_MEMORY_MAP => map::read_machine(call),
        // Nothing is ever shared.
        op::GET_SHARING_FREED_PAGES | op::GET_SHARING_SHARED_PAGES => value(0),
        op::SET_POD_TARGET | op::GET_POD_TARGET => query::populate_on_demand(call),
        op::GET_VNUMAINFO => query::virtual_numa(call),
        op::PAGING_OP | op::ACCESS_OP | op::SHARING_OP => Err(Error::EOPNOTSUPP),
        _ => Err(Error::ENOSYS),
    }
}

fn value(value: u64) -> Answer {
    Ok(Outcome::Value(value))
}

/// Have the guest call again, with `done` extents behind it.
fn restart<M: Machine>(call: &mut Call<'_, M>, operation: u32, done: u64) -> Answer {
    call.arguments[0] = u64::from(operation) | (done << COMMAND_BITS);
    Ok(Outcome::Restart)
}

/// The domain that a memory operation names, if it may be worked on at all: a dying one's memory is going.
fn living_target<M: Machine>(call: &Call<'_, M>, id: DomainId) -> Result<Arc<Domain<M>>, Error> {
    let domain = call.target(id)?;
    if domain.is_dying() {
        Err(Error::ESRCH)
    } else {
        Ok(domain)
    }
}

/// Read elements `index..` of an array of frame numbers; as many as can be read come first in `into`, and are counted.
fn read_frames<M: Machine>(call: &Call<'_, M>, array: u64, index: u64, into: &mut [u64]) -> usize {
    use zerocopy::IntoBytes;
    let at = index.checked_mul(8).and_then(|offset| array.checked_add(offset));
    if at.is_some_and(|at| call.memory().read(at, into.as_mut_bytes()).is_ok()) {
        return into.len();
    }
    for (count, slot) in into.iter_mut().enumerate() {
        match call.read_element(array, index + count as u64) {
            Ok(frame) => *slot = frame,
            Err(_) => return count,
        }
    }
    into.len()
}
