//! `grant_table_op`: mapping what others lend, copying to and from it, and the table itself.

mod answers;

use hypercall_abi::DomainId;
use hypercall_abi::GuestHandle;
use hypercall_abi::grant_table::{
    CacheFlush, Copy as CopyOperation, CopyPointer, DumpTable, GetStatusFrames, GetVersion, GrantStatus,
    MapGrantRef, QuerySize, SetVersion, SetupTable, SwapGrantRef, Transfer, UnmapAndReplace, UnmapGrantRef,
    cache_flag, copy_flag, map_flag, op,
};
use hypercall_abi::hypercall::number::GRANT_TABLE_OP;
use machine::address::PAGE_SIZE;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::Maker;
use crate::knowledge::{Held, Use, WINDOW};
use crate::noticeboard::GrantNotice;

pub use answers::learn;

/// With so many mappings held, some are undone before more are made.
const MANY_MAPPINGS: usize = 80;
/// With so few holes left, nothing more is put in them.
const FEW_HOLES: usize = 96;
const NO_OPERATION: u32 = 13;
/// Elements of the longest arrays.
const MOST: usize = 260;

const WEIGHTS: [(u32, u32); 14] = [
    (op::MAP_GRANT_REF, 200),
    (op::UNMAP_GRANT_REF, 150),
    (op::SETUP_TABLE, 20),
    (op::DUMP_TABLE, 2),
    (op::TRANSFER, 4),
    (op::COPY, 200),
    (op::QUERY_SIZE, 20),
    (op::UNMAP_AND_REPLACE, 8),
    (op::SET_VERSION, 8),
    (op::GET_STATUS_FRAMES, 4),
    (op::GET_VERSION, 10),
    (op::SWAP_GRANT_REF, 24),
    (op::CACHE_FLUSH, 4),
    (NO_OPERATION, 2),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let mut operation = maker.numbers.weighted(&WEIGHTS);
    // Room is made before it is used up.
    let full =
        maker.knowledge.held.len() > MANY_MAPPINGS || maker.knowledge.frames.count(Use::Hole) < FEW_HOLES;
    if operation == op::MAP_GRANT_REF && full && !maker.knowledge.held.is_empty() {
        operation = op::UNMAP_GRANT_REF;
    }
    // Without anything offered, there is little to map.
    let me = maker.knowledge.id;
    if operation == op::MAP_GRANT_REF
        && maker.board.grant_for(me, false, maker.numbers).is_none()
        && maker.numbers.chance(7, 8)
    {
        operation = maker
            .numbers
            .pick(&[op::UNMAP_GRANT_REF, op::COPY, op::QUERY_SIZE]);
    }
    let (array, count) = match operation {
        op::MAP_GRANT_REF => many(maker, map),
        op::UNMAP_GRANT_REF => many(maker, unmap),
        op::UNMAP_AND_REPLACE => many(maker, replace),
        op::COPY => many(maker, copy),
        op::SWAP_GRANT_REF => many(maker, swap),
        op::TRANSFER => many(maker, transfer),
        op::CACHE_FLUSH => many(maker, cache_flush),
        _ => single(maker, operation),
    };
    let first = maker.operation(operation);
    maker.call(GRANT_TABLE_OP, operation, &[first, array, count]);
}

/// An array of some elements. Each is made with a number of its own, so that those of one array differ.
fn many<T>(maker: &mut Maker<'_>, one: fn(&mut Maker<'_>, u64) -> T) -> (u64, u64)
where
    T: FromZeros + IntoBytes + Immutable + Copy,
{
    /// Bytes of the longest array.
    const BYTES: usize = 11 * 1024;
    let length = maker.numbers.length(MOST.min(BYTES / size_of::<T>()));
    let start = maker.numbers.below(1 << 16);
    let address = if length == 1 {
        let element = one(maker, start);
        maker.structure(&element)
    } else {
        let mut elements: heapless::Vec<T, MOST> = heapless::Vec::new();
        for step in 0..length as u64 {
            let element = one(maker, start + step);
            // There is room: the length is bounded.
            let _ = elements.push(element);
        }
        maker.array(&elements)
    };
    (address, maker.number(length as u64))
}

fn single(maker: &mut Maker<'_>, operation: u32) -> (u64, u64) {
    let valid = maker.myself();
    let domain = maker.domain(valid);
    let address = match operation {
        op::SETUP_TABLE => {
            let valid = maker.numbers.within(1, 8) as u32;
            let number_of_frames = maker.number32(valid);
            let list = maker.room(8 * u64::from(number_of_frames.min(1024)));
            maker.structure(&SetupTable {
                domain,
                number_of_frames,
                frame_list: GuestHandle::new(list),
                ..SetupTable::default()
            })
        }
        op::QUERY_SIZE => maker.structure(&QuerySize {
            domain,
            ..QuerySize::default()
        }),
        op::SET_VERSION => {
            let version = maker.number32(1);
            maker.structure(&SetVersion { version })
        }
        op::GET_VERSION => maker.structure(&GetVersion {
            domain,
            ..GetVersion::default()
        }),
        op::GET_STATUS_FRAMES => {
            let list = maker.room(64);
            maker.structure(&GetStatusFrames {
                number_of_frames: 1,
                domain,
                frame_list: GuestHandle::new(list),
                ..GetStatusFrames::default()
            })
        }
        _ => maker.structure(&DumpTable {
            domain,
            ..DumpTable::default()
        }),
    };
    (address, maker.number(1))
}

/// A grant that somebody offers to the caller, or a guess.
fn offered(maker: &mut Maker<'_>, writable: bool) -> GrantNotice {
    let me = maker.knowledge.id;
    let known = maker.board.grant_for(me, writable, maker.numbers);
    let mut notice = known.unwrap_or_else(|| GrantNotice {
        granter: maker.peer(),
        reference: maker.numbers.below(32) as u32,
        to: me,
        writable,
    });
    notice.granter = maker.domain(notice.granter);
    notice.reference = reference(maker, notice.reference);
    notice
}

fn reference(maker: &mut Maker<'_>, valid: u32) -> u32 {
    if !maker.wrong() {
        return valid;
    }
    match maker.numbers.below(4) {
        0 => valid ^ 1,
        1 => maker.numbers.pick(&[511, 512, 513, 0x7fff, 0x8000, u32::MAX]),
        2 => maker.numbers.word() as u32,
        _ => maker.numbers.below(64) as u32,
    }
}

fn map(maker: &mut Maker<'_>, step: u64) -> MapGrantRef {
    let notice = offered(maker, false);
    let read_only = !notice.writable || maker.numbers.chance(1, 4);
    let valid = map_flag::HOST_MAP | if read_only { map_flag::READ_ONLY } else { 0 };
    let flags = if maker.wrong() {
        maker.numbers.pick(&[
            0,
            map_flag::READ_ONLY,
            map_flag::DEVICE_MAP,
            map_flag::HOST_MAP,
            map_flag::HOST_MAP | map_flag::DEVICE_MAP,
            map_flag::HOST_MAP | map_flag::CONTAINS_PTE,
            map_flag::HOST_MAP | map_flag::APPLICATION_MAP,
            u32::MAX,
        ])
    } else {
        valid
    };
    // A hole, or memory that is given up for it.
    let place = if maker.numbers.chance(1, 10) {
        Use::Memory
    } else {
        Use::Hole
    };
    let pages = maker.knowledge.frames.pages();
    let high = pages + step % (WINDOW as u64 - pages);
    let valid = if place == Use::Hole && maker.knowledge.frames.get(high) == Some(Use::Hole) {
        high
    } else {
        maker.frame_of(place)
    };
    let at = maker.frame(valid);
    MapGrantRef {
        host_address: at << 12
            | if maker.wrong() {
                maker.numbers.below(4096)
            } else {
                0
            },
        flags,
        reference: notice.reference,
        domain: notice.granter,
        status: GrantStatus(1),
        handle: u32::MAX,
        device_bus_address: maker.zero(),
    }
}

fn held(maker: &mut Maker<'_>, step: u64) -> Held {
    let held = &maker.knowledge.held;
    let index = step as usize % held.len().max(1);
    held.iter().nth(index).copied().unwrap_or(Held {
        handle: 0,
        at: maker.knowledge.frames.pages() + 1,
        granter: DomainId(0),
        writable: true,
    })
}

fn handle(maker: &mut Maker<'_>, valid: u32) -> u32 {
    if !maker.wrong() {
        return valid;
    }
    match maker.numbers.below(4) {
        0 => valid.wrapping_add(1),
        1 => maker.numbers.pick(&[127, 128, u32::MAX, i32::MAX as u32]),
        2 => maker.numbers.word() as u32,
        _ => maker.numbers.below(32) as u32,
    }
}

fn unmap(maker: &mut Maker<'_>, step: u64) -> UnmapGrantRef {
    let held = held(maker, step);
    let at = maker.frame(held.at);
    UnmapGrantRef {
        host_address: at << 12,
        device_bus_address: maker.zero(),
        handle: handle(maker, held.handle),
        status: GrantStatus(1),
        ..UnmapGrantRef::default()
    }
}

fn replace(maker: &mut Maker<'_>, step: u64) -> UnmapAndReplace {
    let held = held(maker, step);
    UnmapAndReplace {
        host_address: held.at << 12,
        new_address: maker.frame_of(Use::Grant) << 12,
        handle: handle(maker, held.handle),
        status: GrantStatus(1),
        ..UnmapAndReplace::default()
    }
}

fn copy(maker: &mut Maker<'_>, _: u64) -> CopyOperation {
    let me = maker.knowledge.id;
    let offered = maker.board.grant_for(me, false, maker.numbers).is_some();
    let (from_grant, to_grant) = if offered || maker.numbers.chance(1, 8) {
        maker
            .numbers
            .pick(&[(true, false), (false, true), (true, true), (false, false)])
    } else {
        (false, false)
    };
    let source = end(maker, from_grant, false);
    let destination = end(maker, to_grant, true);
    let most = PAGE_SIZE as u64 - u64::from(source.offset.max(destination.offset)).min(PAGE_SIZE as u64);
    let valid = match maker.numbers.below(4) {
        0 => most,
        1 => 0,
        _ => maker.numbers.below(most + 1).min(64),
    };
    let length = maker.number(valid) as u16;
    let source_flag = if from_grant {
        copy_flag::SOURCE_IS_REFERENCE
    } else {
        0
    };
    let destination_flag = if to_grant {
        copy_flag::DESTINATION_IS_REFERENCE
    } else {
        0
    };
    let valid = source_flag | destination_flag;
    CopyOperation {
        source,
        destination,
        length,
        flags: maker.number(u64::from(valid)) as u16,
        status: GrantStatus(1),
        _padding: 0,
    }
}

fn end(maker: &mut Maker<'_>, granted: bool, write: bool) -> CopyPointer {
    let valid = match maker.numbers.below(4) {
        0 => maker.numbers.below(PAGE_SIZE as u64),
        1 => PAGE_SIZE as u64 - 1 - maker.numbers.below(16),
        _ => 0,
    };
    let offset = maker.number(valid) as u16;
    let (location, domain) = if granted {
        let notice = offered(maker, write);
        (u64::from(notice.reference), notice.granter)
    } else {
        let valid = maker.frame_of(Use::Memory);
        let location = maker.frame(valid);
        (location, maker.domain(DomainId::SELF))
    };
    CopyPointer {
        location,
        domain,
        offset,
        _padding: 0,
    }
}

fn swap(maker: &mut Maker<'_>, _: u64) -> SwapGrantRef {
    let mut entry = || {
        let known = maker
            .knowledge
            .offers
            .pick(maker.numbers)
            .map(|offer| offer.reference);
        let valid = known.unwrap_or(9);
        reference(maker, valid)
    };
    SwapGrantRef {
        first: entry(),
        second: entry(),
        status: GrantStatus(1),
        _padding: 0,
    }
}

fn transfer(maker: &mut Maker<'_>, _: u64) -> Transfer {
    Transfer {
        frame: maker.frame_of(Use::Memory),
        domain: maker.peer(),
        reference: maker.numbers.below(32) as u32,
        ..Transfer::default()
    }
}

fn cache_flush(maker: &mut Maker<'_>, _: u64) -> CacheFlush {
    CacheFlush {
        location: maker.frame_of(Use::Memory) << 12,
        offset: 0,
        length: maker.number(4096) as u16,
        operation: maker.number32(cache_flag::CLEAN),
    }
}
