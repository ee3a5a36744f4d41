//! A domain's own vCPUs: states, areas, timers.

use core::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::hypercall::number::VCPU_OP;
use hypercall_abi::vcpu::*;
use machine::address::GuestFrame;
use machine::fake::set_processor;
use machine::stage_two::{EntryKind, Permissions};
use zerocopy::{Immutable, IntoBytes};

use crate::testing::{self, TestDomain, TestKernel};
use crate::vcpu::stop;

const PAGES: u64 = 8;
const ARGUMENT: u64 = 0x100;

struct Guest {
    kernel: TestKernel,
    domain: TestDomain,
}

fn guest() -> Guest {
    set_processor(0);
    let kernel = testing::kernel();
    let domain = testing::domain(&kernel, 1, 2, PAGES);
    Guest { kernel, domain }
}

impl Guest {
    fn call<T: IntoBytes + Immutable>(&self, operation: u32, vcpu: u32, value: &T) -> i64 {
        testing::poke(&self.domain, ARGUMENT, value);
        let arguments = [u64::from(operation), u64::from(vcpu), ARGUMENT];
        testing::hypercall(&self.kernel, &testing::vcpu(&self.domain, 0), VCPU_OP, &arguments)
    }

    fn deadlines(&self, vcpu: u32) -> crate::vcpu::Deadlines {
        *self.domain.vcpus[vcpu as usize].deadlines.lock()
    }
}

#[test]
fn up_and_down() {
    let guest = guest();
    assert_eq!(guest.call(op::IS_UP, 1, &0u64), 1);
    assert_eq!(guest.call(op::DOWN, 1, &0u64), 0);
    assert_eq!(guest.call(op::IS_UP, 1, &0u64), 0);
    assert_eq!(
        guest.call(op::UP, 1, &0u64),
        Error::EINVAL.as_result(),
        "it was never given a state"
    );
    guest.domain.vcpus[1].initialised.store(true, Ordering::SeqCst);
    assert_eq!(guest.call(op::UP, 1, &0u64), 0);
    assert_eq!(guest.call(op::IS_UP, 1, &0u64), 1);
    for vcpu in [2, 128, u32::MAX] {
        assert_eq!(guest.call(op::IS_UP, vcpu, &0u64), Error::ENOENT.as_result());
    }
    assert_eq!(guest.call(op::INITIALISE, 1, &0u64), Error::ENOSYS.as_result());
    assert_eq!(
        guest.call(op::GET_PHYSICAL_ID, 0, &0u64),
        Error::EPERM.as_result()
    );
    assert_eq!(guest.call(999, 0, &0u64), Error::ENOSYS.as_result());
    assert_eq!(guest.call(op::SEND_NMI, 1, &0u64), 0);
    assert!(guest.domain.vcpus[1].nmi_pending.load(Ordering::SeqCst));
}

#[test]
fn the_last_to_go_down_takes_the_domain_with_it() {
    let guest = guest();
    assert_eq!(guest.call(op::DOWN, 1, &0u64), 0);
    assert_eq!(guest.domain.lifecycle.lock().shutdown, None);
    assert_eq!(guest.call(op::DOWN, 0, &0u64), 0);
    assert_eq!(guest.domain.lifecycle.lock().shutdown, Some(0));
}

#[test]
fn one_shot_timers_are_ones_own() {
    let guest = guest();
    let at = |timeout_abs_ns: u64, flags: u32| SetSingleshotTimer {
        timeout_abs_ns,
        flags,
        ..SetSingleshotTimer::default()
    };
    assert_eq!(guest.call(op::SET_SINGLESHOT_TIMER, 0, &at(5000, 0)), 0);
    assert_eq!(guest.deadlines(0).singleshot, Some(5000));
    assert_eq!(guest.kernel.machine.deadline(0), Some(5000));
    assert_eq!(guest.call(op::STOP_SINGLESHOT_TIMER, 0, &0u64), 0);
    assert_eq!(guest.deadlines(0).singleshot, None);
    assert_eq!(
        guest.call(op::SET_SINGLESHOT_TIMER, 1, &at(5000, 0)),
        Error::EINVAL.as_result()
    );
    guest.kernel.machine.advance(10_000);
    assert_eq!(
        guest.call(op::SET_SINGLESHOT_TIMER, 0, &at(5000, SINGLESHOT_FUTURE)),
        Error::ETIME.as_result()
    );
    assert_eq!(
        guest.call(op::SET_SINGLESHOT_TIMER, 0, &at(5000, 0)),
        0,
        "late ones fire at once"
    );
    assert!(guest.kernel.machine.interrupt_waits(0));
}

#[test]
fn periods_have_a_shortest() {
    let guest = guest();
    for period_ns in [0, 999_999] {
        assert_eq!(
            guest.call(op::SET_PERIODIC_TIMER, 0, &SetPeriodicTimer { period_ns }),
            Error::EINVAL.as_result()
        );
    }
    assert_eq!(
        guest.call(
            op::SET_PERIODIC_TIMER,
            0,
            &SetPeriodicTimer { period_ns: 1_000_000 }
        ),
        0
    );
    assert_eq!(guest.deadlines(0).periodic, Some(1_000_000));
    assert_eq!(guest.call(op::STOP_PERIODIC_TIMER, 0, &0u64), 0);
    assert_eq!(guest.deadlines(0).periodic, None);
    // An absurdly long one overflows nothing.
    assert_eq!(
        guest.call(
            op::SET_PERIODIC_TIMER,
            0,
            &SetPeriodicTimer { period_ns: u64::MAX }
        ),
        0
    );
}

#[test]
fn the_vcpu_info_moves_once_with_what_it_holds() {
    let guest = guest();
    let vcpu = testing::vcpu(&guest.domain, 0);
    vcpu.set_pending_selector(5);
    let place = |guest_frame: u64, offset: u32| RegisterVcpuInfo {
        guest_frame,
        offset,
        ..RegisterVcpuInfo::default()
    };
    let bad = [
        place(3, 4096 - 63),
        place(3, 4),
        place(PAGES, 0),
        place(u64::MAX, 0),
    ];
    for request in bad {
        assert_eq!(
            guest.call(op::REGISTER_VCPU_INFO, 0, &request),
            Error::EINVAL.as_result()
        );
    }
    guest
        .domain
        .physmap
        .protect(
            &guest.kernel.machine,
            GuestFrame(4),
            Permissions {
                write: false,
                ..Permissions::ALL
            },
        )
        .expect("memory there");
    assert_eq!(
        guest.call(op::REGISTER_VCPU_INFO, 0, &place(4, 0)),
        Error::EINVAL.as_result()
    );
    assert_eq!(guest.call(op::REGISTER_VCPU_INFO, 0, &place(3, 64)), 0);
    assert_eq!(testing::peek::<u64>(&guest.domain, 0x3000 + 64 + 8), 1 << 5);
    assert_eq!(
        guest.call(op::REGISTER_VCPU_INFO, 0, &place(3, 0)),
        Error::EINVAL.as_result(),
        "once"
    );
    assert_eq!(
        guest.call(op::REGISTER_VCPU_INFO, 1, &place(3, 0)),
        Error::EINVAL.as_result(),
        "it runs"
    );
    guest.domain.vcpus[1].stops.fetch_or(stop::DOWN, Ordering::SeqCst);
    assert_eq!(guest.call(op::REGISTER_VCPU_INFO, 1, &place(3, 128)), 0);
}

#[test]
fn run_states_are_kept_for_the_guest() {
    let guest = guest();
    let vcpu = testing::vcpu(&guest.domain, 0);
    let area = |address: u64| RegisterMemoryArea { address };
    // Across two pages.
    let straddling = 0x3000 - 16;
    assert_eq!(
        guest.call(op::REGISTER_RUNSTATE_MEMORY_AREA, 0, &area(straddling)),
        0
    );
    guest.kernel.machine.advance(100);
    guest.kernel.change_runstate(&vcpu, runstate::RUNNING, 100);
    guest.kernel.machine.advance(50);
    guest.kernel.change_runstate(&vcpu, runstate::BLOCKED, 150);
    assert_eq!(testing::peek::<i32>(&guest.domain, straddling), runstate::BLOCKED);
    assert_eq!(testing::peek::<u64>(&guest.domain, straddling + 8), 150);
    assert_eq!(
        testing::peek::<u64>(&guest.domain, 0x3000),
        50,
        "nanoseconds that it ran"
    );
    assert_eq!(guest.call(op::GET_RUNSTATE_INFO, 0, &[0u64; 6]), 0);
    assert_eq!(testing::peek::<u64>(&guest.domain, ARGUMENT + 16), 50);
    for address in [(PAGES << 12) - 16, PAGES << 12, u64::MAX - 8] {
        assert_eq!(
            guest.call(op::REGISTER_RUNSTATE_MEMORY_AREA, 0, &area(address)),
            Error::EFAULT.as_result()
        );
    }
    assert_eq!(
        guest.call(op::REGISTER_RUNSTATE_MEMORY_AREA, 0, &area(0)),
        0,
        "and let go"
    );
}

#[test]
fn the_clock_has_a_second_place() {
    let guest = guest();
    guest.kernel.machine.advance(1234);
    let area = |address: u64| RegisterMemoryArea { address };
    assert_eq!(
        guest.call(op::REGISTER_VCPU_TIME_MEMORY_AREA, 0, &area(0x2000)),
        0
    );
    assert_eq!(testing::peek::<u64>(&guest.domain, 0x2000 + 16), 1234);
    assert_eq!(
        testing::peek::<u32>(&guest.domain, 0x2000) % 2,
        0,
        "it is complete"
    );
    for address in [0x2ff8, 0x2001] {
        assert_eq!(
            guest.call(op::REGISTER_VCPU_TIME_MEMORY_AREA, 0, &area(address)),
            Error::EINVAL.as_result()
        );
    }
    assert_eq!(
        guest.call(op::REGISTER_VCPU_TIME_MEMORY_AREA, 0, &area(PAGES << 12)),
        Error::EFAULT.as_result()
    );
}

#[test]
fn what_others_lend_is_no_place_for_an_area_that_stays() {
    let guest = guest();
    let lender = testing::domain(&guest.kernel, 2, 1, 1);
    let (page, _) = lender.physmap.get(GuestFrame(0)).unwrap();
    let borrowed = GuestFrame(PAGES);
    guest
        .domain
        .physmap
        .insert(borrowed, page, Permissions::READ_WRITE, EntryKind::Grant)
        .unwrap();
    let there = RegisterMemoryArea {
        address: borrowed.address().0,
    };
    // The last one begins in a page of the guest's own and goes on in the borrowed one.
    let across = RegisterMemoryArea {
        address: borrowed.address().0 - 8,
    };
    for (operation, area) in [
        (op::REGISTER_VCPU_TIME_MEMORY_AREA, &there),
        (op::REGISTER_RUNSTATE_MEMORY_AREA, &there),
        (op::REGISTER_RUNSTATE_MEMORY_AREA, &across),
    ] {
        assert_eq!(guest.call(operation, 0, area), Error::EFAULT.as_result());
    }
    let contents: [u8; 64] = testing::peek(&lender, 0);
    assert_eq!(contents, [0; 64]);
}
