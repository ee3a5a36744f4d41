//! Nonsense: unknown numbers, unknown sub-operations, addresses that lead nowhere.
#![no_std]
#![no_main]

use guests::{Checks, hypercall};
use hypercall_abi::Error;
use hypercall_abi::hypercall::number::{
    DOMCTL, EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, MULTICALL, SCHED_OP, SYSCTL, VCPU_OP,
    XEN_VERSION,
};

guests::micro_guest!(main);

/// Canonical, unmapped by our page tables.
const NOWHERE: u64 = 0x7f00_0000_0000;
/// Not canonical.
const GARBAGE: u64 = 0x8000_dead_beef_0001;

fn main(_: u64) -> ! {
    let mut checks = Checks::begin("bad_hypercalls");
    for number in [11, 43, 47, 56, 63, 64, 1000, u64::from(u32::MAX), u64::MAX] {
        checks.equal(
            "an unknown hypercall",
            hypercall::raw(number, [0; 5]),
            Error::ENOSYS.as_result(),
        );
    }
    for (name, number) in [
        ("memory_op", MEMORY_OP),
        ("event_channel_op", EVENT_CHANNEL_OP),
        ("vcpu_op", VCPU_OP),
        ("sched_op", SCHED_OP),
        ("hvm_op", HVM_OP),
        ("xen_version", XEN_VERSION),
    ] {
        let result = hypercall::raw(number, [63, 0, 0, 0, 0]);
        let refused = [Error::ENOSYS, Error::EOPNOTSUPP, Error::EINVAL]
            .iter()
            .any(|error| result == error.as_result());
        if !refused {
            guests::println!("{name}: {result}");
        }
        checks.check(name, refused);
    }
    for address in [NOWHERE, GARBAGE] {
        faults(&mut checks, address);
    }
    checks.end()
}

fn faults(checks: &mut Checks, address: u64) {
    let fault = Error::EFAULT.as_result();
    for (name, number, operation) in [
        ("alloc_unbound", EVENT_CHANNEL_OP, 6),
        ("send", EVENT_CHANNEL_OP, 4),
        ("add_to_physmap", MEMORY_OP, 7),
        ("set_param", HVM_OP, 0),
        ("extraversion", XEN_VERSION, 1),
        ("shutdown", SCHED_OP, 2),
    ] {
        let result = hypercall::raw(number, [operation, address, 0, 0, 0]);
        checks.equal(name, result, fault);
    }
    // This one counts what it has done instead of failing.
    checks.equal(
        "populate_physmap",
        hypercall::raw(MEMORY_OP, [6, address, 0, 0, 0]),
        0,
    );
    checks.equal(
        "grant copy",
        hypercall::raw(GRANT_TABLE_OP, [5, address, 1, 0, 0]),
        fault,
    );
    checks.equal(
        "multicall",
        hypercall::raw(MULTICALL, [address, 1, 0, 0, 0]),
        fault,
    );
    checks.equal("sysctl", hypercall::raw(SYSCTL, [address, 0, 0, 0, 0]), fault);
    checks.equal("domctl", hypercall::raw(DOMCTL, [address, 0, 0, 0, 0]), fault);
}
