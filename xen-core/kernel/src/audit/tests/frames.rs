//! Frames, broken on purpose.

use super::*;

#[test]
fn a_reference_that_nobody_has() {
    breaks(
        "frames: references are those of the holders",
        &["count 2", "holders are 1", "Populated at 0x3 of d1"],
        |house| house.memory().sabotage_count(house.leaf(1, 3).frame, 1),
    );
}

#[test]
fn a_reference_that_was_not_counted() {
    breaks(
        "frames: references are those of the holders",
        &[
            "count 3",
            "holders are 4",
            "grant 9 of d1",
            "Grant at 0x100 of d2",
        ],
        |house| house.memory().sabotage_count(house.leaf(1, LENT).frame, -1),
    );
}

#[test]
fn a_reference_of_an_area_that_was_not_counted() {
    breaks(
        "frames: references are those of the holders",
        &["info of d1 v0", "run state of d1 v0"],
        |house| house.memory().sabotage_count(house.leaf(1, 5).frame, -1),
    );
}

#[test]
fn a_page_of_event_words_that_was_not_counted() {
    breaks(
        "frames: references are those of the holders",
        &["event queues of d2"],
        |house| house.memory().sabotage_count(house.leaf(2, 2).frame, -1),
    );
}

#[test]
fn a_leak() {
    breaks(
        "frames: references are those of the holders",
        &["Ram of d1", "count 1, its holders are 0"],
        |house| {
            let memory = house.memory();
            let page = memory.allocate(1, FrameUse::Ram, Order::PAGE).unwrap();
            core::mem::forget(page);
        },
    );
}

#[test]
fn an_owner_that_was_changed() {
    breaks(
        "physmap: populated frames are the domain's own, each mapped once",
        &["d1", "Ram of d2", "at 0x3"],
        |house| house.memory().sabotage_owner(house.leaf(1, 3).frame, 2),
    );
    // Where nobody maps it any more, the owners' counters tell.
    breaks(
        "frames: the owners' counters agree with the frames",
        &["frames are d", "are counted"],
        |house| {
            let memory = house.memory();
            let page = memory.allocate(1, FrameUse::Ram, Order::PAGE).unwrap();
            memory.sabotage_owner(page.frame(), 2);
            let at = GuestFrame(0x400);
            house.domains[0]
                .physmap
                .insert(at, page, Permissions::READ_WRITE, EntryKind::Foreign)
                .unwrap();
        },
    );
}

#[test]
fn a_use_that_was_changed() {
    breaks("frames: each has one use", &["Ram of d1", "Shared(1)"], |house| {
        house
            .memory()
            .sabotage_use(house.domains[1].shared_info.frame(), FrameUse::Ram);
    });
}

#[test]
fn a_free_frame_in_no_list() {
    breaks(
        "frames: the free lists hold every free frame once",
        &["is free and in no list"],
        |house| {
            let frame = house.leaf(1, 3).frame;
            house.change(1, 3, |_| None);
            house.memory().sabotage_use(frame, FrameUse::Free);
        },
    );
}

#[test]
fn a_list_that_leads_astray() {
    breaks(
        "frames: the free lists hold every free frame once",
        &["the list of order", "where no block can begin"],
        |house| house.memory().sabotage_bytes(house.free_frame(), 0, 0x7777_7777),
    );
    breaks(
        "frames: the free lists hold every free frame once",
        &["its word denies it"],
        |house| {
            let frame = house.leaf(1, 3).frame.0;
            house.memory().sabotage_bytes(house.first_of_order_0(), 0, frame);
        },
    );
    breaks(
        "frames: the free lists hold every free frame once",
        &["does not lead back"],
        |house| house.memory().sabotage_bytes(house.free_frame(), 8, 5),
    );
}

#[test]
fn a_listed_frame_that_is_in_use() {
    breaks(
        "frames: the free lists hold every free frame once",
        &["its word denies it"],
        |house| {
            let frame = house.free_frame();
            house.memory().sabotage_use(frame, FrameUse::Core);
        },
    );
}

#[test]
fn bytes_in_a_clean_free_frame() {
    let house = house();
    let mut auditor = Auditor::default();
    house
        .memory()
        .walk_free(|first, order| {
            for frame in first.0..first.0 + order.frames() {
                house.memory().sabotage_bytes(HostFrame(frame), 4088, 1);
            }
        })
        .unwrap();
    let violation = auditor.audit(&house.kernel).unwrap_err();
    assert_eq!(violation.invariant, "frames: a clean free frame is zero");
}

#[test]
fn a_frame_of_the_cores_that_is_no_table() {
    breaks(
        "frames: the core's are tables, and tables are the core's",
        &["found to be None"],
        |house| {
            let page = house.page(1, 3);
            house.change(1, 3, |_| None);
            let frame = page.frame();
            core::mem::forget(page);
            let memory = house.memory();
            memory.sabotage_use(frame, FrameUse::Core);
            memory.sabotage_owner(frame, machine::memory::NO_OWNER);
            memory.sabotage_count(frame, -1);
        },
    );
}

impl House {
    /// A free block of one page; some are made.
    fn first_of_order_0(&self) -> HostFrame {
        let find = || {
            let mut found = None;
            self.memory()
                .walk_free(|frame, order| {
                    if order == Order::PAGE {
                        found.get_or_insert(frame);
                    }
                })
                .unwrap();
            found
        };
        if find().is_none() {
            testing::populate(&self.kernel, &self.domains[0], 0x500);
        }
        find().unwrap()
    }
}

#[test]
fn a_counter_that_is_off() {
    breaks(
        "frames: the counters agree with the frames",
        &["frames are the core's", "are counted"],
        |house| house.memory().sabotage_core_frames(1),
    );
}

#[test]
fn superpages_count_for_each_of_their_frames() {
    let house = house();
    let memory = house.memory();
    let block = memory.allocate(1, FrameUse::Ram, Order::TWO_MIB).unwrap();
    let first = block.frame();
    let physmap = &house.domains[1].physmap;
    physmap.populate(GuestFrame(0x800), block).unwrap();
    assert_eq!(house.audit(), Ok(()));
    // Split, with a hole in it.
    drop(physmap.remove(&house.kernel.machine, GuestFrame(0x8ff)).unwrap());
    assert_eq!(house.audit(), Ok(()));
    memory.sabotage_count(HostFrame(first.0 + 0x1fe), 1);
    let violation = house.audit().unwrap_err();
    assert_eq!(violation.invariant, "frames: references are those of the holders");
    assert!(
        violation.found.contains("Populated at 0x9fe of d1"),
        "{violation}"
    );
}
