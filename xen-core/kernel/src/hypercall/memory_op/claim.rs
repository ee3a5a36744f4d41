//! Frames set aside, and frames given: the one way by which a running system's domains come to memory.
//!
//! A claim keeps free memory from being given to others until its domain has populated as much. While a block is being
//! taken it counts as claimed, so that two domains never both count on the same free frames.

use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::memory::MemoryReservation;
use machine::Machine;
use machine::address::Order;
use machine::memory::{FrameReference, FrameUse};

use super::super::{Answer, Call, DONE};
use crate::Kernel;
use crate::domain::Domain;

/// Most frames that are never given to domains.
const MOST_RESERVED: u64 = 1024;
/// One frame of so many is never given, up to that.
const SHARE_RESERVED: u64 = 256;

/// Free frames that domains may have. A little is kept for the core: its tables and its heap grow as guests use what they
/// have, and not all of that growth can be refused.
pub fn available<M: Machine>(kernel: &Kernel<M>) -> u64 {
    let memory = kernel.machine.memory();
    let reserved = (memory.total_frames() / SHARE_RESERVED).min(MOST_RESERVED);
    memory.free_frames().saturating_sub(reserved)
}

/// `XENMEM_claim_pages`: set aside what `domain` lacks to a number of frames in all; zero gives the claim up.
pub fn claim<M: Machine>(call: &Call<'_, M>) -> Answer {
    let request: MemoryReservation = call.read(call.arguments[1])?;
    if !request.extent_start.is_null() || request.extent_order != 0 || request.memory_flags != 0 {
        return Err(Error::EINVAL);
    }
    // This operation does not know "the caller itself", and says EINVAL for a domain that is not there.
    let domain = call.kernel.domains.get(request.domain).ok_or(Error::EINVAL)?;
    call.require_privilege()?;
    set_claim(call.kernel, &domain, request.number_of_extents)?;
    DONE
}

fn set_claim<M: Machine>(kernel: &Kernel<M>, domain: &Domain<M>, pages: u64) -> Result<(), Error> {
    if pages == 0 {
        cancel(kernel, domain);
        return Ok(());
    }
    // Held, so that no claim is made after the domain's end has given up the one there was.
    let lifecycle = domain.lifecycle.lock();
    let mut total = kernel.domains.claims.lock();
    let owned = domain.owned_pages(&kernel.machine);
    let claimed = domain.claimed.load(Ordering::Relaxed);
    if lifecycle.dying || claimed != 0 || pages <= owned || pages > domain.max_pages.load(Ordering::Relaxed) {
        return Err(Error::EINVAL);
    }
    let wanted = pages - owned;
    if wanted > available(kernel).saturating_sub(*total) {
        return Err(Error::ENOMEM);
    }
    domain.claimed.store(wanted, Ordering::Relaxed);
    *total = total.saturating_add(wanted);
    Ok(())
}

/// Give up a domain's claim: on request, and once it is marked as dying.
pub fn cancel<M: Machine>(kernel: &Kernel<M>, domain: &Domain<M>) {
    let mut total = kernel.domains.claims.lock();
    *total = total.saturating_sub(domain.claimed.swap(0, Ordering::Relaxed));
}

/// A block of memory for a domain: within its allowance, and not out of what others have claimed.
///
/// # Errors
/// ENOMEM.
pub fn allocate<M: Machine>(
    kernel: &Kernel<M>,
    domain: &Domain<M>,
    order: Order,
) -> Result<FrameReference, Error> {
    let memory = kernel.machine.memory();
    let frames = order.frames();
    let allowance = domain.max_pages.load(Ordering::Relaxed);
    if domain.owned_pages(&kernel.machine).saturating_add(frames) > allowance {
        return Err(Error::ENOMEM);
    }
    let covered = set_aside(kernel, domain, frames)?;
    let block = memory.allocate(domain.id.0, FrameUse::Ram, order);
    // Two vCPUs may have found room for one block only: whoever sees the allowance exceeded gives its own back.
    let block = block.filter(|_| domain.owned_pages(&kernel.machine) <= allowance);
    settle(kernel, domain, frames, if block.is_none() { covered } else { 0 });
    block.ok_or(Error::ENOMEM)
}

/// The block is taken, or not to be had: its frames count as claimed no longer, except those that the domain had claimed
/// and gets `back`.
fn settle<M: Machine>(kernel: &Kernel<M>, domain: &Domain<M>, frames: u64, back: u64) {
    // A domain that began to die has given its claim up already.
    let lifecycle = (back != 0).then(|| domain.lifecycle.lock());
    let back = if lifecycle.as_ref().is_some_and(|lifecycle| !lifecycle.dying) {
        back
    } else {
        0
    };
    let mut total = kernel.domains.claims.lock();
    domain.claimed.fetch_add(back, Ordering::Relaxed);
    *total = total.saturating_sub(frames - back);
}

/// Turn `frames` free frames into claimed ones, out of the domain's own claim as far as that goes; says how far.
fn set_aside<M: Machine>(kernel: &Kernel<M>, domain: &Domain<M>, frames: u64) -> Result<u64, Error> {
    let mut total = kernel.domains.claims.lock();
    let claimed = domain.claimed.load(Ordering::Relaxed);
    let others = total.saturating_sub(claimed);
    if frames > available(kernel).saturating_sub(others) {
        return Err(Error::ENOMEM);
    }
    let covered = claimed.min(frames);
    domain.claimed.store(claimed - covered, Ordering::Relaxed);
    *total = total.saturating_add(frames - covered);
    Ok(covered)
}
