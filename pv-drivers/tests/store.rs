//! The store's client, the console and requests to shut down; and a daemon that says what it must not.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use hypercall_abi::Error as Errno;
use hypercall_abi::io::xenbus::State;
use hypercall_abi::io::xenstore::{Header, message as kind};
use pv_drivers::front::console::Console;
use pv_drivers::front::control::{Control, Request};
use pv_drivers::front::store::{PATIENCE, Store, WATCHES};
use pv_drivers::front::xenbus::{Phase, Step, next};
use pv_drivers::front::{Error, Platform};
use pv_drivers::ring::{ByteConsumer, ByteProducer, CONSOLE_INPUT, CONSOLE_OUTPUT, Memory};
use pv_drivers::testing::{STORE_PORT, TICK, World};
use zerocopy::IntoBytes;

fn world() -> (World, Store<World>) {
    let world = World::new(100);
    let store = world.store();
    (world, store)
}

fn header(kind: u32, request_id: u32, length: u32) -> Vec<u8> {
    let header = Header {
        kind,
        request_id,
        length,
        ..Header::default()
    };
    header.as_bytes().to_vec()
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let (world, mut store) = world();
    store.write(None, "data/a", b"one").unwrap();
    store.write_number(None, "data/b", u64::MAX).unwrap();
    // More than the ring holds at a time.
    let large = vec![b'x'; 4000];
    store.write(None, "data/c", &large).unwrap();
    assert_eq!(store.read(None, "/local/domain/5/data/a").unwrap(), b"one");
    assert_eq!(store.read_number("data/b").unwrap(), Some(u64::MAX));
    assert_eq!(store.read(None, "data/c").unwrap(), large);
    let names: Vec<Vec<u8>> = store.directory("data").unwrap().map(<[u8]>::to_vec).collect();
    assert_eq!(names, [b"a", b"b", b"c"]);
    store.remove(None, "data").unwrap();
    assert_eq!(store.read_number("data/b").unwrap(), None);
    let refused = store.read(None, "data/a").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the store refused to read `a`: no such entry"
    );
    assert_eq!(
        store.write(None, "data/d", &vec![0; 5000]).unwrap_err(),
        Error::TooLong {
            length: 5007,
            limit: 4096
        }
    );
    store.write(None, "data/e", b"").unwrap();
    assert_eq!(world.get("data/e").unwrap(), "");
}

#[test]
fn watches_fire_once_for_any_number_of_changes_and_are_apart() {
    let (world, mut store) = world();
    let (one, other) = (store.watch("one").unwrap(), store.watch("other").unwrap());
    assert_eq!(
        (store.has_fired(one), store.has_fired(other)),
        (Ok(true), Ok(true)),
        "at the beginning"
    );
    assert_eq!(store.has_fired(one), Ok(false));
    for number in 0..10 {
        world.set("one/below", &number.to_string());
    }
    world.turn();
    assert_eq!(
        (store.has_fired(one), store.has_fired(other)),
        (Ok(true), Ok(false))
    );
    store.unwatch("one", one).unwrap();
    world.set("one/below", "x");
    world.turn();
    assert_eq!(store.has_fired(other), Ok(false));
    for _ in 1..WATCHES {
        store.watch("many").unwrap();
    }
    assert_eq!(store.watch("many"), Err(Error::Full));
}

#[test]
fn transactions_are_tried_again_and_not_for_ever() {
    let (world, mut store) = world();
    world.daemon.borrow_mut().conflicts = 3;
    let mut tries = 0;
    store
        .transaction(|store, transaction| {
            tries += 1;
            store.write_number(Some(transaction), "data/tries", tries)
        })
        .unwrap();
    assert_eq!((tries, world.get("data/tries").as_deref()), (4, Some("4")));
    world.daemon.borrow_mut().conflicts = u32::MAX;
    let error = store.transaction(|_, _| Ok(())).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Store {
                error: Errno::EAGAIN,
                ..
            }
        ),
        "{error:?}"
    );
    let error = store.transaction(|_, _| Err(Error::Full));
    assert_eq!(error, Err(Error::Full));
}

#[test]
fn a_daemon_that_does_not_answer_is_waited_for_no_longer_than_told() {
    let (world, mut store) = world();
    world.set("name", "web");
    world.daemon.borrow_mut().silent = true;
    let before = world.now();
    assert!(matches!(store.read(None, "name"), Err(Error::Timeout { .. })));
    assert!((PATIENCE..PATIENCE + 2 * TICK).contains(&(world.now() - before)));
    world.daemon.borrow_mut().silent = false;
    // An answer that comes too late is nobody's.
    let mut late = header(kind::READ, 1, 4);
    late.extend(b"late");
    world.daemon.borrow_mut().say(&late);
    assert_eq!(store.read(None, "name").unwrap(), b"web");
    assert_eq!(store.dropped(), 1);
}

#[test]
fn answers_of_garbage_are_errors_and_no_panic() {
    type Lie = fn(&mut Vec<u8>);
    let lies: [(&str, Lie); 6] = [
        ("length", |bytes| {
            bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes())
        }),
        ("length by one", |bytes| {
            bytes[12..16].copy_from_slice(&4097u32.to_le_bytes())
        }),
        ("kind", |bytes| bytes[0] = 99),
        ("number", |bytes| bytes[4] ^= 1),
        ("nothing", |bytes| bytes.clear()),
        ("half", |bytes| bytes.truncate(17)),
    ];
    for (what, lie) in lies {
        let (world, mut store) = world();
        world.set("name", "web");
        world.daemon.borrow_mut().lie = Some(Box::new(lie));
        let error = store.read(None, "name").unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. } | Error::Timeout { .. }),
            "{what}: {error:?}"
        );
    }
}

#[test]
fn random_answers_are_no_panic_and_end() {
    let mut random = 0x1234_5678_9abc_def1_u64;
    for _ in 0..300 {
        let (world, mut store) = world();
        world.set("name", "5");
        let seed = Rc::new(Cell::new(random));
        world.daemon.borrow_mut().lie = Some(Box::new(move |bytes| {
            let mut state = seed.get();
            for _ in 0..state % 4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            seed.set(state.wrapping_add(1));
        }));
        let _ = store.read_number("name");
        let _ = store.watch("name");
        let _ = store.transaction(|store, transaction| store.write(Some(transaction), "name", b"x"));
        let _ = store.directory("/").map(Iterator::count);
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
    }
}

#[test]
fn watches_without_end_do_not_keep_anybody() {
    let (world, mut store) = world();
    world.set("name", "web");
    let mut event = header(kind::WATCH_EVENT, 0, 8);
    event.extend(b"name\x0000\0");
    world.play(move |world| {
        let mut daemon = world.daemon.borrow_mut();
        for _ in 0..100 {
            daemon.say(&event);
        }
    });
    world.turn();
    let token = store.watch("name");
    assert!(
        token.is_ok() || matches!(token, Err(Error::Timeout { .. })),
        "{token:?}"
    );
}

#[test]
fn a_broken_ring_is_an_error_until_the_daemon_starts_over() {
    const RESPONSE_PRODUCER: usize = 2060;
    const FEATURES: usize = 2064;
    const CONNECTION: usize = 2068;
    let (world, mut store) = world();
    world.set("name", "web");
    let page = world.store_page();
    page.store(RESPONSE_PRODUCER, 5000, Ordering::Relaxed);
    assert!(matches!(store.read(None, "name"), Err(Error::Ring(_))));
    assert!(matches!(store.reconnect(), Err(Error::Unsupported { .. })));
    page.store(FEATURES, 1, Ordering::Relaxed);
    assert!(matches!(store.reconnect(), Err(Error::Timeout { .. })));
    world.play(move |world| {
        let page = world.store_page();
        if page.load(CONNECTION, Ordering::Relaxed) == 1 {
            page.store(
                RESPONSE_PRODUCER,
                page.load(2056, Ordering::Relaxed),
                Ordering::Relaxed,
            );
            page.store(CONNECTION, 0, Ordering::Relaxed);
        }
    });
    store.reconnect().unwrap();
    world.turn();
}

#[test]
fn what_the_toolstack_asks_is_heard_once_and_acknowledged() {
    let (world, mut store) = world();
    let mut control = Control::open(&mut store).unwrap();
    assert_eq!(world.get("control/feature-poweroff").unwrap(), "1");
    assert_eq!(control.poll(&mut store), Ok(None));
    for (word, request) in [
        ("poweroff", Request::PowerOff),
        ("halt", Request::PowerOff),
        ("reboot", Request::Reboot),
        ("suspend", Request::Suspend),
    ] {
        world.set("control/shutdown", word);
        world.turn();
        assert_eq!(control.poll(&mut store), Ok(Some(request)));
        assert_eq!(world.get("control/shutdown").unwrap(), "");
        assert_eq!(control.poll(&mut store), Ok(None));
    }
    world.set("control/shutdown", "explode\x07");
    world.turn();
    let error = control.poll(&mut store).unwrap_err().to_string();
    assert_eq!(
        error,
        "`shutdown` in the store should be poweroff, halt, reboot or suspend, and is `explode?`"
    );
}

#[test]
fn the_console_carries_bytes_and_drops_what_nobody_reads() {
    use std::fmt::Write;
    let world = World::new(10);
    let page: &'static _ = Box::leak(Box::new(world.allocate(1).unwrap()));
    let mut console = Console::attach(world.clone(), page, STORE_PORT).unwrap();
    let mut reader = ByteConsumer::attach(CONSOLE_OUTPUT, page).unwrap();
    let mut keyboard = ByteProducer::attach(CONSOLE_INPUT, page).unwrap();
    writeln!(console, "one\ntwo").unwrap();
    let mut bytes = [0; 4096];
    let length = reader.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"one\r\ntwo\r\n");
    keyboard.write(b"marco").unwrap();
    assert_eq!(console.read(&mut bytes), Ok(5));
    assert_eq!(console.read(&mut bytes), Ok(0));
    // Nobody reads: it comes back, and the rest is gone.
    write!(console, "{}", "x".repeat(3000)).unwrap();
    assert_eq!(console.dropped(), 3000 - 2048);
    page.store(3080, 1 << 20, Ordering::Relaxed);
    assert!(matches!(console.write(b"x"), Err(Error::Ring(_))));
}

#[test]
fn there_is_a_step_for_each_state_and_none_loops_by_itself() {
    let phases = [
        Phase::Waiting,
        Phase::Announced,
        Phase::Running,
        Phase::Closing,
        Phase::Gone,
    ];
    for theirs in State::ALL {
        for phase in phases {
            let step = next(phase, theirs);
            let after = match step {
                Step::Wait | Step::Refresh => continue,
                Step::Announce => Phase::Announced,
                Step::Connect => Phase::Running,
                Step::Close => Phase::Closing,
                Step::Restart => Phase::Waiting,
                Step::Remove => Phase::Gone,
            };
            assert_ne!(after, phase, "{phase:?}, {theirs:?}: {step:?}");
        }
        assert_eq!(next(Phase::Gone, theirs), Step::Wait);
        if theirs != State::Connected {
            assert_ne!(next(Phase::Announced, theirs), Step::Connect);
        }
    }
}
