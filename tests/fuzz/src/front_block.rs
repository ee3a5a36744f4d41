//! A disk's frontend, with a backend that answers, lies, scribbles and changes its mind.

use hypercall_abi::io::block::{Request, Response, op};
use pv_drivers::front::block::{Block, Config, Ticket};
use pv_drivers::front::{Error, Platform};
use pv_drivers::testing::World;
use pv_drivers::testing::disk::{BACK, Disk, FRONT, NUMBER};
use zerocopy::{FromBytes, IntoBytes};

use crate::front::{Ring, text};
use crate::input::Input;

const SECTORS: usize = 256;
const PAGES: usize = 100;
/// Nodes that the backend changes.
const NODES: [&str; 6] = [
    "state",
    "sectors",
    "sector-size",
    "info",
    "feature-max-indirect-segments",
    "max-ring-page-order",
];
const SECOND: u64 = 1_000_000_000;

/// The frontend's and the backend's deeds, one after the other.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let world = World::new(PAGES);
    let disk = Disk::plug(&world, SECTORS, &[("feature-max-indirect-segments", "32")]);
    disk.0.borrow_mut().asleep = true;
    let mut store = world.store();
    let config = Config {
        data_pages: 40,
        ..Config::default()
    };
    let mut block = Block::open(world.clone(), &mut store, NUMBER, config).expect("an honest store");
    let _ = block.wait_until_connected(&mut store, SECOND);
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut buffer = [0; 32 * 4096];
    while !input.is_empty() {
        match input.byte() % 12 {
            0 | 1 => {
                let (sector, count) = (u64::from(input.byte()), usize::from(input.byte()) % 270);
                tickets.extend(block.submit_read(sector, count));
            }
            2 => {
                let count = usize::from(input.byte()) % 40;
                tickets.extend(block.submit_write(input.byte().into(), &buffer[..count * 512]));
            }
            3 => tickets.extend(match input.byte() % 2 {
                0 => block.submit_flush(),
                _ => block.submit_discard(input.byte().into(), input.byte().into(), false),
            }),
            4 | 5 => ask(&mut block, &mut tickets, &mut input, &mut buffer),
            6 => {
                let _ = block.poll(&mut store);
                world.turn();
            }
            7 | 8 => {
                if let Some(ring) = ring(&world) {
                    answer(&ring, &mut input);
                }
            }
            9 => {
                if let Some(ring) = ring(&world) {
                    ring.scribble(&mut input);
                }
            }
            10 => {
                let node = NODES[usize::from(input.byte()) % NODES.len()];
                world.set(&format!("{BACK}/{node}"), &text(&mut input));
                world.turn();
            }
            _ => {
                if let Some(ticket) = tickets.pop() {
                    block.abandon(ticket);
                }
            }
        }
        assert!(block.in_use() <= 64, "more in flight than there can be");
    }
    // Each that was submitted ends when the disk does, and is told of once.
    world.set(&format!("{BACK}/state"), "6");
    world.turn();
    let _ = block.poll(&mut store);
    let _ = block.poll(&mut store);
    for ticket in tickets {
        let told = block.finish(ticket, &mut buffer);
        assert!(
            !matches!(told, Ok(None) | Err(Error::NotInUse)),
            "a request is lost: {told:?}"
        );
        assert_eq!(
            block.finish(ticket, &mut buffer),
            Err(Error::NotInUse),
            "told of twice"
        );
    }
    assert_eq!(block.in_use(), 0);
    let lost = block.lost_pages();
    let deadline = world.now() + SECOND;
    let _ = block.close(&mut store, deadline);
    assert_eq!(
        (lost, world.pages_left(), world.grants().len()),
        (0, PAGES, 0),
        "pages are kept"
    );
}

fn ring(world: &World) -> Option<Ring> {
    Ring::at(world, &format!("{FRONT}/ring-ref"), size_of::<Request>())
}

fn ask(block: &mut Block<World>, tickets: &mut Vec<Ticket>, input: &mut Input, buffer: &mut [u8]) {
    if tickets.is_empty() {
        return;
    }
    let index = usize::from(input.byte()) % tickets.len();
    match block.finish(tickets[index], buffer) {
        Ok(None) => {}
        Ok(Some(length)) => {
            assert!(length <= buffer.len());
            tickets.swap_remove(index);
        }
        Err(error) => {
            assert_ne!(error, Error::NotInUse, "a request is lost");
            tickets.swap_remove(index);
        }
    }
}

/// Answers the next request: honestly, or with something changed.
fn answer(ring: &Ring, input: &mut Input) {
    let kind = input.byte();
    if kind % 8 < 6 && !ring.is_asked() {
        return;
    }
    let request =
        Request::read_from_bytes(&ring.read::<{ size_of::<Request>() }>(ring.next())).expect("of that size");
    let mut response = Response {
        id: request.id,
        operation: request.operation,
        ..Response::default()
    };
    match kind {
        0..200 => {}
        200..220 => response.id ^= input.number(8),
        220..235 => response.status = input.number(2) as i16,
        _ => response.operation = input.byte() % (op::INDIRECT + 2),
    }
    ring.answer(response.as_bytes());
}

/// An honest life, and each kind of lie.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "honest",
            vec![0, 0, 8, 2, 3, 1, 3, 0, 7, 0, 7, 0, 7, 0, 4, 0, 4, 0, 4, 0],
        ),
        ("large", vec![0, 0, 250, 1, 0, 100, 7, 0, 8, 0, 4, 0, 5, 0]),
        (
            "wrong_number",
            vec![
                0, 0, 8, 7, 208, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 6, 6, 6, 6, 0, 0, 8, 7, 0, 4, 0,
            ],
        ),
        (
            "twice",
            vec![0, 0, 8, 0, 0, 9, 7, 0, 9, 2, 255, 7, 0, 4, 0, 4, 0, 6, 6, 6],
        ),
        (
            "leap",
            vec![0, 0, 8, 9, 2, 4, 255, 255, 255, 127, 4, 0, 6, 6, 6, 6],
        ),
        (
            "states",
            vec![
                0, 0, 8, 10, 0, 5, 6, 10, 0, 6, 6, 6, 6, 10, 0, 2, 6, 6, 0, 0, 8, 7, 0, 4, 0,
            ],
        ),
        (
            "nodes",
            vec![
                10, 2, 13, 10, 0, 6, 6, 6, 6, 10, 1, 230, 4, b'x', b'y', 0, 1, 6, 6, 6, 6, 6,
            ],
        ),
        ("abandoned", vec![0, 0, 8, 11, 7, 0, 6, 0, 0, 8, 11, 10, 0, 5, 6]),
    ]
}
