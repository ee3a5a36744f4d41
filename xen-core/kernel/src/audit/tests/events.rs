//! Event channels, broken on purpose.

use super::*;

#[test]
fn an_end_whose_other_end_is_closed() {
    breaks(
        "event channels: both ends name each other",
        &["of d1 leads to port", "of d2, which leads nowhere"],
        |house| {
            let two = &house.domains[2];
            two.events.sabotage_end(two, house.ports.1);
        },
    );
}

#[test]
fn ports_that_were_miscounted() {
    let name = "event channels: ports in use are counted, and none below the first free one is closed";
    breaks(name, &["d1 has 3 ports in use and counts 4"], |house| {
        house.domains[1].events.sabotage_counts(|open, _| *open += 1);
    });
    breaks(name, &["the first free one is said to be 9"], |house| {
        house.domains[1].events.sabotage_counts(|_, first| *first = 9);
    });
}

#[test]
fn a_closed_port_that_remembers() {
    breaks(
        "event channels: a closed port carries nothing",
        &["port 40 of d1 is closed, for vCPU 1"],
        |house| house.domains[1].events.sabotage_slot(40, |vcpu, _| *vcpu = 1),
    );
}

#[test]
fn a_port_for_a_vcpu_that_there_is_not() {
    breaks(
        "event channels: an open port is within its domain's limits",
        &["for vCPU 7 of 2"],
        |house| {
            house.domains[1]
                .events
                .sabotage_slot(house.ports.0, |vcpu, _| *vcpu = 7);
        },
    );
}

#[test]
fn an_interrupt_whose_port_is_anothers() {
    let name = "event channels: virtual interrupts and their ports name each other";
    breaks(name, &["for virtual interrupt 0 of vCPU 1"], |house| {
        house.domains[1]
            .events
            .sabotage_virq(1, virq::TIMER as usize, house.ports.0);
    });
    breaks(name, &["2 ports for virtual interrupts, and 3"], |house| {
        house.domains[1]
            .events
            .sabotage_virq(1, virq::DEBUG as usize, house.ports.0);
    });
}

#[test]
fn an_end_of_a_queue_that_never_joined_it() {
    let name = "event channels: what ends a queue is a port that joined it last";
    breaks(name, &["ends with port 5"], |house| {
        house.domains[2].events.sabotage_tail(0, 3, 5);
    });
    breaks(name, &["ends with port 4096"], |house| {
        house.domains[2].events.sabotage_tail(0, 7, 4096);
    });
    breaks(name, &["is held back, and has a word"], |house| {
        house.domains[2]
            .events
            .sabotage_slot(house.ports.1, |_, deferred| *deferred = true);
    });
}

#[test]
fn a_living_domain_whose_table_has_ended() {
    breaks(
        "event channels: tables end with their domains, empty",
        &["d1 opens no ports any more and does not die"],
        |house| house.domains[1].events.sabotage_ended(),
    );
}
