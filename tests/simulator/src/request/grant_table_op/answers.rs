//! What callers learn of grants that they mapped, copied and swapped.

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{
    Copy as CopyOperation, GrantStatus, MapGrantRef, SwapGrantRef, UnmapGrantRef, copy_flag, map_flag, op,
};

use super::MOST;
use crate::knowledge::{Held, Use};
use crate::request::{Intent, Lesson};

/// Learn from one.
pub fn learn(lesson: &mut Lesson<'_>) {
    let [_, array, count, ..] = lesson.call.arguments;
    let count = (count as u32 as u64).min(MOST as u64);
    match lesson.call.operation {
        op::MAP_GRANT_REF => (0..count).for_each(|index| mapped(lesson, array, index)),
        op::UNMAP_GRANT_REF => (0..count).for_each(|index| unmapped(lesson, array, index)),
        op::COPY => (0..count).for_each(|index| copied(lesson, array, index)),
        op::SWAP_GRANT_REF if lesson.succeeded() => {
            (0..count).for_each(|index| swapped(lesson, array, index))
        }
        _ => {}
    }
}

fn mapped(lesson: &mut Lesson<'_>, array: u64, index: u64) {
    let Some(answer) = lesson.element::<MapGrantRef>(array, index) else {
        return;
    };
    let at = answer.host_address >> 12;
    if answer.status == GrantStatus::OKAY {
        lesson.knowledge.set_frame(at, Use::Grant);
        lesson.knowledge.held.remove(|held| held.handle == answer.handle);
        lesson.knowledge.held.push(Held {
            handle: answer.handle,
            at,
            granter: answer.domain,
            writable: answer.flags & map_flag::READ_ONLY == 0,
        });
        return;
    }
    disappointed(lesson, answer.domain, answer.reference, answer.status);
}

/// An offer that was none: it is forgotten, now and then at least, since others may be wrong about it only for a moment.
fn disappointed(lesson: &mut Lesson<'_>, granter: DomainId, reference: u32, status: GrantStatus) {
    let stale = matches!(
        status,
        GrantStatus::BAD_DOMAIN
            | GrantStatus::BAD_REFERENCE
            | GrantStatus::GENERAL_ERROR
            | GrantStatus::BAD_PAGE
    );
    let valid = lesson.call.intent == Intent::Valid;
    if stale && valid && lesson.numbers.chance(1, 2) {
        let me = lesson.knowledge.id;
        lesson
            .board
            .grants
            .remove(|notice| notice.to == me && (notice.granter, notice.reference) == (granter, reference));
    }
}

fn unmapped(lesson: &mut Lesson<'_>, array: u64, index: u64) {
    let Some(answer) = lesson.element::<UnmapGrantRef>(array, index) else {
        return;
    };
    let at = answer.host_address >> 12;
    match answer.status {
        GrantStatus::OKAY if answer.host_address != 0 => {
            lesson.knowledge.forget_frame(at);
            lesson.knowledge.held.remove(|held| held.handle == answer.handle);
        }
        GrantStatus::BAD_HANDLE => lesson.knowledge.held.remove(|held| held.handle == answer.handle),
        // Something else lies there now: the mapping can be undone by the domain's end only.
        GrantStatus::GENERAL_ERROR if lesson.numbers.chance(1, 4) => {
            lesson
                .knowledge
                .held
                .remove(|held| (held.handle, held.at) == (answer.handle, at));
        }
        _ => {}
    }
}

fn copied(lesson: &mut Lesson<'_>, array: u64, index: u64) {
    let Some(answer) = lesson.element::<CopyOperation>(array, index) else {
        return;
    };
    if answer.status == GrantStatus::OKAY {
        return;
    }
    for (end, flag) in [
        (answer.source, copy_flag::SOURCE_IS_REFERENCE),
        (answer.destination, copy_flag::DESTINATION_IS_REFERENCE),
    ] {
        if answer.flags & flag != 0 {
            disappointed(lesson, end.domain, end.reference(), answer.status);
        }
    }
}

fn swapped(lesson: &mut Lesson<'_>, array: u64, index: u64) {
    let Some(answer) = lesson.element::<SwapGrantRef>(array, index) else {
        return;
    };
    if answer.status != GrantStatus::OKAY {
        return;
    }
    let (first, second, me) = (answer.first, answer.second, lesson.knowledge.id);
    let swap = |reference: &mut u32| {
        if *reference == first {
            *reference = second;
        } else if *reference == second {
            *reference = first;
        }
    };
    lesson
        .knowledge
        .offers
        .iter_mut()
        .for_each(|offer| swap(&mut offer.reference));
    let own = lesson
        .board
        .grants
        .iter_mut()
        .filter(|notice| notice.granter == me);
    own.for_each(|notice| swap(&mut notice.reference));
}
