//! A guest that sleeps on its one-shot timer, and tells how late it was woken: what is left of its own time beside others
//! that compute is the scheduler's doing.
#![no_std]
#![no_main]

use guests::{Random, hypercall, println, shared};
use hypercall_abi::event_channel::{self, BindVirq};
use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, SCHED_OP, VCPU_OP};
use hypercall_abi::sched::{self, Poll};
use hypercall_abi::vcpu::{self, SetSingleshotTimer};
use hypercall_abi::xen::virq;

guests::micro_guest!(main);

const MICROSECOND: u64 = 1000;
const SAMPLES: usize = 250;

fn main(_: u64) -> ! {
    shared::map();
    let mut timer = BindVirq {
        virq: virq::TIMER,
        ..BindVirq::default()
    };
    hypercall::with(EVENT_CHANNEL_OP, event_channel::op::BIND_VIRQ, &mut timer);
    hypercall::raw(VCPU_OP, [vcpu::op::STOP_PERIODIC_TIMER.into(), 0, 0, 0, 0]);
    let mut random = Random::new(shared::system_time());
    let mut late = [0u64; SAMPLES];
    for round in 0u64.. {
        for sample in &mut late {
            let pause = (1000 + random.below(9000)) * MICROSECOND;
            *sample = sleep(timer.port, shared::system_time() + pause) / MICROSECOND;
        }
        late.sort_unstable();
        println!(
            "guest: latency {round} {} {} {}",
            late[SAMPLES / 2],
            late[SAMPLES * 99 / 100],
            late[SAMPLES - 1]
        );
    }
    guests::leave()
}

/// Until `deadline`; how many nanoseconds later it was by then.
fn sleep(port: u32, deadline: u64) -> u64 {
    let mut request = SetSingleshotTimer {
        timeout_abs_ns: deadline,
        ..SetSingleshotTimer::default()
    };
    shared::clear(port);
    let address = core::ptr::from_mut(&mut request) as u64;
    hypercall::raw(VCPU_OP, [vcpu::op::SET_SINGLESHOT_TIMER.into(), 0, address, 0, 0]);
    let mut ports = [port];
    while !shared::pending(port) {
        let mut poll = Poll {
            ports: hypercall_abi::GuestHandle::new(ports.as_mut_ptr() as u64),
            number_of_ports: 1,
            ..Poll::default()
        };
        hypercall::with(SCHED_OP, sched::op::POLL, &mut poll);
        shared::acknowledge();
    }
    shared::system_time().saturating_sub(deadline)
}
