//! Disks against an honest backend, and against one that is not.

use std::cell::Cell;
use std::mem::offset_of;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use hypercall_abi::io::block::{Response, op, status};
use hypercall_abi::io::ring::RingHeader;
use hypercall_abi::io::xenbus::State;
use pv_drivers::front::block::{Block, Change, Config, Ticket};
use pv_drivers::front::store::Store;
use pv_drivers::front::xenbus::RESETS;
use pv_drivers::front::{Error, Platform};
use pv_drivers::ring::{Fault, Memory};
use pv_drivers::testing::World;
use pv_drivers::testing::disk::{BACK, Disk, FRONT, NUMBER};

const SECTORS: usize = 2048;
const SECOND: u64 = 1_000_000_000;

struct Bench {
    world: World,
    store: Store<World>,
    disk: Disk,
    block: Block<World>,
}

impl Bench {
    fn new(config: Config, offers: &[(&str, &str)]) -> Bench {
        let mut bench = Bench::unconnected(config, offers);
        bench.connect();
        bench
    }

    fn unconnected(config: Config, offers: &[(&str, &str)]) -> Bench {
        let world = World::new(1000);
        let disk = Disk::plug(&world, SECTORS, offers);
        let mut store = world.store();
        let block = Block::open(world.clone(), &mut store, NUMBER, config).unwrap();
        Bench {
            world,
            store,
            disk,
            block,
        }
    }

    fn deadline(&self) -> u64 {
        self.world.now() + SECOND
    }

    fn connect(&mut self) {
        let deadline = self.deadline();
        self.block
            .wait_until_connected(&mut self.store, deadline)
            .unwrap();
    }

    fn read(&mut self, sector: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; bytes];
        let deadline = self.deadline();
        self.block.read(sector, &mut buffer, deadline).map(|()| buffer)
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> Result<(), Error> {
        let deadline = self.deadline();
        self.block.write(sector, data, deadline)
    }

    /// What the next answer becomes.
    fn mischief(&self, mut change: impl FnMut(&mut Response) -> usize + 'static) {
        let done = Cell::new(false);
        self.disk.0.borrow_mut().mischief =
            Some(Box::new(
                move |response| {
                    if done.replace(true) { 1 } else { change(response) }
                },
            ));
    }

    /// The disk must come back by itself, and work.
    fn recovers(&mut self) {
        self.connect();
        self.write(8, &pattern(9, 4096)).unwrap();
        assert_eq!(self.read(8, 4096).unwrap(), pattern(9, 4096));
    }

    fn wait_for(&mut self, wanted: Change) {
        for _ in 0..100 {
            if self.block.poll(&mut self.store).unwrap() == Some(wanted) {
                return;
            }
            self.world.turn();
        }
        panic!("never {wanted:?}");
    }
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 7 + seed + index / 512) as u8)
        .collect()
}

fn takes_any_size(config: Config, offers: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new(config, offers);
    for (index, sectors) in [1, 7, 8, 9, 88, 89, 512, 700].into_iter().enumerate() {
        let data = pattern(index, sectors * 512);
        bench.write(index as u64 * 3, &data).unwrap();
        let start = index * 3 * 512;
        assert_eq!(bench.disk.0.borrow().content[start..start + data.len()], data);
        assert_eq!(
            bench.read(index as u64 * 3, data.len()).unwrap(),
            data,
            "{sectors} sectors"
        );
    }
    assert_eq!(bench.block.in_use(), 0);
    bench
}

#[test]
fn what_is_written_is_read_in_any_size() {
    let bench = takes_any_size(Config::default(), &[]);
    assert!(
        bench
            .disk
            .0
            .borrow()
            .requests
            .iter()
            .all(|request| request.operation != op::INDIRECT)
    );
    takes_any_size(
        Config {
            data_pages: 12,
            ..Config::default()
        },
        &[],
    );
}

#[test]
fn large_requests_list_their_segments_in_a_page() {
    let bench = takes_any_size(Config::default(), &[("feature-max-indirect-segments", "256")]);
    assert_eq!(bench.block.geometry().unwrap().most, 512);
    assert!(
        bench
            .disk
            .0
            .borrow()
            .requests
            .iter()
            .any(|request| request.operation == op::INDIRECT)
    );
}

#[test]
fn several_queues_and_ring_pages_are_used() {
    let config = Config {
        queues: 3,
        ring_order: 2,
        data_pages: 256,
    };
    let offers = [("multi-queue-max-queues", "8"), ("max-ring-page-order", "4")];
    let bench = takes_any_size(config, &offers);
    assert_eq!(
        bench
            .world
            .get(&format!("{FRONT}/multi-queue-num-queues"))
            .unwrap(),
        "3"
    );
    assert_eq!(bench.world.get(&format!("{FRONT}/ring-page-order")).unwrap(), "2");
    assert!(bench.world.get(&format!("{FRONT}/queue-2/ring-ref3")).is_some());
    assert_eq!(bench.block.ports().count(), 3);
}

#[test]
fn answers_out_of_order_are_in_order() {
    let mut bench = Bench::new(Config::default(), &[]);
    bench.disk.0.borrow_mut().reverse = true;
    let data = pattern(3, 700 * 512);
    bench.write(0, &data).unwrap();
    assert_eq!(bench.read(0, data.len()).unwrap(), data);
}

#[test]
fn flush_and_discard_are_done_where_they_are_offered() {
    let mut bench = Bench::new(Config::default(), &[]);
    bench.write(0, &pattern(1, 8192)).unwrap();
    let deadline = bench.deadline();
    bench.block.flush(deadline).unwrap();
    let ticket = bench.block.submit_discard(0, 8, false).unwrap();
    bench.world.turn();
    assert_eq!(bench.block.finish(ticket, &mut []).unwrap(), Some(0));
    assert!(bench.read(0, 4096).unwrap().iter().all(|byte| *byte == 0));
    let secure = bench.block.submit_discard(0, 8, true);
    assert_eq!(
        secure,
        Err(Error::Unsupported {
            what: "discard-secure"
        })
    );
    let mut poor = Bench::new(
        Config::default(),
        &[("feature-flush-cache", "0"), ("feature-discard", "0")],
    );
    assert!(matches!(
        poor.block.submit_flush(),
        Err(Error::Unsupported { .. })
    ));
    assert!(matches!(
        poor.block.submit_discard(0, 8, false),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn what_does_not_lie_on_the_disk_is_refused() {
    let mut bench = Bench::new(Config::default(), &[("info", "4"), ("sector-size", "4096")]);
    assert_eq!(bench.write(0, &[0; 4096]), Err(Error::ReadOnly));
    for (sector, bytes) in [
        (SECTORS as u64, 4096),
        (u64::MAX, 4096),
        (1, 4096),
        (0, 512),
        (0, 100),
    ] {
        assert!(
            matches!(bench.read(sector, bytes), Err(Error::OutOfRange { .. })),
            "{sector}, {bytes}"
        );
    }
    assert_eq!(bench.read(0, 4096).unwrap().len(), 4096);
}

#[test]
fn a_disk_that_grows_says_so() {
    let mut bench = Bench::new(Config::default(), &[]);
    bench.world.set(&format!("{BACK}/sectors"), "4096");
    bench.world.set(&format!("{BACK}/state"), State::Connected.text());
    bench.wait_for(Change::Resized);
    assert_eq!(bench.block.geometry().unwrap().sectors, 4096);
}

#[test]
fn an_answer_that_comes_twice_resets_the_disk() {
    let mut bench = Bench::new(Config::default(), &[]);
    // Two requests, so that there is room for the second answer.
    bench.mischief(|_| 2);
    let tickets: Vec<Ticket> = (0..2).map(|at| bench.block.submit_read(at, 1).unwrap()).collect();
    bench.world.turn();
    let outcomes: Vec<_> = tickets
        .iter()
        .map(|ticket| bench.block.finish(*ticket, &mut []))
        .collect();
    assert_eq!(outcomes, [Ok(Some(0)), Err(Error::Disconnected)]);
    let said = bench.block.poll(&mut bench.store);
    assert!(matches!(said, Err(Error::Protocol { .. })), "{said:?}");
    bench.recovers();
}

#[test]
fn answers_with_a_wrong_number_operation_or_status_reset_the_disk() {
    type Change = fn(&mut Response);
    let changes: [Change; 7] = [
        |response| response.id ^= 1 << 16,
        |response| response.id = u64::MAX,
        |response| response.id ^= 1,
        |response| response.operation = op::WRITE,
        |response| response.operation = 200,
        |response| response.status = 1,
        |response| response.status = i16::MIN,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut bench = Bench::new(Config::default(), &[]);
        bench.mischief(move |response| {
            change(response);
            1
        });
        assert_eq!(bench.read(0, 512), Err(Error::Disconnected), "{index}");
        let said = bench.block.poll(&mut bench.store);
        assert!(matches!(said, Err(Error::Protocol { .. })), "{index}: {said:?}");
        bench.recovers();
    }
}

#[test]
fn a_failure_is_told_and_the_disk_goes_on() {
    let mut bench = Bench::new(Config::default(), &[]);
    for (found, expected) in [
        (status::ERROR, Error::Failed { status: -1 }),
        (
            status::NOT_SUPPORTED,
            Error::Unsupported {
                what: "this operation",
            },
        ),
    ] {
        bench.mischief(move |response| {
            response.status = found;
            1
        });
        assert_eq!(bench.read(0, 512), Err(expected));
        bench.recovers();
    }
    assert_eq!(bench.block.in_use(), 0);
}

#[test]
fn indices_that_jump_reset_the_disk() {
    for jump in [2, 33, 1 << 16, 1 << 31, u32::MAX - 5] {
        let mut bench = Bench::new(Config::default(), &[]);
        let ticket = bench.block.submit_read(0, 1).unwrap();
        let reference = bench.world.get(&format!("{FRONT}/ring-ref")).unwrap();
        let ring = bench.world.granted(reference.parse().unwrap()).unwrap();
        let producer = offset_of!(RingHeader, response_producer);
        ring.store(producer, jump, Ordering::Relaxed);
        assert_eq!(
            bench.block.finish(ticket, &mut []),
            Err(Error::Disconnected),
            "{jump}"
        );
        let said = bench.block.poll(&mut bench.store);
        let expected = Error::Ring(Fault::ImpossibleIndex {
            theirs: jump,
            ours: 0,
        });
        assert_eq!(said, Err(expected));
        bench.recovers();
    }
}

#[test]
fn what_is_never_answered_is_waited_for_no_longer_than_told() {
    let mut bench = Bench::new(Config::default(), &[]);
    bench.disk.0.borrow_mut().asleep = true;
    assert!(matches!(bench.read(0, 64 * 512), Err(Error::Timeout { .. })));
    assert_eq!(
        bench.block.in_use(),
        1,
        "its pages are the backend's until it answers"
    );
    bench.disk.0.borrow_mut().asleep = false;
    bench.recovers();
    assert_eq!(bench.block.in_use(), 0);
}

#[test]
fn requests_in_flight_fail_when_the_disk_goes_away() {
    let mut bench = Bench::new(Config::default(), &[]);
    bench.disk.0.borrow_mut().asleep = true;
    let ticket = bench.block.submit_read(0, 8).unwrap();
    bench.world.set(&format!("{BACK}/state"), State::Closing.text());
    bench.wait_for(Change::Lost);
    assert_eq!(bench.block.finish(ticket, &mut []), Err(Error::Disconnected));
    assert_eq!(bench.block.submit_read(0, 8), Err(Error::Disconnected));
    assert_eq!(bench.block.finish(ticket, &mut []), Err(Error::NotInUse));
    // The backend is done, and there anew.
    bench.disk.0.borrow_mut().asleep = false;
    bench.world.set(&format!("{BACK}/state"), State::Closed.text());
    bench.recovers();
    // And now it is removed.
    bench.world.unset(BACK);
    bench.wait_for(Change::Lost);
    bench.wait_for(Change::Gone);
    let deadline = bench.deadline();
    let never = bench.block.wait_until_connected(&mut bench.store, deadline);
    assert_eq!(never, Err(Error::Disconnected));
}

#[test]
fn a_reset_needs_no_more_pages_grants_or_ports() {
    let mut bench = Bench::new(Config::default(), &[]);
    let before = (
        bench.world.pages_left(),
        bench.world.grants().len(),
        bench.world.open_ports(),
    );
    for _ in 0..20 {
        bench.mischief(|response| {
            response.id = 77;
            1
        });
        assert!(bench.read(0, 512).is_err());
        assert!(bench.block.poll(&mut bench.store).is_err());
        bench.recovers();
    }
    let after = (
        bench.world.pages_left(),
        bench.world.grants().len(),
        bench.world.open_ports(),
    );
    assert_eq!(before, after);
}

#[test]
fn closing_gives_everything_back() {
    let mut bench = Bench::new(Config::default(), &[]);
    bench.recovers();
    let deadline = bench.deadline();
    bench.block.close(&mut bench.store, deadline).unwrap();
    assert_eq!(
        (
            bench.world.pages_left(),
            bench.world.grants().len(),
            bench.world.open_ports()
        ),
        (1000, 0, 1)
    );
}

#[test]
fn a_page_that_stays_mapped_is_lost_and_not_reused() {
    let mut bench = Bench::new(Config::default(), &[]);
    let ring = bench.world.grants()[0];
    bench.world.hold(ring, true);
    let deadline = bench.deadline();
    bench.block.close(&mut bench.store, deadline).unwrap();
    assert_eq!(bench.world.grants(), [ring]);
    assert_eq!(bench.world.pages_left(), 999);
}

#[test]
fn a_backend_that_says_nonsense_is_told_so_and_given_up_in_the_end() {
    for (node, value, said) in [
        ("sector-size", "513", "a power of two from 512 to 4096"),
        ("sector-size", "0", "a power of two from 512 to 4096"),
        ("sectors", "many", "a decimal number"),
        ("sectors", "", "a decimal number"),
        ("sectors", "-1", "a decimal number"),
        ("info", "99999999999999999999999", "a decimal number"),
    ] {
        let mut bench = Bench::unconnected(Config::default(), &[(node, value)]);
        let deadline = 60 * SECOND;
        let mut failures = 0;
        loop {
            match bench.block.wait_until_connected(&mut bench.store, deadline) {
                Err(Error::Malformed {
                    node: name, expected, ..
                }) => {
                    assert_eq!((name.as_str(), expected), (node, said));
                    failures += 1;
                }
                Err(Error::Disconnected) => break,
                other => panic!("{node}={value}: {other:?}"),
            }
        }
        assert_eq!(failures, RESETS + 1);
    }
}

#[test]
fn states_that_jump_end_in_a_disk_that_works_or_is_gone() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut works = 0;
    for _ in 0..60 {
        let mut bench = Bench::unconnected(Config::default(), &[]);
        for _ in 0..next(25) {
            match next(12) {
                state @ 0..9 => {
                    let text = State::from_number(state as u32).unwrap().text();
                    bench.world.set(&format!("{BACK}/state"), text);
                }
                9 => bench.world.set(&format!("{BACK}/state"), "garbage"),
                10 => drop(bench.block.submit_read(next(4000), 1 + next(20) as usize)),
                _ => bench.world.turn(),
            }
            let _ = bench.block.poll(&mut bench.store);
        }
        // From here on it is honest again.
        bench.world.set(&format!("{BACK}/state"), State::Closed.text());
        for _ in 0..50 {
            let _ = bench.block.poll(&mut bench.store);
            bench.world.turn();
        }
        let deadline = bench.deadline();
        match bench.block.wait_until_connected(&mut bench.store, deadline) {
            Ok(_) => {
                bench.recovers();
                works += 1;
            }
            Err(Error::Disconnected) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(works > 30, "{works} of 60 work again");
}

#[test]
fn what_was_there_before_us_is_let_go_of_first() {
    let world = World::new(1000);
    let _disk = Disk::plug(&world, SECTORS, &[]);
    // A kernel that was here before has left its state.
    world.set(&format!("{FRONT}/state"), State::Connected.text());
    world.set(&format!("{BACK}/state"), State::Connected.text());
    let mut store = world.store();
    let mut block = Block::open(world.clone(), &mut store, NUMBER, Config::default()).unwrap();
    assert_eq!(
        world.get(&format!("{FRONT}/state")).unwrap(),
        State::Closed.text()
    );
    block.wait_until_connected(&mut store, SECOND * 60).unwrap();
}

#[test]
fn a_device_that_is_not_there_or_is_none_is_an_error_that_says_so() {
    let world = World::new(1000);
    let mut store = world.store();
    let open = |store: &mut Store<World>| Block::open(world.clone(), store, NUMBER, Config::default()).err();
    let said = open(&mut store).unwrap().to_string();
    assert_eq!(said, "the store refused to read `backend`: no such entry");
    world.set(&format!("{FRONT}/backend"), "somewhere");
    let said = open(&mut store).unwrap().to_string();
    assert_eq!(
        said,
        "`backend` in the store should be an absolute path, and is `somewhere`"
    );
    world.set(&format!("{FRONT}/backend"), BACK);
    world.set(&format!("{FRONT}/backend-id"), "40000");
    let said = open(&mut store).unwrap().to_string();
    assert_eq!(
        said,
        "`backend-id` in the store should be a domain's number, and is `40000`"
    );
    world.set(&format!("{FRONT}/backend-id"), "0");
    world.set(&format!("{FRONT}/backend"), &format!("/{}", "x".repeat(200)));
    assert!(matches!(open(&mut store), Some(Error::TooLong { .. })));
}

#[test]
fn too_few_pages_are_an_error_and_nothing_is_kept() {
    let world = World::new(100);
    let _disk = Disk::plug(&world, SECTORS, &[]);
    let mut store = world.store();
    let mut block = Block::open(world.clone(), &mut store, NUMBER, Config::default()).unwrap();
    let said = block.wait_until_connected(&mut store, SECOND);
    assert_eq!(said, Err(Error::OutOfPages { wanted: 128 }));
    let calls = Rc::new(Cell::new(0));
    while block.wait_until_connected(&mut store, SECOND * 60) != Err(Error::Disconnected) {
        calls.set(calls.get() + 1);
        assert!(calls.get() < 100, "it tries again and again");
    }
}
