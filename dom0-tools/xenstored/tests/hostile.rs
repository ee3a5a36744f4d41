//! What guests may throw at the store without harm to anybody else.

mod common;

use common::{ERROR, Guest, House, REQUEST_CONSUMER, REQUEST_PRODUCER, RESPONSE_CONSUMER};
use proptest::prelude::*;
use pv_drivers::ring::Memory;
use xenstored::quota::Limits;
use xenstored::wire::{Header, MessageType, encode};
use zerocopy::IntoBytes;

/// Another guest is served, and the tree's own book-keeping is right.
fn others_are_unharmed(house: &mut House, other: &mut Guest) {
    assert_eq!(
        other.ask(house, MessageType::Write, 0, "data/alive|yes"),
        Ok("OK|".into())
    );
    assert_eq!(
        other.ask(house, MessageType::Read, 0, "data/alive|"),
        Ok("yes".into())
    );
    assert_eq!(house.ask(MessageType::Control, 0, "check|"), Ok("OK|".into()));
}

#[test]
fn an_oversized_message_breaks_only_its_sender() {
    let mut house = House::new();
    let (mut hostile, mut other) = (house.add_guest(5), house.add_guest(6));
    let header = Header {
        kind: 2,
        length: 4097,
        ..Header::default()
    };
    hostile.send(&mut house, header.as_bytes());
    house.serve(&hostile);
    assert_eq!(hostile.page.get(ERROR), 3);
    hostile.send(&mut house, &encode(MessageType::Read, 1, 0, b"data\0"));
    assert!(hostile.take(&mut house).is_empty());
    assert!(
        house
            .ask(MessageType::Control, 0, "quota|5|")
            .unwrap()
            .contains("broken")
    );
    others_are_unharmed(&mut house, &mut other);
}

#[test]
fn jumping_indices_break_only_their_writer() {
    for (offset, value) in [
        (REQUEST_PRODUCER, 1025),
        (REQUEST_PRODUCER, 0x8000_0000),
        (RESPONSE_CONSUMER, 1),
        (RESPONSE_CONSUMER, 5000),
    ] {
        let mut house = House::new();
        let (hostile, mut other) = (house.add_guest(5), house.add_guest(6));
        hostile.page.set(offset, value);
        house.serve(&hostile);
        // An impossible index of the answers shows when there is something to answer.
        if offset == RESPONSE_CONSUMER {
            for (offset, byte) in encode(MessageType::Read, 1, 0, b"data\0").into_iter().enumerate() {
                hostile.page.store_byte(offset, byte);
            }
            hostile.page.set(REQUEST_PRODUCER, 21);
            house.serve(&hostile);
        }
        assert_eq!(hostile.page.get(ERROR), 2);
        others_are_unharmed(&mut house, &mut other);
    }
}

#[test]
fn a_broken_guest_can_be_introduced_again() {
    let mut house = House::new();
    let hostile = house.add_guest(5);
    hostile.page.set(REQUEST_PRODUCER, 0x8000_0000);
    house.serve(&hostile);
    assert_eq!(hostile.page.get(ERROR), 2);
    hostile.page.set(REQUEST_PRODUCER, 0);
    house.ask(MessageType::Introduce, 0, "5|1|7|").unwrap();
    assert_eq!(hostile.page.get(ERROR), 0);
    let mut guest = hostile;
    assert_eq!(
        guest.ask(&mut house, MessageType::Read, 0, "data|"),
        Ok("".into())
    );
}

#[test]
fn a_guest_that_never_stops_sending_does_not_keep_others_waiting() {
    let mut house = House::new();
    let (mut busy, mut other) = (house.add_guest(5), house.add_guest(6));
    let request = encode(MessageType::Read, 1, 0, b"data\0");
    let burst = request.repeat(40);
    for _ in 0..10 {
        busy.send(&mut house, &burst);
        let before = house.store.hypervisor().notified.len();
        house.store.serve_domain(busy.domain, house.now);
        assert!(house.store.hypervisor().notified.len() <= before + 1);
        others_are_unharmed(&mut house, &mut other);
        busy.take(&mut house);
    }
}

/// Requests that are almost right, for getting deeper than random bytes do.
fn plausible_request() -> impl Strategy<Value = Vec<u8>> {
    let path = prop_oneof![
        "data(/[a-c]){0,3}",
        "/local/domain/[56](/data)?(/[a-c]){0,2}",
        Just("/".to_owned()),
        "@(introduce|release)Domain",
        "[a-z/@. ]{0,12}",
    ];
    let tail = prop_oneof![
        Just(Vec::new()),
        Just(b"T\0".to_vec()),
        Just(b"F\0".to_vec()),
        Just(b"n5\0r6\0".to_vec()),
        Just(b"b6\0".to_vec()),
        Just(b"token\0".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    (0_u32..24, 0_u32..4, path, tail, any::<bool>()).prop_map(|(kind, transaction, path, tail, bare)| {
        let payload = if bare {
            tail
        } else {
            [path.as_bytes(), b"\0", &tail].concat()
        };
        let header = Header {
            kind,
            request_id: 9,
            transaction_id: transaction,
            length: payload.len() as u32,
        };
        [header.as_bytes(), &payload].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_harm_nobody_else(
        bytes in proptest::collection::vec(any::<u8>(), 0..5000),
        indices in proptest::collection::vec((0_usize..4, any::<u32>()), 0..4),
    ) {
        let mut house = House::new();
        let (mut hostile, mut other) = (house.add_guest(5), house.add_guest(6));
        hostile.send(&mut house, &bytes);
        house.serve(&hostile);
        for (which, value) in indices {
            hostile.page.set(REQUEST_CONSUMER + 4 * which, value);
            house.serve(&hostile);
        }
        others_are_unharmed(&mut house, &mut other);
    }

    #[test]
    fn plausible_requests_keep_the_books_right_and_the_limits_kept(
        requests in proptest::collection::vec((any::<bool>(), plausible_request()), 0..120),
    ) {
        let limits = Limits { nodes: 8, watches: 4, transactions: 2, ..Limits::default() };
        let mut house = House::with_limits(limits);
        let (mut first, mut second) = (house.add_guest(5), house.add_guest(6));
        for (which, request) in requests {
            let guest = if which { &mut first } else { &mut second };
            guest.send(&mut house, &request);
            guest.take(&mut house);
        }
        prop_assert!(house.store.tree().owned_by(first.domain) <= 8);
        prop_assert!(house.store.tree().owned_by(second.domain) <= 8);
        prop_assert_eq!(first.error(), 0);
        others_are_left_as_found(&mut house);
    }
}

/// Whatever two guests did to each other and themselves, dom0's nodes are untouched.
fn others_are_left_as_found(house: &mut House) {
    assert_eq!(house.ask(MessageType::Control, 0, "check|"), Ok("OK|".into()));
    assert_eq!(
        house.ask(MessageType::Directory, 0, "/|"),
        Ok("local|tool|".into())
    );
    assert_eq!(
        house.ask(MessageType::Directory, 0, "/local/domain|"),
        Ok("5|6|".into())
    );
    assert_eq!(
        house.ask(MessageType::GetPermissions, 0, "/local/domain/5|"),
        Ok("n0|r5|".into())
    );
}
