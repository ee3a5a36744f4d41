//! Event channels to itself: pending bits, masks, upcalls, errors.
#![no_std]
#![no_main]

use guests::{Checks, hypercall, interrupts, shared};
use hypercall_abi::event_channel::{AllocUnbound, BindInterdomain, BindIpi, Close, op};
use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, HVM_OP};
use hypercall_abi::{DomainId, Error};

guests::micro_guest!(main);

/// How often to look before an upcall counts as lost.
const SPINS: u32 = 10_000_000;

fn main(_: u64) -> ! {
    let mut checks = Checks::begin("events");
    checks.equal("the shared page is mapped", shared::map(), 0);
    let (near, far) = pair(&mut checks);
    pending_bits(&mut checks, near, far);
    upcalls(&mut checks);
    refusals(&mut checks, near);
    checks.end()
}

/// Two ports of this domain, each the other's end.
fn pair(checks: &mut Checks) -> (u32, u32) {
    let mut unbound = AllocUnbound {
        domain: DomainId::SELF,
        remote_domain: DomainId::SELF,
        ..AllocUnbound::default()
    };
    checks.equal(
        "an unbound port",
        hypercall::with(EVENT_CHANNEL_OP, op::ALLOC_UNBOUND, &mut unbound),
        0,
    );
    let mut bind = BindInterdomain {
        remote_domain: DomainId::SELF,
        remote_port: unbound.port,
        ..BindInterdomain::default()
    };
    checks.equal(
        "bound to itself",
        hypercall::with(EVENT_CHANNEL_OP, op::BIND_INTERDOMAIN, &mut bind),
        0,
    );
    // Binding marks the new end pending once, so that nothing sent before is lost.
    shared::clear(bind.local_port);
    (unbound.port, bind.local_port)
}

fn pending_bits(checks: &mut Checks, near: u32, far: u32) {
    checks.check("nothing is pending", !shared::pending(near));
    checks.equal("send", shared::send(far), 0);
    checks.check("the other end is pending", shared::pending(near));
    checks.check("the sender is not", !shared::pending(far));
    checks.check("the vCPU is told", shared::upcall_pending());
    shared::clear(near);
    shared::set_masked(near, true);
    checks.equal("send to a masked port", shared::send(far), 0);
    checks.check("it is pending", shared::pending(near));
    checks.check("the vCPU is not told", !shared::upcall_pending());
    shared::clear(near);
    shared::set_masked(near, false);
}

/// An upcall by vector, as Linux asks for it.
fn upcalls(checks: &mut Checks) {
    const VECTOR: u8 = 0xf3;
    const SET_PARAM: u32 = 0;
    const CALLBACK_IRQ: u64 = 0;
    let mut parameter = [
        u64::from(DomainId::SELF.0) | CALLBACK_IRQ << 32,
        2 << 56 | u64::from(VECTOR),
    ];
    checks.equal(
        "the callback vector is set",
        hypercall::with(HVM_OP, SET_PARAM, &mut parameter),
        0,
    );
    let mut ipi = BindIpi::default();
    checks.equal(
        "an IPI port",
        hypercall::with(EVENT_CHANNEL_OP, op::BIND_IPI, &mut ipi),
        0,
    );
    interrupts::enable();
    let before = interrupts::count(VECTOR);
    for round in 1..=100 {
        let sent = shared::send(ipi.port);
        // No halting here: the emulator loses the shadow of `sti`, and with it the wake-up.
        let came = (0..SPINS).any(|_| interrupts::count(VECTOR) >= before + round);
        if sent != 0 || !came {
            checks.check("an event to itself makes an upcall", false);
            return;
        }
        shared::clear(ipi.port);
    }
    checks.equal(
        "a hundred events make a hundred upcalls",
        interrupts::count(VECTOR) - before,
        100,
    );
}

fn refusals(checks: &mut Checks, near: u32) {
    let refused = |error: Error| error.as_result();
    checks.equal("port 0", shared::send(0), refused(Error::EINVAL));
    checks.equal("a port far out", shared::send(u32::MAX), refused(Error::EINVAL));
    checks.equal(
        "close",
        hypercall::with(EVENT_CHANNEL_OP, op::CLOSE, &mut Close { port: near }),
        0,
    );
    checks.equal(
        "close again",
        hypercall::with(EVENT_CHANNEL_OP, op::CLOSE, &mut Close { port: near }),
        refused(Error::EINVAL),
    );
    let mut nobody = BindInterdomain {
        remote_domain: DomainId(0x1234),
        remote_port: 1,
        ..BindInterdomain::default()
    };
    checks.equal(
        "bind to a domain that is not",
        hypercall::with(EVENT_CHANNEL_OP, op::BIND_INTERDOMAIN, &mut nobody),
        refused(Error::ESRCH),
    );
}
