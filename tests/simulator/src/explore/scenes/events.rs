//! Wake-ups: what comes for a vCPU while it goes to sleep.

use hypercall_abi::event_channel::{AllocUnbound, BindInterdomain, op as event};
use hypercall_abi::hypercall::number;
use hypercall_abi::sched::{Poll, op as sched};
use hypercall_abi::vcpu::op as vcpu;
use hypercall_abi::{DomainId, GuestHandle};
use kernel::testing;

use super::{
    Kernel, begin, domain, interprocessor_port, send_event, send_interrupt, succeeded, took, took_once,
    until_begin,
};
use crate::explore::{Act, Cast};

const VECTOR: u8 = 0x41;
/// Where arguments lie.
const ARGUMENT: u64 = 0x1000;
const SECOND: u64 = 0x2000;
/// A number that guests share: the event was sent.
const SENT: usize = 1;

pub fn halt_and_interrupt(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, 1, 2);
    let mut cast = Cast::default();
    cast.add(&domain, 0, vec![until_begin(), send_interrupt(1, VECTOR)]);
    cast.add(
        &domain,
        1,
        vec![
            begin(),
            Act::HaltUntil(took(VECTOR)),
            Act::Exit,
            took_once(VECTOR),
        ],
    );
    cast
}

pub fn halt_and_nmi(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, 1, 2);
    let mut cast = Cast::default();
    let send = Act::Call(number::VCPU_OP, [u64::from(vcpu::SEND_NMI), 1, 0, 0, 0, 0]);
    cast.add(&domain, 0, vec![until_begin(), send, succeeded()]);
    cast.add(
        &domain,
        1,
        vec![begin(), Act::HaltUntil(Box::new(|sight| sight.nmis == 1))],
    );
    cast
}

pub fn block_and_event(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, 1, 2);
    interprocessor_port(kernel, &domain, 1, VECTOR, ARGUMENT);
    let mut cast = Cast::default();
    cast.add(&domain, 0, vec![until_begin(), send_event(ARGUMENT), succeeded()]);
    let block = [u64::from(sched::BLOCK), 0, 0, 0, 0, 0];
    cast.add(
        &domain,
        1,
        vec![
            begin(),
            Act::WaitUntil(number::SCHED_OP, block, took(VECTOR)),
            Act::Exit,
            took_once(VECTOR),
        ],
    );
    cast
}

pub fn poll_and_event(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, 1, 2);
    interprocessor_port(kernel, &domain, 1, 0, ARGUMENT);
    let poll = Poll {
        ports: GuestHandle::new(ARGUMENT),
        number_of_ports: 1,
        _padding: 0,
        timeout: 0,
    };
    testing::poke(&domain, SECOND, &poll);
    let mut cast = Cast::default();
    let sent = Act::Do(Box::new(|sight| sight.flags.set(SENT, 1)));
    cast.add(
        &domain,
        0,
        vec![until_begin(), send_event(ARGUMENT), succeeded(), sent],
    );
    let poll = [u64::from(sched::POLL), SECOND, 0, 0, 0, 0];
    let told = Box::new(|sight: &crate::explore::Sight<'_>| sight.flags.get(SENT) != 0);
    cast.add(
        &domain,
        1,
        vec![begin(), Act::WaitUntil(number::SCHED_OP, poll, told)],
    );
    cast
}

pub fn interrupts_off(kernel: &Kernel) -> Cast {
    let domain = domain(kernel, 1, 2);
    let mut cast = Cast::default();
    cast.add(&domain, 0, vec![until_begin(), send_interrupt(1, VECTOR)]);
    cast.add(
        &domain,
        1,
        vec![
            Act::Interrupts(false),
            begin(),
            Act::Exit,
            Act::Exit,
            Act::Exit,
            Act::Interrupts(true),
            Act::HaltUntil(took(VECTOR)),
            Act::Exit,
            took_once(VECTOR),
        ],
    );
    cast
}

/// Each waits for the other, and both take up what the other offers.
pub fn bind_each_other(kernel: &Kernel) -> Cast {
    let mut cast = Cast::default();
    let both = [domain(kernel, 1, 1), domain(kernel, 2, 1)];
    for (index, own) in both.iter().enumerate() {
        let other = &both[1 - index];
        let offer = AllocUnbound {
            domain: DomainId::SELF,
            remote_domain: own.id,
            port: 0,
        };
        let (result, offered) = testing::hypercall_with(
            kernel,
            &testing::vcpu(other, 0),
            number::EVENT_CHANNEL_OP,
            event::ALLOC_UNBOUND,
            offer,
        );
        assert_eq!(result, 0);
        let bind = BindInterdomain {
            remote_domain: other.id,
            _padding: 0,
            remote_port: offered.port,
            local_port: 0,
        };
        testing::poke(own, ARGUMENT, &bind);
        let call = [u64::from(event::BIND_INTERDOMAIN), ARGUMENT, 0, 0, 0, 0];
        let first = if index == 0 { until_begin() } else { begin() };
        cast.add(
            own,
            0,
            vec![first, Act::Call(number::EVENT_CHANNEL_OP, call), succeeded()],
        );
    }
    cast
}
