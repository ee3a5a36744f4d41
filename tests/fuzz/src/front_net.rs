//! An interface's frontend, with a backend that answers, lies, scribbles and changes its mind.

use hypercall_abi::io::net::{ReceiveRequest, ReceiveResponse, TransmitRequest, TransmitResponse, status};
use pv_drivers::front::net::{Config, Frame, Net};
use pv_drivers::front::{Error, Platform};
use pv_drivers::testing::World;
use pv_drivers::testing::wire::{BACK, FRONT, Wire};
use zerocopy::{FromBytes, IntoBytes};

use crate::front::{Ring, text};
use crate::input::Input;

const PAGES: usize = 200;
/// Nodes that the backend, or the toolstack, changes.
const NODES: [&str; 5] = [
    "state",
    "feature-rx-copy",
    "mtu",
    "feature-sg",
    "multi-queue-max-queues",
];
const SECOND: u64 = 1_000_000_000;

/// The frontend's and the backend's deeds, one after the other.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let world = World::new(PAGES);
    let offers = [
        ("feature-sg", "1"),
        ("feature-gso-tcpv4", "1"),
        ("feature-multicast-control", "1"),
    ];
    let wire = Wire::plug(&world, &offers);
    wire.0.borrow_mut().asleep = true;
    let mut store = world.store();
    let config = Config {
        receive_pages: 32,
        transmit_pages: 32,
        multicast_control: true,
        ..Config::default()
    };
    let mut net = Net::open(world.clone(), &mut store, 0, config).expect("an honest store");
    let _ = net.wait_until_connected(&mut store, SECOND);
    let mut buffer = [0; 20_000];
    while !input.is_empty() {
        match input.byte() % 10 {
            0 | 1 => {
                let length = input.number(2) as usize % buffer.len();
                let frame = Frame {
                    bytes: &buffer[..length],
                    checksum_blank: input.byte() % 2 == 1,
                    segment_size: u16::from(input.byte() % 3) * 500,
                };
                let _ = net.send(&frame);
            }
            2 => drop(net.join([1; 6])),
            3 => {
                let limit = input.number(2) as usize % buffer.len();
                match net.receive(&mut buffer[..limit]) {
                    Ok(Some(received)) => assert!((1..=limit).contains(&received.length)),
                    Ok(None) | Err(Error::Disconnected) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            4 => {
                let _ = net.poll(&mut store);
                world.turn();
            }
            5 => answer_sent(&world, &mut input),
            6 | 7 => give(&world, &mut input),
            8 => {
                let (name, slot) = match input.byte() % 2 {
                    0 => ("tx-ring-ref", size_of::<TransmitRequest>()),
                    _ => ("rx-ring-ref", size_of::<ReceiveRequest>()),
                };
                if let Some(ring) = Ring::at(&world, &format!("{FRONT}/{name}"), slot) {
                    ring.scribble(&mut input);
                }
            }
            _ => {
                let node = NODES[usize::from(input.byte()) % NODES.len()];
                world.set(&format!("{BACK}/{node}"), &text(&mut input));
                world.turn();
            }
        }
    }
    wire.forget();
    let lost = net.lost_pages();
    let deadline = world.now() + SECOND;
    let _ = net.close(&mut store, deadline);
    assert_eq!(
        (lost, world.pages_left(), world.grants().len()),
        (0, PAGES, 0),
        "pages are kept"
    );
}

/// Answers the next piece that was sent: honestly, or with something changed.
fn answer_sent(world: &World, input: &mut Input) {
    let Some(ring) = Ring::at(
        world,
        &format!("{FRONT}/tx-ring-ref"),
        size_of::<TransmitRequest>(),
    ) else {
        return;
    };
    let kind = input.byte();
    if kind < 240 && !ring.is_asked() {
        return;
    }
    let slot = ring.read::<{ size_of::<TransmitRequest>() }>(ring.next());
    let request = TransmitRequest::read_from_bytes(&slot).expect("of that size");
    let mut response = TransmitResponse {
        id: request.id,
        status: status::OKAY,
    };
    match kind {
        0..200 => {}
        200..220 => response.status = status::NULL,
        220..230 => response.status = input.number(2) as i16,
        _ => response.id = input.number(2) as u16,
    }
    ring.answer(response.as_bytes());
}

/// Fills the next page: with a whole frame, a piece, or anything.
fn give(world: &World, input: &mut Input) {
    let Some(ring) = Ring::at(
        world,
        &format!("{FRONT}/rx-ring-ref"),
        size_of::<ReceiveRequest>(),
    ) else {
        return;
    };
    let kind = input.byte();
    if kind < 240 && !ring.is_asked() {
        return;
    }
    let slot = ring.read::<{ size_of::<ReceiveRequest>() }>(ring.next());
    let request = ReceiveRequest::read_from_bytes(&slot).expect("of that size");
    let mut response = ReceiveResponse {
        id: request.id,
        offset: 0,
        flags: u16::from(input.byte() & 0x1f),
        status: (input.number(2) % 4097) as i16,
    };
    match kind {
        0..200 => {}
        200..220 => response.offset = input.number(2) as u16,
        220..235 => response.status = input.number(2) as i16,
        // Extra information, or a wrong number.
        _ => response.id = input.number(2) as u16,
    }
    ring.answer(response.as_bytes());
}

/// An honest life, and each kind of lie.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("honest", vec![0, 60, 0, 0, 0, 5, 0, 6, 0, 0, 100, 0, 3, 0, 10, 4]),
        (
            "pieces",
            vec![
                0, 0, 40, 0, 0, 5, 0, 5, 0, 5, 0, 6, 0, 4, 0, 8, 6, 0, 0, 0, 8, 3, 0, 60,
            ],
        ),
        (
            "segments",
            vec![0, 0, 40, 1, 1, 5, 0, 5, 210, 5, 0, 5, 0, 5, 0, 4],
        ),
        ("extra", vec![6, 0, 8, 10, 0, 6, 236, 0, 0, 0, 1, 0, 3, 0, 60]),
        ("multicast", vec![2, 5, 0, 5, 210, 4, 2, 5, 210, 5, 0, 4, 4]),
        (
            "outside",
            vec![
                6, 210, 0, 255, 15, 250, 15, 3, 0, 60, 4, 4, 4, 6, 0, 0, 9, 0, 3, 0, 60,
            ],
        ),
        (
            "wrong_number",
            vec![0, 60, 0, 0, 0, 5, 231, 9, 0, 4, 4, 4, 0, 60, 0, 0, 0, 5, 0],
        ),
        (
            "leap",
            vec![
                8, 0, 2, 4, 255, 255, 255, 127, 0, 60, 0, 0, 0, 4, 4, 4, 8, 1, 2, 100, 3, 0, 60,
            ],
        ),
        (
            "endless",
            [6u8, 0, 4, 200, 0]
                .repeat(26)
                .into_iter()
                .chain([3, 0, 60, 4, 4])
                .collect(),
        ),
        (
            "states",
            vec![
                9, 0, 5, 4, 9, 0, 6, 4, 4, 4, 9, 0, 2, 4, 4, 0, 60, 0, 0, 0, 9, 1, 0, 9, 0, 6, 4, 4, 4, 4,
            ],
        ),
    ]
}
