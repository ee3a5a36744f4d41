//! vCPUs' records, broken on purpose.

use super::*;

#[test]
fn time_that_went_nowhere() {
    breaks(
        "vcpus: the times in all states add up to the time since creation",
        &["d1 v1 was created at 0"],
        |house| house.domains[1].vcpus[1].runstate.lock().info.time[2] += 1,
    );
}

#[test]
fn a_state_that_is_not_the_places() {
    breaks(
        "vcpus: the state on record is that of the place",
        &["d1 v1 is Off in state 1"],
        |house| house.domains[1].vcpus[1].runstate.lock().info.state = runstate::RUNNABLE,
    );
}

#[test]
fn processor_time_that_no_vcpu_had() {
    breaks(
        "vcpus: a domain's processor time is that of its vCPUs",
        &["d1 has 5 ns on record"],
        |house| house.domains[1].cpu_time.store(5, Ordering::SeqCst),
    );
}

#[test]
fn an_area_in_anothers_page() {
    breaks(
        "vcpus: what the core writes for a guest lies in the guest's own pages",
        &["the info of d1 v1 is in frame", "of d2"],
        |house| house.domains[1].vcpus[1].info.lock().page = house.page(2, 3),
    );
}
