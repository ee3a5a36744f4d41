//! What is put at a guest frame and taken away: shared pages, others' memory, resources.

use hypercall_abi::memory::{
    AcquireResource, AddToPhysmap, AddToPhysmapBatch, GRANT_TABLE_STATUS_INDEX, RemoveFromPhysmap,
    grant_table_resource, map_space, op, resource,
};
use hypercall_abi::{DomainId, Error, GuestHandle};

use super::memory_op::target;
use super::{Lesson, Maker};
use crate::knowledge::{TABLE_FRAMES, Use};

const MOST: usize = 280;

/// Where something is to be put: a hole mostly.
fn place(maker: &mut Maker<'_>) -> u64 {
    let what = if maker.numbers.chance(1, 12) {
        Use::Memory
    } else {
        Use::Hole
    };
    let valid = maker.frame_of(what);
    maker.frame(valid)
}

fn index_of(maker: &mut Maker<'_>, space: u32) -> u64 {
    match space {
        map_space::GRANT_TABLE => {
            let valid = maker.numbers.below(3);
            if maker.wrong() {
                maker.numbers.pick(&[
                    63,
                    64,
                    GRANT_TABLE_STATUS_INDEX,
                    GRANT_TABLE_STATUS_INDEX | 1,
                    u64::MAX,
                ])
            } else {
                valid
            }
        }
        map_space::GMFN => {
            let valid = maker.frame_of(Use::Memory);
            maker.frame(valid)
        }
        _ => maker.zero(),
    }
}

/// The argument of a placement.
pub fn add(maker: &mut Maker<'_>) -> u64 {
    let valid = maker.numbers.weighted(&[
        (map_space::SHARED_INFO, 2),
        (map_space::GRANT_TABLE, 5),
        (map_space::GMFN, 4),
    ]);
    let space = if maker.wrong() {
        maker.numbers.pick(&[
            map_space::GMFN_RANGE,
            map_space::GMFN_FOREIGN,
            map_space::DEVICE_MMIO,
            6,
            u32::MAX,
        ])
    } else {
        valid
    };
    let domain = target(maker);
    let index = index_of(maker, space);
    let guest_frame = place(maker);
    let size = maker.zero() as u16;
    maker.structure(&AddToPhysmap {
        domain,
        size,
        space,
        index,
        guest_frame,
    })
}

/// The argument of many placements.
pub fn add_batch(maker: &mut Maker<'_>) -> u64 {
    let foreign = if maker.knowledge.privileged { 12 } else { 1 };
    let space = maker.numbers.weighted(&[
        (map_space::SHARED_INFO, 2),
        (map_space::GRANT_TABLE, 3),
        (map_space::GMFN, 6),
        (map_space::GMFN_FOREIGN, foreign),
        (map_space::GMFN_RANGE, 1),
    ]);
    let owner = maker.board.other(maker.knowledge.id, maker.numbers);
    let owner_pages = owner.map_or(16, |notice| notice.pages.max(1));
    let foreign_domain = match space {
        map_space::GMFN_FOREIGN => {
            let valid = owner.map_or(DomainId(0), |notice| notice.id);
            maker.domain(valid)
        }
        _ => DomainId(maker.zero() as u16),
    };
    // There are many own and foreign pages, and one of the shared ones is enough.
    let most = if matches!(space, map_space::GMFN | map_space::GMFN_FOREIGN) {
        MOST
    } else {
        4
    };
    let length = maker.numbers.length(most);
    let mut indices: heapless::Vec<u64, MOST> = heapless::Vec::new();
    let mut frames: heapless::Vec<u64, MOST> = heapless::Vec::new();
    let start = maker.frame_of(Use::Hole);
    for step in 0..length as u64 {
        let index = if space == map_space::GMFN_FOREIGN {
            let valid = maker.numbers.below(owner_pages);
            maker.frame(valid)
        } else {
            index_of(maker, space)
        };
        let frame = if maker.knowledge.frames.get(start + step) == Some(Use::Hole) {
            start + step
        } else {
            place(maker)
        };
        // There is room: the length is bounded.
        let _ = (indices.push(index), frames.push(frame));
    }
    let (indices, frames) = (maker.array(&indices), maker.array(&frames));
    let errors = maker.room(4 * length as u64);
    let valid = if maker.knowledge.privileged && maker.numbers.chance(1, 8) {
        maker.peer()
    } else {
        maker.myself()
    };
    let domain = maker.domain(valid);
    let size = maker.number(length as u64) as u16;
    maker.structure(&AddToPhysmapBatch {
        domain,
        space: space as u16,
        size,
        foreign_domain,
        indices: GuestHandle::new(indices),
        guest_frames: GuestHandle::new(frames),
        errors: GuestHandle::new(errors),
    })
}

/// The argument of a removal.
pub fn remove(maker: &mut Maker<'_>) -> u64 {
    let what = maker.numbers.weighted(&[
        (
            Use::Foreign,
            if maker.knowledge.frames.count(Use::Foreign) > 40 {
                40
            } else {
                6
            },
        ),
        (Use::Memory, 4),
        (Use::Shared, 2),
        (
            Use::Table,
            if maker.knowledge.frames.count(Use::Table) > 6 {
                20
            } else {
                1
            },
        ),
        (Use::Grant, 1),
    ]);
    let found = maker.knowledge.frames.pick(what, maker.numbers);
    let valid = found.unwrap_or_else(|| maker.frame_of(Use::Memory));
    let guest_frame = maker.frame(valid);
    let domain = target(maker);
    maker.structure(&RemoveFromPhysmap {
        domain,
        guest_frame,
        ..RemoveFromPhysmap::default()
    })
}

/// The argument of taking up a resource.
pub fn acquire(maker: &mut Maker<'_>) -> u64 {
    let valid = maker.peer();
    let domain = maker.domain(valid);
    let kind = maker.number(u64::from(resource::GRANT_TABLE)) as u16;
    let id = maker.number32(grant_table_resource::SHARED);
    let asks_for_size = maker.numbers.chance(1, 4);
    let length = if asks_for_size {
        0
    } else {
        maker.numbers.length(24).max(1)
    };
    let mut frames: heapless::Vec<u64, 24> = heapless::Vec::new();
    for _ in 0..length {
        let frame = place(maker);
        // There is room: the length is bounded.
        let _ = frames.push(frame);
    }
    let list = if asks_for_size { 0 } else { maker.array(&frames) };
    let valid = maker.numbers.below(4);
    let frame = maker.number(valid);
    let number_of_frames = maker.number32(length as u32);
    let padding = maker.zero() as u32;
    maker.structure(&AcquireResource {
        domain,
        kind,
        id,
        number_of_frames,
        _padding: padding,
        frame,
        frame_list: GuestHandle::new(list),
    })
}

/// Learn what lies where now.
pub fn learn(lesson: &mut Lesson<'_>) {
    let argument = lesson.call.arguments[1];
    match lesson.call.operation {
        op::ADD_TO_PHYSMAP => {
            let Some(request) = lesson.value::<AddToPhysmap>(argument) else {
                return;
            };
            if own(lesson, request.domain) {
                let error = if lesson.succeeded() {
                    0
                } else {
                    lesson.result as i32
                };
                placed(
                    lesson,
                    request.space,
                    request.index,
                    request.guest_frame,
                    error,
                    DomainId(0),
                );
            }
        }
        op::ADD_TO_PHYSMAP_BATCH => batch(lesson, argument),
        op::REMOVE_FROM_PHYSMAP => {
            let Some(request) = lesson.value::<RemoveFromPhysmap>(argument) else {
                return;
            };
            let gone = lesson.succeeded() || lesson.result == Error::ENOENT.as_result();
            let granted = lesson.knowledge.frames.get(request.guest_frame) == Some(Use::Grant);
            if own(lesson, request.domain) && gone && !granted {
                lesson.knowledge.forget_frame(request.guest_frame);
            }
        }
        _ if lesson.succeeded() => {
            let Some(request) = lesson.value::<AcquireResource>(argument) else {
                return;
            };
            for index in 0..u64::from(request.number_of_frames).min(24) {
                let Some(frame) = lesson.element::<u64>(request.frame_list.address(), index) else {
                    return;
                };
                if !request.frame_list.is_null() {
                    lesson.knowledge.set_frame(frame, Use::Foreign);
                    lesson.knowledge.foreign.push((frame, request.domain));
                }
            }
        }
        _ => {}
    }
}

fn own(lesson: &Lesson<'_>, domain: DomainId) -> bool {
    domain == DomainId::SELF || domain == lesson.knowledge.id
}

fn batch(lesson: &mut Lesson<'_>, argument: u64) {
    let Some(request) = lesson.value::<AddToPhysmapBatch>(argument) else {
        return;
    };
    if !lesson.succeeded() || !own(lesson, request.domain) {
        return;
    }
    for element in 0..u64::from(request.size).min(MOST as u64) {
        let index = lesson.element::<u64>(request.indices.address(), element);
        let at = lesson.element::<u64>(request.guest_frames.address(), element);
        let error = lesson.element::<i32>(request.errors.address(), element);
        let (Some(index), Some(at), Some(error)) = (index, at, error) else {
            return;
        };
        placed(
            lesson,
            u32::from(request.space),
            index,
            at,
            error,
            request.foreign_domain,
        );
    }
}

/// One thing was placed, or refused.
fn placed(lesson: &mut Lesson<'_>, space: u32, index: u64, at: u64, error: i32, owner: DomainId) {
    let knowledge = &mut *lesson.knowledge;
    if error != 0 {
        // What was thought to be a hole is none.
        if error == -Error::ENXIO.number() && knowledge.frames.get(at) == Some(Use::Hole) {
            knowledge.frames.set(at, Use::Foreign);
        }
        return;
    }
    match space {
        map_space::SHARED_INFO => {
            knowledge.set_frame(at, Use::Shared);
            knowledge.shared_info = at;
        }
        map_space::GRANT_TABLE => {
            knowledge.set_frame(at, Use::Table);
            if let Some(place) = knowledge.table.get_mut(index as usize % TABLE_FRAMES)
                && index < TABLE_FRAMES as u64
            {
                *place = at;
            }
        }
        map_space::GMFN if index != at => {
            knowledge.forget_frame(index);
            knowledge.set_frame(at, Use::Memory);
        }
        map_space::GMFN_FOREIGN => {
            knowledge.set_frame(at, Use::Foreign);
            knowledge.foreign.push((at, owner));
        }
        _ => {}
    }
}
