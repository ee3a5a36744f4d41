//! Messages to the store: two hostile guests, a guest that does nothing wrong, and, in some inputs, a hostile tool in dom0.

use xenstored::hypervisor::DomainState;
use xenstored::permission::{Caller, DomainId};
use xenstored::wire::{Header, MessageType};
use zerocopy::IntoBytes;

use crate::input::{Input, fingerprint};
use crate::store::{BYSTANDER, Guest, House, LIMITS, Secret};

const HOSTILE: [u16; 2] = [5, 7];
/// Paths and other words that requests are about; longer inputs spell their own.
const WORDS: [&str; 24] = [
    "data",
    "data/a",
    "data/a/b",
    "data/b",
    "/local/domain/5/data",
    "/local/domain/5/data/a",
    "/local/domain/6/data",
    "/local/domain/6/data/kept",
    "/local/domain/7/data",
    "/local/domain/7",
    "/",
    "/local",
    "@releaseDomain",
    "@introduceDomain",
    "T",
    "F",
    "n5",
    "n7",
    "r6",
    "b7",
    "token",
    "5",
    "7",
    "",
];
const STEPS: usize = 96;

/// The first byte: whether the tool is hostile, too. Then steps: who, and what.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let tool_is_hostile = input.byte() & 0x80 != 0;
    let mut house = House::new();
    let tool = house.store.connect(Caller::CONTROL);
    let [mut first, mut second] = HOSTILE.map(|number| house.add_guest(number));
    let mut bystander = house.add_guest(BYSTANDER);
    let secret = Secret::keep(&mut house, &mut bystander, fingerprint(data));
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let who = input.byte();
        match who & 7 {
            0..=2 => act(&mut house, &mut first, &mut input, &secret, tool_is_hostile),
            3 | 4 => act(&mut house, &mut second, &mut input, &secret, tool_is_hostile),
            5 if tool_is_hostile => {
                let message = message(&mut input);
                house.send_as(tool, &message);
                house.take_as(tool);
            }
            5 => secret.is_kept(&mut house, &mut bystander),
            6 => house.wait(),
            // The toolstack works on what a hostile tool may have taken from it.
            _ if who & 0x80 != 0 && !tool_is_hostile => end_and_begin(&mut house, &mut second),
            _ => second.send(&mut house, input.bytes(usize::from(who >> 3))),
        }
    }
    // What dom0 does is beyond limits: it may give nodes away, and take what is anybody's.
    house.check(if tool_is_hostile { &[] } else { &HOSTILE });
    if !tool_is_hostile {
        secret.is_kept(&mut house, &mut bystander);
    }
}

/// A guest sends a message and takes what there is for it.
fn act(house: &mut House, guest: &mut Guest, input: &mut Input<'_>, secret: &Secret, anything_goes: bool) {
    let message = message(input);
    guest.send(house, &message);
    for (header, payload) in guest.take(house).unwrap_or_default() {
        assert!(header.length as usize == payload.len());
        if !anything_goes {
            secret.is_not_in(&payload);
        }
    }
    check_connection(house, guest);
}

fn check_connection(house: &House, guest: &Guest) {
    // Its connection is whichever is the guest's own; those of others have their own checks.
    let connections =
        (0..64).filter_map(|number| house.store.connection(xenstored::watch::ConnectionId(number)));
    for connection in connections.filter(|connection| connection.caller.domain == guest.domain) {
        assert!(connection.transactions.len() <= LIMITS.transactions);
        assert!(connection.output.replies() <= LIMITS.outstanding);
        // One more event, of the largest size, is what makes it break.
        assert!(connection.output.event_bytes() <= LIMITS.event_bytes + 4096);
        if connection.failure().is_some() {
            assert!(connection.transactions.is_empty() && connection.output.is_empty());
        }
    }
}

/// A domain ends, is forgotten, and another takes its number.
fn end_and_begin(house: &mut House, guest: &mut Guest) {
    let number = guest.domain;
    house
        .store
        .hypervisor_mut()
        .states
        .insert(number, DomainState::Dying);
    house.store.check_domains();
    house.store.hypervisor_mut().states.remove(&number);
    house.store.check_domains();
    assert_eq!(
        house.store.tree().owned_by(number),
        0,
        "a trace of a domain that is gone"
    );
    assert!(
        !house
            .store
            .tree()
            .mentioned_domains()
            .any(|domain| domain == number)
    );
    *guest = house.add_guest(number.0);
}

/// A message: kind, transaction, then words of the list or spelt out, and what follows them.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let kind = u32::from(input.byte() % 26);
    let shape = input.byte();
    let mut payload = Vec::new();
    for _ in 0..shape >> 2 & 3 {
        let word = input.byte();
        match WORDS.get(usize::from(word)) {
            Some(known) => payload.extend_from_slice(known.as_bytes()),
            None => payload.extend_from_slice(input.bytes(usize::from(word & 0x1f))),
        }
        payload.push(0);
    }
    // A value, or nothing.
    if shape & 0x10 != 0 {
        let length = usize::from(input.byte());
        payload.resize(payload.len() + length, b'v');
    }
    let length = match shape >> 5 {
        7 => input.number(2) as u32,
        _ => payload.len() as u32,
    };
    let header = Header {
        kind,
        request_id: u32::from(shape),
        transaction_id: u32::from(shape & 3),
        length,
    };
    [header.as_bytes(), &payload].concat()
}

/// A request of each kind, transactions that meet, watches that are fired, and limits that are reached.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use MessageType as Kind;
    let ask = |who: u8, kind: Kind, transaction: u8, words: &[u8], value: u8| {
        let shape = transaction | (words.len() as u8) << 2 | if value > 0 { 0x10 } else { 0 };
        let mut bytes = vec![who, kind as u8, shape];
        bytes.extend(words);
        if value > 0 {
            bytes.push(value);
        }
        bytes
    };
    let whole = |first: u8, steps: &[Vec<u8>]| [vec![first], steps.concat()].concat();
    let each_kind: Vec<Vec<u8>> = Kind::ALL
        .iter()
        .map(|&kind| ask(0, kind, 0, &[1, 16], 0))
        .collect();
    vec![
        ("every_kind", whole(0, &each_kind)),
        (
            "every_kind_by_a_tool",
            whole(
                0x80,
                &each_kind
                    .iter()
                    .map(|step| [&[5], &step[1..]].concat())
                    .collect::<Vec<_>>(),
            ),
        ),
        (
            "written_and_read",
            whole(
                0,
                &[
                    ask(0, Kind::Write, 0, &[2], 9),
                    ask(0, Kind::Read, 0, &[2], 0),
                    ask(0, Kind::Directory, 0, &[0], 0),
                    ask(3, Kind::Read, 0, &[5], 0),
                ],
            ),
        ),
        (
            "permissions",
            whole(
                0,
                &[
                    ask(0, Kind::Write, 0, &[1], 1),
                    ask(0, Kind::SetPermissions, 0, &[1, 16, 19], 0),
                    ask(3, Kind::Write, 0, &[5], 2),
                    ask(0, Kind::GetPermissions, 0, &[1], 0),
                ],
            ),
        ),
        (
            "secret",
            whole(
                0,
                &[
                    ask(0, Kind::Read, 0, &[7], 0),
                    ask(0, Kind::Watch, 0, &[7, 20], 0),
                    ask(3, Kind::Remove, 0, &[6], 0),
                    vec![5],
                ],
            ),
        ),
        (
            "transactions",
            whole(
                0,
                &[
                    ask(0, Kind::TransactionStart, 0, &[23], 0),
                    ask(0, Kind::TransactionStart, 0, &[23], 0),
                    ask(0, Kind::Write, 1, &[1], 1),
                    ask(0, Kind::Write, 2, &[1], 2),
                    ask(0, Kind::TransactionEnd, 1, &[14], 0),
                    ask(0, Kind::TransactionEnd, 2, &[14], 0),
                ],
            ),
        ),
        (
            "watches",
            whole(
                0,
                &[
                    ask(0, Kind::Watch, 0, &[0, 20], 0),
                    ask(0, Kind::Write, 0, &[2], 3),
                    ask(0, Kind::Remove, 0, &[1], 0),
                    ask(0, Kind::Unwatch, 0, &[0, 20], 0),
                    ask(3, Kind::Watch, 0, &[12, 20], 0),
                ],
            ),
        ),
        (
            "limits",
            whole(0, &vec![ask(0, Kind::TransactionStart, 0, &[23], 0); 5]),
        ),
        (
            "end",
            whole(
                0,
                &[
                    ask(3, Kind::Write, 0, &[1], 1),
                    vec![0x87],
                    ask(3, Kind::Read, 0, &[1], 0),
                ],
            ),
        ),
        (
            "too_long",
            whole(
                0,
                &[
                    vec![0, 2, 0xe4, 1, 0xff, 0xff],
                    ask(0, Kind::Read, 0, &[0], 0),
                    vec![5],
                ],
            ),
        ),
        (
            "raw",
            whole(
                0,
                &[[
                    &[0x87 & 0x7f | 0x78][..],
                    &[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0],
                ]
                .concat()],
            ),
        ),
    ]
}

/// The domains that are known from the beginning.
const _: () = assert!(DomainId(BYSTANDER).0 != HOSTILE[0] && DomainId(BYSTANDER).0 != HOSTILE[1]);
