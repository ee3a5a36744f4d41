//! Who runs where and when, by hand and with processors that really run at the same time; timers and ends of domains.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicUsize;
use std::sync::Weak;
use std::time::{Duration, Instant};

use hypercall_abi::DomainId;
use hypercall_abi::xen::virq;
use machine::fake::{Configuration, on_processor, set_processor};
use machine::virtual_cpu::Exit;

use super::fair::SLICE;
use super::*;
use crate::lifecycle::Destruction;
use crate::testing::{self, TestDomain, TestKernel, TestVcpu};

const MILLISECOND: Nanoseconds = 1_000_000;

fn shared_kernel(processors: usize) -> Arc<TestKernel> {
    set_processor(0);
    Arc::new(testing::kernel_on(&Configuration {
        processors,
        ..Configuration::default()
    }))
}

/// A guest that takes interrupts and halts when it has nothing to do.
fn sleeper(kernel: &TestKernel, id: u16) -> TestVcpu {
    let vcpu = testing::vcpu(&testing::domain(kernel, id, 1, 1), 0);
    vcpu.context.lock().set_interrupts_enabled(true);
    vcpu
}

/// A guest that computes for ever: a millisecond passes at each of its exits.
fn worker(kernel: &Arc<TestKernel>, id: u16) -> TestVcpu {
    let vcpu = sleeper(kernel, id);
    let clock: Weak<TestKernel> = Arc::downgrade(kernel);
    vcpu.context.lock().set_program(Box::new(move |_| {
        if let Some(kernel) = clock.upgrade() {
            kernel.machine.advance(MILLISECOND);
        }
        Exit::WriteBackCaches
    }));
    vcpu
}

fn runs(vcpu: &TestVcpu) -> u64 {
    vcpu.context.lock().runs
}

fn ran(kernel: &TestKernel, vcpu: &TestVcpu) -> u64 {
    vcpu.runstate.lock().at(kernel.machine.now()).time[runstate::RUNNING as usize]
}

#[test]
fn a_processor_without_work_waits() {
    let kernel = shared_kernel(2);
    kernel.step();
    assert_eq!(kernel.machine.waits(0), 1);
    let vcpu = sleeper(&kernel, 1);
    kernel.reconsider(&vcpu);
    kernel.step();
    assert_eq!((runs(&vcpu), kernel.machine.waits(0)), (1, 1));
    assert_eq!(*vcpu.place.lock(), Place::Off);
    assert_eq!(vcpu.runstate.lock().info.state, runstate::BLOCKED);
}

#[test]
fn who_has_nothing_to_do_takes_others_work() {
    let kernel = shared_kernel(2);
    let vcpus = [sleeper(&kernel, 1), sleeper(&kernel, 2)];
    vcpus.iter().for_each(|vcpu| kernel.reconsider(vcpu));
    assert!(vcpus.iter().all(|vcpu| *vcpu.place.lock() == Place::Queued(0)));
    on_processor(1, || kernel.step());
    assert_eq!(vcpus.iter().map(runs).sum::<u64>(), 1);
    kernel.step();
    assert!(vcpus.iter().all(|vcpu| runs(vcpu) == 1));
}

#[test]
fn an_idle_processor_is_given_the_work_and_woken() {
    let kernel = shared_kernel(2);
    kernel.idle.insert(1);
    let vcpu = sleeper(&kernel, 1);
    let kicks = kernel.machine.kicks(1);
    kernel.reconsider(&vcpu);
    assert_eq!(*vcpu.place.lock(), Place::Queued(1));
    assert_eq!(kernel.machine.kicks(1), kicks + 1);
}

#[test]
fn a_processor_that_begins_to_idle_meanwhile_is_told() {
    let kernel = shared_kernel(2);
    let vcpu = sleeper(&kernel, 1);
    let (locks, weak) = (Arc::new(AtomicUsize::new(0)), Arc::downgrade(&kernel));
    let kicks = kernel.machine.kicks(1);
    // Processor 1 looks at the queues, finds nothing and waits, just before the vCPU is put into one: at each of the
    // locks on the way, of its place, its run state and the queue.
    for moment in 0..3 {
        locks.store(0, Ordering::SeqCst);
        let (seen, kernel_at) = (locks.clone(), weak.clone());
        machine::fake::set_interleave(Some(Box::new(move || {
            if seen.fetch_add(1, Ordering::SeqCst) == moment
                && let Some(kernel) = kernel_at.upgrade()
            {
                kernel.idle.insert(1);
            }
        })));
        kernel.reconsider(&vcpu);
        machine::fake::set_interleave(None);
        assert!(matches!(*vcpu.place.lock(), Place::Queued(_)));
        let missed = kernel.idle.contains(1);
        assert!(!missed, "at lock {moment}");
        on_processor(1, || kernel.step());
        vcpu.stops.store(0, Ordering::SeqCst);
    }
    assert!(kernel.machine.kicks(1) >= kicks + 3);
}

#[test]
fn workers_share_a_processor_in_slices() {
    let kernel = shared_kernel(1);
    let workers = [worker(&kernel, 1), worker(&kernel, 2), worker(&kernel, 3)];
    workers.iter().for_each(|vcpu| kernel.reconsider(vcpu));
    for _ in 0..60 {
        kernel.step();
    }
    let times: Vec<u64> = workers.iter().map(|vcpu| ran(&kernel, vcpu)).collect();
    let (least, most) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
    assert!(most - least <= 2 * SLICE, "{times:?}");
    assert!(least >= 15 * SLICE, "slices are not cut short: {times:?}");
    let waited: u64 = workers
        .iter()
        .map(|vcpu| vcpu.runstate.lock().at(kernel.machine.now()).time[runstate::RUNNABLE as usize])
        .sum();
    let all: u64 = times.iter().sum();
    assert_eq!(waited, 2 * all, "two wait while one runs");
}

#[test]
fn a_sleeper_that_wakes_does_not_wait_for_the_slices_end() {
    let kernel = shared_kernel(1);
    let busy = worker(&kernel, 1);
    let light = sleeper(&kernel, 2);
    kernel.reconsider(&busy);
    kernel.change_deadlines(&light, |deadlines| deadlines.poll = Some(23 * MILLISECOND));
    light.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
    let start = kernel.machine.now();
    while runs(&light) == 0 {
        kernel.step();
        assert!(kernel.machine.now() < start + 100 * MILLISECOND, "it never ran");
    }
    assert!(kernel.machine.now() <= start + 26 * MILLISECOND);
    assert_eq!(light.stops.load(Ordering::SeqCst), stop::BLOCKED);
}

#[test]
fn affinity_is_kept_to() {
    let kernel = shared_kernel(2);
    let bound = sleeper(&kernel, 1);
    bound.hard_affinity.store(ProcessorSet::of_bits(0b10));
    kernel.reconsider(&bound);
    assert_eq!(*bound.place.lock(), Place::Queued(1));
    kernel.step();
    assert_eq!(runs(&bound), 0);
    on_processor(1, || kernel.step());
    assert_eq!(
        (runs(&bound), bound.last_processor.load(Ordering::SeqCst)),
        (1, 1)
    );

    // Moved while it waits, while it runs, and while it sleeps.
    let moved = worker(&kernel, 2);
    kernel.reconsider(&moved);
    assert_eq!(*moved.place.lock(), Place::Queued(0));
    moved.hard_affinity.store(ProcessorSet::of_bits(0b10));
    kernel.place_again(&moved);
    assert_eq!(*moved.place.lock(), Place::Queued(1));
    let handle = (moved.clone(), Arc::downgrade(&kernel));
    moved.context.lock().set_program(Box::new(move |vcpu| {
        if vcpu.runs == 5 {
            handle.0.hard_affinity.store(ProcessorSet::of_bits(0b01));
            if let Some(kernel) = handle.1.upgrade() {
                kernel.place_again(&handle.0);
            }
        }
        Exit::WriteBackCaches
    }));
    on_processor(1, || kernel.step());
    assert_eq!(runs(&moved), 5, "it left at once");
    assert_eq!(*moved.place.lock(), Place::Queued(0));
    moved.context.lock().set_program(Box::new(|_| Exit::Halt));
    kernel.step();
    kernel.place_again(&moved);
    assert_eq!(*moved.place.lock(), Place::Off);
}

#[test]
fn paused_domains_do_not_run() {
    let kernel = shared_kernel(1);
    let vcpu = sleeper(&kernel, 1);
    kernel.pause_domain(vcpu.domain());
    kernel.pause_domain(vcpu.domain());
    kernel.reconsider(&vcpu);
    kernel.step();
    kernel.unpause_domain(vcpu.domain());
    kernel.step();
    assert_eq!(runs(&vcpu), 0);
    kernel.unpause_domain(vcpu.domain());
    kernel.step();
    assert_eq!(runs(&vcpu), 1);
    // Paused in a queue: the queue lets go of it.
    kernel.unblock(&vcpu);
    kernel.pause_vcpu(&vcpu);
    kernel.step();
    assert_eq!((runs(&vcpu), *vcpu.place.lock()), (1, Place::Off));
    kernel.unpause_vcpu(&vcpu);
    kernel.step();
    assert_eq!(runs(&vcpu), 2);
}

/// Let processors run, each on a thread of its own, while `act` does something on the last one.
fn at_the_same_time(kernel: &TestKernel, act: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let last = kernel.processors.len() - 1;
    std::thread::scope(|scope| {
        for processor in 0..last {
            let done = &done;
            scope.spawn(move || {
                set_processor(processor);
                while !done.load(Ordering::SeqCst) {
                    kernel.step();
                    std::thread::yield_now();
                }
            });
        }
        set_processor(last);
        // Ended also when an assertion fails.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _end = End(&done);
        act();
    });
    set_processor(0);
    // Now that nobody is at work, everything adds up.
    if let Err(violation) = kernel.audit() {
        panic!("{violation}");
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn no_wake_up_is_lost() {
    let kernel = shared_kernel(3);
    let vcpus: Vec<TestVcpu> = (1..4).map(|id| sleeper(&kernel, id)).collect();
    vcpus.iter().for_each(|vcpu| kernel.reconsider(vcpu));
    at_the_same_time(&kernel, || {
        for round in 0..3000 {
            let vcpu = &vcpus[round % vcpus.len()];
            vcpu.nmi_pending.store(true, Ordering::SeqCst);
            kernel.unblock(vcpu);
            if round % 7 == 0 {
                for vcpu in &vcpus {
                    wait_until("a wake-up was lost", || !vcpu.nmi_pending.load(Ordering::SeqCst));
                }
            }
        }
    });
}

#[test]
fn a_pause_waits_until_nobody_runs() {
    let kernel = shared_kernel(3);
    let domain = testing::domain(&kernel, 1, 3, 1);
    let inside = Arc::new(AtomicUsize::new(0));
    for index in 0..3 {
        let vcpu = testing::vcpu(&domain, index);
        let inside = inside.clone();
        vcpu.context.lock().set_program(Box::new(move |_| {
            inside.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
            Exit::WriteBackCaches
        }));
        kernel.reconsider(&vcpu);
    }
    at_the_same_time(&kernel, || {
        for _ in 0..60 {
            kernel.pause_domain(&domain);
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            let before: u64 = (0..3).map(|index| runs(&testing::vcpu(&domain, index))).sum();
            std::thread::yield_now();
            let after: u64 = (0..3).map(|index| runs(&testing::vcpu(&domain, index))).sum();
            assert_eq!(before, after, "paused vCPUs ran");
            kernel.unpause_domain(&domain);
            wait_until("they run again", || inside.load(Ordering::SeqCst) != 0);
        }
        kernel.pause_domain(&domain);
    });
}

#[test]
fn affinity_that_changes_all_the_time_stops_nobody() {
    let kernel = shared_kernel(3);
    let workers = [worker(&kernel, 1), worker(&kernel, 2)];
    workers.iter().for_each(|vcpu| kernel.reconsider(vcpu));
    at_the_same_time(&kernel, || {
        for round in 0..60u64 {
            for (index, vcpu) in workers.iter().enumerate() {
                let before = ran(&kernel, vcpu);
                let place = 1 << ((round + index as u64) % 2);
                vcpu.hard_affinity.store(ProcessorSet::of_bits(place));
                kernel.place_again(vcpu);
                wait_until("it runs where it may", || ran(&kernel, vcpu) > before);
            }
        }
        workers.iter().for_each(|vcpu| kernel.pause_domain(vcpu.domain()));
    });
}

#[test]
fn domains_end_while_they_run() {
    let kernel = shared_kernel(3);
    let before = kernel.machine.memory().free_frames();
    at_the_same_time(&kernel, || {
        for round in 0..40 {
            let vcpu = worker(&kernel, 1 + round);
            kernel.reconsider(&vcpu);
            wait_until("it runs", || vcpu.exits[9].load(Ordering::SeqCst) != 0);
            while kernel.destroy_domain(vcpu.domain()) == Destruction::More {}
            assert!(kernel.domains.get(DomainId(1 + round)).is_none());
        }
    });
    // Queues may still have named them: a look lets go.
    for processor in 0..3 {
        on_processor(processor, || kernel.step());
    }
    assert_eq!(kernel.machine.memory().free_frames(), before);
}

/// A domain whose timer events can be seen.
fn with_timer(kernel: &TestKernel, id: u16) -> (TestDomain, TestVcpu, u32) {
    let domain = testing::domain(kernel, id, 1, 1);
    let port = kernel.bind_virq(&domain, virq::TIMER, 0).expect("a port");
    let vcpu = testing::vcpu(&domain, 0);
    (domain, vcpu, port)
}

#[test]
fn timers_fire_when_they_are_due_and_once() {
    let kernel = shared_kernel(2);
    let (domain, vcpu, port) = with_timer(&kernel, 1);
    let pending = || kernel.is_pending(&domain, port) == Ok(true);
    kernel.change_deadlines(&vcpu, |deadlines| {
        deadlines.singleshot = Some(5000);
        deadlines.poll = Some(9000);
    });
    assert_eq!(kernel.machine.deadline(0), Some(5000));
    kernel.machine.advance(4999);
    kernel.serve_interrupts();
    assert!(!pending());
    kernel.machine.advance(1);
    kernel.serve_interrupts();
    assert!(pending());
    assert_eq!(vcpu.deadlines.lock().singleshot, None);
    assert_eq!(
        kernel.machine.deadline(0),
        Some(9000),
        "the next of its deadlines"
    );
    // Changed from another processor, it is entered there and nowhere else.
    on_processor(1, || {
        kernel.change_deadlines(&vcpu, |deadlines| deadlines.poll = Some(7000))
    });
    assert_eq!(kernel.machine.deadline(1), Some(7000));
    assert_eq!(kernel.processors[0].timers.lock().first(), None);
    kernel.cancel_deadlines(&vcpu);
    assert_eq!(kernel.processors[1].timers.lock().first(), None);
    assert_eq!(vcpu.deadlines.lock().queued, None);
}

#[test]
fn ticks_that_nobody_took_are_one() {
    let kernel = shared_kernel(1);
    let (domain, vcpu, port) = with_timer(&kernel, 1);
    kernel.change_deadlines(&vcpu, |deadlines| {
        deadlines.period = 1000;
        deadlines.periodic = Some(1000);
    });
    kernel.machine.advance(5500);
    kernel.serve_interrupts();
    assert_eq!(kernel.is_pending(&domain, port), Ok(true));
    assert_eq!(vcpu.deadlines.lock().periodic, Some(6000), "in step");
    // A period that ends beyond all time is simply never over.
    kernel.change_deadlines(&vcpu, |deadlines| {
        deadlines.period = u64::MAX;
        deadlines.periodic = Some(5500);
    });
    kernel.serve_interrupts();
    assert!(vcpu.deadlines.lock().periodic.is_some_and(|next| next > 5500));
}

#[test]
fn the_apics_timer_wakes_its_vcpu() {
    use crate::lapic::register;
    let kernel = shared_kernel(1);
    let vcpu = sleeper(&kernel, 1);
    let now = kernel.machine.now();
    vcpu.lapic
        .write(register::SPURIOUS_VECTOR, 0x1ff, now)
        .expect("a register");
    vcpu.lapic
        .write(register::TIMER_DIVIDE, 0xb, now)
        .expect("a register");
    vcpu.lapic
        .write(register::TIMER_VECTOR, 0x51, now)
        .expect("a register");
    let effect = vcpu
        .lapic
        .write(register::TIMER_INITIAL, 100, now)
        .expect("a register");
    kernel.apic_effect(&vcpu, effect);
    kernel.reconsider(&vcpu);
    kernel.step();
    assert!(vcpu.context.lock().taken.is_empty());
    kernel.machine.advance(1000);
    kernel.step();
    kernel.step();
    assert_eq!(vcpu.context.lock().taken, [0x51]);
    assert_eq!(vcpu.deadlines.lock().apic, None);
}

#[test]
fn an_ended_domain_leaves_no_timers() {
    let kernel = shared_kernel(1);
    let before = kernel.machine.memory().free_frames();
    let (domain, vcpu, _) = with_timer(&kernel, 1);
    kernel.change_deadlines(&vcpu, |deadlines| deadlines.singleshot = Some(5000));
    while kernel.destroy_domain(&domain) == Destruction::More {}
    assert_eq!(
        kernel.destroy_domain(&domain),
        Destruction::Done,
        "again is no error"
    );
    assert_eq!(kernel.processors[0].timers.lock().first(), None);
    drop((domain, vcpu));
    assert_eq!(kernel.machine.memory().free_frames(), before);
}

#[test]
fn a_crash_is_told_to_the_privileged_domain() {
    let kernel = shared_kernel(1);
    let control = testing::domain(&kernel, 0, 1, 1);
    let port = kernel
        .bind_virq(&control, virq::DOMAIN_EXCEPTION, 0)
        .expect("a port");
    let vcpu = sleeper(&kernel, 1);
    vcpu.context.lock().push_exit(Exit::Invalid { code: 7 });
    kernel.reconsider(&vcpu);
    kernel.step();
    assert_eq!(vcpu.domain().lifecycle.lock().shutdown, Some(3));
    assert_eq!(kernel.is_pending(&control, port), Ok(true));
    assert_eq!(*vcpu.place.lock(), Place::Off);
}

#[test]
fn who_destroys_second_waits_as_well_until_nothing_runs() {
    let kernel = shared_kernel(2);
    let domain = testing::domain(&kernel, 1, 1, 2);
    let vcpu = testing::vcpu(&domain, 0);
    let port = kernel.bind_ipi(&domain, 0).expect("a port");
    // Another processor has begun, and waits for this one to stop.
    domain.lifecycle.lock().dying = true;
    domain.pauses.store(1, Ordering::SeqCst);
    *vcpu.place.lock() = Place::Running(1);
    let looks = Arc::new(AtomicUsize::new(0));
    let (seen, at, of) = (looks.clone(), Arc::downgrade(&kernel), Arc::downgrade(&domain));
    machine::fake::set_interleave(Some(Box::new(move || {
        if seen.fetch_add(1, Ordering::SeqCst) != 100 {
            return;
        }
        let (Some(kernel), Some(domain)) = (at.upgrade(), of.upgrade()) else {
            return;
        };
        // Still running, and still with all it had.
        assert_eq!(kernel.is_pending(&domain, port), Ok(false));
        assert!(domain.physmap.get(machine::address::GuestFrame(0)).is_some());
        assert_eq!(kernel.bind_ipi(&domain, 0), Ok(port + 1));
        *domain.vcpus[0].place.lock() = Place::Off;
    })));
    while kernel.destroy_domain(&domain) == Destruction::More {}
    machine::fake::set_interleave(None);
    assert!(looks.load(Ordering::SeqCst) > 100);
    assert!(domain.physmap.get(machine::address::GuestFrame(0)).is_none());
    assert!(kernel.domains.get(DomainId(1)).is_none());
}

#[test]
fn a_processor_that_is_kicked_all_the_time_goes_on() {
    let kernel = shared_kernel(2);
    let other = Arc::downgrade(&kernel);
    machine::fake::set_interleave(Some(Box::new(move || {
        if let Some(kernel) = other.upgrade() {
            kernel.machine.kick(0);
        }
    })));
    kernel.machine.kick(0);
    kernel.serve_interrupts();
    machine::fake::set_interleave(None);
    kernel.serve_interrupts();
    assert_eq!(kernel.machine.take_interrupt(), None);
}

#[test]
fn a_vcpu_that_is_paused_while_it_waits_is_offline_and_not_runnable() {
    let kernel = shared_kernel(1);
    let vcpu = sleeper(&kernel, 1);
    kernel.reconsider(&vcpu);
    kernel.pause_domain(vcpu.domain());
    kernel.step();
    assert_eq!(*vcpu.place.lock(), Place::Off);
    assert_eq!(vcpu.runstate.lock().info.state, runstate::OFFLINE);
    kernel.machine.advance(MILLISECOND);
    let times = vcpu.runstate.lock().at(kernel.machine.now()).time;
    assert_eq!(times[runstate::OFFLINE as usize], MILLISECOND);
    kernel.unpause_domain(vcpu.domain());
    assert_eq!(vcpu.runstate.lock().info.state, runstate::RUNNABLE);
}

#[test]
fn a_destroyed_domain_waits_in_no_queue() {
    let kernel = shared_kernel(1);
    let vcpu = sleeper(&kernel, 1);
    kernel.reconsider(&vcpu);
    let domain = vcpu.domain().clone();
    while kernel.destroy_domain(&domain) == Destruction::More {}
    assert_eq!(*vcpu.place.lock(), Place::Off);
    // Nobody but us has it any more.
    drop(vcpu);
    assert_eq!(Arc::strong_count(&domain), 1);
}

#[test]
fn a_vcpu_that_is_moved_while_it_may_not_run_is_not_waiting_to_run() {
    let kernel = shared_kernel(2);
    let vcpu = sleeper(&kernel, 1);
    kernel.reconsider(&vcpu);
    let Place::Queued(queue) = *vcpu.place.lock() else {
        panic!("it waits for a processor");
    };
    vcpu.pauses.fetch_add(1, Ordering::SeqCst);
    vcpu.hard_affinity.store(ProcessorSet::of_bits(1 << (1 - queue)));
    kernel.place_again(&vcpu);
    assert_eq!(*vcpu.place.lock(), Place::Off);
    assert_eq!(vcpu.runstate.lock().at(0).state, runstate::OFFLINE);
}

#[test]
fn a_wider_affinity_is_told_to_who_idles() {
    let kernel = shared_kernel(2);
    let vcpu = sleeper(&kernel, 1);
    vcpu.hard_affinity.store(ProcessorSet::of_bits(1));
    kernel.idle.insert(1);
    kernel.reconsider(&vcpu);
    assert_eq!(*vcpu.place.lock(), Place::Queued(0));
    let kicks = kernel.machine.kicks(1);
    vcpu.hard_affinity.store(ProcessorSet::of_bits(3));
    kernel.place_again(&vcpu);
    assert_eq!(kernel.machine.kicks(1), kicks + 1);
}

#[test]
fn who_was_called_for_one_vcpu_and_takes_another_calls_for_the_first() {
    let kernel = shared_kernel(3);
    let [first, second] = [worker(&kernel, 1), worker(&kernel, 2)];
    for processor in [1, 2] {
        kernel.idle.insert(processor);
    }
    second.hard_affinity.store(ProcessorSet::of_bits(0b010));
    first.domain().share.grow_older(1);
    first.last_processor.store(1, Ordering::SeqCst);
    kernel.reconsider(&first);
    // Where the second may run nobody idles any more.
    kernel.reconsider(&second);
    assert_eq!(
        [&first, &second].map(|vcpu| *vcpu.place.lock()),
        [Place::Queued(1); 2]
    );
    let kicks = kernel.machine.kicks(2);
    let at = Arc::downgrade(&kernel);
    second.context.lock().set_program(Box::new(move |_| {
        let kernel = at.upgrade().expect("it runs there");
        assert_eq!(
            kernel.machine.kicks(2),
            kicks + 1,
            "the third idles beside the first"
        );
        Exit::Halt
    }));
    second.context.lock().set_interrupts_enabled(true);
    on_processor(1, || kernel.step());
    assert_eq!(runs(&second), 1);
}

#[test]
fn the_late_end_of_a_poll_does_not_make_the_next_one_deaf() {
    let kernel = shared_kernel(2);
    let domain = testing::domain(&kernel, 1, 1, 1);
    let vcpu = testing::vcpu(&domain, 0);
    let ports = [0; 2].map(|_| kernel.bind_ipi(&domain, 0).expect("a port"));
    let poll = |vcpu: &TestVcpu, port: u32| {
        vcpu.polling.store(port + 1, Ordering::SeqCst);
        vcpu.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
    };
    // Three that end polls; at each of their steps the vCPU, which runs elsewhere, has given up and polls anew.
    let ends: [fn(&TestKernel, &TestVcpu); 3] = [
        |kernel, vcpu| kernel.unblock(vcpu),
        |kernel, vcpu| kernel.unblock_poll(vcpu),
        |kernel, vcpu| {
            kernel.machine.advance(1000);
            let due = kernel.machine.now();
            kernel.change_deadlines(vcpu, |deadlines| deadlines.poll = Some(due));
            kernel.expire_timers();
        },
    ];
    for (end, moment) in ends
        .iter()
        .flat_map(|end| (0..12).map(move |moment| (end, moment)))
    {
        *vcpu.place.lock() = Place::Running(1);
        poll(&vcpu, ports[0]);
        let seen = Arc::new(AtomicUsize::new(0));
        let (steps, polls, next) = (seen.clone(), vcpu.clone(), ports[1]);
        machine::fake::set_interleave(Some(Box::new(move || {
            if steps.fetch_add(1, Ordering::SeqCst) == moment {
                polls.polling.store(next + 1, Ordering::SeqCst);
                polls.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
            }
        })));
        end(&kernel, &vcpu);
        machine::fake::set_interleave(None);
        // Whatever was left of it: the event that it waits for ends the second poll, if nothing else has.
        kernel.send_event(&domain, ports[1]).expect("an open port");
        let waits = vcpu.stops.load(Ordering::SeqCst) & stop::POLLING != 0;
        assert!(!waits, "deaf after step {moment}");
        let table = &domain.shared_info;
        table.store_u64(2048, 0).expect("the pending bits");
    }
}

/// How long vCPUs ran while so many decisions were made on one processor.
fn shares(kernel: &TestKernel, vcpus: &[&TestVcpu], decisions: usize) -> Vec<u64> {
    let before: Vec<u64> = vcpus.iter().map(|vcpu| ran(kernel, vcpu)).collect();
    (0..decisions).for_each(|_| kernel.step());
    let after = vcpus.iter().map(|vcpu| ran(kernel, vcpu));
    after.zip(before).map(|(after, before)| after - before).collect()
}

#[test]
fn domains_share_by_their_weights_and_not_by_their_vcpus() {
    let kernel = shared_kernel(1);
    let light = worker(&kernel, 1);
    let heavy = worker(&kernel, 2);
    kernel.set_share(light.domain(), 256, 0).unwrap();
    kernel.set_share(heavy.domain(), 768, 0).unwrap();
    for vcpu in [&light, &heavy] {
        kernel.reconsider(vcpu);
    }
    let times = shares(&kernel, &[&light, &heavy], 400);
    let part = times[1] as f64 / (times[0] + times[1]) as f64;
    assert!((part - 0.75).abs() < 0.01, "{times:?}");
}

#[test]
fn a_cap_holds_also_where_nobody_else_wants_the_processor() {
    let kernel = shared_kernel(1);
    let capped = worker(&kernel, 1);
    kernel.set_share(capped.domain(), 256, 30).unwrap();
    kernel.reconsider(&capped);
    let start = kernel.machine.now();
    while kernel.machine.now() < start + 1000 * MILLISECOND {
        kernel.step();
        if *capped.place.lock() == Place::Off {
            assert_eq!(capped.stops.load(Ordering::SeqCst), stop::CAPPED);
            assert_eq!(capped.runstate.lock().info.state, runstate::RUNNABLE);
            assert!(kernel.machine.advance_to_deadline());
        }
    }
    let part = ran(&kernel, &capped) as f64 / (kernel.machine.now() - start) as f64;
    assert!((part - 0.3).abs() < 0.01, "{part}");
    // Without it, it goes on at once.
    while *capped.place.lock() != Place::Off {
        kernel.step();
    }
    kernel.set_share(capped.domain(), 256, 0).unwrap();
    assert!(matches!(*capped.place.lock(), Place::Queued(0)));
    assert_eq!(kernel.set_share(capped.domain(), 0, 0), Err(Error::EINVAL));
    assert_eq!(kernel.set_share(capped.domain(), 1, 101), Err(Error::EINVAL));
}

#[test]
fn in_a_pool_of_processors_of_their_own_nobody_is_interrupted() {
    let kernel = shared_kernel(3);
    let pool = kernel.create_pool(None, policy::PolicyKind::Pinned).unwrap();
    for processor in [1, 2] {
        kernel.remove_from_pool(0, Some(processor)).unwrap();
        kernel.add_to_pool(pool, Some(processor)).unwrap();
    }
    let vcpus = [1, 2, 3].map(|id| worker(&kernel, id));
    for vcpu in &vcpus {
        kernel.move_to_pool(vcpu.domain(), pool).unwrap();
        // Each exit is one decision: it gives way at once, and runs again.
        vcpu.context.lock().set_program(Box::new(|_| Exit::Halt));
        vcpu.context.lock().set_interrupts_enabled(true);
        kernel.reconsider(vcpu);
    }
    for processor in [1, 2] {
        on_processor(processor, || kernel.step());
        assert_eq!(kernel.machine.deadline(processor), None, "no slices");
    }
    assert_eq!(vcpus.each_ref().map(runs), [1, 1, 0], "the third finds none");
    // The owner sleeps, and its processor is kept for it.
    on_processor(1, || kernel.step());
    assert_eq!(runs(&vcpus[2]), 0);
    while kernel.destroy_domain(vcpus[0].domain()) == Destruction::More {}
    on_processor(1, || kernel.step());
    assert_eq!(runs(&vcpus[2]), 1);
    assert_eq!(kernel.remove_from_pool(pool, Some(0)), Err(Error::EINVAL));
    assert_eq!(kernel.destroy_pool(pool), Err(Error::EBUSY));
}

#[test]
fn a_processor_that_is_taken_from_its_pool_runs_nothing_any_more() {
    let kernel = shared_kernel(2);
    let vcpu = worker(&kernel, 1);
    vcpu.hard_affinity.store(ProcessorSet::one(1));
    kernel.reconsider(&vcpu);
    assert_eq!(*vcpu.place.lock(), Place::Queued(1));
    kernel.remove_from_pool(0, Some(1)).unwrap();
    assert_eq!(
        *vcpu.place.lock(),
        Place::Queued(0),
        "its affinity is broken, not it"
    );
    assert_eq!(kernel.remove_from_pool(0, Some(0)), Err(Error::EBUSY));
    on_processor(1, || kernel.step());
    assert_eq!(runs(&vcpu), 0);
    kernel.add_to_pool(0, None).unwrap();
    assert_eq!(kernel.add_to_pool(0, None), Err(Error::ENODEV));
}

#[test]
fn a_vcpu_of_no_use_here_is_not_fetched_again_and_again() {
    let kernel = shared_kernel(2);
    let [young, old, own] = [1, 2, 3].map(|id| worker(&kernel, id));
    for (vcpu, set) in [(&young, 0b01), (&old, 0b11), (&own, 0b10)] {
        vcpu.hard_affinity.store(ProcessorSet::of_bits(set));
    }
    own.context.lock().set_program(Box::new(|_| Exit::Halt));
    own.context.lock().set_interrupts_enabled(true);
    old.domain().share.grow_older(1 << 40);
    own.domain().share.grow_older(1 << 39);
    for vcpu in [&young, &old] {
        kernel.reconsider(vcpu);
    }
    on_processor(1, || kernel.reconsider(&own));
    assert_eq!(*own.place.lock(), Place::Queued(1));
    // The first that waits on the other one may not run here; the second is older than who waits here.
    on_processor(1, || kernel.step());
    assert_eq!((runs(&own), runs(&old)), (1, 0));
}

#[test]
fn who_yields_lets_the_next_one_go_first() {
    let kernel = shared_kernel(1);
    let [first, second] = [worker(&kernel, 1), worker(&kernel, 2)];
    second.domain().share.grow_older(1 << 30);
    for vcpu in [&first, &second] {
        kernel.reconsider(vcpu);
    }
    let at = Arc::downgrade(&kernel);
    let yields = first.clone();
    first.context.lock().set_program(Box::new(move |_| {
        if let Some(kernel) = at.upgrade() {
            kernel.yield_now(&yields);
        }
        Exit::WriteBackCaches
    }));
    kernel.step();
    assert_eq!(runs(&first), 1);
    kernel.step();
    assert!(runs(&second) != 0, "although it is older");
}

#[test]
fn what_the_control_domain_does_for_who_woke_it_is_that_ones_time() {
    let kernel = shared_kernel(1);
    let control = testing::vcpu(&testing::domain(&kernel, 0, 1, 1), 0);
    let [guest, other] = [worker(&kernel, 1), worker(&kernel, 2)];
    control.stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
    control.context.lock().set_interrupts_enabled(true);
    let clock = Arc::downgrade(&kernel);
    control.context.lock().set_program(Box::new(move |_| {
        if let Some(kernel) = clock.upgrade() {
            kernel.machine.advance(MILLISECOND / 2);
        }
        Exit::Halt
    }));
    other.domain().share.grow_older(1 << 40);
    kernel.reconsider(&other);
    kernel.on_behalf_of(&guest, || kernel.unblock(&control));
    let ages = || [&control, &guest, &other].map(|vcpu| vcpu.domain().share.age().0);
    let before = ages();
    kernel.step();
    assert_eq!(runs(&control), 1);
    let after = ages();
    let rate = Rate::of(256);
    assert_eq!(after[0], before[0], "not the control domain's");
    assert_eq!(after[1] - before[1], rate.virtual_of(MILLISECOND / 2));
    assert_eq!(after[2], before[2]);
}

#[test]
fn who_pauses_does_not_wait_for_a_vcpu_that_another_has_let_go_again() {
    let kernel = shared_kernel(2);
    let vcpu = sleeper(&kernel, 1);
    *vcpu.place.lock() = Place::Running(1);
    let (steps, let_go) = (Arc::new(AtomicUsize::new(0)), vcpu.clone());
    let seen = steps.clone();
    machine::fake::set_interleave(Some(Box::new(move || {
        // The other toolstack's call, after this one has begun to wait; the vCPU runs on.
        if seen.fetch_add(1, Ordering::SeqCst) == 50 {
            let_go.pauses.fetch_sub(1, Ordering::SeqCst);
        }
    })));
    kernel.pause_vcpu(&vcpu);
    machine::fake::set_interleave(None);
    assert!(steps.load(Ordering::SeqCst) >= 50);
    assert_eq!(*vcpu.place.lock(), Place::Running(1));
    *vcpu.place.lock() = Place::Off;
}

#[test]
fn a_neighbour_whose_timer_was_lost_is_called() {
    let kernel = shared_kernel(2);
    let vcpus = [1, 2].map(|id| sleeper(&kernel, id));
    let arm = |vcpu: &TestVcpu, at: Nanoseconds| {
        kernel.change_deadlines(vcpu, |deadlines| deadlines.singleshot = Some(at));
    };
    on_processor(1, || arm(&vcpus[0], MILLISECOND));
    let kicks = kernel.machine.kicks(1);
    for (at, more) in [(4, 0), (7, 1)] {
        arm(&vcpus[1], at * MILLISECOND);
        kernel.machine.advance(at * MILLISECOND - kernel.machine.now());
        kernel.serve_interrupts();
        assert_eq!(kernel.machine.kicks(1), kicks + more, "after {at} ms");
    }
}
