//! `event_channel_op`: ports, channels between domains, interrupts, and the FIFO ABI.

mod answers;

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, ExpandArray,
    FifoControlBlock, InitControl, Reset, Send, SetPriority, Status, Unmask, op,
};
use hypercall_abi::hypercall::number::EVENT_CHANNEL_OP;
use hypercall_abi::xen::virq;
use machine::address::PAGE_SIZE;

use super::Maker;
use crate::knowledge::{Bound, Use};
use crate::noticeboard::PortNotice;

pub use answers::learn;

/// With so many ports, some are closed before more are made.
const MANY_PORTS: usize = 40;
const NO_OPERATION: u32 = 14;

const WEIGHTS: [(u32, u32); 15] = [
    (op::SEND, 200),
    (op::ALLOC_UNBOUND, 90),
    (op::BIND_INTERDOMAIN, 120),
    (op::BIND_VIRQ, 40),
    (op::BIND_IPI, 40),
    (op::BIND_PIRQ, 6),
    (op::CLOSE, 90),
    (op::STATUS, 40),
    (op::BIND_VCPU, 40),
    (op::UNMASK, 60),
    (op::RESET, 3),
    (op::INIT_CONTROL, 14),
    (op::EXPAND_ARRAY, 14),
    (op::SET_PRIORITY, 30),
    (NO_OPERATION, 3),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let mut operation = maker.numbers.weighted(&WEIGHTS);
    let makes_ports = matches!(
        operation,
        op::ALLOC_UNBOUND | op::BIND_INTERDOMAIN | op::BIND_IPI | op::BIND_VIRQ
    );
    if makes_ports && maker.knowledge.ports.len() > MANY_PORTS && maker.numbers.chance(7, 8) {
        operation = op::CLOSE;
    }
    let me = maker.knowledge.id;
    if operation == op::BIND_INTERDOMAIN
        && maker.board.port_for(me, maker.numbers).is_none()
        && maker.numbers.chance(7, 8)
    {
        operation = op::ALLOC_UNBOUND;
    }
    // Most of what the FIFO ABI offers is for those who have chosen it.
    let needs_queues = matches!(operation, op::EXPAND_ARRAY | op::SET_PRIORITY);
    if needs_queues && maker.knowledge.queues == 0 && maker.numbers.chance(3, 4) {
        operation = op::INIT_CONTROL;
    }
    let argument = argument(maker, operation);
    let first = maker.operation(operation);
    maker.call(EVENT_CHANNEL_OP, operation, &[first, argument]);
}

fn own_port(maker: &mut Maker<'_>) -> u32 {
    let valid = maker
        .knowledge
        .ports
        .pick(maker.numbers)
        .map_or(1, |own| own.port);
    maker.port(valid)
}

/// A port that can be sent to.
fn sendable(maker: &mut Maker<'_>) -> u32 {
    let own = maker.knowledge.ports.pick_if(maker.numbers, |own| {
        matches!(own.bound, Bound::Interdomain(_) | Bound::Ipi)
    });
    let valid = own.map_or(1, |own| own.port);
    maker.port(valid)
}

fn argument(maker: &mut Maker<'_>, operation: u32) -> u64 {
    match operation {
        op::SEND => {
            let port = sendable(maker);
            maker.structure(&Send { port })
        }
        op::UNMASK => {
            let port = own_port(maker);
            maker.structure(&Unmask { port })
        }
        op::CLOSE => {
            let port = own_port(maker);
            maker.structure(&Close { port })
        }
        op::ALLOC_UNBOUND => allocate(maker),
        op::BIND_INTERDOMAIN => bind_interdomain(maker),
        op::BIND_VIRQ => {
            let valid = maker.numbers.pick(&[
                virq::TIMER,
                virq::DEBUG,
                virq::CONSOLE,
                virq::DOMAIN_EXCEPTION,
                virq::CONSOLE_RING,
                virq::XENOPROF,
                virq::PERFORMANCE_COUNTER,
                virq::ARCHITECTURE_0,
            ]);
            let of_vcpu = matches!(
                valid,
                virq::TIMER | virq::DEBUG | virq::XENOPROF | virq::PERFORMANCE_COUNTER
            );
            let virq = maker.number32(valid);
            let vcpus = if of_vcpu { maker.knowledge.vcpus } else { 1 };
            let vcpu = maker.vcpu_of(vcpus);
            maker.structure(&BindVirq { virq, vcpu, port: 0 })
        }
        op::BIND_IPI => {
            let vcpu = maker.vcpu_of(maker.knowledge.vcpus);
            maker.structure(&BindIpi { vcpu, port: 0 })
        }
        op::BIND_PIRQ => {
            let pirq = maker.number32(9);
            maker.structure(&BindPirq {
                pirq,
                ..BindPirq::default()
            })
        }
        op::STATUS => {
            let port = own_port(maker);
            let valid = maker.myself();
            let domain = maker.domain(valid);
            maker.structure(&Status {
                domain,
                port,
                ..Status::default()
            })
        }
        op::BIND_VCPU => {
            let own = maker
                .knowledge
                .ports
                .pick_if(maker.numbers, |own| own.bound != Bound::Ipi);
            let port = maker.port(own.map_or(1, |own| own.port));
            let vcpu = maker.vcpu_of(maker.knowledge.vcpus);
            maker.structure(&BindVcpu { port, vcpu })
        }
        op::RESET => {
            // Others' are a toolstack's to reset, while they are paused.
            let other = maker.knowledge.privileged && maker.numbers.chance(1, 2);
            let valid = if other { maker.peer() } else { maker.myself() };
            let domain = maker.domain(valid);
            maker.structure(&Reset { domain })
        }
        op::INIT_CONTROL => init_control(maker),
        op::EXPAND_ARRAY => {
            let valid = maker.frame_of(Use::Memory);
            let array_frame = maker.frame(valid);
            maker.structure(&ExpandArray { array_frame })
        }
        op::SET_PRIORITY => {
            let port = own_port(maker);
            let valid = maker.numbers.below(16) as u32;
            let priority = maker.number32(valid);
            maker.structure(&SetPriority { port, priority })
        }
        _ => maker.structure(&[0u64; 3]),
    }
}

fn allocate(maker: &mut Maker<'_>) -> u64 {
    let valid = maker.myself();
    let domain = maker.domain(valid);
    let valid = if maker.numbers.chance(1, 12) {
        DomainId::SELF
    } else {
        maker.peer()
    };
    let remote_domain = maker.domain(valid);
    maker.structure(&AllocUnbound {
        domain,
        remote_domain,
        port: 0,
    })
}

fn bind_interdomain(maker: &mut Maker<'_>) -> u64 {
    let me = maker.knowledge.id;
    let notice = maker.board.port_for(me, maker.numbers);
    let valid = notice.unwrap_or(PortNotice {
        owner: DomainId(0),
        port: 1,
        waits_for: me,
    });
    let remote_domain = maker.domain(valid.owner);
    let remote_port = maker.port(valid.port);
    maker.structure(&BindInterdomain {
        remote_domain,
        remote_port,
        ..BindInterdomain::default()
    })
}

fn init_control(maker: &mut Maker<'_>) -> u64 {
    const LAST: u64 = (PAGE_SIZE - size_of::<FifoControlBlock>()) as u64;
    let valid = maker.frame_of(Use::Memory);
    let control_frame = maker.frame(valid);
    let offset = if maker.wrong() {
        maker
            .numbers
            .pick(&[LAST as u32 + 8, LAST as u32 + 1, 4, 4095, 4096, u32::MAX - 7])
    } else {
        (maker.numbers.below(LAST / 8 + 1) * 8) as u32
    };
    // A vCPU that has no block yet, if there is one.
    let free = (0..maker.knowledge.vcpus).find(|vcpu| maker.knowledge.queues >> vcpu & 1 == 0);
    let valid = free.unwrap_or(0);
    let vcpu = maker.number32(valid);
    maker.structure(&InitControl {
        control_frame,
        offset,
        vcpu,
        ..InitControl::default()
    })
}
