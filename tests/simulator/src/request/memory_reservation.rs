//! Memory that a domain gets and gives back, extent by extent, and claims to it.

use hypercall_abi::memory::{MemoryReservation, flag, op};
use hypercall_abi::{DomainId, GuestHandle};

use super::memory_op::target;
use super::{Lesson, Maker};
use crate::knowledge::Use;

const MOST: usize = 300;
/// The largest extent that is kept in mind.
const MOST_ORDER: u32 = 10;

/// The argument of an operation on extents.
pub fn argument(maker: &mut Maker<'_>, operation: u32) -> u64 {
    let mut order = if maker.numbers.chance(1, 8) {
        maker.numbers.pick(&[1, 2, 3, 1, 2, 9, 9, 10])
    } else {
        0
    };
    // Giving back, of an extent that there is: all of it mostly, or some pages.
    let extent = maker
        .knowledge
        .extents
        .pick(maker.numbers)
        .filter(|_| operation == op::DECREASE_RESERVATION && maker.numbers.chance(1, 4));
    if let Some((_, whole)) = extent {
        order = maker.numbers.pick(&[whole, whole, 0, 1]);
    }
    let below = maker.knowledge.extents.pick(maker.numbers);
    let below = below.filter(|_| extent.is_none() && maker.numbers.chance(1, 2));
    let domain = target(maker);
    let length = maker.numbers.length(if order == 0 { MOST } else { 2 });
    // Giving back goes on for a while, and so does getting, so that both find work.
    let what = if operation == op::DECREASE_RESERVATION {
        Use::Memory
    } else {
        Use::Hole
    };
    // What was lost comes back first.
    let lost = maker
        .knowledge
        .frames
        .lost()
        .filter(|_| what == Use::Hole && maker.numbers.chance(3, 4));
    let start = lost.unwrap_or_else(|| maker.frame_of(what));
    let mut frames: heapless::Vec<u64, MOST> = heapless::Vec::new();
    for step in 0..length as u64 {
        let valid = match order {
            _ if extent.is_some_and(|(_, whole)| whole >= order) => {
                let (first, whole) = extent.unwrap_or_default();
                first.wrapping_add(maker.numbers.below(1 << (whole - order)) << order)
            }
            // One after the other, as far as they are alike.
            0 if maker.knowledge.frames.get(start + step) == Some(what) => start + step,
            0 => maker.frame_of(what),
            // Superpages lie far up, where nobody is in their way.
            9 => (16 + maker.numbers.below(16)) << 9,
            10 => maker.numbers.pick(&[0, 16 << 9, 18 << 9]),
            // Right before another one, or before that one's second half.
            _ if below.is_some() => {
                let (first, other) = below.unwrap_or_default();
                let middle = if maker.numbers.chance(1, 4) {
                    (1 << other) / 2
                } else {
                    0
                };
                first.wrapping_add(middle).wrapping_sub(1 << order)
            }
            // Close together, so that each has neighbours.
            _ => 1024 + (maker.numbers.below(16) << order),
        };
        let frame = if length > 16 && !maker.numbers.chance(1, 16) {
            valid
        } else {
            maker.frame(valid)
        };
        // There is room: the length is bounded.
        let _ = frames.push(frame);
    }
    let list = maker.array(&frames);
    let number_of_extents = maker.number(length as u64);
    let extent_order = maker.number32(order);
    let memory_flags = if maker.wrong() {
        maker
            .numbers
            .pick(&[flag::POPULATE_ON_DEMAND, flag::EXACT_NODE_REQUEST, 32, u32::MAX])
    } else {
        0
    };
    maker.structure(&MemoryReservation {
        extent_start: GuestHandle::new(list),
        number_of_extents,
        extent_order,
        memory_flags,
        domain,
        ..MemoryReservation::default()
    })
}

/// The argument of a claim.
pub fn claim(maker: &mut Maker<'_>) -> u64 {
    let peer = maker.peer();
    let domain = maker.domain(peer);
    let most = maker.board.domain(peer).map_or(32, |notice| notice.pages);
    let valid = if maker.numbers.chance(1, 2) {
        0
    } else {
        maker.numbers.within(1, most + 32)
    };
    let number_of_extents = maker.number(valid);
    let (extent_order, memory_flags) = (maker.zero() as u32, maker.zero() as u32);
    maker.structure(&MemoryReservation {
        number_of_extents,
        extent_order,
        memory_flags,
        domain,
        ..MemoryReservation::default()
    })
}

/// Learn which extents were done.
pub fn learn(lesson: &mut Lesson<'_>) {
    let Some(request) = lesson.value::<MemoryReservation>(lesson.call.arguments[1]) else {
        return;
    };
    let own = request.domain == DomainId::SELF || request.domain == lesson.knowledge.id;
    if !own {
        return;
    }
    let done = u64::try_from(lesson.result).unwrap_or(0).min(MOST as u64);
    let list = request.extent_start.address();
    if request.extent_order != 0 {
        for index in 0..done.min(2) {
            let Some(first) = lesson.element::<u64>(list, index) else {
                return;
            };
            let extents = &mut lesson.knowledge.extents;
            extents.remove(|&(other, _)| other == first);
            if lesson.call.operation == op::POPULATE_PHYSMAP && request.extent_order <= MOST_ORDER {
                extents.push((first, request.extent_order));
            }
        }
        return;
    }
    for index in 0..done {
        let Some(frame) = lesson.element::<u64>(list, index) else {
            return;
        };
        if lesson.call.operation == op::POPULATE_PHYSMAP {
            lesson.knowledge.set_frame(frame, Use::Memory);
        } else {
            lesson.knowledge.forget_frame(frame);
        }
    }
    // The one that was refused is not what it was thought to be.
    let Some(frame) = lesson.element::<u64>(list, done) else {
        return;
    };
    if done < request.number_of_extents && lesson.call.operation == op::DECREASE_RESERVATION {
        if lesson.knowledge.frames.get(frame) == Some(Use::Memory) {
            lesson.knowledge.frames.set(frame, Use::Hole);
        }
    } else if done < request.number_of_extents
        && done > 0
        && lesson.knowledge.frames.get(frame) == Some(Use::Hole)
    {
        lesson.knowledge.frames.set(frame, Use::Memory);
    }
}
