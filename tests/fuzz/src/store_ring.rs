//! A guest's page of the store: bytes and indices anywhere at any time, with the store looking in between.

use pv_drivers::ring::Memory;
use xenstored::wire::{MessageType, encode};

use crate::input::{Input, fingerprint};
use crate::store::{BYSTANDER, House, LIMITS, Secret, split};

const HOSTILE: u16 = 5;
/// Where the four indices and the words beside them lie.
const INDICES: u64 = 2048;
const STEPS: usize = 128;
const RESPONSES: std::ops::Range<usize> = 1024..2048;

/// What the guest does to its page, step by step.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut house = House::new();
    let hostile = house.add_guest(HOSTILE);
    let mut bystander = house.add_guest(BYSTANDER);
    let secret = Secret::keep(&mut house, &mut bystander, fingerprint(data));
    let page = &hostile.page;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            // A message where the producer stands, as it should be; the index moves on by as much.
            0 | 1 => {
                let kind = MessageType::ALL[usize::from(input.byte()) % MessageType::ALL.len()];
                let length = usize::from(input.byte() % 32);
                let message = encode(kind, 1, 0, input.bytes(length));
                let at = page.get(INDICES as usize + 4);
                for (offset, byte) in message.iter().enumerate() {
                    page.store_byte(at.wrapping_add(offset as u32) as usize & 1023, *byte);
                }
                page.set(INDICES as usize + 4, at.wrapping_add(message.len() as u32));
            }
            2 | 3 => serve(&mut house, &hostile.page, hostile.domain, &secret),
            // An index, a little off.
            4 => {
                let word = (INDICES + 4 * (input.number(1) % 7)) as usize;
                page.set(
                    word,
                    page.get(word).wrapping_add_signed(i32::from(input.byte() as i8)),
                );
            }
            // Anything anywhere.
            5 => {
                let word = (input.number(2) as usize % 4096) & !3;
                page.set(word, input.number(4) as u32);
            }
            // The answers were taken.
            6 => page.set(INDICES as usize + 8, page.get(INDICES as usize + 12)),
            // The toolstack introduces it again, or time passes.
            _ if input.byte() & 1 == 0 => {
                house.ask(MessageType::Introduce, &format!("{HOSTILE}|1|7|"));
            }
            _ => house.wait(),
        }
    }
    serve(&mut house, &hostile.page, hostile.domain, &secret);
    house.check(&[HOSTILE]);
    secret.is_kept(&mut house, &mut bystander);
    // The toolstack can always begin anew with it.
    for word in 0..4 {
        hostile.page.set(INDICES as usize + 4 * word, 0);
    }
    house.ask(MessageType::Introduce, &format!("{HOSTILE}|1|7|"));
    for (offset, byte) in encode(MessageType::Directory, 9, 0, b"/\0").iter().enumerate() {
        hostile.page.store_byte(offset, *byte);
    }
    hostile.page.set(INDICES as usize + 4, 18);
    house.serve(hostile.domain);
    let mut answered: Vec<u8> = RESPONSES.map(|offset| hostile.page.load_byte(offset)).collect();
    answered.truncate(hostile.page.get(INDICES as usize + 12) as usize);
    let answers = split(&mut answered);
    assert!(
        answers.iter().any(|(header, _)| header.request_id == 9),
        "not served after a new introduction"
    );
}

fn serve(
    house: &mut House,
    page: &guest_page::GuestPage,
    domain: xenstored::permission::DomainId,
    secret: &Secret,
) {
    let before: Vec<u8> = (0..1024).map(|offset| page.load_byte(offset)).collect();
    house.serve(domain);
    let after: Vec<u8> = (0..4096).map(|offset| page.load_byte(offset)).collect();
    assert_eq!(before, after[..1024], "the store writes no requests");
    secret.is_not_in(&after[RESPONSES]);
    let connections =
        (0..64).filter_map(|number| house.store.connection(xenstored::watch::ConnectionId(number)));
    for connection in connections.filter(|connection| connection.caller.domain == domain) {
        assert!(connection.output.replies() <= LIMITS.outstanding);
    }
}

/// Requests as they should be, indices that leap, and a new beginning.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let request = |kind: u8, payload: &[u8]| [&[0, kind, payload.len() as u8], payload].concat();
    let honest = [
        request(2, b"data\0"),
        vec![2, 6],
        request(11, b"data/a\0value"),
        vec![2, 6],
        request(1, b"data\0"),
        vec![2],
    ]
    .concat();
    let many = [request(2, b"data\0").repeat(12), vec![2, 6, 2, 6, 2, 7, 1, 2]].concat();
    vec![
        ("honest", honest),
        ("many", many),
        ("request_leap", vec![4, 1, 127, 2, 4, 1, 0x80, 2, 7, 0, 2]),
        (
            "response_leap",
            [request(2, b"data\0"), vec![4, 2, 100, 2, 7, 0]].concat(),
        ),
        ("impossible", vec![5, 4, 8, 0, 0, 0, 0x80, 2, 7, 0]),
        (
            "other_words",
            vec![5, 0x10, 8, 1, 2, 3, 4, 2, 5, 0x14, 8, 1, 0, 0, 0, 2],
        ),
    ]
}
