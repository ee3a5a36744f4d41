//! Physmaps, broken on purpose.

use super::*;

#[test]
fn a_frame_that_is_mapped_twice() {
    breaks(
        "physmap: populated frames are the domain's own, each mapped once",
        &["d1", "at 0x3", "found to be Populated"],
        |house| {
            let other = house.leaf(1, 2).frame;
            house.change(1, 3, |leaf| Some(Leaf { frame: other, ..leaf }));
        },
    );
}

#[test]
fn anothers_frame_as_ones_own() {
    breaks(
        "physmap: populated frames are the domain's own, each mapped once",
        &["d2", "Ram of d1", "at 0x3"],
        |house| {
            let other = house.leaf(1, 3).frame;
            house.change(2, 3, |leaf| Some(Leaf { frame: other, ..leaf }));
        },
    );
}

#[test]
fn a_freed_frame_that_is_still_mapped() {
    breaks(
        "physmap: populated frames are the domain's own, each mapped once",
        &["d1", "Free"],
        |house| {
            let free = house.free_frame();
            house.change(1, 3, |leaf| Some(Leaf { frame: free, ..leaf }));
        },
    );
}

#[test]
fn foreign_memory_without_privilege() {
    breaks(
        "physmap: only the privileged map others' memory without a grant",
        &["d2 maps frame", "of d1 at 0x400"],
        |house| {
            let page = house.page(1, 3);
            house.domains[2]
                .physmap
                .insert(
                    GuestFrame(0x400),
                    page,
                    Permissions::READ_WRITE,
                    EntryKind::Foreign,
                )
                .unwrap();
        },
    );
}

#[test]
fn anothers_shared_page() {
    breaks(
        "physmap: shared pages are the domain's own",
        &["d2 maps frame", "of d1", "at 0x400"],
        |house| {
            let page = house.domains[1].shared_info.duplicate().unwrap();
            house.domains[2]
                .physmap
                .insert(
                    GuestFrame(0x400),
                    page,
                    Permissions::READ_WRITE,
                    EntryKind::Shared,
                )
                .unwrap();
        },
    );
}

#[test]
fn a_grant_that_is_on_no_record() {
    breaks(
        "physmap: each grant leaf is a mapping on record, with its rights",
        &["d2 maps frame", "of d1 at 0x400", "nothing"],
        |house| {
            let page = house.page(1, LENT);
            house.domains[2]
                .physmap
                .insert(GuestFrame(0x400), page, Permissions::READ_WRITE, EntryKind::Grant)
                .unwrap();
        },
    );
}

#[test]
fn a_read_only_grant_that_can_be_written() {
    breaks(
        "physmap: each grant leaf is a mapping on record, with its rights",
        &["at 0x101 (writable)", "read only"],
        |house| {
            let permissions = Permissions::READ_WRITE;
            house.change(2, WINDOW + 1, |leaf| Some(Leaf { permissions, ..leaf }));
        },
    );
}

#[test]
fn a_device_that_is_memory() {
    breaks(
        "physmap: devices are no memory",
        &["d0 maps frame", "which is Ram"],
        |house| {
            let kind = EntryKind::Device;
            house.change(0, 3, |leaf| Some(Leaf { kind, ..leaf }));
        },
    );
}

#[test]
fn a_table_that_is_anothers() {
    breaks(
        "physmap: tables are well formed, each linked once",
        &["is not the core's"],
        |house| {
            let root = house.domains[1].physmap.root().root();
            house.memory().sabotage_use(root, FrameUse::Ram);
        },
    );
}

#[test]
fn an_entry_that_nobody_makes() {
    breaks(
        "physmap: tables are well formed, each linked once",
        &["d1 has 0xf000"],
        |house| {
            let root = house.domains[1].physmap.root().root();
            house.memory().sabotage_bytes(root, 8 * 100, 0xf000);
        },
    );
}

#[test]
fn a_table_that_two_trees_share() {
    breaks(
        "physmap: tables are well formed, each linked once",
        &["was found to be Table"],
        |house| {
            let [one, two] = [1, 2].map(|id: usize| house.domains[id].physmap.root().root());
            let entry = house.memory().sabotage_read(one, 0);
            house.memory().sabotage_bytes(two, 0, entry);
        },
    );
}
