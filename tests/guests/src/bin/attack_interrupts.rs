//! Storms of interrupts: event channels to both vCPUs, interprocessor interrupts, NMIs, and every timer at its shortest.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use guests::attack::{self, Attacker};
use guests::{hypercall, interrupts, processors, shared};
use hypercall_abi::event_channel::{BindIpi, BindVirq, op};
use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, HVM_OP, SCHED_OP, VCPU_OP};
use hypercall_abi::vcpu::{self, SetPeriodicTimer, SetSingleshotTimer};
use hypercall_abi::xen::virq;

guests::micro_guest!(main);

const SET_UPCALL_VECTOR: u32 = 23;
const UPCALL: u8 = 0x60;
const TIMER: u64 = 0x70;
/// Registers of the local APIC, as x2APIC shows them.
const TIMER_ENTRY: u32 = 0x832;
const TIMER_INITIAL: u32 = 0x838;
const TIMER_DIVIDE: u32 = 0x83e;
const COMMAND: u32 = 0x830;
const SELF: u32 = 0x83f;

/// A port for events to each vCPU.
static PORTS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn main(start_information: u64) -> ! {
    // Awake all the time, or asleep and woken: the second is what schedulers fall for.
    if attack::told(start_information, "way=sleep") {
        attack::both("interrupts, woken", sleeping)
    }
    attack::both("interrupts", storm)
}

fn storm(attacker: &mut Attacker) {
    arm(attacker);
    for _ in 0..8 {
        let random = &mut attacker.random;
        let vector = 0x40 + random.below(0x40);
        match random.below(8) {
            0 | 1 => drop(shared::send(
                PORTS[random.below(2) as usize].load(Ordering::Relaxed),
            )),
            2 => processors::write_msr(SELF, vector),
            3 => processors::interrupt_others(vector as u8),
            4 => processors::write_msr(COMMAND, 2 << 18 | 0x4000 | vector), // to all, itself too
            5 => drop(hypercall::raw(
                VCPU_OP,
                [vcpu::op::SEND_NMI.into(), random.below(2), 0, 0, 0],
            )),
            6 => processors::send_to_others(0x4400), // an NMI
            _ => timers(attacker),
        }
    }
    attacker.done(8);
}

/// To sleep at once, always: woken by timers and by the other vCPU, which sends and sleeps as well.
fn sleeping(attacker: &mut Attacker) {
    arm(attacker);
    let other = PORTS[1 - attacker.vcpu as usize].load(Ordering::Relaxed);
    shared::send(other);
    timers(attacker);
    match attacker.random.below(4) {
        0 => drop(hypercall::raw(SCHED_OP, [1, 0, 0, 0, 0])), // block
        1 => drop(hypercall::raw(SCHED_OP, [0, 0, 0, 0, 0])), // yield
        _ => interrupts::sleep(),
    }
    attacker.done(3);
}

/// Once on each vCPU: vectors, ports, periodic timers; then interrupts are let in.
fn arm(attacker: &Attacker) {
    let own = &PORTS[attacker.vcpu as usize];
    if own.load(Ordering::Relaxed) != 0 {
        return;
    }
    let vcpu = attacker.vcpu as u32;
    hypercall::with(HVM_OP, SET_UPCALL_VECTOR, &mut [vcpu, UPCALL.into()]);
    let mut port = BindIpi {
        vcpu,
        ..BindIpi::default()
    };
    hypercall::with(EVENT_CHANNEL_OP, op::BIND_IPI, &mut port);
    let mut timer = BindVirq {
        virq: virq::TIMER,
        vcpu,
        ..BindVirq::default()
    };
    hypercall::with(EVENT_CHANNEL_OP, op::BIND_VIRQ, &mut timer);
    let mut periodic = SetPeriodicTimer { period_ns: 1_000_000 };
    let operation = u64::from(vcpu::op::SET_PERIODIC_TIMER);
    let address = core::ptr::from_mut(&mut periodic) as u64;
    hypercall::raw(VCPU_OP, [operation, attacker.vcpu, address, 0, 0]);
    processors::write_msr(TIMER_DIVIDE, 0xb); // by one
    processors::write_msr(TIMER_ENTRY, 1 << 17 | TIMER); // periodic
    processors::write_msr(TIMER_INITIAL, 1);
    own.store(port.port, Ordering::Relaxed);
    interrupts::enable();
    // An NMI to one that has no handlers yet would be its end.
    while PORTS.iter().any(|port| port.load(Ordering::Relaxed) == 0) {
        core::hint::spin_loop();
    }
}

/// One shot that is due at once, and one in a moment; the periodic ones set anew.
fn timers(attacker: &mut Attacker) {
    let soon = attacker.random.pick(&[0, 1, 1_000, 50_000]);
    let mut shot = SetSingleshotTimer {
        timeout_abs_ns: shared::system_time() + soon,
        ..SetSingleshotTimer::default()
    };
    let address = core::ptr::from_mut(&mut shot) as u64;
    let operation = u64::from(vcpu::op::SET_SINGLESHOT_TIMER);
    hypercall::raw(VCPU_OP, [operation, attacker.vcpu, address, 0, 0]);
    processors::write_msr(TIMER_INITIAL, attacker.random.pick(&[1, 2, 100]));
}
