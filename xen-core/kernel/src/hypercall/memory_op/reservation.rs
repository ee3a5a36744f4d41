//! Giving memory to a domain and taking it back, extent by extent.
//!
//! These operations have no error codes: they answer how many extents were done, and the caller compares.

use alloc::sync::Arc;

use hypercall_abi::memory::{COMMAND_BITS, MemoryReservation, flag, op};
use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::stage_two::EntryKind;

use super::super::{Answer, Call};
use super::{claim, living_target, read_frames, restart, value};
use crate::domain::Domain;
use crate::physmap::REMOVAL_BATCH;

/// Largest extent of a domain that is not privileged: a superpage of 2 MiB.
const MOST_ORDER: u32 = Order::TWO_MIB.value();

/// A checked request.
struct Request<M: Machine> {
    domain: Arc<Domain<M>>,
    /// Address of the array of guest frames.
    frames: u64,
    count: u64,
    order: Order,
}

/// How far a stretch of work came.
enum Progress {
    /// All that can be done is done.
    Ended,
    /// Time is up with work left.
    Cut,
}

/// `XENMEM_populate_physmap`, `XENMEM_decrease_reservation` and `XENMEM_increase_reservation`.
pub fn adjust<M: Machine>(call: &mut Call<'_, M>, operation: u32, start: u64) -> Answer {
    let Some(request) = decode(call, operation, start) else {
        return value(start);
    };
    let mut done = start;
    let progress = match operation {
        op::POPULATE_PHYSMAP => populate(call, &request, &mut done),
        op::DECREASE_RESERVATION => decrease(call, &request, &mut done),
        // More memory without a place in the physmap is of no use to a translated guest: none is given.
        _ => Progress::Ended,
    };
    match progress {
        Progress::Ended => value(done),
        Progress::Cut => restart(call, operation, done),
    }
}

fn decode<M: Machine>(call: &Call<'_, M>, operation: u32, start: u64) -> Option<Request<M>> {
    let request: MemoryReservation = call.read(call.arguments[1]).ok()?;
    if request.number_of_extents > u64::from(u32::MAX >> COMMAND_BITS) || start >= request.number_of_extents {
        return None;
    }
    let domain = living_target(call, request.domain).ok()?;
    let most = if call.domain().privileged {
        Order::ONE_GIB.value()
    } else {
        MOST_ORDER
    };
    if request.extent_order > most {
        return None;
    }
    // Memory is given at once or not at all.
    if operation == op::POPULATE_PHYSMAP && request.memory_flags & flag::POPULATE_ON_DEMAND != 0 {
        return None;
    }
    Some(Request {
        domain,
        frames: request.extent_start.address(),
        count: request.number_of_extents,
        order: Order::new(request.extent_order)?,
    })
}

fn populate<M: Machine>(call: &Call<'_, M>, request: &Request<M>, done: &mut u64) -> Progress {
    let mut frames = [0; REMOVAL_BATCH];
    while *done < request.count {
        let part = (request.count - *done).min(REMOVAL_BATCH as u64) as usize;
        let readable = read_frames(call, request.frames, *done, &mut frames[..part]);
        for &frame in frames.iter().take(readable) {
            if populate_extent(call, request, GuestFrame(frame)).is_none() {
                return Progress::Ended;
            }
            *done = done.saturating_add(1);
            if *done < request.count && call.spent() {
                return Progress::Cut;
            }
        }
        if readable < part {
            return Progress::Ended;
        }
    }
    Progress::Ended
}

fn populate_extent<M: Machine>(call: &Call<'_, M>, request: &Request<M>, at: GuestFrame) -> Option<()> {
    let domain = &request.domain;
    if !domain.may_grow_tables() || domain.is_dying() {
        return None;
    }
    let block = claim::allocate(call.kernel, domain, request.order).ok()?;
    domain.physmap.populate(at, block).ok()
}

fn decrease<M: Machine>(call: &Call<'_, M>, request: &Request<M>, done: &mut u64) -> Progress {
    let mut numbers = [0; REMOVAL_BATCH];
    while *done < request.count {
        // Single pages share a flush; larger extents are cut up one by one.
        let most = if request.order == Order::PAGE {
            REMOVAL_BATCH as u64
        } else {
            1
        };
        let part = (request.count - *done).min(most) as usize;
        let readable = read_frames(call, request.frames, *done, &mut numbers[..part]);
        let removed = if request.order == Order::PAGE {
            let frames = numbers.map(GuestFrame);
            release(call, &request.domain, frames.get(..readable).unwrap_or_default())
        } else {
            let first = numbers.first().filter(|_| readable != 0);
            usize::from(first.is_some_and(|&first| release_extent(call, request, GuestFrame(first))))
        };
        *done = done.saturating_add(removed as u64);
        if removed < part {
            return Progress::Ended;
        }
        if *done < request.count && call.spent() {
            return Progress::Cut;
        }
    }
    Progress::Ended
}

fn release_extent<M: Machine>(call: &Call<'_, M>, request: &Request<M>, first: GuestFrame) -> bool {
    let mut offset = 0;
    while offset < request.order.frames() {
        let part = (request.order.frames() - offset).min(REMOVAL_BATCH as u64);
        let mut frames = [GuestFrame(0); REMOVAL_BATCH];
        for (step, frame) in frames.iter_mut().enumerate() {
            *frame = first.saturating_add(offset).saturating_add(step as u64);
        }
        if release(call, &request.domain, &frames[..part as usize]) < part as usize {
            return false;
        }
        offset += part;
    }
    true
}

/// Take pages out of a domain, up to the first that is not its own to give; says how many.
fn release<M: Machine>(call: &Call<'_, M>, domain: &Domain<M>, frames: &[GuestFrame]) -> usize {
    let may_split = domain.may_grow_tables();
    let mut stopped = false;
    let mut removed = 0;
    domain.physmap.remove_batch(
        call.machine(),
        frames,
        |_, leaf| {
            // Foreign and granted pages go back by the way they came.
            stopped |= !leaf.is_some_and(|leaf| {
                matches!(leaf.kind, EntryKind::Populated | EntryKind::Shared)
                    && (leaf.order == Order::PAGE || may_split)
            });
            !stopped
        },
        |_, page| {
            drop(page);
            removed += 1;
        },
    );
    removed
}
