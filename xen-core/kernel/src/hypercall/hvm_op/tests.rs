//! Parameters and upcall vectors.

use hypercall_abi::hvm::{EventUpcallVector, GetTime, Param, op, param};
use hypercall_abi::hypercall::number::HVM_OP;
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::fake::set_processor;

use crate::testing::{self, TestDomain, TestKernel};
use crate::vcpu::{Place, stop};
use core::sync::atomic::Ordering;

struct Two {
    kernel: TestKernel,
    control: TestDomain,
    guest: TestDomain,
}

fn two() -> Two {
    set_processor(0);
    let kernel = testing::kernel();
    let control = testing::domain(&kernel, 0, 1, 4);
    let guest = testing::domain(&kernel, 1, 2, 4);
    Two {
        kernel,
        control,
        guest,
    }
}

impl Two {
    fn param(
        &self,
        caller: &TestDomain,
        operation: u32,
        domain: DomainId,
        index: u32,
        value: u64,
    ) -> (i64, u64) {
        let request = Param {
            domain,
            index,
            value,
            ..Param::default()
        };
        let caller = testing::vcpu(caller, 0);
        let (result, reply) = testing::hypercall_with(&self.kernel, &caller, HVM_OP, operation, request);
        (result, reply.value)
    }

    fn set(&self, caller: &TestDomain, domain: DomainId, index: u32, value: u64) -> i64 {
        self.param(caller, op::SET_PARAM, domain, index, value).0
    }

    fn get(&self, caller: &TestDomain, domain: DomainId, index: u32) -> (i64, u64) {
        self.param(caller, op::GET_PARAM, domain, index, 0)
    }
}

#[test]
fn what_xens_tools_set_is_taken_and_what_linux_reads_is_told() {
    let two = two();
    // As seen on Xen for a guest of 192 MiB.
    let values = [
        (param::CALLBACK_IRQ, 1),
        (param::ALTP2M, 0),
        (param::BUFIOREQ_PFN, 0xfeffb),
        (param::CONSOLE_EVTCHN, 2),
        (param::CONSOLE_PFN, 0xfefff),
        (param::IDENT_PT, 0xfeff_e000),
        (param::IOREQ_PFN, 0xfeffd),
        (param::MONITOR_RING_PFN, 0xfeff9),
        (param::PAGING_RING_PFN, 0xfeff8),
        (param::SHARING_RING_PFN, 0xfeffa),
        (param::STORE_EVTCHN, 1),
        (param::STORE_PFN, 0xfeffc),
        (param::TIMER_MODE, 1),
    ];
    for (index, value) in values {
        assert_eq!(
            two.set(&two.control, DomainId(1), index, value),
            0,
            "parameter {index}"
        );
        assert_eq!(two.get(&two.control, DomainId(1), index), (0, value));
    }
    for (index, value) in [
        (param::CONSOLE_EVTCHN, 2),
        (param::STORE_PFN, 0xfeffc),
        (param::STORE_EVTCHN, 1),
    ] {
        assert_eq!(two.get(&two.guest, DomainId::SELF, index), (0, value));
    }
    // The privileged domain learns that it is the store's host.
    assert_eq!(two.get(&two.control, DomainId::SELF, param::STORE_EVTCHN), (0, 0));
    assert_eq!(
        two.get(&two.control, DomainId(1), param::TRIPLE_FAULT_REASON),
        (0, 1)
    );
}

#[test]
fn a_guest_sets_little_of_its_own_and_nothing_of_others() {
    let two = two();
    let denied = Error::EPERM.as_result();
    assert_eq!(two.set(&two.guest, DomainId::SELF, param::CALLBACK_IRQ, 1), 0);
    for index in [
        param::STORE_PFN,
        param::TIMER_MODE,
        param::TRIPLE_FAULT_REASON,
        param::IDENT_PT,
    ] {
        assert_eq!(two.set(&two.guest, DomainId::SELF, index, 1), denied);
        assert_eq!(two.set(&two.guest, DomainId(1), index, 1), denied);
        assert_eq!(two.set(&two.control, DomainId(0), index, 1), denied);
    }
    assert_eq!(two.get(&two.guest, DomainId::SELF, param::IDENT_PT).0, denied);
    for id in [0, 2] {
        assert_eq!(two.set(&two.guest, DomainId(id), param::CALLBACK_IRQ, 1), denied);
        assert_eq!(two.get(&two.guest, DomainId(id), param::STORE_PFN).0, denied);
    }
    assert_eq!(
        two.set(&two.control, DomainId(9), param::STORE_PFN, 1),
        Error::ESRCH.as_result()
    );
}

#[test]
fn nonsense_is_refused() {
    let two = two();
    for index in [3, 7, 8, param::COUNT, u32::MAX] {
        assert_eq!(
            two.set(&two.control, DomainId(1), index, 1),
            Error::EINVAL.as_result()
        );
        assert_eq!(
            two.get(&two.control, DomainId(1), index).0,
            Error::EINVAL.as_result()
        );
    }
    assert_eq!(
        two.set(&two.control, DomainId(1), param::TRIPLE_FAULT_REASON, 99),
        Error::EINVAL.as_result()
    );
    for index in [param::ALTP2M, param::NESTED_HVM, param::VIRIDIAN] {
        assert_eq!(
            two.set(&two.control, DomainId(1), index, 1),
            Error::EOPNOTSUPP.as_result()
        );
    }
    assert_eq!(two.set(&two.control, DomainId(1), param::IOREQ_PFN, 5), 0);
    assert_eq!(
        two.set(&two.control, DomainId(1), param::IOREQ_PFN, 6),
        Error::EEXIST.as_result()
    );
    two.guest.lifecycle.lock().dying = true;
    assert_eq!(
        two.set(&two.control, DomainId(1), param::STORE_PFN, 5),
        Error::EINVAL.as_result()
    );
    let caller = testing::vcpu(&two.guest, 0);
    let call = |operation: u32, argument: u64| {
        testing::hypercall(&two.kernel, &caller, HVM_OP, &[u64::from(operation), argument])
    };
    assert_eq!(call(op::SET_PARAM, 4 << 12), Error::EFAULT.as_result());
    assert_eq!(call(op::PAGETABLE_DYING, 0), Error::ENOSYS.as_result());
    assert_eq!(call(999, 0), Error::ENOSYS.as_result());
    assert_eq!(call(op::FLUSH_TLBS, 8), Error::EINVAL.as_result());
    let flushes = two.kernel.machine.flushes();
    assert_eq!(call(op::FLUSH_TLBS, 0), 0);
    assert_eq!(two.kernel.machine.flushes(), flushes + 1);
    two.kernel.machine.advance(77);
    assert_eq!(call(op::GET_TIME, 0), 0);
    assert_eq!(
        testing::peek::<GetTime>(&two.guest, 0).now,
        two.kernel.machine.now()
    );
}

#[test]
fn an_event_before_the_vector_is_told_when_the_vector_comes() {
    let two = two();
    let other = testing::vcpu(&two.guest, 1);
    other.stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
    assert!(other.set_upcall_pending());
    let set = |vcpu: u32, vector: u8| {
        let request = EventUpcallVector {
            vcpu,
            vector,
            ..EventUpcallVector::default()
        };
        let caller = testing::vcpu(&two.guest, 0);
        testing::hypercall_with(
            &two.kernel,
            &caller,
            HVM_OP,
            op::SET_EVTCHN_UPCALL_VECTOR,
            request,
        )
        .0
    };
    assert_eq!(set(1, 15), Error::EINVAL.as_result());
    assert_eq!(set(2, 0xf3), Error::ENOENT.as_result());
    assert_eq!(set(1, 0xf3), 0);
    assert!(other.lapic.has_requests());
    assert!(
        matches!(*other.place.lock(), Place::Queued(_)),
        "it sleeps no more"
    );
    assert_eq!(set(0, 0xf3), 0);
    assert!(!testing::vcpu(&two.guest, 0).lapic.has_requests());
}
