//! `hvm_op`: parameters, the vector for events, flushes and the time.

use hypercall_abi::hvm::{EventUpcallVector, GetMemType, PagetableDying, Param, op, param};
use hypercall_abi::hypercall::number::HVM_OP;

use super::Maker;
use super::memory_op::target;

const WEIGHTS: [(u32, u32); 9] = [
    (op::SET_PARAM, 40),
    (op::GET_PARAM, 40),
    (op::FLUSH_TLBS, 10),
    (op::PAGETABLE_DYING, 4),
    (op::GET_TIME, 10),
    (op::GET_MEM_TYPE, 4),
    (op::SET_EVTCHN_UPCALL_VECTOR, 20),
    (op::ALTP2M, 2),
    (26, 2),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let operation = maker.numbers.weighted(&WEIGHTS);
    let argument = match operation {
        op::SET_PARAM | op::GET_PARAM => parameter(maker),
        op::FLUSH_TLBS => maker.zero(),
        op::GET_TIME => maker.room(8),
        op::SET_EVTCHN_UPCALL_VECTOR => {
            let vcpu = maker.vcpu_of(maker.knowledge.vcpus);
            let valid = maker.numbers.within(32, 255) as u8;
            let vector = if maker.wrong() {
                maker.numbers.pick(&[0, 1, 15, 16, 17, 255])
            } else {
                valid
            };
            maker.structure(&EventUpcallVector {
                vcpu,
                vector,
                ..EventUpcallVector::default()
            })
        }
        op::PAGETABLE_DYING => maker.structure(&PagetableDying::default()),
        op::GET_MEM_TYPE => maker.structure(&GetMemType::default()),
        _ => maker.structure(&[1u64; 4]),
    };
    let first = maker.operation(operation);
    maker.call(HVM_OP, operation, &[first, argument]);
}

fn parameter(maker: &mut Maker<'_>) -> u64 {
    let own = maker.numbers.pick(&[
        param::CALLBACK_IRQ,
        param::CALLBACK_IRQ,
        param::STORE_EVTCHN,
        param::CONSOLE_EVTCHN,
        param::VM86_TSS,
        param::VM86_TSS_SIZED,
        param::VM_GENERATION_ID_ADDR,
    ]);
    let any = maker.numbers.below(u64::from(param::COUNT)) as u32;
    let toolstack = maker.knowledge.privileged && maker.numbers.chance(1, 2);
    let index = maker.number32(if toolstack { any } else { own });
    let domain = target(maker);
    let value = match index {
        // A vector, a line, a PCI pin, or nonsense; kinds are in the top byte.
        param::CALLBACK_IRQ => maker.numbers.pick(&[
            param::callback_type::VECTOR << 56 | 0xf3,
            param::callback_type::VECTOR << 56 | 0x20,
            9,
            0,
            param::callback_type::PCI_INTX << 56 | 3,
            1 << 63 | 0xf3,
        ]),
        _ if maker.numbers.chance(1, 2) => maker.numbers.below(16),
        _ => 0,
    };
    let value = maker.number(value);
    maker.structure(&Param {
        domain,
        _padding: 0,
        index,
        value,
    })
}
