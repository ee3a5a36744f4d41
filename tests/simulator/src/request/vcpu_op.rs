//! `vcpu_op`: a domain's own vCPUs: registered areas, timers, up and down.

use hypercall_abi::hypercall::number::VCPU_OP;
use hypercall_abi::vcpu::{
    RegisterMemoryArea, RegisterVcpuInfo, SINGLESHOT_FUTURE, SetPeriodicTimer, SetSingleshotTimer, op,
};
use machine::address::PAGE_SIZE;

use super::{Lesson, Maker};
use crate::knowledge::Use;

const NO_OPERATION: u32 = 14;
/// Room of a vCPU's info.
const INFO_SIZE: u64 = 64;

const WEIGHTS: [(u32, u32); 15] = [
    (op::INITIALISE, 3),
    (op::UP, 10),
    (op::DOWN, 2),
    (op::IS_UP, 10),
    (op::GET_RUNSTATE_INFO, 20),
    (op::REGISTER_RUNSTATE_MEMORY_AREA, 16),
    (op::SET_PERIODIC_TIMER, 16),
    (op::STOP_PERIODIC_TIMER, 14),
    (op::SET_SINGLESHOT_TIMER, 40),
    (op::STOP_SINGLESHOT_TIMER, 16),
    (op::REGISTER_VCPU_INFO, 10),
    (op::SEND_NMI, 8),
    (op::GET_PHYSICAL_ID, 4),
    (op::REGISTER_VCPU_TIME_MEMORY_AREA, 12),
    (NO_OPERATION, 2),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let mut operation = maker.numbers.weighted(&WEIGHTS);
    let mut vcpu = maker.vcpu_of(maker.knowledge.vcpus);
    if operation == op::DOWN {
        let others = maker.knowledge.vcpus as usize > maker.knowledge.down.count_ones() as usize + 1;
        // vCPU 0 stays, and with it the domain: the last one to go takes it along.
        if vcpu == 0 || maker.wrong() || !others || maker.knowledge.vcpus == 1 {
            operation = op::IS_UP;
        }
    }
    if matches!(operation, op::SET_SINGLESHOT_TIMER | op::STOP_SINGLESHOT_TIMER) && !maker.wrong() {
        vcpu = maker.vcpu;
    }
    let argument = match operation {
        op::GET_RUNSTATE_INFO => maker.room(48),
        op::GET_PHYSICAL_ID => maker.room(8),
        op::REGISTER_RUNSTATE_MEMORY_AREA => {
            let address = area(maker, 48, 1);
            let address = if maker.numbers.chance(1, 8) { 0 } else { address };
            maker.structure(&RegisterMemoryArea { address })
        }
        op::REGISTER_VCPU_TIME_MEMORY_AREA => {
            let address = area(maker, 32, 8);
            maker.structure(&RegisterMemoryArea { address })
        }
        op::REGISTER_VCPU_INFO => register_info(maker),
        op::SET_PERIODIC_TIMER => {
            let valid = maker.numbers.within(1_000_000, 5_000_000);
            let period_ns = if maker.wrong() {
                maker.numbers.pick(&[0, 1, 999_999, u64::MAX, 1 << 63, 1 << 62])
            } else {
                valid
            };
            maker.structure(&SetPeriodicTimer { period_ns })
        }
        op::SET_SINGLESHOT_TIMER => {
            let valid = maker.now + maker.numbers.below(1 << 22);
            let timeout_abs_ns = maker.number(valid);
            let valid = maker.numbers.pick(&[0, 0, SINGLESHOT_FUTURE]);
            let flags = maker.number32(valid);
            maker.structure(&SetSingleshotTimer {
                timeout_abs_ns,
                flags,
                _padding: 0,
            })
        }
        op::INITIALISE => maker.structure(&[0u64; 16]),
        _ => maker.zero(),
    };
    let first = if operation == op::DOWN {
        u64::from(operation)
    } else {
        first(maker, operation)
    };
    maker.call(VCPU_OP, operation, &[first, u64::from(vcpu), argument]);
}

/// The sub-operation as it is passed; never another one that ends something.
fn first(maker: &mut Maker<'_>, operation: u32) -> u64 {
    match maker.operation(operation) {
        other if other as u32 == op::DOWN => u64::from(operation),
        other => other,
    }
}

/// A place that the core is to write to: memory of one's own.
fn area(maker: &mut Maker<'_>, size: u64, alignment: u64) -> u64 {
    let valid = maker.frame_of(Use::Memory);
    let frame = maker.frame(valid);
    let last = PAGE_SIZE as u64 - size;
    let offset = if maker.wrong() {
        // Over the page's end, or askew.
        last + maker.numbers.within(1, size - 1)
    } else {
        maker.numbers.below(last / alignment + 1) * alignment
    };
    maker.pointer((frame << 12).wrapping_add(offset))
}

fn register_info(maker: &mut Maker<'_>) -> u64 {
    let valid = maker.frame_of(Use::Memory);
    let guest_frame = maker.frame(valid);
    let last = PAGE_SIZE as u64 - INFO_SIZE;
    let offset = if maker.wrong() {
        maker
            .numbers
            .pick(&[last as u32 + 8, 4, 1, 4095, 4096, u32::MAX, u32::MAX - 7])
    } else {
        (maker.numbers.below(last / 8 + 1) * 8) as u32
    };
    let reserved = maker.zero() as u32;
    maker.structure(&RegisterVcpuInfo {
        guest_frame,
        offset,
        _reserved: reserved,
    })
}

/// Learn from one.
pub fn learn(lesson: &mut Lesson<'_>) {
    let [_, vcpu, argument, ..] = lesson.call.arguments;
    let bit = 1u64.checked_shl(vcpu as u32).unwrap_or(0);
    if !lesson.succeeded() {
        return;
    }
    match lesson.call.operation {
        op::DOWN => lesson.knowledge.down |= bit,
        op::UP => lesson.knowledge.down &= !bit,
        op::IS_UP if lesson.result == 0 => lesson.knowledge.down |= bit,
        op::IS_UP => lesson.knowledge.down &= !bit,
        op::REGISTER_VCPU_INFO => {
            let Some(request) = lesson.value::<RegisterVcpuInfo>(argument) else {
                return;
            };
            let address = (request.guest_frame << 12).wrapping_add(u64::from(request.offset));
            lesson.knowledge.registered |= bit;
            register(lesson, address);
        }
        op::REGISTER_RUNSTATE_MEMORY_AREA | op::REGISTER_VCPU_TIME_MEMORY_AREA => {
            let Some(request) = lesson.value::<RegisterMemoryArea>(argument) else {
                return;
            };
            if request.address != 0 {
                register(lesson, request.address);
            }
        }
        _ => {}
    }
}

fn register(lesson: &mut Lesson<'_>, address: u64) {
    let frame = address >> 12;
    if lesson.knowledge.frames.get(frame) == Some(Use::Memory) {
        lesson.knowledge.frames.set(frame, Use::Area);
    }
    lesson.knowledge.areas.push(address);
}
