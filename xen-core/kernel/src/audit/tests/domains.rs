//! The table of domains, broken on purpose.

use super::*;

#[test]
fn a_table_out_of_order() {
    breaks(
        "domains: the table is sorted, each number once",
        &["d1 comes before d0"],
        |house| {
            house.kernel.domains.sabotage(|table| table.swap(0, 1));
        },
    );
}

#[test]
fn a_domain_that_left_alive() {
    breaks(
        "domains: in the table until dead, and not after",
        &["d2 is not dead and is not in the table"],
        |house| house.kernel.domains.remove(DomainId(2)),
    );
}

#[test]
fn a_dead_domain_that_holds_something() {
    breaks(
        "domains: a dead one holds nothing any more",
        &["dead d2 still maps guest frame 0x300"],
        |house| {
            let two = &house.domains[2];
            two.pauses.fetch_add(1, Ordering::SeqCst);
            let mut lifecycle = two.lifecycle.lock();
            (lifecycle.dying, lifecycle.dead) = (true, true);
            drop(lifecycle);
            house.kernel.domains.remove(DomainId(2));
        },
    );
}

#[test]
fn a_domain_that_has_shut_down_and_runs() {
    breaks(
        "domains: one that has shut down has stopped vCPUs",
        &["d1 has shut down, its vCPU 0 has not stopped"],
        |house| house.domains[1].lifecycle.lock().shutdown = Some(0),
    );
}

#[test]
fn a_pause_that_was_lost() {
    breaks(
        "domains: the toolstack's pauses are among all pauses",
        &["d1 has 0 pauses, 1 of them the toolstack's"],
        |house| house.domains[1].toolstack_pauses.store(1, Ordering::SeqCst),
    );
}

#[test]
fn a_claim_that_was_miscounted() {
    breaks(
        "claims: the total is the sum",
        &["3 frames", "0 by the domains"],
        |house| {
            *house.kernel.domains.claims.lock() = 3;
        },
    );
}

#[test]
fn a_callback_that_is_not_the_parameters() {
    breaks(
        "domains: the callback is the parameter's",
        &["d1 has callback 0x7"],
        |house| {
            house.domains[1].callback.store(7, Ordering::SeqCst);
        },
    );
}

#[test]
fn a_vcpu_that_was_never_allotted() {
    breaks(
        "domains: vCPUs that are not allotted are down",
        &["vCPU 1 is up"],
        |house| {
            house.domains[1].allotted_vcpus.store(1, Ordering::SeqCst);
        },
    );
}

#[test]
#[should_panic(
    expected = "domains: a new one owns nothing of one that ended: d9 owns 1 frames from before its time"
)]
fn a_newcomer_that_owns_what_another_left() {
    let house = house();
    let machine = &house.kernel.machine;
    let _left = machine.memory().allocate(9, FrameUse::Ram, Order::PAGE);
    let policy = house.domains[1].cpu_policy.lock().clone();
    let config = testing::configuration(1, false);
    let newcomer = crate::domain::Domain::new(machine, DomainId(9), &config, policy).unwrap();
    house.kernel.audit_newcomer(&newcomer);
}
