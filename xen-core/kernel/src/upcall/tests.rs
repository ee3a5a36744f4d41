//! Interrupts between vCPUs, one after another and with processors that really run at the same time.

use alloc::boxed::Box;
use core::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use machine::Machine;
use machine::fake::{Configuration, FakeVcpu, set_processor};
use machine::virtual_cpu::{Exit, register};

use super::*;
use crate::testing::{self, TestDomain, TestKernel, TestVcpu};
use crate::vcpu::Place;

const X2APIC_MODE: u64 = 0xfee0_0c00;
const SPURIOUS: u32 = 0x80f;
const END_OF_INTERRUPT: u32 = 0x80b;
const COMMAND: u32 = 0x830;
const ASSERT: u64 = 1 << 14;

fn prepared(vcpu: &TestVcpu) {
    vcpu.context.lock().set_interrupts_enabled(true);
    assert!(vcpu.lapic.set_base(X2APIC_MODE));
    vcpu.lapic
        .write(crate::lapic::register::SPURIOUS_VECTOR, 0x1ff, 0)
        .expect("a register");
}

/// Three vCPUs in x2APIC mode, asleep.
fn three(processors: usize) -> (TestKernel, TestDomain, [TestVcpu; 3]) {
    set_processor(0);
    let kernel = testing::kernel_on(&Configuration {
        processors,
        ..Configuration::default()
    });
    let domain = testing::domain(&kernel, 1, 3, 1);
    let vcpus = [0, 1, 2].map(|index| testing::vcpu(&domain, index));
    for vcpu in &vcpus {
        prepared(vcpu);
        kernel.reconsider(vcpu);
    }
    settle(&kernel);
    (kernel, domain, vcpus)
}

/// Run what wants to run until all is quiet.
fn settle(kernel: &TestKernel) {
    for _ in 0..20 {
        kernel.step();
    }
}

fn write_msr(vcpu: &mut FakeVcpu, number: u32, value: u64) -> Exit {
    let general = &mut vcpu.state.registers.general;
    general[register::RCX] = u64::from(number);
    general[register::RAX] = value & 0xffff_ffff;
    general[register::RDX] = value >> 32;
    Exit::WriteMsr
}

/// Let a vCPU write its command register, then halt.
fn command(kernel: &TestKernel, sender: &TestVcpu, value: u64) {
    let mut sent = false;
    sender.context.lock().set_program(Box::new(move |vcpu| {
        if core::mem::replace(&mut sent, true) {
            Exit::Halt
        } else {
            write_msr(vcpu, COMMAND, value)
        }
    }));
    kernel.unblock(sender);
    settle(kernel);
}

fn taken(vcpu: &TestVcpu) -> usize {
    vcpu.context.lock().taken.len()
}

#[test]
fn commands_reach_those_they_name() {
    let (kernel, _domain, [first, second, third]) = three(1);
    let mut before = [0; 3];
    let mut reached = |value: u64| {
        command(&kernel, &first, value);
        let after = [&first, &second, &third].map(taken);
        let new = [0, 1, 2].map(|index| after[index] - before[index]);
        before = after;
        // Completed, so that the next one is not held back.
        for vcpu in [&first, &second, &third] {
            let _ = vcpu.lapic.write(crate::lapic::register::END_OF_INTERRUPT, 0, 0);
        }
        new
    };
    // vCPU n has APIC id 2n.
    assert_eq!(reached(2 << 32 | ASSERT | 0x41), [0, 1, 0], "by its id");
    assert_eq!(reached(3 << 32 | ASSERT | 0x42), [0, 0, 0], "nobody has that id");
    assert_eq!(reached(1 << 18 | ASSERT | 0x43), [1, 0, 0], "oneself");
    assert_eq!(reached(2 << 18 | ASSERT | 0x44), [1, 1, 1], "all");
    assert_eq!(reached(3 << 18 | ASSERT | 0x45), [0, 1, 1], "all but oneself");
    assert_eq!(reached(0xffff_ffff << 32 | ASSERT | 0x46), [1, 1, 1], "broadcast");
    // Logical: ids 2 and 4 are bits of cluster 0.
    assert_eq!(
        reached(0x0014 << 32 | 1 << 11 | ASSERT | 0x47),
        [0, 1, 1],
        "a set"
    );
    assert_eq!(
        reached(0x1_0014 << 32 | 1 << 11 | ASSERT | 0x48),
        [0, 0, 0],
        "another cluster"
    );
    assert_eq!(
        reached(2 << 32 | ASSERT | 5),
        [0, 0, 0],
        "no vector for interrupts"
    );
    command(&kernel, &first, 2 << 32 | ASSERT | 4 << 8);
    assert_eq!((second.context.lock().nmis, third.context.lock().nmis), (1, 0));
}

#[test]
fn a_vcpu_is_started_where_it_is_told() {
    let (kernel, domain, [first, second, _]) = three(1);
    second.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
    let start = 2 << 32 | ASSERT | 6 << 8 | 0x9a;
    command(&kernel, &first, start);
    assert_ne!(
        second.context.lock().state.cs.base,
        0x9_a000,
        "one that runs is not started"
    );
    command(&kernel, &first, 2 << 32 | 5 << 8);
    assert!(second.is_up(), "the end of an INIT is none");
    command(&kernel, &first, 2 << 32 | ASSERT | 5 << 8);
    assert!(!second.is_up());
    kernel.unblock(&second);
    settle(&kernel);
    assert_eq!(*second.place.lock(), Place::Off, "it waits for its start");
    let waiting = second.context.lock().runs;
    second.upcall_vector.store(0xf3, Ordering::SeqCst);
    assert!(second.set_upcall_pending());
    command(&kernel, &first, start);
    let context = second.context.lock();
    assert_eq!(
        (context.state.cs.selector, context.state.cs.base),
        (0x9a00, 0x9_a000)
    );
    assert!(context.runs > waiting, "it runs");
    drop(context);
    assert!(second.lapic.in_x2apic_mode(), "INIT leaves the mode alone");
    assert!(second.initialised.load(Ordering::SeqCst));
    // Nobody stops oneself in the middle of an instruction.
    command(&kernel, &first, ASSERT | 5 << 8);
    assert!(first.is_up());
    assert_eq!(domain.lifecycle.lock().shutdown, None, "two others are up");
}

/// Each interrupt is completed and answered by one to the other.
fn answering(to: u64) -> Box<dyn FnMut(&mut FakeVcpu) -> Exit + Send> {
    let mut handled = 0;
    let mut answer = false;
    Box::new(move |vcpu| {
        if core::mem::take(&mut answer) {
            return write_msr(vcpu, COMMAND, to << 32 | ASSERT | 0xfd);
        }
        if vcpu.taken.len() > handled {
            handled = vcpu.taken.len();
            answer = true;
            return write_msr(vcpu, END_OF_INTERRUPT, 0);
        }
        Exit::Halt
    })
}

#[test]
fn vcpus_that_wake_each_other_never_sleep_in() {
    let (kernel, domain, [first, second, third]) = three(2);
    third.stops.fetch_or(stop::DOWN, Ordering::SeqCst);
    first.context.lock().set_program(answering(2));
    second.context.lock().set_program(answering(0));
    let done = AtomicBool::new(false);
    let count = || second.exits[Exit::WriteMsr.kind()].load(Ordering::SeqCst);
    let stuck = std::thread::scope(|scope| {
        for processor in 0..2 {
            let (kernel, done) = (&kernel, &done);
            scope.spawn(move || {
                set_processor(processor);
                while !done.load(Ordering::SeqCst) {
                    kernel.step();
                    std::thread::yield_now();
                }
            });
        }
        first.lapic.post(0xfd);
        kernel.unblock(&first);
        let limit = Instant::now() + Duration::from_secs(20);
        while count() < 2000 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        kernel.pause_domain(&domain);
        done.store(true, Ordering::SeqCst);
        count() < 2000
    });
    assert!(!stuck, "after {} exits nobody was awake", count());
    assert_eq!(kernel.machine.processors(), 2);
}

#[test]
fn the_spurious_vector_switches_delivery() {
    let (kernel, _domain, [first, second, _]) = three(1);
    let off = |vcpu: &TestVcpu, value: u64| {
        let mut sent = false;
        vcpu.context.lock().set_program(Box::new(move |vcpu| {
            if core::mem::replace(&mut sent, true) {
                Exit::Halt
            } else {
                write_msr(vcpu, SPURIOUS, value)
            }
        }));
        kernel.unblock(vcpu);
        settle(&kernel);
    };
    off(&second, 0xff);
    command(&kernel, &first, 2 << 32 | ASSERT | 0x41);
    assert_eq!(taken(&second), 0);
    off(&second, 0x1ff);
    assert_eq!(taken(&second), 1, "what waited is delivered then");
}

/// Completing the APIC's interrupt is an exit, serving a callback is none: offered first, a callback that the guest serves
/// without leaving would keep the other interrupt waiting.
#[test]
fn what_the_apic_has_does_not_wait_behind_a_callback() {
    const CALLBACK: u8 = 0xf3;
    let (kernel, domain, [first, ..]) = three(1);
    kernel.set_callback(&domain, CALLBACK_VECTOR << 56 | u64::from(CALLBACK));
    first.lapic.post(0x41);
    assert!(first.set_upcall_pending());
    let offered = || {
        let mut context = first.context.lock();
        kernel.offer_interrupts(&first, &mut context);
        context.offered()
    };
    assert_eq!(offered(), Some(0x41));
    kernel.interrupt_taken(&first, 0x41);
    assert_eq!(offered(), Some(CALLBACK), "then it is the callback's turn");
}
