//! The store's client, with a daemon that lies, is silent, or says things that nobody asked for.

use std::sync::atomic::Ordering::Relaxed;

use pv_drivers::front::control::Control;
use pv_drivers::front::store::Store;
use pv_drivers::front::xenbus::Link;
use pv_drivers::ring::Memory;
use pv_drivers::testing::World;

use crate::front::text;
use crate::input::Input;

/// Indices, features, connection, error: the words behind the rings.
const WORDS: usize = 2048;
const SECOND: u64 = 1_000_000_000;

/// The client's and the daemon's deeds, one after the other.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let world = World::new(8);
    // A limit is over after a few turns.
    world.set_tick(SECOND);
    world.set("name", "web");
    world.set("number", "5");
    let mut store = world.store();
    let mut honest = true;
    while !input.is_empty() {
        match input.byte() % 12 {
            0 => {
                let answer = store.read(None, "name");
                assert!(!honest || answer == Ok(b"web"), "an honest answer is {answer:?}");
                assert!(answer.map_or(0, <[u8]>::len) <= 4096);
            }
            1 => {
                let number = store.read_number("number");
                assert!(!honest || number == Ok(Some(5)), "an honest answer is {number:?}");
            }
            2 => watch(&mut store, &world),
            3 => {
                let done =
                    store.transaction(|store, transaction| store.write(Some(transaction), "data", b"x"));
                assert!(!honest || done.is_ok());
            }
            4 => {
                let count = store.directory("/").map(Iterator::count);
                assert!(count.is_ok_and(|count| count <= 4096) || !honest);
            }
            5 => drop(Link::open(&mut store, "vbd", 1)),
            6 => {
                if let Ok(mut control) = Control::open(&mut store) {
                    world.set("control/shutdown", &text(&mut input));
                    world.turn();
                    let _ = control.poll(&mut store);
                    let _ = control.poll(&mut store);
                }
            }
            7 => {
                // Something is changed in each answer from now on.
                let (place, value) = (usize::from(input.byte() % 40), input.byte());
                world.daemon.borrow_mut().lie = Some(Box::new(move |bytes| {
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte ^= value;
                    }
                }));
                honest &= value == 0;
            }
            8 => {
                let length = usize::from(input.byte());
                world.daemon.borrow_mut().say(input.bytes(length));
                honest &= length == 0;
            }
            9 => {
                let word = WORDS + usize::from(input.byte() % 8) * 4;
                world.store_page().store(word, input.number(4) as u32, Relaxed);
                honest = false;
            }
            10 => {
                world.daemon.borrow_mut().silent = input.byte() % 2 == 1;
                honest = false;
            }
            _ => {
                let _ = store.reconnect();
                honest = false;
            }
        }
    }
}

/// A watch fires at once, and is ended.
fn watch(store: &mut Store<World>, world: &World) {
    if let Ok(token) = store.watch("name") {
        world.turn();
        let _ = store.has_fired(token);
        let _ = store.unwatch("name", token);
    }
}

/// What clients do, and each kind of lie.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let watch_event = |token: &[u8]| {
        let payload = [b"name\0", token, b"\0"].concat();
        let mut bytes = vec![8, 16 + payload.len() as u8, 15];
        bytes.extend([0; 11]);
        bytes.extend([payload.len() as u8, 0, 0, 0]);
        bytes.extend(payload);
        bytes
    };
    vec![
        ("honest", vec![0, 1, 2, 3, 4, 5, 6, 7]),
        ("wrong_kind", vec![7, 0, 1, 0, 1, 2, 3, 4]),
        ("wrong_number", vec![7, 4, 1, 0, 2]),
        ("wrong_length", vec![7, 13, 255, 0, 1, 11, 0]),
        ("wrong_text", vec![7, 16, 0x80, 1, 3, 6, 0]),
        (
            "watches",
            [
                watch_event(b"00"),
                watch_event(b"99"),
                watch_event(b""),
                vec![2, 0, 1],
            ]
            .concat(),
        ),
        (
            "leap",
            vec![9, 3, 255, 255, 255, 255, 0, 11, 9, 4, 1, 0, 0, 0, 11, 0],
        ),
        ("silent", vec![10, 1, 0, 10, 0, 0, 1]),
        (
            "shutdown",
            vec![6, 220, 8, b'p', b'o', b'w', b'e', b'r', b'o', b'f', b'f', 6, 3],
        ),
    ]
}
