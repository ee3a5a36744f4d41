//! Memory operations, asked well and badly, over a machine of the host.

use core::sync::atomic::Ordering;

use hypercall_abi::hypercall::number::MEMORY_OP;
use hypercall_abi::memory::*;
use hypercall_abi::{DomainId, Error, GuestHandle};
use machine::Machine;
use machine::address::{GuestFrame, HostFrame};
use machine::stage_two::{EntryKind, Permissions};

use crate::audit::Auditor;
use crate::grant_table::bench::{ARGUMENT, ARRAY, Bench, MOST_PAGES, Numbers, PAGES};

const HOLE: u64 = 0x1000;

fn reservation(domain: u16, count: u64, order: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(ARRAY),
        number_of_extents: count,
        extent_order: order,
        domain: DomainId(domain),
        ..Default::default()
    }
}

fn reserve(bench: &Bench, caller: usize, operation: u32, request: MemoryReservation, frames: &[u64]) -> u64 {
    bench.put(caller, ARRAY, frames);
    bench.put(caller, ARGUMENT, &request);
    bench
        .call(caller, MEMORY_OP, [u64::from(operation), ARGUMENT, 0])
        .expect("a count")
}

fn memory_op(bench: &Bench, caller: usize, operation: u32) -> Result<u64, Error> {
    bench.call(caller, MEMORY_OP, [u64::from(operation), ARGUMENT, 0])
}

fn owned(bench: &Bench, domain: usize) -> u64 {
    bench.domains[domain].owned_pages(&bench.kernel.machine)
}

fn kind(bench: &Bench, domain: usize, at: u64) -> Option<EntryKind> {
    bench.domains[domain]
        .physmap
        .lookup(GuestFrame(at))
        .map(|leaf| leaf.kind)
}

#[test]
fn populated_pages_are_zeroed_counted_and_given_back() {
    let bench = Bench::new();
    let frames: Vec<u64> = (0..40).map(|step| HOLE + step).collect();
    assert_eq!(
        reserve(
            &bench,
            1,
            op::POPULATE_PHYSMAP,
            reservation(DomainId::SELF.0, 40, 0),
            &frames
        ),
        40
    );
    assert_eq!(owned(&bench, 1), PAGES + 40);
    assert_eq!(bench.get::<u64>(1, HOLE << 12), 0);
    bench.put(1, HOLE << 12, &77u64);
    assert_eq!(
        reserve(
            &bench,
            1,
            op::DECREASE_RESERVATION,
            reservation(DomainId::SELF.0, 40, 0),
            &frames
        ),
        40
    );
    assert_eq!(owned(&bench, 1), PAGES);
    assert_eq!(kind(&bench, 1, HOLE), None);
    // The same page, most likely, comes back clean.
    assert_eq!(
        reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 1, 0), &[HOLE]),
        1
    );
    assert_eq!(bench.get::<u64>(1, HOLE << 12), 0);
    bench.end();
}

#[test]
fn population_stops_at_what_is_there_at_the_allowance_and_at_the_arrays_end() {
    let bench = Bench::new();
    let occupied = [HOLE, HOLE + 1, 5, HOLE + 2];
    assert_eq!(
        reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 4, 0), &occupied),
        2
    );
    bench.domains[1].max_pages.store(PAGES + 3, Ordering::SeqCst);
    let frames: Vec<u64> = (0..8).map(|step| HOLE + 8 + step).collect();
    assert_eq!(
        reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 8, 0), &frames),
        1
    );
    bench.domains[1].max_pages.store(MOST_PAGES, Ordering::SeqCst);
    // Two elements in the last page of memory, the third behind it.
    let mut request = reservation(1, 3, 0);
    request.extent_start = GuestHandle::new((PAGES << 12) - 16);
    bench.put(1, (PAGES << 12) - 16, &[HOLE + 100, HOLE + 101]);
    assert_eq!(reserve(&bench, 1, op::POPULATE_PHYSMAP, request, &[]), 2);
    // Past the guest's address space.
    assert_eq!(
        reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 1, 0), &[1 << 36]),
        0
    );
    assert_eq!(
        reserve(
            &bench,
            1,
            op::POPULATE_PHYSMAP,
            reservation(1, 1, 3),
            &[u64::MAX - 3]
        ),
        0
    );
    assert_eq!(owned(&bench, 1), PAGES + 5);
    bench.end();
}

#[test]
fn superpages_are_populated_and_taken_apart() {
    let bench = Bench::new();
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(1, 1, 9), &[0x2000]),
        1
    );
    let leaf = bench.domains[1]
        .physmap
        .lookup(GuestFrame(0x2010))
        .expect("a leaf");
    assert_eq!(leaf.order.value(), 9);
    assert_eq!(
        reserve(
            &bench,
            1,
            op::DECREASE_RESERVATION,
            reservation(1, 1, 0),
            &[0x2010]
        ),
        1
    );
    assert_eq!(owned(&bench, 1), PAGES + 511);
    // An extent with a hole in it goes as far as the hole, and counts as not done.
    assert_eq!(
        reserve(
            &bench,
            1,
            op::DECREASE_RESERVATION,
            reservation(1, 1, 9),
            &[0x2000]
        ),
        0
    );
    // Nothing is put over a part that is there still.
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(1, 1, 9), &[0x2000]),
        0
    );
    // Unaligned, so in pages.
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(1, 1, 3), &[0x3003]),
        1
    );
    assert_eq!(
        reserve(
            &bench,
            1,
            op::DECREASE_RESERVATION,
            reservation(1, 1, 3),
            &[0x3003]
        ),
        1
    );
    // Orders past 2 MiB are the privileged domain's.
    assert_eq!(
        reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 1, 10), &[0x4000]),
        0
    );
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(1, 1, 19), &[0x4000]),
        0
    );
    bench.end();
}

#[test]
fn long_reservations_are_cut_and_go_on() {
    let bench = Bench::new();
    let frames: Vec<u64> = (0..400).map(|step| HOLE + step).collect();
    for operation in [op::POPULATE_PHYSMAP, op::DECREASE_RESERVATION] {
        bench.put(1, ARRAY, frames.as_slice());
        bench.put(1, ARGUMENT, &reservation(1, 400, 0));
        let arguments = [u64::from(operation), ARGUMENT, 0];
        let (result, cuts) = bench.hurried(|| bench.call_counted(1, MEMORY_OP, arguments));
        assert_eq!(result, Ok(400));
        assert!(cuts > 10, "cut {cuts} times only");
    }
    assert_eq!(owned(&bench, 1), PAGES);
    bench.end();
}

#[test]
fn reservations_answer_their_start_to_nonsense() {
    let bench = Bench::new();
    let start = |start: u64, operation: u32| u64::from(operation) | (start << COMMAND_BITS);
    bench.put(1, ARGUMENT, &reservation(1, 3, 0));
    for number in [3, 4, 1 << 40, u64::MAX >> COMMAND_BITS] {
        let arguments = [start(number, op::POPULATE_PHYSMAP), ARGUMENT, 0];
        assert_eq!(bench.call(1, MEMORY_OP, arguments), Ok(number));
    }
    // No such argument, no such domain, somebody else's, too many, on demand.
    assert_eq!(
        bench.call(1, MEMORY_OP, [u64::from(op::POPULATE_PHYSMAP), 0x7fff_0000, 0]),
        Ok(0)
    );
    for request in [
        reservation(2, 1, 0),
        reservation(77, 1, 0),
        reservation(1, 1 << 32, 0),
    ] {
        assert_eq!(reserve(&bench, 1, op::POPULATE_PHYSMAP, request, &[HOLE]), 0);
    }
    let on_demand = MemoryReservation {
        memory_flags: flag::POPULATE_ON_DEMAND,
        ..reservation(1, 1, 0)
    };
    assert_eq!(reserve(&bench, 1, op::POPULATE_PHYSMAP, on_demand, &[HOLE]), 0);
    assert_eq!(
        reserve(&bench, 1, op::INCREASE_RESERVATION, reservation(1, 1, 0), &[HOLE]),
        0
    );
    assert_eq!(owned(&bench, 1), PAGES);
    bench.end();
}

#[test]
fn domains_cannot_have_all_of_the_machines_memory() {
    let bench = Bench::new();
    bench.domains[1].max_pages.store(1 << 20, Ordering::SeqCst);
    let frames: Vec<u64> = (0..512).map(|step| HOLE + step).collect();
    let mut next = 0;
    loop {
        let frames: Vec<u64> = frames.iter().map(|frame| frame + next).collect();
        if reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 512, 0), &frames) < 512 {
            break;
        }
        next += 512;
    }
    let left = bench.free_frames();
    assert_eq!(super::claim::available(&bench.kernel), 0);
    assert!((16..1024).contains(&left), "{left}");
    // Nor can they have the rest as tables.
    bench.domains[1].max_pages.store(u64::MAX, Ordering::SeqCst);
    for step in 0..64 {
        let _ = add(&bench, 1, thing(map_space::SHARED_INFO, 0, (step + 2) << 27));
    }
    assert!(bench.free_frames() >= 4, "{}", bench.free_frames());
    assert!(!bench.domains[1].may_map_more() && bench.domains[1].may_grow_tables());
    bench.end();
}

#[test]
fn claims_are_kept_for_their_domain() {
    let bench = Bench::new();
    let free = super::claim::available(&bench.kernel);
    let claim = |pages: u64, domain: u16| {
        let request = MemoryReservation {
            number_of_extents: pages,
            domain: DomainId(domain),
            ..Default::default()
        };
        bench.put(0, ARGUMENT, &request);
        memory_op(&bench, 0, op::CLAIM_PAGES)
    };
    for domain in &bench.domains {
        domain.max_pages.store(1 << 20, Ordering::SeqCst);
    }
    assert_eq!(claim(PAGES, 1), Err(Error::EINVAL));
    assert_eq!(claim(1 << 21, 1), Err(Error::EINVAL));
    assert_eq!(claim(PAGES + free + 1, 1), Err(Error::ENOMEM));
    assert_eq!(claim(1, 77), Err(Error::EINVAL));
    assert_eq!(claim(PAGES + free - 20, 1), Ok(0));
    assert_eq!(claim(PAGES + 1, 1), Err(Error::EINVAL));
    // Others get what is left (less the tables), the claimant gets its own.
    let frames: Vec<u64> = (0..64).map(|step| HOLE + step).collect();
    let got = reserve(&bench, 2, op::POPULATE_PHYSMAP, reservation(2, 64, 0), &frames);
    assert!((1..=20).contains(&got), "{got}");
    assert_eq!(
        reserve(&bench, 1, op::POPULATE_PHYSMAP, reservation(1, 64, 0), &frames),
        64
    );
    assert_eq!(bench.domains[1].claimed.load(Ordering::SeqCst), free - 20 - 64);
    assert_eq!(claim(0, 1), Ok(0));
    assert_eq!(*bench.kernel.domains.claims.lock(), 0);
    let frames: Vec<u64> = (0..64).map(|step| HOLE + 100 + step).collect();
    assert_eq!(
        reserve(&bench, 2, op::POPULATE_PHYSMAP, reservation(2, 64, 0), &frames),
        64
    );
    // A claim dies with its domain; nobody else's operation may make one.
    assert_eq!(claim(PAGES + 500, 2), Ok(0));
    bench.put(
        1,
        ARGUMENT,
        &MemoryReservation {
            number_of_extents: 1,
            domain: DomainId(1),
            ..Default::default()
        },
    );
    assert_eq!(memory_op(&bench, 1, op::CLAIM_PAGES), Err(Error::EPERM));
    bench.end();
}

#[test]
fn a_failed_block_gives_its_claim_back() {
    let bench = Bench::new();
    for domain in &bench.domains {
        domain.max_pages.store(1 << 20, Ordering::SeqCst);
    }
    let request = MemoryReservation {
        number_of_extents: PAGES + 600,
        domain: DomainId(1),
        ..Default::default()
    };
    bench.put(0, ARGUMENT, &request);
    assert_eq!(memory_op(&bench, 0, op::CLAIM_PAGES), Ok(0));
    // The large blocks go, and come back in pieces: enough is free for the block then, but not in one piece.
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(0, 1, 12), &[1 << 18]),
        1
    );
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(0, 1, 11), &[1 << 19]),
        1
    );
    let odd: Vec<u64> = (0..1000).map(|step| (1 << 18) + 2 * step + 1).collect();
    assert_eq!(
        reserve(&bench, 0, op::DECREASE_RESERVATION, reservation(0, 1000, 0), &odd),
        1000
    );
    assert!(bench.free_frames() > 2048);
    assert_eq!(
        reserve(&bench, 0, op::POPULATE_PHYSMAP, reservation(1, 1, 11), &[1 << 20]),
        0
    );
    assert_eq!(bench.domains[1].claimed.load(Ordering::SeqCst), 600);
    assert_eq!(*bench.kernel.domains.claims.lock(), 600);
    bench.end();
}

fn add(bench: &Bench, caller: usize, request: AddToPhysmap) -> Result<u64, Error> {
    bench.put(caller, ARGUMENT, &request);
    memory_op(bench, caller, op::ADD_TO_PHYSMAP)
}

fn thing(space: u32, index: u64, at: u64) -> AddToPhysmap {
    AddToPhysmap {
        domain: DomainId::SELF,
        space,
        index,
        guest_frame: at,
        ..Default::default()
    }
}

#[test]
fn shared_pages_take_the_place_of_memory() {
    let bench = Bench::new();
    assert_eq!(add(&bench, 1, thing(map_space::SHARED_INFO, 0, 10)), Ok(0));
    assert_eq!(kind(&bench, 1, 10), Some(EntryKind::Shared));
    assert_eq!(owned(&bench, 1), PAGES - 1);
    bench.put(1, (10 << 12) + 8, &0xabcdu64);
    assert_eq!(bench.domains[1].shared_info.load_u64(8), Ok(0xabcd));
    // The table grows on demand, up to its limit.
    for index in 0..4 {
        assert_eq!(
            add(&bench, 1, thing(map_space::GRANT_TABLE, index, HOLE + index)),
            Ok(0)
        );
    }
    assert_eq!(bench.domains[1].grants.frames(), 4);
    assert_eq!(bench.domains[1].grants.place(3), HOLE + 3);
    for (request, error) in [
        (thing(map_space::GRANT_TABLE, 4, HOLE + 9), Error::EINVAL),
        (thing(map_space::GRANT_TABLE, u64::MAX, HOLE + 9), Error::EINVAL),
        (
            thing(map_space::GRANT_TABLE, GRANT_TABLE_STATUS_INDEX, HOLE + 9),
            Error::EINVAL,
        ),
        (thing(map_space::SHARED_INFO, 1, HOLE + 9), Error::EINVAL),
        (thing(map_space::SHARED_INFO, 0, u64::MAX), Error::EINVAL),
        (thing(map_space::SHARED_INFO, 0, 1 << 36), Error::EINVAL),
        (thing(map_space::GMFN_FOREIGN, 0, HOLE + 9), Error::ENOSYS),
        (thing(map_space::GMFN_RANGE, 0, HOLE + 9), Error::EOPNOTSUPP),
        (thing(map_space::DEVICE_MMIO, 0, HOLE + 9), Error::EINVAL),
        (thing(99, 0, HOLE + 9), Error::EINVAL),
        (
            AddToPhysmap {
                domain: DomainId(2),
                ..thing(map_space::SHARED_INFO, 0, 9)
            },
            Error::EPERM,
        ),
    ] {
        assert_eq!(add(&bench, 1, request), Err(error), "{request:?}");
    }
    let command = u64::from(op::ADD_TO_PHYSMAP) | (0x1_0000 << COMMAND_BITS);
    assert_eq!(bench.call(1, MEMORY_OP, [command, ARGUMENT, 0]), Err(Error::EDOM));
    // A device's page is never replaced.
    let device =
        bench.domains[1]
            .physmap
            .insert_device(GuestFrame(HOLE + 20), HostFrame(3), Permissions::READ_WRITE);
    assert_eq!(device, Ok(()));
    assert_eq!(
        add(&bench, 1, thing(map_space::SHARED_INFO, 0, HOLE + 20)),
        Err(Error::EPERM)
    );
    bench.end();
}

#[test]
fn a_page_moves_within_its_domain() {
    let bench = Bench::new();
    bench.put(1, 20 << 12, &42u64);
    assert_eq!(add(&bench, 1, thing(map_space::GMFN, 20, HOLE)), Ok(0));
    assert_eq!(bench.get::<u64>(1, HOLE << 12), 42);
    assert_eq!(kind(&bench, 1, 20), None);
    assert_eq!(
        add(&bench, 1, thing(map_space::GMFN, 20, HOLE + 1)),
        Err(Error::EINVAL)
    );
    assert_eq!(add(&bench, 1, thing(map_space::GMFN, HOLE, HOLE)), Ok(0));
    // Over memory of its own, which goes.
    assert_eq!(add(&bench, 1, thing(map_space::GMFN, HOLE, 21)), Ok(0));
    assert_eq!(owned(&bench, 1), PAGES - 1);
    assert_eq!(bench.get::<u64>(1, 21 << 12), 42);
    bench.end();
}

#[test]
fn a_page_that_cannot_be_moved_stays_where_it_was() {
    let bench = Bench::new();
    let before = owned(&bench, 1);
    // No domain has a guest frame past 48 bits of address.
    for at in [1 << 36, 1 << 40, u64::MAX] {
        assert_eq!(add(&bench, 1, thing(map_space::GMFN, 20, at)), Err(Error::EINVAL));
        assert_eq!(kind(&bench, 1, 20), Some(EntryKind::Populated));
    }
    // Nor is there room for another table, once a domain has as many as it may.
    let domain = &bench.domains[1];
    let mut far = 1 << 30;
    while domain.may_grow_tables() {
        add(&bench, 1, thing(map_space::SHARED_INFO, 0, far)).unwrap();
        far += 1 << 18;
    }
    assert_eq!(
        add(&bench, 1, thing(map_space::GMFN, 20, far)),
        Err(Error::ENOMEM)
    );
    assert_eq!(kind(&bench, 1, 20), Some(EntryKind::Populated));
    assert_eq!(owned(&bench, 1), before);
    bench.end();
}

/// Map frames of domain `owner` into domain `caller` from `at` on; gives the errors of each.
fn map_foreign(bench: &Bench, caller: usize, owner: u16, frames: &[u64], at: u64) -> Result<Vec<i32>, Error> {
    let count = frames.len() as u64;
    let places: Vec<u64> = (0..count).map(|step| at + step).collect();
    bench.put(caller, ARRAY, frames);
    bench.put(caller, ARRAY + 0x1000, places.as_slice());
    let request = AddToPhysmapBatch {
        domain: DomainId::SELF,
        space: map_space::GMFN_FOREIGN as u16,
        size: count as u16,
        foreign_domain: DomainId(owner),
        indices: GuestHandle::new(ARRAY),
        guest_frames: GuestHandle::new(ARRAY + 0x1000),
        errors: GuestHandle::new(ARRAY + 0x2000),
    };
    bench.put(caller, ARGUMENT, &request);
    memory_op(bench, caller, op::ADD_TO_PHYSMAP_BATCH)?;
    Ok((0..count)
        .map(|index| bench.get::<i32>(caller, ARRAY + 0x2000 + index * 4))
        .collect())
}

fn remove(bench: &Bench, caller: usize, at: u64) -> Result<u64, Error> {
    bench.put(
        caller,
        ARGUMENT,
        &RemoveFromPhysmap {
            domain: DomainId::SELF,
            guest_frame: at,
            ..Default::default()
        },
    );
    memory_op(bench, caller, op::REMOVE_FROM_PHYSMAP)
}

#[test]
fn the_privileged_domain_maps_others_memory_and_nothing_else_of_theirs() {
    let bench = Bench::new();
    bench.put(1, 30 << 12, &0x1234u64);
    assert_eq!(add(&bench, 1, thing(map_space::SHARED_INFO, 0, 31)), Ok(0));
    let einval = -Error::EINVAL.number();
    let frames = [30, HOLE, 31, 32, u64::MAX];
    assert_eq!(
        map_foreign(&bench, 0, 1, &frames, HOLE),
        Ok(vec![0, einval, einval, 0, einval])
    );
    assert_eq!(bench.get::<u64>(0, HOLE << 12), 0x1234);
    bench.put(0, HOLE << 12, &0x5678u64);
    assert_eq!(bench.get::<u64>(1, 30 << 12), 0x5678);
    assert_eq!(kind(&bench, 0, HOLE), Some(EntryKind::Foreign));
    // What is mapped cannot be mapped on, nor given away as memory; it goes by its own way.
    assert_eq!(
        map_foreign(&bench, 0, 0, &[1], HOLE + 50),
        Ok(vec![-Error::ESRCH.number()])
    );
    assert_eq!(
        map_foreign(&bench, 0, DomainId::SELF.0, &[1], HOLE + 50),
        Ok(vec![einval])
    );
    assert_eq!(
        map_foreign(&bench, 0, 77, &[1], HOLE + 50),
        Ok(vec![-Error::ESRCH.number()])
    );
    assert_eq!(
        map_foreign(&bench, 2, 1, &[30], HOLE),
        Ok(vec![-Error::EPERM.number()])
    );
    assert_eq!(
        map_foreign(&bench, 0, 1, &[33], HOLE),
        Ok(vec![-Error::ENXIO.number()])
    );
    assert_eq!(
        reserve(&bench, 0, op::DECREASE_RESERVATION, reservation(0, 1, 0), &[HOLE]),
        0
    );
    let before = owned(&bench, 1);
    assert_eq!(remove(&bench, 0, HOLE), Ok(0));
    assert_eq!(remove(&bench, 0, HOLE), Err(Error::ENOENT));
    assert_eq!(owned(&bench, 1), before);
    bench.end();
}

#[test]
fn foreign_pages_outlive_their_domain_and_go_with_the_mapping() {
    let bench = Bench::new();
    bench.put(1, 30 << 12, &0x1234u64);
    assert_eq!(map_foreign(&bench, 0, 1, &[30], HOLE), Ok(vec![0]));
    bench.destroy(1);
    assert!(bench.kernel.domains.get(DomainId(1)).is_none());
    assert_eq!(owned(&bench, 1), 1);
    assert_eq!(bench.get::<u64>(0, HOLE << 12), 0x1234);
    assert_eq!(
        map_foreign(&bench, 0, 1, &[31], HOLE + 1),
        Ok(vec![-Error::ESRCH.number()])
    );
    assert_eq!(remove(&bench, 0, HOLE), Ok(0));
    assert_eq!(owned(&bench, 1), 0);
    bench.end();
}

#[test]
fn a_batch_is_cut_and_goes_on_and_its_faults_are_told() {
    let bench = Bench::new();
    let frames: Vec<u64> = (0..60).collect();
    let errors = bench.hurried(|| map_foreign(&bench, 0, 1, &frames, HOLE));
    assert_eq!(errors, Ok(vec![0; 60]));
    let mut request = AddToPhysmapBatch {
        domain: DomainId::SELF,
        space: map_space::GMFN_RANGE as u16,
        size: 1,
        ..Default::default()
    };
    bench.put(0, ARGUMENT, &request);
    assert_eq!(
        memory_op(&bench, 0, op::ADD_TO_PHYSMAP_BATCH),
        Err(Error::EOPNOTSUPP)
    );
    request.space = map_space::GMFN_FOREIGN as u16;
    request.indices = GuestHandle::new(0x7fff_0000);
    bench.put(0, ARGUMENT, &request);
    assert_eq!(memory_op(&bench, 0, op::ADD_TO_PHYSMAP_BATCH), Err(Error::EFAULT));
    let command = u64::from(op::ADD_TO_PHYSMAP_BATCH) | (2 << COMMAND_BITS);
    assert_eq!(
        bench.call(0, MEMORY_OP, [command, ARGUMENT, 0]),
        Err(Error::EILSEQ)
    );
    bench.end();
}

#[test]
fn the_grant_table_is_a_resource() {
    let bench = Bench::new();
    let request = AcquireResource {
        domain: DomainId(1),
        kind: resource::GRANT_TABLE,
        ..Default::default()
    };
    let acquire = |caller: usize, request: AcquireResource| {
        bench.put(caller, ARGUMENT, &request);
        memory_op(&bench, caller, op::ACQUIRE_RESOURCE)
    };
    assert_eq!(acquire(0, request), Ok(0));
    assert_eq!(bench.get::<AcquireResource>(0, ARGUMENT).number_of_frames, 4);
    bench.put(0, ARRAY, &[HOLE, HOLE + 1]);
    let map = AcquireResource {
        number_of_frames: 2,
        frame_list: GuestHandle::new(ARRAY),
        ..request
    };
    assert_eq!(acquire(0, map), Ok(0));
    assert_eq!(bench.domains[1].grants.frames(), 2);
    assert_eq!(add(&bench, 1, thing(map_space::GRANT_TABLE, 0, HOLE)), Ok(0));
    bench.put(0, HOLE << 12, &0x1_0000_0001_u64);
    assert_eq!(bench.get::<u64>(1, HOLE << 12), 0x1_0000_0001);
    for (request, error) in [
        (AcquireResource { _padding: 1, ..map }, Error::EINVAL),
        (AcquireResource { frame: 4, ..map }, Error::EINVAL),
        (
            AcquireResource {
                frame: u64::MAX,
                ..map
            },
            Error::EINVAL,
        ),
        (
            AcquireResource {
                id: grant_table_resource::STATUS,
                ..map
            },
            Error::EINVAL,
        ),
        (AcquireResource { kind: 9, ..map }, Error::EINVAL),
        (
            AcquireResource {
                kind: resource::IOREQ_SERVER,
                ..map
            },
            Error::EOPNOTSUPP,
        ),
        (
            AcquireResource {
                domain: DomainId::SELF,
                ..map
            },
            Error::EPERM,
        ),
        (
            AcquireResource {
                domain: DomainId(0),
                ..map
            },
            Error::EPERM,
        ),
        (
            AcquireResource {
                domain: DomainId(9),
                ..map
            },
            Error::ESRCH,
        ),
        (
            AcquireResource {
                number_of_frames: 1 << 30,
                ..map
            },
            Error::E2BIG,
        ),
        (
            AcquireResource {
                number_of_frames: 1,
                ..request
            },
            Error::EINVAL,
        ),
    ] {
        assert_eq!(acquire(0, request), Err(error), "{request:?}");
    }
    assert_eq!(acquire(2, map), Err(Error::EACCES));
    // The frames outlive the domain as long as they are mapped.
    bench.destroy(1);
    assert_eq!(bench.get::<u64>(0, HOLE << 12), 0x1_0000_0001);
    bench.end();
}

#[test]
fn maps_and_figures() {
    let bench = Bench::new();
    bench.put(
        1,
        ARGUMENT,
        &MemoryMap {
            number_of_entries: 4,
            buffer: GuestHandle::new(ARRAY),
            ..Default::default()
        },
    );
    assert_eq!(memory_op(&bench, 1, op::MEMORY_MAP), Err(Error::ENOSYS));
    let entries = [
        E820Entry::new(0, 0x9f000, e820::RAM),
        E820Entry::new(0x10_0000, 0x40_0000, e820::RAM),
    ];
    bench.put(0, ARRAY, &entries);
    let mut set = ForeignMemoryMap {
        domain: DomainId(1),
        ..Default::default()
    };
    set.map = MemoryMap {
        number_of_entries: 2,
        buffer: GuestHandle::new(ARRAY),
        ..Default::default()
    };
    bench.put(0, ARGUMENT, &set);
    assert_eq!(memory_op(&bench, 0, op::SET_MEMORY_MAP), Ok(0));
    assert_eq!(memory_op(&bench, 1, op::MEMORY_MAP), Ok(0));
    assert_eq!(bench.get::<MemoryMap>(1, ARGUMENT).number_of_entries, 2);
    assert_eq!(bench.get::<E820Entry>(1, ARRAY + 20), entries[1]);
    set.map.number_of_entries = 1025;
    bench.put(0, ARGUMENT, &set);
    assert_eq!(memory_op(&bench, 0, op::SET_MEMORY_MAP), Err(Error::EINVAL));

    bench.put(
        0,
        ARGUMENT,
        &MemoryMap {
            number_of_entries: 2,
            buffer: GuestHandle::new(ARRAY),
            ..Default::default()
        },
    );
    assert_eq!(memory_op(&bench, 0, op::MACHINE_MEMORY_MAP), Ok(0));
    assert_eq!(memory_op(&bench, 1, op::MACHINE_MEMORY_MAP), Err(Error::EPERM));

    for (operation, expected) in [
        (op::CURRENT_RESERVATION, PAGES),
        (op::MAXIMUM_RESERVATION, MOST_PAGES),
        (op::MAXIMUM_GPFN, PAGES - 1),
        (op::MAXIMUM_RAM_PAGE, bench.kernel.machine.memory().frame_count()),
        (op::GET_SHARING_FREED_PAGES, 0),
        (op::GET_SHARING_SHARED_PAGES, 0),
    ] {
        bench.put(
            1,
            ARGUMENT,
            &MemoryDomain {
                domain: DomainId::SELF,
            },
        );
        assert_eq!(
            memory_op(&bench, 1, operation),
            Ok(expected),
            "operation {operation}"
        );
        let command = u64::from(operation) | (1 << COMMAND_BITS);
        assert_eq!(
            bench.call(1, MEMORY_OP, [command, ARGUMENT, 0]),
            Err(Error::EINVAL)
        );
    }
    bench.put(1, ARGUMENT, &MemoryDomain { domain: DomainId(2) });
    assert_eq!(memory_op(&bench, 1, op::CURRENT_RESERVATION), Err(Error::EPERM));
    bench.put(0, ARGUMENT, &MemoryDomain { domain: DomainId(7) });
    assert_eq!(memory_op(&bench, 0, op::CURRENT_RESERVATION), Err(Error::ESRCH));
    for (operation, error) in [
        (op::EXCHANGE, Error::ENOSYS),
        (op::MACHPHYS_MAPPING, Error::ENOSYS),
        (op::RESERVED_DEVICE_MEMORY_MAP, Error::ENOSYS),
        (op::ACCESS_OP, Error::EOPNOTSUPP),
        (63, Error::ENOSYS),
    ] {
        assert_eq!(
            memory_op(&bench, 1, operation),
            Err(error),
            "operation {operation}"
        );
    }
    bench.end();
}

#[test]
fn scattering_pages_does_not_eat_the_machines_memory() {
    let bench = Bench::new();
    bench.domains[1].max_pages.store(200, Ordering::SeqCst);
    let free = bench.free_frames();
    let mut placed = 0;
    // Each place needs three tables of its own, none of which ever goes while the domain lives.
    for step in 0..4000u64 {
        match add(&bench, 1, thing(map_space::SHARED_INFO, 0, (step + 1) << 18)) {
            Ok(_) => placed += 1,
            Err(error) => assert_eq!(error, Error::ENOMEM),
        }
    }
    assert!((100..1000).contains(&placed), "{placed}");
    assert!(free - bench.free_frames() < 1100);
    bench.end();
}

#[test]
fn hostile_memory_operations_harm_nobody() {
    let bench = Bench::new();
    let mut numbers = Numbers(0x6d65_6d6f_7279);
    let mut auditor = Auditor::default();
    for call in 0..6000 {
        let caller = numbers.below(3) as usize;
        let operation = numbers.below(30);
        let start = if numbers.below(8) == 0 {
            numbers.next() >> 40
        } else {
            0
        };
        // The argument: words that are often small numbers, as those of a plausible request.
        let words: [u64; 5] = core::array::from_fn(|_| match numbers.below(6) {
            0 => numbers.next(),
            1 => ARRAY,
            2 => numbers.below(3) | (numbers.below(6) << 16) | (numbers.below(3) << 32),
            3 => HOLE + numbers.below(32),
            _ => numbers.below(PAGES),
        });
        let frames: [u64; 32] = core::array::from_fn(|_| {
            if numbers.below(4) == 0 {
                8 + numbers.below(56)
            } else {
                HOLE + numbers.below(64)
            }
        });
        // Earlier calls may have taken the pages that arguments are in.
        let writable = |at: u64| matches!(kind(&bench, caller, at >> 12), Some(EntryKind::Populated));
        if writable(ARGUMENT) && writable(ARRAY) {
            bench.put(caller, ARRAY, &frames);
            bench.put(caller, ARGUMENT, &words);
        }
        let _ = bench.call(
            caller,
            MEMORY_OP,
            [operation | (start << COMMAND_BITS), ARGUMENT, 0],
        );
        let total: u64 = (0..3).map(|domain| owned(&bench, domain)).sum();
        assert!(total + bench.free_frames() <= bench.free_at_start);
        if call % 100 == 0 {
            crate::testing::audit_by_hand(&bench.kernel, &mut auditor);
        }
    }
    bench.end();
}
