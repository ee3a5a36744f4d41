//! Grant table operations, asked well and badly, over a machine of the host. Domain 1 lends, domain 2 borrows.

use hypercall_abi::grant_table::*;
use hypercall_abi::hypercall::number::{GRANT_TABLE_OP, MEMORY_OP};
use hypercall_abi::memory::{AddToPhysmap, map_space, op as memory_op};
use hypercall_abi::{DomainId, Error, GuestHandle};
use machine::address::GuestFrame;
use machine::stage_two::EntryKind;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::audit::Auditor;
use crate::grant_table::bench::{ARGUMENT, ARRAY, Bench, Numbers, PAGES};

/// Where domains have their grant table.
const TABLE: u64 = 0x800;
/// A hole, to map at.
const WINDOW: u64 = 0x1000;

/// Three domains that see their grant tables.
fn bench() -> Bench {
    let bench = Bench::new();
    for domain in 0..3 {
        for index in 0..2 {
            let request = AddToPhysmap {
                domain: DomainId::SELF,
                space: map_space::GRANT_TABLE,
                index,
                guest_frame: TABLE + index,
                ..Default::default()
            };
            bench.put(domain, ARGUMENT, &request);
            let arguments = [u64::from(memory_op::ADD_TO_PHYSMAP), ARGUMENT, 0];
            assert_eq!(bench.call(domain, MEMORY_OP, arguments), Ok(0));
        }
    }
    bench
}

fn entry_address(reference: u32) -> u64 {
    (TABLE << 12) + u64::from(reference) * 8
}

fn offer(bench: &Bench, lender: usize, reference: u32, to: u16, frame: u64, flags: u16) {
    let entry = GrantEntryV1 {
        flags,
        domain: DomainId(to),
        frame: frame as u32,
    };
    bench.put(lender, entry_address(reference), &entry);
}

fn flags(bench: &Bench, lender: usize, reference: u32) -> u16 {
    bench.get::<GrantEntryV1>(lender, entry_address(reference)).flags
}

/// Do an operation on an array; gives the array back.
fn array<T>(bench: &Bench, caller: usize, operation: u32, elements: &[T]) -> Result<Vec<T>, Error>
where
    T: FromBytes + IntoBytes + Immutable + Clone,
{
    bench.put(caller, ARRAY, elements);
    bench.call(
        caller,
        GRANT_TABLE_OP,
        [u64::from(operation), ARRAY, elements.len() as u64],
    )?;
    Ok((0..elements.len())
        .map(|index| bench.get(caller, ARRAY + (index * size_of::<T>()) as u64))
        .collect())
}

fn one<T: FromBytes + IntoBytes + Immutable + Clone>(
    bench: &Bench,
    caller: usize,
    operation: u32,
    element: T,
) -> T {
    array(bench, caller, operation, &[element])
        .expect("done")
        .remove(0)
}

fn mapping(lender: u16, reference: u32, at: u64, flags: u32) -> MapGrantRef {
    MapGrantRef {
        host_address: at << 12,
        flags: map_flag::HOST_MAP | flags,
        reference,
        domain: DomainId(lender),
        ..Default::default()
    }
}

fn map(bench: &Bench, borrower: usize, request: MapGrantRef) -> Result<u32, GrantStatus> {
    let done = one(bench, borrower, op::MAP_GRANT_REF, request);
    if done.status == GrantStatus::OKAY {
        Ok(done.handle)
    } else {
        Err(done.status)
    }
}

fn unmap(bench: &Bench, borrower: usize, handle: u32, at: u64) -> GrantStatus {
    let request = UnmapGrantRef {
        host_address: at << 12,
        handle,
        ..Default::default()
    };
    one(bench, borrower, op::UNMAP_GRANT_REF, request).status
}

fn kind(bench: &Bench, domain: usize, at: u64) -> Option<EntryKind> {
    bench.domains[domain]
        .physmap
        .lookup(GuestFrame(at))
        .map(|leaf| leaf.kind)
}

#[test]
fn a_granted_page_is_shared_until_it_is_unmapped() {
    let bench = bench();
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    bench.put(1, 30 << 12, &11u64);
    let handle = map(&bench, 2, mapping(1, 8, WINDOW, 0)).expect("mapped");
    assert_eq!(
        flags(&bench, 1, 8),
        entry_flag::PERMIT_ACCESS | entry_flag::READING | entry_flag::WRITING
    );
    assert_eq!(bench.get::<u64>(2, WINDOW << 12), 11);
    bench.put(2, WINDOW << 12, &22u64);
    assert_eq!(bench.get::<u64>(1, 30 << 12), 22);
    assert_eq!(bench.domains[1].grants.entries_in_use(), 1);
    // A wrong address or handle changes nothing; no address asks for nothing.
    assert_eq!(unmap(&bench, 2, handle, WINDOW + 1), GrantStatus::GENERAL_ERROR);
    assert_eq!(unmap(&bench, 2, handle + 1, WINDOW), GrantStatus::BAD_HANDLE);
    assert_eq!(unmap(&bench, 2, u32::MAX, WINDOW), GrantStatus::BAD_HANDLE);
    assert_eq!(unmap(&bench, 1, handle, WINDOW), GrantStatus::BAD_HANDLE);
    assert_eq!(unmap(&bench, 2, handle, 0), GrantStatus::OKAY);
    assert_eq!(kind(&bench, 2, WINDOW), Some(EntryKind::Grant));
    assert_eq!(unmap(&bench, 2, handle, WINDOW), GrantStatus::OKAY);
    assert_eq!(unmap(&bench, 2, handle, WINDOW), GrantStatus::BAD_HANDLE);
    assert_eq!(kind(&bench, 2, WINDOW), None);
    assert_eq!(flags(&bench, 1, 8), entry_flag::PERMIT_ACCESS);
    assert_eq!(bench.domains[1].grants.entries_in_use(), 0);
    bench.end();
}

#[test]
fn readers_and_writers_are_counted_apart() {
    let bench = bench();
    offer(&bench, 1, 9, 2, 31, entry_flag::PERMIT_ACCESS);
    let reader = map(&bench, 2, mapping(1, 9, WINDOW, map_flag::READ_ONLY)).expect("mapped");
    assert_eq!(
        flags(&bench, 1, 9),
        entry_flag::PERMIT_ACCESS | entry_flag::READING
    );
    let leaf = bench.domains[2]
        .physmap
        .lookup(GuestFrame(WINDOW))
        .expect("a leaf");
    assert!(!leaf.permissions.write && !leaf.permissions.execute);
    let writer = map(&bench, 2, mapping(1, 9, WINDOW + 1, 0)).expect("mapped");
    assert_eq!(
        flags(&bench, 1, 9),
        entry_flag::PERMIT_ACCESS | entry_flag::READING | entry_flag::WRITING
    );
    // The entry may change as it will: the frame in use stays the same.
    offer(
        &bench,
        1,
        9,
        2,
        32,
        entry_flag::PERMIT_ACCESS | entry_flag::READING | entry_flag::WRITING,
    );
    bench.put(1, 31 << 12, &5u64);
    let third = map(&bench, 2, mapping(1, 9, WINDOW + 2, map_flag::READ_ONLY)).expect("mapped");
    assert_eq!(bench.get::<u64>(2, (WINDOW + 2) << 12), 5);
    assert_eq!(unmap(&bench, 2, writer, WINDOW + 1), GrantStatus::OKAY);
    assert_eq!(
        flags(&bench, 1, 9),
        entry_flag::PERMIT_ACCESS | entry_flag::READING
    );
    assert_eq!(unmap(&bench, 2, reader, WINDOW), GrantStatus::OKAY);
    assert_eq!(unmap(&bench, 2, third, WINDOW + 2), GrantStatus::OKAY);
    assert_eq!(flags(&bench, 1, 9), entry_flag::PERMIT_ACCESS);
    bench.end();
}

#[test]
fn offers_bind_what_may_be_mapped() {
    let bench = bench();
    let general = Err(GrantStatus::GENERAL_ERROR);
    offer(
        &bench,
        1,
        8,
        2,
        30,
        entry_flag::PERMIT_ACCESS | entry_flag::READ_ONLY,
    );
    assert_eq!(map(&bench, 2, mapping(1, 8, WINDOW, 0)), general);
    assert_eq!(
        map(&bench, 0, mapping(1, 8, WINDOW, map_flag::READ_ONLY)),
        general
    );
    let reader = map(&bench, 2, mapping(1, 8, WINDOW, map_flag::READ_ONLY)).expect("mapped");
    assert_eq!(map(&bench, 2, mapping(1, 8, WINDOW + 1, 0)), general);
    // Another may not join, even if the entry now names it.
    offer(
        &bench,
        1,
        8,
        0,
        30,
        entry_flag::PERMIT_ACCESS | entry_flag::READING,
    );
    assert_eq!(
        map(&bench, 0, mapping(1, 8, WINDOW, map_flag::READ_ONLY)),
        general
    );
    assert_eq!(unmap(&bench, 2, reader, WINDOW), GrantStatus::OKAY);
    for (offered, status) in [
        (entry_flag::INVALID, GrantStatus::GENERAL_ERROR),
        (entry_flag::ACCEPT_TRANSFER, GrantStatus::GENERAL_ERROR),
        (entry_flag::TRANSITIVE, GrantStatus::GENERAL_ERROR),
    ] {
        offer(&bench, 1, 8, 2, 30, offered);
        assert_eq!(map(&bench, 2, mapping(1, 8, WINDOW, 0)), Err(status));
    }
    // A hole, one of the core's pages, and a number past everything.
    for frame in [0x3000, TABLE, 0xffff_ffff] {
        offer(&bench, 1, 8, 2, frame, entry_flag::PERMIT_ACCESS);
        assert_eq!(
            map(&bench, 2, mapping(1, 8, WINDOW, 0)),
            Err(GrantStatus::BAD_PAGE)
        );
        assert_eq!(flags(&bench, 1, 8), entry_flag::PERMIT_ACCESS);
    }
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    for (request, status) in [
        (mapping(1, 1024, WINDOW, 0), GrantStatus::BAD_REFERENCE),
        (mapping(1, u32::MAX, WINDOW, 0), GrantStatus::BAD_REFERENCE),
        (mapping(77, 8, WINDOW, 0), GrantStatus::BAD_DOMAIN),
        (mapping(DomainId::SELF.0, 8, WINDOW, 0), GrantStatus::BAD_DOMAIN),
        (
            MapGrantRef {
                flags: 0,
                ..mapping(1, 8, WINDOW, 0)
            },
            GrantStatus::BAD_REFERENCE,
        ),
        (
            mapping(1, 8, WINDOW, map_flag::DEVICE_MAP),
            GrantStatus::GENERAL_ERROR,
        ),
        (
            mapping(1, 8, WINDOW, map_flag::CONTAINS_PTE),
            GrantStatus::GENERAL_ERROR,
        ),
        (mapping(1, 8, TABLE, 0), GrantStatus::GENERAL_ERROR),
        (mapping(1, 8, 1 << 40, 0), GrantStatus::GENERAL_ERROR),
    ] {
        assert_eq!(map(&bench, 2, request), Err(status), "{request:?}");
    }
    assert_eq!(bench.domains[2].grants.mappings(), 0);
    assert_eq!(bench.domains[1].grants.entries_in_use(), 0);
    assert_eq!(flags(&bench, 1, 8), entry_flag::PERMIT_ACCESS);
    bench.end();
}

#[test]
fn what_is_borrowed_cannot_be_lent_on_or_given_away() {
    let bench = bench();
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    let handle = map(&bench, 2, mapping(1, 8, WINDOW, 0)).expect("mapped");
    offer(&bench, 2, 8, 0, WINDOW, entry_flag::PERMIT_ACCESS);
    assert_eq!(
        map(&bench, 0, mapping(2, 8, WINDOW, 0)),
        Err(GrantStatus::BAD_PAGE)
    );
    // Neither over it nor by the memory operations.
    assert_eq!(
        map(&bench, 2, mapping(1, 8, WINDOW, 0)),
        Err(GrantStatus::GENERAL_ERROR)
    );
    let request = AddToPhysmap {
        domain: DomainId::SELF,
        guest_frame: WINDOW,
        ..Default::default()
    };
    bench.put(2, ARGUMENT, &request);
    let call = |operation: u32| bench.call(2, MEMORY_OP, [u64::from(operation), ARGUMENT, 0]);
    assert_eq!(call(memory_op::ADD_TO_PHYSMAP), Err(Error::ENXIO));
    bench.put(2, ARGUMENT, &[u64::from(DomainId::SELF.0), WINDOW]);
    assert_eq!(call(memory_op::REMOVE_FROM_PHYSMAP), Err(Error::ENOENT));
    assert_eq!(unmap(&bench, 2, handle, WINDOW), GrantStatus::OKAY);
    bench.end();
}

#[test]
fn a_domain_maps_its_own_grant_over_its_own_memory() {
    let bench = bench();
    offer(&bench, 1, 8, 1, 30, entry_flag::PERMIT_ACCESS);
    let owned = bench.domains[1].owned_pages(&bench.kernel.machine);
    let handle = map(&bench, 1, mapping(1, 8, 40, 0)).expect("mapped");
    assert_eq!(bench.domains[1].owned_pages(&bench.kernel.machine), owned - 1);
    assert_eq!(unmap(&bench, 1, handle, 40), GrantStatus::OKAY);
    assert_eq!(kind(&bench, 1, 40), None);
    bench.end();
}

#[test]
fn a_lenders_end_leaves_its_pages_to_the_borrower() {
    let bench = bench();
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    bench.put(1, 30 << 12, &7u64);
    let handle = map(&bench, 2, mapping(1, 8, WINDOW, 0)).expect("mapped");
    bench.destroy(1);
    assert_eq!(bench.domains[1].owned_pages(&bench.kernel.machine), 1);
    assert_eq!(bench.get::<u64>(2, WINDOW << 12), 7);
    assert_eq!(
        map(&bench, 2, mapping(1, 8, WINDOW + 1, 0)),
        Err(GrantStatus::BAD_DOMAIN)
    );
    assert_eq!(unmap(&bench, 2, handle, WINDOW), GrantStatus::OKAY);
    bench.end();
}

#[test]
fn a_borrowers_end_gives_everything_back() {
    let bench = bench();
    for reference in 8..108 {
        offer(&bench, 1, reference, 2, 30, entry_flag::PERMIT_ACCESS);
        let at = WINDOW + u64::from(reference);
        map(
            &bench,
            2,
            mapping(1, reference, at, reference % 2 * map_flag::READ_ONLY),
        )
        .expect("mapped");
    }
    assert_eq!(bench.domains[1].grants.entries_in_use(), 100);
    bench.destroy(2);
    assert_eq!(bench.domains[1].grants.entries_in_use(), 0);
    for reference in 8..108 {
        assert_eq!(flags(&bench, 1, reference), entry_flag::PERMIT_ACCESS);
    }
    bench.end();
}

#[test]
fn a_batch_of_unmaps_takes_one_flush() {
    let bench = bench();
    let requests: Vec<MapGrantRef> = (0..32)
        .map(|step| mapping(1, 8 + step, WINDOW + u64::from(step), 0))
        .collect();
    for reference in 8..40 {
        offer(
            &bench,
            1,
            reference,
            2,
            u64::from(reference),
            entry_flag::PERMIT_ACCESS,
        );
    }
    let mapped = array(&bench, 2, op::MAP_GRANT_REF, &requests).expect("done");
    let mut unmaps: Vec<UnmapGrantRef> = mapped
        .iter()
        .map(|done| UnmapGrantRef {
            host_address: done.host_address,
            handle: done.handle,
            ..Default::default()
        })
        .collect();
    // The same handle twice in one batch: once is enough.
    unmaps[31].handle = unmaps[30].handle;
    let before = bench.kernel.machine.flushes();
    let undone = array(&bench, 2, op::UNMAP_GRANT_REF, &unmaps).expect("done");
    assert_eq!(bench.kernel.machine.flushes() - before, 1);
    assert!(undone[..31].iter().all(|done| done.status == GrantStatus::OKAY));
    assert_eq!(undone[31].status, GrantStatus::BAD_HANDLE);
    assert_eq!(bench.domains[2].grants.mappings(), 1);
    bench.end();
}

#[test]
fn long_arrays_are_cut_and_go_on() {
    let bench = bench();
    for reference in 8..108 {
        offer(&bench, 1, reference, 2, 30, entry_flag::PERMIT_ACCESS);
    }
    let requests: Vec<MapGrantRef> = (0..100)
        .map(|step| mapping(1, 8 + step, WINDOW + u64::from(step), 0))
        .collect();
    let call = |operation: u32| {
        bench.hurried(|| bench.call_counted(2, GRANT_TABLE_OP, [u64::from(operation), ARRAY, 100]))
    };
    bench.put(2, ARRAY, requests.as_slice());
    let (result, cuts) = call(op::MAP_GRANT_REF);
    assert_eq!(result, Ok(0));
    assert!(cuts > 10, "{cuts}");
    let unmaps: Vec<UnmapGrantRef> = (0..100)
        .map(|index| bench.get::<MapGrantRef>(2, ARRAY + index * 32))
        .map(|done| UnmapGrantRef {
            host_address: done.host_address,
            handle: done.handle,
            ..Default::default()
        })
        .collect();
    bench.put(2, ARRAY, unmaps.as_slice());
    let (result, cuts) = call(op::UNMAP_GRANT_REF);
    assert_eq!(result, Ok(0));
    assert!(cuts >= 3, "{cuts}");
    assert_eq!(bench.domains[2].grants.mappings(), 0);
    assert_eq!(bench.domains[1].grants.entries_in_use(), 0);
    bench.end();
}

#[test]
fn handles_run_out_for_the_greedy_only() {
    let bench = bench();
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    // Two frames of maptrack, 256 entries each.
    for step in 0..512 {
        map(&bench, 2, mapping(1, 8, WINDOW + step, 0)).expect("mapped");
    }
    assert_eq!(
        map(&bench, 2, mapping(1, 8, WINDOW + 512, 0)),
        Err(GrantStatus::NO_SPACE)
    );
    assert_eq!(unmap(&bench, 2, 100, WINDOW + 100), GrantStatus::OKAY);
    assert_eq!(map(&bench, 2, mapping(1, 8, WINDOW + 512, 0)), Ok(100));
    bench.end();
}

fn end(domain: u16, location: u64, offset: u16) -> CopyPointer {
    CopyPointer {
        location,
        domain: DomainId(domain),
        offset,
        ..Default::default()
    }
}

fn copy(
    bench: &Bench,
    caller: usize,
    source: CopyPointer,
    into: CopyPointer,
    length: u16,
    flags: u16,
) -> GrantStatus {
    let request = Copy {
        source,
        destination: into,
        length,
        flags,
        ..Default::default()
    };
    one(bench, caller, op::COPY, request).status
}

const SELF: u16 = DomainId::SELF.0;
const FROM_GRANT: u16 = copy_flag::SOURCE_IS_REFERENCE;
const INTO_GRANT: u16 = copy_flag::DESTINATION_IS_REFERENCE;

#[test]
fn bytes_are_copied_in_every_direction() {
    let bench = bench();
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    offer(&bench, 1, 9, 2, 31, entry_flag::PERMIT_ACCESS);
    bench.put(1, (30 << 12) + 16, b"from one");
    assert_eq!(
        copy(&bench, 2, end(1, 8, 16), end(SELF, 40, 100), 8, FROM_GRANT),
        GrantStatus::OKAY
    );
    assert_eq!(&bench.get::<[u8; 8]>(2, (40 << 12) + 100), b"from one");
    bench.put(2, 41 << 12, b"from two");
    assert_eq!(
        copy(&bench, 2, end(SELF, 41, 0), end(1, 8, 0), 8, INTO_GRANT),
        GrantStatus::OKAY
    );
    assert_eq!(&bench.get::<[u8; 8]>(1, 30 << 12), b"from two");
    assert_eq!(
        copy(
            &bench,
            2,
            end(1, 8, 0),
            end(1, 9, 0),
            4096,
            FROM_GRANT | INTO_GRANT
        ),
        GrantStatus::OKAY
    );
    assert_eq!(&bench.get::<[u8; 8]>(1, 31 << 12), b"from two");
    assert_eq!(
        copy(&bench, 2, end(SELF, 41, 0), end(SELF, 42, 0), 8, 0),
        GrantStatus::OKAY
    );
    assert_eq!(
        copy(&bench, 2, end(1, 8, 0), end(SELF, 42, 0), 0, FROM_GRANT),
        GrantStatus::OKAY
    );
    assert_eq!(
        (flags(&bench, 1, 8), flags(&bench, 1, 9)),
        (entry_flag::PERMIT_ACCESS, entry_flag::PERMIT_ACCESS)
    );
    assert_eq!(bench.domains[1].grants.entries_in_use(), 0);
    bench.end();
}

#[test]
fn copies_are_bound_by_offers_and_pages() {
    let bench = bench();
    offer(
        &bench,
        1,
        8,
        2,
        30,
        entry_flag::PERMIT_ACCESS | entry_flag::READ_ONLY,
    );
    let local = end(SELF, 40, 0);
    for (source, into, length, flags, status) in [
        (local, end(1, 8, 0), 8, INTO_GRANT, GrantStatus::GENERAL_ERROR),
        (
            end(1, 8, 4095),
            local,
            2,
            FROM_GRANT,
            GrantStatus::BAD_COPY_ARGUMENT,
        ),
        (
            end(1, 8, 0),
            end(SELF, 40, u16::MAX),
            u16::MAX,
            FROM_GRANT,
            GrantStatus::BAD_COPY_ARGUMENT,
        ),
        (end(1, 9, 0), local, 8, FROM_GRANT, GrantStatus::GENERAL_ERROR),
        (end(1, 1024, 0), local, 8, FROM_GRANT, GrantStatus::BAD_REFERENCE),
        (end(77, 8, 0), local, 8, FROM_GRANT, GrantStatus::BAD_DOMAIN),
        (end(1, 30, 0), local, 8, 0, GrantStatus::PERMISSION_DENIED),
        (end(2, 40, 0), local, 8, 0, GrantStatus::PERMISSION_DENIED),
        (local, end(1, 30, 0), 8, 0, GrantStatus::PERMISSION_DENIED),
        (end(SELF, WINDOW, 0), local, 8, 0, GrantStatus::BAD_PAGE),
        (local, end(SELF, TABLE, 0), 8, 0, GrantStatus::BAD_PAGE),
        (local, end(SELF, u64::MAX, 0), 8, 0, GrantStatus::BAD_PAGE),
    ] {
        assert_eq!(
            copy(&bench, 2, source, into, length, flags),
            status,
            "{source:?} -> {into:?}"
        );
    }
    assert_eq!(
        flags(&bench, 1, 8),
        entry_flag::PERMIT_ACCESS | entry_flag::READ_ONLY
    );
    assert_eq!(bench.domains[1].grants.entries_in_use(), 0);
    bench.end();
}

#[test]
fn the_table_tells_its_size_and_version() {
    let bench = bench();
    let size = one(
        &bench,
        1,
        op::QUERY_SIZE,
        QuerySize {
            domain: DomainId::SELF,
            ..Default::default()
        },
    );
    assert_eq!(
        (size.number_of_frames, size.max_number_of_frames, size.status),
        (2, 4, GrantStatus::OKAY)
    );
    let denied = one(
        &bench,
        1,
        op::QUERY_SIZE,
        QuerySize {
            domain: DomainId(2),
            ..Default::default()
        },
    );
    assert_eq!(denied.status, GrantStatus::PERMISSION_DENIED);
    let nobody = one(
        &bench,
        0,
        op::QUERY_SIZE,
        QuerySize {
            domain: DomainId(9),
            ..Default::default()
        },
    );
    assert_eq!(nobody.status, GrantStatus::BAD_DOMAIN);
    let version = |wanted: u32| array(&bench, 1, op::SET_VERSION, &[SetVersion { version: wanted }]);
    assert_eq!(version(1), Ok(vec![SetVersion { version: 1 }]));
    assert_eq!(version(2), Err(Error::ENOSYS));
    assert_eq!(bench.get::<SetVersion>(1, ARRAY).version, 1);
    assert_eq!(version(3), Err(Error::EINVAL));
    let version = one(
        &bench,
        0,
        op::GET_VERSION,
        GetVersion {
            domain: DomainId(1),
            ..Default::default()
        },
    );
    assert_eq!(version.version, 1);
    let setup = |frames: u32| SetupTable {
        domain: DomainId::SELF,
        number_of_frames: frames,
        frame_list: GuestHandle::new(ARGUMENT),
        ..Default::default()
    };
    assert_eq!(
        one(&bench, 1, op::SETUP_TABLE, setup(3)).status,
        GrantStatus::OKAY
    );
    assert_eq!(bench.get::<[u64; 3]>(1, ARGUMENT), [TABLE, TABLE + 1, u64::MAX]);
    assert_eq!(
        one(&bench, 1, op::SETUP_TABLE, setup(5)).status,
        GrantStatus::GENERAL_ERROR
    );
    let status = one(&bench, 1, op::GET_STATUS_FRAMES, GetStatusFrames::new_zeroed()).status;
    assert_eq!(status, GrantStatus::GENERAL_ERROR);
    bench.end();
}

#[test]
fn entries_are_swapped_unless_in_use() {
    let bench = bench();
    offer(&bench, 1, 8, 2, 30, entry_flag::PERMIT_ACCESS);
    offer(&bench, 1, 700, 0, 31, entry_flag::PERMIT_ACCESS);
    let swap = |first, second| {
        one(
            &bench,
            1,
            op::SWAP_GRANT_REF,
            SwapGrantRef {
                first,
                second,
                ..Default::default()
            },
        )
    };
    assert_eq!(swap(8, 700).status, GrantStatus::OKAY);
    assert_eq!(bench.get::<GrantEntryV1>(1, entry_address(700)).frame, 30);
    assert_eq!(bench.get::<GrantEntryV1>(1, entry_address(8)).frame, 31);
    map(&bench, 2, mapping(1, 700, WINDOW, 0)).expect("mapped");
    assert_eq!(swap(8, 700).status, GrantStatus::TRY_AGAIN);
    assert_eq!(swap(8, 5000).status, GrantStatus::BAD_REFERENCE);
    bench.end();
}

#[test]
fn what_is_not_offered_says_so() {
    let bench = bench();
    let call = |operation: u64, count: u64| bench.call(1, GRANT_TABLE_OP, [operation, ARRAY, count]);
    assert_eq!(call(op::TRANSFER.into(), 1), Err(Error::EOPNOTSUPP));
    assert_eq!(call(op::CACHE_FLUSH.into(), 1), Err(Error::EOPNOTSUPP));
    assert_eq!(call(op::DUMP_TABLE.into(), 1), Err(Error::ENOSYS));
    assert_eq!(call(99, 1), Err(Error::ENOSYS));
    assert_eq!(call(op::COPY.into(), 1 << 31), Err(Error::EINVAL));
    assert_eq!(call(u64::from(op::COPY) | 1 << 12, 1), Err(Error::EINVAL));
    assert_eq!(call(op::QUERY_SIZE.into(), 2), Err(Error::EINVAL));
    assert_eq!(call(op::COPY.into(), 0), Ok(0));
    let replaced = one(
        &bench,
        1,
        op::UNMAP_AND_REPLACE,
        UnmapAndReplace {
            handle: 5,
            ..Default::default()
        },
    );
    assert_eq!(replaced.status, GrantStatus::BAD_HANDLE);
    // An array that leaves memory: what is there is done, then the fault is told.
    let at = (PAGES << 12) - 32;
    offer(&bench, 1, 8, 1, 30, entry_flag::PERMIT_ACCESS);
    bench.put(1, at, &mapping(1, 8, WINDOW, 0));
    assert_eq!(
        bench.call(1, GRANT_TABLE_OP, [op::MAP_GRANT_REF.into(), at, 2]),
        Err(Error::EFAULT)
    );
    assert_eq!(bench.get::<MapGrantRef>(1, at).status, GrantStatus::OKAY);
    assert_eq!(kind(&bench, 1, WINDOW), Some(EntryKind::Grant));
    bench.end();
}

#[test]
fn hostile_grant_operations_harm_nobody() {
    for seed in 1..6 {
        let bench = bench();
        let mut numbers = Numbers(0x6772_616e_7400 + seed);
        let mut handles = [0u32; 16];
        let mut auditor = Auditor::default();
        for step in 0..1500 {
            if step % 50 == 0 {
                crate::testing::audit_by_hand(&bench.kernel, &mut auditor);
            }
            let (lender, borrower) = (numbers.below(3) as usize, numbers.below(3) as usize);
            let reference = numbers.below(12) as u32;
            let window = WINDOW + numbers.below(40);
            let slot = numbers.below(16) as usize;
            match numbers.below(8) {
                0 | 1 => {
                    let frame = if numbers.below(8) == 0 {
                        numbers.next()
                    } else {
                        8 + numbers.below(60)
                    };
                    let kept = flags(&bench, lender, reference) & (entry_flag::READING | entry_flag::WRITING);
                    // A lender may even wipe the marks of use: its own loss.
                    let kept = if numbers.below(4) == 0 { 0 } else { kept };
                    offer(
                        &bench,
                        lender,
                        reference,
                        borrower as u16,
                        frame,
                        numbers.below(8) as u16 | kept,
                    );
                }
                2 | 3 => {
                    let request = mapping(lender as u16, reference, window, (numbers.below(2) as u32) << 2);
                    if let Ok(handle) = map(&bench, borrower, request) {
                        handles[slot] = handle;
                    }
                }
                4 | 5 => {
                    let at = bench.domains[borrower]
                        .physmap
                        .lookup(GuestFrame(window))
                        .map_or(1, |_| window);
                    unmap(&bench, borrower, handles[slot], at);
                }
                6 => {
                    let from = end(lender as u16, u64::from(reference), numbers.next() as u16 & 0xfff);
                    let into = end(SELF, 8 + numbers.below(50), numbers.next() as u16 & 0xfff);
                    copy(
                        &bench,
                        borrower,
                        from,
                        into,
                        numbers.below(1024) as u16,
                        FROM_GRANT,
                    );
                }
                _ => {
                    let words: [u64; 20] = core::array::from_fn(|_| numbers.next() >> numbers.below(64));
                    bench.put(borrower, ARRAY, &words);
                    let operation = numbers.below(14);
                    let _ = bench.call(borrower, GRANT_TABLE_OP, [operation, ARRAY, numbers.below(4)]);
                }
            }
        }
        // Whoever ends first, nothing is lost.
        bench.destroy((seed % 3) as usize);
        bench.end();
    }
}

#[test]
fn processors_at_work_on_each_others_grants_neither_block_nor_lose_anything() {
    let bench = bench();
    std::thread::scope(|scope| {
        for own in 0..3usize {
            let bench = &bench;
            scope.spawn(move || lend_and_borrow(bench, own));
        }
    });
    for domain in &bench.domains {
        assert_eq!(domain.grants.mappings(), 0);
        assert_eq!(domain.grants.entries_in_use(), 0);
    }
    bench.end();
}

/// One domain's part: it changes its offers under the others' hands and maps, copies and unmaps theirs.
fn lend_and_borrow(bench: &Bench, own: usize) {
    let mut numbers = Numbers(0x7468_7265_6164 + own as u64);
    let (table, _) = bench.domains[own]
        .physmap
        .get(GuestFrame(TABLE))
        .expect("the table");
    let mut held = Vec::new();
    for round in 0..4000u64 {
        let entry = GrantEntryV1 {
            flags: entry_flag::PERMIT_ACCESS,
            domain: DomainId(numbers.below(3) as u16),
            frame: 8 + numbers.below(8) as u32,
        };
        // As guests do: by one store, which may hit an entry in use.
        let word = u64::from_le_bytes(zerocopy::transmute!(entry));
        table
            .store_u64(numbers.below(8) as usize * 8, word)
            .expect("within the table");
        let at = WINDOW + round;
        let request = mapping(numbers.below(3) as u16, numbers.below(8) as u32, at, 0);
        if let Ok(handle) = map(bench, own, request) {
            held.push((handle, at));
        }
        if held.len() > 8 || (round == 3999 && !held.is_empty()) {
            for (handle, at) in held.drain(..) {
                assert_eq!(unmap(bench, own, handle, at), GrantStatus::OKAY);
            }
        }
        let other = numbers.below(3) as u16;
        copy(
            bench,
            own,
            end(other, numbers.below(8), 0),
            end(SELF, 50, 0),
            0,
            FROM_GRANT,
        );
    }
    for (handle, at) in held {
        assert_eq!(unmap(bench, own, handle, at), GrantStatus::OKAY);
    }
}
