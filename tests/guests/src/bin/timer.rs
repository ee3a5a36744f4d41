//! System time and the one-shot timer.
#![no_std]
#![no_main]

use guests::{Checks, hypercall, println, shared};
use hypercall_abi::event_channel::{self, BindVirq};
use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, VCPU_OP};
use hypercall_abi::vcpu::{self, SetSingleshotTimer};
use hypercall_abi::xen::virq;

guests::micro_guest!(main);

const MILLISECOND: u64 = 1_000_000;

fn main(_: u64) -> ! {
    let mut checks = Checks::begin("timer");
    checks.equal("the shared page is mapped", shared::map(), 0);
    let mut timer = BindVirq {
        virq: virq::TIMER,
        ..BindVirq::default()
    };
    checks.equal(
        "the timer's port",
        hypercall::with(EVENT_CHANNEL_OP, event_channel::op::BIND_VIRQ, &mut timer),
        0,
    );
    monotonic(&mut checks);
    let periodic = hypercall::raw(VCPU_OP, [vcpu::op::STOP_PERIODIC_TIMER.into(), 0, 0, 0, 0]);
    checks.equal("the periodic timer is stopped", periodic, 0);
    shared::clear(timer.port);
    for wait in [10 * MILLISECOND, MILLISECOND, 0] {
        let deadline = shared::system_time() + wait;
        let fired = fire(&mut checks, timer.port, deadline);
        println!(
            "asked for {wait} ns, came {} ns late",
            fired.saturating_sub(deadline)
        );
        checks.check("not early", fired >= deadline);
        checks.check("less than a second late", fired < deadline + 1000 * MILLISECOND);
    }
    let past = shared::system_time().saturating_sub(5 * MILLISECOND);
    fire(&mut checks, timer.port, past);
    checks.end()
}

fn monotonic(checks: &mut Checks) {
    let mut last = shared::system_time();
    let mut steps_back = 0;
    for _ in 0..10_000 {
        let now = shared::system_time();
        steps_back += u32::from(now < last);
        last = now;
    }
    checks.equal("time never goes back", steps_back, 0);
}

/// Sets the timer and waits for its event; when it came.
fn fire(checks: &mut Checks, port: u32, deadline: u64) -> u64 {
    let mut request = SetSingleshotTimer {
        timeout_abs_ns: deadline,
        ..SetSingleshotTimer::default()
    };
    let operation = u64::from(vcpu::op::SET_SINGLESHOT_TIMER);
    let result = hypercall::raw(
        VCPU_OP,
        [operation, 0, core::ptr::from_mut(&mut request) as u64, 0, 0],
    );
    checks.equal("the timer is set", result, 0);
    let limit = shared::system_time() + 2000 * MILLISECOND;
    while !shared::pending(port) && shared::system_time() < limit {
        core::hint::spin_loop();
    }
    checks.check("the timer fires", shared::pending(port));
    let now = shared::system_time();
    shared::clear(port);
    now
}
