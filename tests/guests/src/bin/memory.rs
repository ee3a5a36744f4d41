//! Giving memory back and getting it again.
#![no_std]
#![no_main]

use guests::{Checks, Page, hypercall, page};
use hypercall_abi::hypercall::number::MEMORY_OP;
use hypercall_abi::memory::{self, MemoryReservation, RemoveFromPhysmap};
use hypercall_abi::{DomainId, Error, GuestHandle};

guests::micro_guest!(main);

static FRAMES: Page = Page::new();
static VICTIM: Page = Page::new();

fn main(_: u64) -> ! {
    let mut checks = Checks::begin("memory");
    VICTIM.fill(0x5a);
    let before = reservation(memory::op::CURRENT_RESERVATION);
    checks.check("there is a reservation", before > 0);
    FRAMES.write(0, VICTIM.frame());
    checks.equal(
        "one page is released",
        change(memory::op::DECREASE_RESERVATION, 1),
        1,
    );
    checks.equal(
        "the reservation shrinks",
        reservation(memory::op::CURRENT_RESERVATION),
        before - 1,
    );
    checks.equal(
        "it cannot be released twice",
        change(memory::op::DECREASE_RESERVATION, 1),
        0,
    );
    checks.equal(
        "one page is populated",
        change(memory::op::POPULATE_PHYSMAP, 1),
        1,
    );
    checks.equal(
        "the reservation is back",
        reservation(memory::op::CURRENT_RESERVATION),
        before,
    );
    page::write(VICTIM.address(), 0x1122_3344_5566_7788u64);
    checks.equal(
        "it holds what is written",
        VICTIM.read::<u64>(0),
        0x1122_3344_5566_7788,
    );
    refusals(&mut checks);
    checks.end()
}

fn reservation(operation: u32) -> i64 {
    hypercall::with(
        MEMORY_OP,
        operation,
        &mut memory::MemoryDomain {
            domain: DomainId::SELF,
        },
    )
}

fn change(operation: u32, extents: u64) -> i64 {
    let mut request = MemoryReservation {
        extent_start: GuestHandle::new(FRAMES.address()),
        number_of_extents: extents,
        domain: DomainId::SELF,
        ..MemoryReservation::default()
    };
    hypercall::with(MEMORY_OP, operation, &mut request)
}

fn refusals(checks: &mut Checks) {
    let mut request = RemoveFromPhysmap {
        domain: DomainId::SELF,
        guest_frame: 0xf_ffff_ffff,
        ..RemoveFromPhysmap::default()
    };
    let result = hypercall::with(MEMORY_OP, memory::op::REMOVE_FROM_PHYSMAP, &mut request);
    checks.check("a frame that is not there cannot be removed", result < 0);
    let mut stranger = MemoryReservation {
        extent_start: GuestHandle::new(FRAMES.address()),
        number_of_extents: 1,
        domain: DomainId(0x1234),
        ..MemoryReservation::default()
    };
    let result = hypercall::with(MEMORY_OP, memory::op::POPULATE_PHYSMAP, &mut stranger);
    checks.check(
        "a domain that is not gets nothing",
        result == 0 || result == Error::ESRCH.as_result(),
    );
}
