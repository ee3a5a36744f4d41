//! `memory_op`: reservations, placements, maps, claims and resources.

use hypercall_abi::hypercall::number::MEMORY_OP;
use hypercall_abi::memory::{
    COMMAND_BITS, E820Entry, ForeignMemoryMap, MemoryDomain, MemoryMap, PodTarget, VnumaTopologyInfo, e820,
    op,
};
use hypercall_abi::{DomainId, GuestHandle};

use super::{Intent, Lesson, Maker, memory_placement as placement, memory_reservation as reservation};
use crate::knowledge::Use;

const NO_OPERATION: u32 = 29;
/// With so few holes left, nothing more is put in them.
const FEW_HOLES: usize = 96;

const WEIGHTS: [(u32, u32); 29] = [
    (op::POPULATE_PHYSMAP, 150),
    (op::DECREASE_RESERVATION, 90),
    (op::INCREASE_RESERVATION, 6),
    (op::ADD_TO_PHYSMAP, 110),
    (op::ADD_TO_PHYSMAP_BATCH, 80),
    (op::REMOVE_FROM_PHYSMAP, 60),
    (op::ACQUIRE_RESOURCE, 30),
    (op::CLAIM_PAGES, 8),
    (op::MEMORY_MAP, 8),
    (op::SET_MEMORY_MAP, 10),
    (op::MACHINE_MEMORY_MAP, 5),
    (op::MAXIMUM_RAM_PAGE, 3),
    (op::CURRENT_RESERVATION, 8),
    (op::MAXIMUM_RESERVATION, 8),
    (op::MAXIMUM_GPFN, 8),
    (op::SET_POD_TARGET, 4),
    (op::GET_POD_TARGET, 4),
    (op::GET_SHARING_FREED_PAGES, 2),
    (op::GET_SHARING_SHARED_PAGES, 2),
    (op::GET_VNUMAINFO, 4),
    (op::PAGING_OP, 2),
    (op::ACCESS_OP, 2),
    (op::SHARING_OP, 2),
    (op::MACHPHYS_MFN_LIST, 1),
    (op::EXCHANGE, 2),
    (op::MACHPHYS_MAPPING, 1),
    (op::RESERVED_DEVICE_MEMORY_MAP, 2),
    (8, 1),
    (NO_OPERATION, 2),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let mut operation = maker.numbers.weighted(&WEIGHTS);
    // Whoever has little memory left gets some first, or it would soon have nothing to lend and to lose.
    let memory = maker.knowledge.frames.count(Use::Memory) as u64;
    if operation == op::DECREASE_RESERVATION && memory < maker.knowledge.frames.pages() / 2 {
        operation = op::POPULATE_PHYSMAP;
    }
    let adds = matches!(
        operation,
        op::ADD_TO_PHYSMAP | op::ADD_TO_PHYSMAP_BATCH | op::ACQUIRE_RESOURCE
    );
    if adds && maker.knowledge.frames.count(Use::Hole) < FEW_HOLES {
        operation = op::REMOVE_FROM_PHYSMAP;
    }
    let argument = match operation {
        op::POPULATE_PHYSMAP | op::DECREASE_RESERVATION | op::INCREASE_RESERVATION => {
            reservation::argument(maker, operation)
        }
        op::CLAIM_PAGES => reservation::claim(maker),
        op::ADD_TO_PHYSMAP => placement::add(maker),
        op::ADD_TO_PHYSMAP_BATCH => placement::add_batch(maker),
        op::REMOVE_FROM_PHYSMAP => placement::remove(maker),
        op::ACQUIRE_RESOURCE => placement::acquire(maker),
        op::MEMORY_MAP | op::MACHINE_MEMORY_MAP => {
            let valid = maker.numbers.within(4, 16) as u32;
            let number_of_entries = maker.number32(valid);
            let buffer = maker.room(400);
            maker.structure(&MemoryMap {
                number_of_entries,
                _padding: 0,
                buffer: GuestHandle::new(buffer),
            })
        }
        op::SET_MEMORY_MAP => set_memory_map(maker),
        op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
            let domain = target(maker);
            maker.structure(&MemoryDomain { domain })
        }
        op::SET_POD_TARGET | op::GET_POD_TARGET => {
            let domain = target(maker);
            let target_pages = maker.number(64);
            maker.structure(&PodTarget {
                target_pages,
                domain,
                ..PodTarget::default()
            })
        }
        op::GET_VNUMAINFO => {
            let domain = target(maker);
            let padding = maker.zero() as u16;
            maker.structure(&VnumaTopologyInfo {
                domain,
                _padding: padding,
                ..VnumaTopologyInfo::default()
            })
        }
        op::MAXIMUM_RAM_PAGE | op::GET_SHARING_FREED_PAGES | op::GET_SHARING_SHARED_PAGES => maker.zero(),
        _ => {
            let words: [u64; 12] = core::array::from_fn(|_| maker.numbers.word());
            maker.structure(&words)
        }
    };
    let command = maker.operation(operation) | progress(maker);
    maker.call(MEMORY_OP, operation, &[command, argument]);
}

/// What a caller that was not cut off has no business to claim: that some of it is done already.
fn progress(maker: &mut Maker<'_>) -> u64 {
    if maker.intent() == Intent::Valid || !maker.numbers.chance(1, 8) {
        return 0;
    }
    let done = match maker.numbers.below(4) {
        0 => 1,
        1 => maker.numbers.below(8),
        2 => maker.numbers.pick(&[0xffff, 0x1_0000, 1 << 25, 1 << 26]),
        _ => maker.numbers.next() >> COMMAND_BITS,
    };
    done << COMMAND_BITS
}

/// Oneself; for the privileged, as often another.
pub(super) fn target(maker: &mut Maker<'_>) -> DomainId {
    let valid = if maker.knowledge.privileged && maker.numbers.chance(1, 2) {
        maker.peer()
    } else {
        maker.myself()
    };
    maker.domain(valid)
}

fn set_memory_map(maker: &mut Maker<'_>) -> u64 {
    let domain = target(maker);
    let count = maker.numbers.length(200);
    let mut entries: heapless::Vec<E820Entry, 200> = heapless::Vec::new();
    for index in 0..count as u64 {
        let start = index << 20;
        // There is room: the length is bounded.
        let _ = entries.push(E820Entry::new(start, 1 << 20, e820::RAM));
    }
    let buffer = maker.array(&entries);
    let number_of_entries = if maker.wrong() {
        maker.numbers.pick(&[1024, 1025, u32::MAX, 400])
    } else {
        count as u32
    };
    maker.structure(&ForeignMemoryMap {
        domain,
        map: MemoryMap {
            number_of_entries,
            _padding: 0,
            buffer: GuestHandle::new(buffer),
        },
        ..ForeignMemoryMap::default()
    })
}

/// The domain that a call was about, where it stands first in the structure.
pub(super) fn subject(lesson: &Lesson<'_>) -> Option<DomainId> {
    use op::*;
    let first = matches!(
        lesson.call.operation,
        CURRENT_RESERVATION
            | MAXIMUM_RESERVATION
            | MAXIMUM_GPFN
            | ADD_TO_PHYSMAP
            | REMOVE_FROM_PHYSMAP
            | SET_MEMORY_MAP
            | ACQUIRE_RESOURCE
    );
    let domain = first.then(|| lesson.value(lesson.call.arguments[1])).flatten()?;
    (domain != lesson.knowledge.id && lesson.board.domain(domain).is_some()).then_some(domain)
}

/// Learn from one.
pub fn learn(lesson: &mut Lesson<'_>) {
    match lesson.call.operation {
        op::POPULATE_PHYSMAP | op::DECREASE_RESERVATION => reservation::learn(lesson),
        op::ADD_TO_PHYSMAP | op::ADD_TO_PHYSMAP_BATCH | op::REMOVE_FROM_PHYSMAP | op::ACQUIRE_RESOURCE => {
            placement::learn(lesson);
        }
        _ => {}
    }
}
