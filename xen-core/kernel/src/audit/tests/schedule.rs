//! The scheduler, broken on purpose.

use super::*;
use crate::schedule::{ProcessorSet, VirtualTime};

#[test]
fn a_lost_wake_up() {
    breaks(
        "schedule: a vCPU that may run is queued or runs",
        &["d1 v1 is off"],
        |house| house.domains[1].vcpus[1].stops.store(0, Ordering::SeqCst),
    );
}

#[test]
fn a_vcpu_that_waits_for_what_it_has() {
    let name = "schedule: a vCPU that waits has nothing to wake it";
    breaks(name, &["d1 v1", "vector Some(64)"], |house| {
        let lapic = &house.domains[1].vcpus[1].lapic;
        lapic
            .write(crate::lapic::register::SPURIOUS_VECTOR, 0x1ff, 0)
            .unwrap();
        lapic.post(0x40);
    });
    breaks(name, &["d1 v1", "an NMI"], |house| {
        house.domains[1].vcpus[1]
            .nmi_pending
            .store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_vcpu_that_is_queued_nowhere_twice_or_elsewhere() {
    let name = "schedule: a queued vCPU is in its queue once, and in no other";
    breaks(
        name,
        &["d1 v1 is queued on 0, and that queue holds it 0 times"],
        |house| {
            queue(house, 1);
            house.kernel.processors[0].sabotage_queue(|queue| drop(queue.pop()));
            house.kernel.waiting.remove(0);
        },
    );
    breaks(name, &["found 2 times"], |house| {
        queue(house, 1);
        let processor = &house.kernel.processors[0];
        let vcpu = testing::vcpu(&house.domains[1], 1);
        processor.sabotage_queue(|queue| queue.insert(VirtualTime(0), 0, vcpu));
    });
    breaks(name, &["queue 1 holds d1 v1, which is Queued(0)"], |house| {
        queue(house, 1);
        let vcpu = testing::vcpu(&house.domains[1], 1);
        house.kernel.processors[1].sabotage_queue(|queue| queue.insert(VirtualTime(0), 0, vcpu));
        house.kernel.waiting.insert(1);
    });
}

#[test]
fn a_vcpu_that_is_queued_where_it_may_not_run() {
    breaks(
        "schedule: a vCPU may run where it is queued",
        &["queue 0 holds d1 v1, which may run on {1}"],
        |house| {
            queue(house, 1);
            house.domains[1].vcpus[1]
                .hard_affinity
                .store(ProcessorSet::one(1));
        },
    );
}

#[test]
fn two_on_one_processor() {
    breaks(
        "schedule: one vCPU runs on a processor",
        &["d2 v0 and d1 v0 run on 1"],
        |house| {
            for domain in [1, 2] {
                let vcpu = &house.domains[domain].vcpus[0];
                *vcpu.place.lock() = Place::Running(1);
                house.domains[domain].share.joins();
                vcpu.runstate.lock().info.state = runstate::RUNNING;
                vcpu.stops.store(0, Ordering::SeqCst);
            }
        },
    );
}

#[test]
fn idleness_beside_work() {
    breaks(
        "schedule: no processor idles beside a vCPU that it may run",
        &["processor 1 idles, and d1 v1 waits in queue 0"],
        |house| {
            queue(house, 1);
            house.kernel.idle.insert(1);
        },
    );
}

#[test]
fn a_queue_of_which_others_believe_something_else() {
    let name = "schedule: what is said of a queue without its lock is so";
    breaks(
        name,
        &["queue 0 holds 0 vCPUs, and is said to hold some"],
        |house| {
            house.kernel.waiting.insert(0);
        },
    );
    breaks(
        name,
        &["queue 0 holds 1 vCPUs, and is said to hold none"],
        |house| {
            queue(house, 1);
            house.kernel.waiting.remove(0);
        },
    );
    breaks(name, &["the first in queue 0"], |house| {
        queue(house, 1);
        house.kernel.processors[0].sabotage_head();
    });
}

#[test]
fn siblings_that_nobody_counted() {
    breaks(
        "schedule: a domain knows how many of its vCPUs want a processor",
        &["d1 counts 0 vCPUs that want a processor, and has 1"],
        |house| {
            queue(house, 1);
            house.domains[1].share.leaves();
        },
    );
}

#[test]
fn a_capped_vcpu_that_nothing_will_renew() {
    breaks(
        "schedule: a vCPU stopped by a cap waits for the cap's next period",
        &["d1 v1 has had what its cap allows, and will not be looked at again"],
        |house| {
            house.domains[1].vcpus[1]
                .stops
                .store(stop::CAPPED, Ordering::SeqCst);
        },
    );
}

#[test]
fn a_queue_that_would_have_to_grow() {
    breaks(
        "schedule: queues have a place set aside for each vCPU",
        &["places for 6 vCPUs"],
        |house| house.kernel.processors[0].sabotage_queue(|queue| queue.sabotage_places()),
    );
}

/// Have a domain's second vCPU wait for processor 0.
fn queue(house: &House, domain: usize) {
    let vcpu = testing::vcpu(&house.domains[domain], 1);
    vcpu.stops.store(0, Ordering::SeqCst);
    house.kernel.reconsider(&vcpu);
    assert_eq!(*vcpu.place.lock(), Place::Queued(0));
    assert_eq!(house.audit(), Ok(()));
}

#[test]
fn a_poll_for_nothing() {
    breaks(
        "schedule: a vCPU that polls has said for what",
        &["d1 v1 polls for nothing"],
        |house| {
            house.domains[1].vcpus[1]
                .stops
                .store(stop::POLLING, Ordering::SeqCst);
        },
    );
}

#[test]
fn a_wait_without_an_end() {
    let house = house();
    queue(&house, 1);
    house.kernel.processors[0].sabotage_slice();
    let vcpu = &house.domains[2].vcpus[0];
    vcpu.stops.store(0, Ordering::SeqCst);
    *vcpu.place.lock() = Place::Running(0);
    house.domains[2].share.joins();
    vcpu.runstate.lock().info.state = runstate::RUNNING;
    while house.kernel.machine.take_interrupt().is_some() {}
    assert_eq!(house.audit(), Ok(()), "unless it is known that nobody calls");
    let mut auditor = Auditor::knowing(machine::fake::FakeMachine::interrupt_waits);
    let violation = auditor.audit(&house.kernel).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "schedule: who waits behind a running vCPU has an end of its slice in sight: d1 v1 waits in queue 0, where d2 v0 \
         runs and nothing will end that"
    );
    house.kernel.machine.kick(0);
    assert!(auditor.audit(&house.kernel).is_ok());
}

#[test]
fn a_vcpu_that_runs_on_and_is_not_told() {
    let told = |sabotage: &dyn Fn(&House)| {
        let house = house();
        let vcpu = &house.domains[1].vcpus[1];
        vcpu.stops.store(0, Ordering::SeqCst);
        *vcpu.place.lock() = Place::Running(1);
        house.domains[1].share.joins();
        vcpu.runstate.lock().info.state = runstate::RUNNING;
        let mut auditor = Auditor::knowing(machine::fake::FakeMachine::interrupt_waits);
        assert!(auditor.audit(&house.kernel).is_ok());
        sabotage(&house);
        let violation = auditor.audit(&house.kernel).unwrap_err().to_string();
        house.kernel.machine.kick(1);
        assert!(auditor.audit(&house.kernel).is_ok(), "somebody has called it");
        violation
    };
    let name = "schedule: a processor whose vCPU must stop or look has been called";
    assert_eq!(
        told(&|house| {
            house.domains[1].vcpus[1].pauses.store(1, Ordering::SeqCst);
        }),
        format!("{name}: d1 v1 (0x0) may not run, and runs on 1")
    );
    assert_eq!(
        told(&|house| {
            house.domains[1].pauses.store(1, Ordering::SeqCst);
        }),
        format!("{name}: d1 v1 (0x0, paused) may not run, and runs on 1")
    );
    let unseen = format!("{name}: d1 v1 runs on 1, and does not see that an interrupt was requested");
    assert_eq!(told(&|house| house.domains[1].vcpus[1].lapic.post(0x40)), unseen);
    assert_eq!(
        told(&|house| house.domains[1].vcpus[1]
            .nmi_pending
            .store(true, Ordering::SeqCst)),
        unseen
    );
}

#[test]
fn a_processor_that_was_chosen_for_a_vcpu_and_not_called() {
    let house = house();
    queue(&house, 1);
    while house.kernel.machine.take_interrupt().is_some() {}
    assert_eq!(house.audit(), Ok(()), "unless it is known that nobody calls");
    let mut auditor = Auditor::knowing(machine::fake::FakeMachine::interrupt_waits);
    let violation = auditor.audit(&house.kernel).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "schedule: no processor idles beside a vCPU that it may run: processor 0 idles, and d1 v1 waits in queue 0"
    );
    house.kernel.machine.kick(0);
    assert!(auditor.audit(&house.kernel).is_ok());
}
