//! Grants to itself: map, unmap, copy, refusals.
#![no_std]
#![no_main]

use guests::{Checks, Page, hypercall};
use hypercall_abi::grant_table::{
    Copy, CopyPointer, GrantStatus, MapGrantRef, UnmapGrantRef, copy_flag, entry_flag, op,
};
use hypercall_abi::hypercall::number::{GRANT_TABLE_OP, MEMORY_OP};
use hypercall_abi::memory::{self, AddToPhysmap, map_space};
use hypercall_abi::{DomainId, Error};

guests::micro_guest!(main);

static TABLE: Page = Page::new();
static SOURCE: Page = Page::new();
/// A second page to grant.
static OTHER: Page = Page::new();
static WINDOW: Page = Page::new();
static TARGET: Page = Page::new();

/// Past the reserved entries.
const REFERENCE: u32 = 8;
const HOST_MAP: u32 = 1 << 1;
const READ_ONLY: u32 = 1 << 2;

fn main(_: u64) -> ! {
    let mut checks = Checks::begin("grants");
    let mut table = AddToPhysmap {
        domain: DomainId::SELF,
        space: map_space::GRANT_TABLE,
        guest_frame: TABLE.frame(),
        ..AddToPhysmap::default()
    };
    checks.equal(
        "the grant table is mapped",
        hypercall::with(MEMORY_OP, memory::op::ADD_TO_PHYSMAP, &mut table),
        0,
    );
    SOURCE.write(0, *b"granted!");
    offer(entry_flag::PERMIT_ACCESS, SOURCE.frame() as u32);
    copy(&mut checks);
    map_and_unmap(&mut checks);
    refusals(&mut checks);
    checks.end()
}

/// Writes the entry that lets dom0 (this domain) at a frame.
fn offer(flags: u16, frame: u32) {
    let at = REFERENCE as usize * 8;
    TABLE.write(at, 0u16);
    TABLE.write(at + 2, 0u16); // to domain 0
    TABLE.write(at + 4, frame);
    TABLE.write(at, flags);
}

fn map(flags: u32, reference: u32) -> (i64, MapGrantRef) {
    let mut request = MapGrantRef {
        host_address: WINDOW.address(),
        flags,
        reference,
        domain: DomainId::CONTROL,
        ..MapGrantRef::default()
    };
    (
        hypercall::with_one(GRANT_TABLE_OP, op::MAP_GRANT_REF, &mut request),
        request,
    )
}

fn unmap(handle: u32) -> (i64, UnmapGrantRef) {
    let mut request = UnmapGrantRef {
        host_address: WINDOW.address(),
        handle,
        ..UnmapGrantRef::default()
    };
    (
        hypercall::with_one(GRANT_TABLE_OP, op::UNMAP_GRANT_REF, &mut request),
        request,
    )
}

fn map_and_unmap(checks: &mut Checks) {
    let (result, mapped) = map(HOST_MAP, REFERENCE);
    checks.equal("map", (result, status(mapped.status)), (0, 0));
    checks.equal(
        "the window shows the granted page",
        WINDOW.read::<[u8; 8]>(0),
        *b"granted!",
    );
    // On Xen a frame that is mapped a second time in the same domain leaves its first place: look only here.
    WINDOW.write(8, *b" written");
    checks.equal(
        "the window takes what is written",
        WINDOW.read::<[u8; 8]>(8),
        *b" written",
    );
    let flags: u16 = TABLE.read(REFERENCE as usize * 8);
    let busy = entry_flag::READING | entry_flag::WRITING;
    checks.equal("the entry is marked as in use", flags & busy, busy);
    let (result, unmapped) = unmap(mapped.handle);
    checks.equal("unmap", (result, status(unmapped.status)), (0, 0));
    let flags: u16 = TABLE.read(REFERENCE as usize * 8);
    checks.equal("the entry is free again", flags & busy, 0);
    let (_, again) = unmap(mapped.handle);
    checks.check("unmapping twice is refused", status(again.status) < 0);
}

/// A status as the ABI counts it: zero or negative.
fn status(status: GrantStatus) -> i16 {
    status.0
}

fn copy(checks: &mut Checks) {
    let mut request = Copy {
        source: CopyPointer {
            location: REFERENCE.into(),
            domain: DomainId::CONTROL,
            ..CopyPointer::default()
        },
        destination: CopyPointer {
            location: TARGET.frame(),
            domain: DomainId::SELF,
            offset: 16,
            ..CopyPointer::default()
        },
        length: 8,
        flags: copy_flag::SOURCE_IS_REFERENCE,
        ..Copy::default()
    };
    let result = hypercall::with_one(GRANT_TABLE_OP, op::COPY, &mut request);
    checks.equal("copy", (result, status(request.status)), (0, 0));
    checks.equal(
        "the bytes arrive at their offset",
        TARGET.read::<[u8; 8]>(16),
        *b"granted!",
    );
    request.length = 4096;
    hypercall::with_one(GRANT_TABLE_OP, op::COPY, &mut request);
    checks.check(
        "a copy across a page's end is refused",
        status(request.status) < 0,
    );
}

fn refusals(checks: &mut Checks) {
    let (_, unknown) = map(HOST_MAP, 9999);
    checks.check("a reference beyond the table", status(unknown.status) < 0);
    offer(
        entry_flag::PERMIT_ACCESS | entry_flag::READ_ONLY,
        OTHER.frame() as u32,
    );
    let (_, writable) = map(HOST_MAP, REFERENCE);
    checks.check(
        "a read-only grant is not mapped writable",
        status(writable.status) < 0,
    );
    let (_, readable) = map(HOST_MAP | READ_ONLY, REFERENCE);
    checks.equal(
        "a read-only grant is mapped read-only",
        status(readable.status),
        0,
    );
    let (_, done) = unmap(readable.handle);
    checks.equal("and unmapped", status(done.status), 0);
    offer(entry_flag::INVALID, 0);
    let (_, revoked) = map(HOST_MAP, REFERENCE);
    checks.check("a revoked grant", status(revoked.status) < 0);
    let result = hypercall::raw(
        GRANT_TABLE_OP,
        [u64::from(op::TRANSFER), TARGET.address(), 0, 0, 0],
    );
    let refused = [0, Error::ENOSYS.as_result(), Error::EOPNOTSUPP.as_result()];
    checks.check("transfer does nothing", refused.contains(&result));
}
