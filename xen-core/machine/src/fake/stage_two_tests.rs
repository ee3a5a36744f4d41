//! Stage-two tables over an arena: who holds what, and when it is given back.

use super::{Configuration, FakeMachine};
use crate::Machine;
use crate::address::{GuestFrame, HostFrame, Order};
use crate::memory::FrameUse;
use crate::stage_two::{EntryKind, MapError, NestedPaging, Permissions, StageTwo};

const GUEST: u16 = 5;
const OTHER: u16 = 6;

fn setting() -> (FakeMachine, StageTwo<NestedPaging>, u64) {
    let machine = FakeMachine::new(&Configuration {
        // Interpreted, each byte takes its time.
        memory_mib: if cfg!(miri) { 4 } else { 8 },
        ..Configuration::default()
    });
    let before = machine.memory().free_frames();
    let tables = StageTwo::new(machine.memory()).unwrap();
    (machine, tables, before)
}

fn map_page(machine: &FakeMachine, tables: &mut StageTwo<NestedPaging>, at: u64) -> HostFrame {
    let page = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::PAGE)
        .unwrap();
    let frame = page.frame();
    tables
        .map(GuestFrame(at), page, Permissions::ALL, EntryKind::Populated)
        .unwrap();
    frame
}

#[test]
fn what_is_mapped_is_found_and_the_drop_frees_everything() {
    let (machine, mut tables, before) = setting();
    let last = (1 << 36) - 1;
    let frames = [0, 1, 511, 512, 1 << 18, 1 << 27, last].map(|at| (at, map_page(&machine, &mut tables, at)));
    for (at, frame) in frames {
        let leaf = tables.lookup(GuestFrame(at)).unwrap();
        assert_eq!(
            (leaf.frame, leaf.order, leaf.kind),
            (frame, Order::PAGE, EntryKind::Populated)
        );
        assert_eq!(leaf.permissions, Permissions::ALL);
    }
    assert!(tables.lookup(GuestFrame(2)).is_none());
    assert!(tables.lookup(GuestFrame(1 << 36)).is_none());
    assert_eq!(machine.memory().frames_owned(GUEST), 7);
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
    assert_eq!(machine.memory().frames_owned(GUEST), 0);
}

#[test]
fn tables_that_somebody_may_run_on_are_kept() {
    let (machine, mut tables, before) = setting();
    map_page(&machine, &mut tables, 3);
    let root = tables.root().clone();
    drop(tables);
    assert!(
        machine.memory().free_frames() < before,
        "leaked rather than freed under a processor"
    );
    drop(root);
}

#[test]
fn an_occupied_place_refuses_and_the_block_comes_back() {
    let (machine, mut tables, _) = setting();
    map_page(&machine, &mut tables, 3);
    let page = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::PAGE)
        .unwrap();
    let frame = page.frame();
    let (page, error) = tables
        .map(GuestFrame(3), page, Permissions::ALL, EntryKind::Populated)
        .unwrap_err();
    assert_eq!((page.frame(), error), (frame, MapError::Occupied));
    let (page, error) = tables
        .map(GuestFrame(1 << 36), page, Permissions::ALL, EntryKind::Populated)
        .unwrap_err();
    assert_eq!(error, MapError::BadGuestFrame);
    let (_, error) = tables
        .map(GuestFrame(4), page, Permissions::ALL, EntryKind::Device)
        .unwrap_err();
    assert_eq!(error, MapError::BadGuestFrame);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "each frame of a superpage is touched several times: too slow, interpreted"
)]
fn a_superpage_is_one_leaf_until_a_page_of_it_goes() {
    let (machine, mut tables, before) = setting();
    let block = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::TWO_MIB)
        .unwrap();
    let first = block.frame();
    let (block, error) = tables
        .map(GuestFrame(1), block, Permissions::ALL, EntryKind::Populated)
        .unwrap_err();
    assert_eq!(error, MapError::BadGuestFrame);
    tables
        .map(GuestFrame(512), block, Permissions::ALL, EntryKind::Populated)
        .unwrap();
    let leaf = tables.lookup(GuestFrame(512 + 7)).unwrap();
    assert_eq!((leaf.frame, leaf.order), (HostFrame(first.0 + 7), Order::TWO_MIB));

    let tables_before = tables.table_frames();
    let detached = tables.unmap(GuestFrame(512 + 7)).unwrap().unwrap();
    assert_eq!(tables.table_frames(), tables_before + 1);
    assert_eq!(detached.frame(), Some(HostFrame(first.0 + 7)));
    assert!(tables.lookup(GuestFrame(512 + 7)).is_none());
    assert_eq!(tables.lookup(GuestFrame(512 + 8)).unwrap().order, Order::PAGE);
    assert_eq!(
        machine.memory().frames_owned(GUEST),
        512,
        "not freed before the flush"
    );
    let page = detached.release(&machine.flush(tables.root())).unwrap();
    assert_eq!(page.count(), 1);
    drop(page);
    assert_eq!(machine.memory().frames_owned(GUEST), 511);
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "each frame of a superpage is touched several times: too slow, interpreted"
)]
fn a_superpage_comes_out_whole_when_asked_so() {
    let (machine, mut tables, before) = setting();
    let block = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::TWO_MIB)
        .unwrap();
    tables
        .map(GuestFrame(512), block, Permissions::ALL, EntryKind::Populated)
        .unwrap();
    let detached = tables
        .unmap_order(GuestFrame(512), Order::TWO_MIB)
        .unwrap()
        .unwrap();
    assert_eq!(detached.order(), Order::TWO_MIB);
    drop(detached.release(&machine.flush(tables.root())));
    assert!(tables.unmap(GuestFrame(512)).unwrap().is_none());
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}

#[test]
fn a_foreign_mapping_outlives_the_owner() {
    let (machine, mut tables, before) = setting();
    let mut owner: StageTwo<NestedPaging> = StageTwo::new(machine.memory()).unwrap();
    let frame = map_page(&machine, &mut owner, 9);
    let (reference, _) = owner.get(GuestFrame(9)).unwrap();
    reference.write(0, b"data").unwrap();
    tables
        .map(
            GuestFrame(100),
            reference,
            Permissions::READ_WRITE,
            EntryKind::Foreign,
        )
        .unwrap();
    drop(owner);
    assert_eq!(machine.memory().frame_info(frame).count, 1);
    assert_eq!(
        machine.memory().frames_owned(GUEST),
        1,
        "still its owner's, so that its end is seen to wait"
    );
    let (reference, leaf) = tables.get(GuestFrame(100)).unwrap();
    assert_eq!(
        (leaf.kind, leaf.permissions),
        (EntryKind::Foreign, Permissions::READ_WRITE)
    );
    let mut bytes = [0; 4];
    reference.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"data");
    drop(reference);
    let detached = tables.unmap(GuestFrame(100)).unwrap().unwrap();
    drop(detached.release(&machine.flush(tables.root())));
    assert_eq!(machine.memory().frame_info(frame).frame_use, FrameUse::Free);
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}

#[test]
fn a_forgotten_removal_leaks_and_never_frees_early() {
    let (machine, mut tables, _) = setting();
    let frame = map_page(&machine, &mut tables, 1);
    let detached = tables.unmap(GuestFrame(1)).unwrap().unwrap();
    drop(detached);
    assert_eq!(machine.memory().frame_info(frame).count, 1);
}

#[test]
fn a_flush_moves_the_generation() {
    let (machine, tables, _) = setting();
    let generation = || {
        tables
            .root()
            .generation()
            .load(core::sync::atomic::Ordering::SeqCst)
    };
    let before = generation();
    machine.flush(tables.root());
    assert_eq!((generation(), machine.flushes()), (before + 1, 1));
}

#[test]
fn devices_are_mapped_and_memory_never_as_one() {
    let (machine, mut tables, before) = setting();
    let page = machine
        .memory()
        .allocate(OTHER, FrameUse::Ram, Order::PAGE)
        .unwrap();
    let at = GuestFrame(0xfee00);
    assert_eq!(
        tables.map_device(at, page.frame(), Permissions::READ_WRITE),
        Err(MapError::NotADevice)
    );
    let core = tables.root().root();
    assert_eq!(
        tables.map_device(at, core, Permissions::READ_WRITE),
        Err(MapError::NotADevice)
    );
    drop(page);
    let free = machine
        .memory()
        .allocate(OTHER, FrameUse::Ram, Order::PAGE)
        .unwrap()
        .frame();
    assert_eq!(
        tables.map_device(at, free, Permissions::READ_WRITE),
        Err(MapError::NotADevice),
        "free memory too"
    );
    tables
        .map_device(at, HostFrame(16), Permissions::READ_WRITE)
        .unwrap();
    assert_eq!(tables.lookup(at).unwrap().kind, EntryKind::Device);
    assert!(tables.get(at).is_none(), "a device gives no reference");
    let detached = tables.unmap(at).unwrap().unwrap();
    assert_eq!((detached.kind, detached.frame()), (EntryKind::Device, None));
    assert!(detached.release(&machine.flush(tables.root())).is_none());
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "each frame of a superpage is touched several times: too slow, interpreted"
)]
fn protection_is_per_page_and_splits() {
    let (machine, mut tables, before) = setting();
    let block = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::TWO_MIB)
        .unwrap();
    tables
        .map(GuestFrame(0), block, Permissions::ALL, EntryKind::Populated)
        .unwrap();
    assert!(tables.protect(GuestFrame(5), Permissions::READ_ONLY).unwrap());
    assert_eq!(
        tables.lookup(GuestFrame(5)).unwrap().permissions,
        Permissions::READ_ONLY
    );
    assert_eq!(
        tables.lookup(GuestFrame(6)).unwrap().permissions,
        Permissions::ALL
    );
    assert!(!tables.protect(GuestFrame(600), Permissions::READ_ONLY).unwrap());
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}

#[test]
fn a_walk_of_what_is_mapped_skips_holes() {
    let (machine, mut tables, _) = setting();
    for at in [5, 700, (1 << 27) + 3, (1 << 36) - 1] {
        map_page(&machine, &mut tables, at);
    }
    let mut found = Vec::new();
    let mut from = GuestFrame(0);
    while let Some((at, leaf)) = tables.next_mapped(from) {
        found.push(at.0);
        from = GuestFrame(at.0 + leaf.order.frames());
    }
    assert_eq!(found, [5, 700, (1 << 27) + 3, (1 << 36) - 1]);
}

#[test]
fn searches_pass_over_tables_that_became_empty_and_stop_at_their_end() {
    let (machine, mut tables, _) = setting();
    assert_eq!(
        (tables.last_mapped(), tables.next_mapped(GuestFrame(0))),
        (None, None)
    );
    let far = StageTwo::<NestedPaging>::limit() - 1;
    let places = [3, 600, 1 << 18, 5 << 27, far];
    for at in places {
        map_page(&machine, &mut tables, at);
    }
    assert_eq!(tables.last_mapped(), Some(GuestFrame(far)));
    // All but two go; their tables stay.
    for at in [600, 1 << 18, far] {
        let detached = tables.unmap(GuestFrame(at)).unwrap().unwrap();
        drop(detached.release(&machine.flush(tables.root())));
    }
    let next = |from: u64| tables.next_mapped(GuestFrame(from)).map(|(at, _)| at.0);
    assert_eq!(
        [next(0), next(3), next(4), next((5 << 27) + 1)],
        [Some(3), Some(3), Some(5 << 27), None]
    );
    let within = |from: u64, end: u64| tables.next_mapped_before(GuestFrame(from), GuestFrame(end));
    assert!(within(0, 3).is_none() && within(0, 4).is_some());
    assert!(within(4, 5 << 27).is_none() && within(4, u64::MAX).is_some() && within(9, 2).is_none());
    assert_eq!(tables.last_mapped(), Some(GuestFrame(5 << 27)));
}

#[test]
#[cfg_attr(miri, ignore = "all memory is taken, page by page: too slow, interpreted")]
fn no_memory_for_a_table_changes_nothing() {
    let (machine, mut tables, before) = setting();
    let page = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::PAGE)
        .unwrap();
    let block = machine
        .memory()
        .allocate(GUEST, FrameUse::Ram, Order::TWO_MIB)
        .unwrap();
    tables
        .map(GuestFrame(512), block, Permissions::ALL, EntryKind::Populated)
        .unwrap();
    let mut rest = Vec::new();
    while let Some(page) = machine.memory().allocate(OTHER, FrameUse::Ram, Order::PAGE) {
        rest.push(page);
    }
    let (page, error) = tables
        .map(GuestFrame(1 << 30), page, Permissions::ALL, EntryKind::Populated)
        .unwrap_err();
    assert_eq!(error, MapError::OutOfMemory);
    assert!(tables.unmap(GuestFrame(512 + 1)).is_err());
    assert_eq!(tables.lookup(GuestFrame(512 + 1)).unwrap().order, Order::TWO_MIB);
    drop(rest);
    drop(page);
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}

/// Random maps and removals against a model.
#[test]
fn tables_agree_with_a_model() {
    let (machine, mut tables, before) = setting();
    let mut model = std::collections::BTreeMap::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let rounds = if cfg!(miri) { 40 } else { 4000 };
    for _ in 0..rounds {
        let at = random(3) * 512 + random(24);
        if random(2) == 0 {
            let Some(page) = machine.memory().allocate(GUEST, FrameUse::Ram, Order::PAGE) else {
                continue;
            };
            let frame = page.frame();
            match tables.map(GuestFrame(at), page, Permissions::ALL, EntryKind::Populated) {
                Ok(()) => assert_eq!(model.insert(at, frame), None),
                Err((_, error)) => {
                    assert_eq!(error, MapError::Occupied);
                    assert!(model.contains_key(&at));
                }
            }
        } else {
            let detached = tables.unmap(GuestFrame(at)).unwrap();
            assert_eq!(
                detached.as_ref().and_then(|detached| detached.frame()),
                model.remove(&at)
            );
            if let Some(detached) = detached {
                drop(detached.release(&machine.flush(tables.root())));
            }
        }
        assert_eq!(machine.memory().frames_owned(GUEST) as usize, model.len());
    }
    drop(tables);
    assert_eq!(machine.memory().free_frames(), before);
}
