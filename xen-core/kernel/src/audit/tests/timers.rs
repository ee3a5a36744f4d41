//! Timers, broken on purpose.

use super::*;

#[test]
fn a_deadline_that_is_not_the_earliest() {
    breaks(
        "timers: a vCPU is entered for its earliest deadline",
        &["d1 v1", "1000001", "Some(7)"],
        |house| house.domains[1].vcpus[1].deadlines.lock().apic = Some(7),
    );
}

#[test]
fn a_deadline_that_is_in_no_queue_or_twice() {
    let name = "timers: vCPUs and timer queues name each other, each entry once";
    breaks(name, &["d1 v1", "found in timer queues 0 times"], |house| {
        let mut timers = house.kernel.processors[0].timers.lock();
        timers.sabotage(|entries| entries.retain(|((_, id, _), _)| *id != 1));
    });
    breaks(name, &["timer queue 1 holds d2 v1"], |house| {
        let [mut here, mut there] = [0, 1].map(|number: usize| house.kernel.processors[number].timers.lock());
        here.sabotage(|from| there.sabotage(|into| into.extend(from.iter().cloned())));
    });
}

#[test]
fn a_queue_that_is_out_of_order() {
    breaks("timers: a queue is in order", &["queue 0"], |house| {
        let mut timers = house.kernel.processors[0].timers.lock();
        timers.sabotage(|entries| entries.reverse());
    });
}

#[test]
fn a_deadline_that_hardware_does_not_know() {
    let name = "timers: hardware is set to the first deadline, or earlier";
    breaks(name, &["processor 0 is set to None", "Some(1000000)"], |house| {
        house.kernel.processors[0].sabotage_programmed(None);
    });
    breaks(name, &["set to Some(1000001)"], |house| {
        house.kernel.processors[0].sabotage_programmed(Some(1_000_001));
    });
}

#[test]
fn a_queue_that_would_have_to_grow() {
    breaks(
        "timers: queues have a place set aside for each vCPU",
        &["timer queue 1 has 0 places for 6 vCPUs"],
        |house| {
            let mut timers = house.kernel.processors[1].timers.lock();
            timers.sabotage(|entries| entries.shrink_to(0));
        },
    );
}
