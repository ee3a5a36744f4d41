//! Grants' books, broken on purpose.

use super::*;

#[test]
fn a_writer_too_many() {
    breaks(
        "grants: an entry's readers and writers are the mappings on record",
        &["entry 9 of d1 has 1 readers and 2 writers; on record are 1 and 1"],
        |house| {
            house.domains[1]
                .grants
                .sabotage_entry(ENTRY, |_, _, writers| *writers += 1)
        },
    );
}

#[test]
fn an_entry_that_was_let_go_under_its_mappings() {
    breaks(
        "grants: an entry in use holds its page, another none",
        &["entry 9 of d1 has 0 readers, 0 writers and a page"],
        |house| {
            house.domains[1]
                .grants
                .sabotage_entry(ENTRY, |_, readers, writers| (*readers, *writers) = (0, 0));
        },
    );
    breaks(
        "grants: an entry's readers and writers are the mappings on record",
        &["d2 maps entry 9 of d1, which is not in use"],
        |house| {
            house.domains[1].grants.unpin(ENTRY, true);
            house.domains[1].grants.unpin(ENTRY, false);
        },
    );
}

#[test]
fn anothers_mapping() {
    breaks(
        "grants: who maps is who the entry was taken up for",
        &["d2 maps entry 9 of d1, which was taken up for d0"],
        |house| {
            house.domains[1]
                .grants
                .sabotage_entry(ENTRY, |user, _, _| *user = 0)
        },
    );
}

#[test]
fn a_mapping_of_another_page() {
    breaks(
        "grants: what is mapped is the page that the entry holds",
        &["d2 maps frame", "by entry 9 of d1, which holds frame"],
        |house| {
            // In the record and in the map alike.
            let other = house.page(1, 3);
            let frame = other.frame();
            core::mem::forget(other);
            house.change(2, WINDOW, |leaf| Some(Leaf { frame, ..leaf }));
            house.domains[2]
                .grants
                .sabotage_mapping(0, |mapping| mapping.frame = frame);
        },
    );
}

#[test]
fn a_mapping_that_is_mapped_nowhere() {
    breaks(
        "grants: each mapping on record is in the physmap, at a place of its own",
        &["d2 has a mapping on record at 0x101 that its physmap has not"],
        |house| house.change(2, WINDOW + 1, |_| None),
    );
}

#[test]
fn two_mappings_at_one_place() {
    breaks(
        "grants: each mapping on record is in the physmap, at a place of its own",
        &["d2 has two mappings on record at 0x100"],
        |house| {
            house.domains[2]
                .grants
                .sabotage_mapping(1, |mapping| mapping.at = GuestFrame(WINDOW));
        },
    );
}

#[test]
fn a_handle_that_was_never_given_back() {
    breaks(
        "maptrack: each slot is mapped or free, none under way, each free one listed once",
        &["handle 2 of d2 is reserved"],
        |house| assert_eq!(house.domains[2].grants.reserve_handle(), Some(2)),
    );
}

#[test]
fn a_list_of_handles_that_lost_some() {
    let name = "maptrack: each slot is mapped or free, none under way, each free one listed once";
    breaks(name, &["d2 has 126 free handles, fewer are listed"], |house| {
        house.domains[2].grants.sabotage_handles(|free, _| *free = 127);
    });
    breaks(name, &["handle 1 of d2 is listed as free and is not"], |house| {
        house.domains[2].grants.sabotage_handles(|free, _| *free = 1);
    });
    breaks(name, &["d2 has 2 mappings and counts 3"], |house| {
        house.domains[2].grants.sabotage_handles(|_, used| *used += 1);
    });
}
