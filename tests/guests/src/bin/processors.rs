//! The second vCPU: its start, interrupts and events for it, awake and asleep.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guests::{Checks, hypercall, interrupts, processors, shared};
use hypercall_abi::event_channel::{BindIpi, op};
use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, HVM_OP, VCPU_OP};
use hypercall_abi::vcpu;

guests::micro_guest!(main);

/// How often to look before something counts as lost.
const SPINS: u32 = 50_000_000;
const IPI: u8 = 0x50;
const UPCALL: u8 = 0x60;

/// What the second vCPU has counted up to.
static BEATS: AtomicU64 = AtomicU64::new(0);
/// Whether it sleeps between interrupts.
static SLEEP: AtomicBool = AtomicBool::new(false);

fn main(_: u64) -> ! {
    let mut checks = Checks::begin("processors");
    checks.equal("the shared page is mapped", shared::map(), 0);
    checks.equal("the second vCPU is down", is_up(1), 0);
    checks.check("there is no third", is_up(2) < 0);
    processors::enable_apic();
    processors::start(second);
    if !eventually(|| BEATS.load(Ordering::SeqCst) > 100) {
        checks.check("the second vCPU starts", false);
        checks.end();
    }
    checks.equal("the second vCPU is up", is_up(1), 1);
    interrupt(&mut checks, "a hundred interrupts reach it while it runs");
    SLEEP.store(true, Ordering::SeqCst);
    interrupt(&mut checks, "a hundred interrupts wake it");
    events(&mut checks);
    checks.end()
}

/// The second vCPU's work: to be there.
fn second() -> ! {
    processors::enable_apic();
    interrupts::enable();
    loop {
        BEATS.fetch_add(1, Ordering::SeqCst);
        if SLEEP.load(Ordering::SeqCst) {
            interrupts::sleep();
        }
    }
}

fn is_up(vcpu: u64) -> i64 {
    hypercall::raw(VCPU_OP, [vcpu::op::IS_UP.into(), vcpu, 0, 0, 0])
}

fn eventually(holds: impl Fn() -> bool) -> bool {
    (0..SPINS).any(|_| {
        core::hint::spin_loop();
        holds()
    })
}

fn interrupt(checks: &mut Checks, what: &str) {
    let before = interrupts::count(IPI);
    let came = (1..=100).all(|round| {
        processors::interrupt_others(IPI);
        eventually(|| interrupts::count(IPI) >= before + round)
    });
    checks.check(what, came);
    checks.equal("and none too many", interrupts::count(IPI), before + 100);
}

/// Events for the second vCPU, told by the vector that it alone has.
fn events(checks: &mut Checks) {
    const SET_UPCALL_VECTOR: u32 = 23; // HVMOP_set_evtchn_upcall_vector
    let mut vector = [1u32, UPCALL.into()];
    checks.equal(
        "its upcall vector is set",
        hypercall::with(HVM_OP, SET_UPCALL_VECTOR, &mut vector),
        0,
    );
    let mut port = BindIpi {
        vcpu: 1,
        ..BindIpi::default()
    };
    checks.equal(
        "a port of the second vCPU",
        hypercall::with(EVENT_CHANNEL_OP, op::BIND_IPI, &mut port),
        0,
    );
    let before = interrupts::count(UPCALL);
    let came = (1..=100).all(|round| {
        let sent = shared::send(port.port);
        let came = eventually(|| interrupts::count(UPCALL) >= before + round);
        shared::clear(port.port);
        sent == 0 && came
    });
    checks.check("a hundred events reach it", came);
}
