//! Network interfaces against an honest backend, and against one that is not.

use std::cell::Cell;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use hypercall_abi::io::net::{
    EXTRA_FLAG_MORE, ExtraInfo, ReceiveResponse, TransmitResponse, extra_kind, receive_flag, segmentation,
    status, transmit_flag,
};
use hypercall_abi::io::ring::RingHeader;
use hypercall_abi::io::xenbus::State;
use pv_drivers::front::net::{Change, Config, Frame, MOST, Net, Received};
use pv_drivers::front::store::Store;
use pv_drivers::front::{Error, Platform};
use pv_drivers::ring::Memory;
use pv_drivers::testing::World;
use pv_drivers::testing::wire::{BACK, FRONT, Sent, Wire};

const SECOND: u64 = 1_000_000_000;

struct Bench {
    world: World,
    store: Store<World>,
    wire: Wire,
    net: Net<World>,
}

impl Bench {
    fn new(config: Config, offers: &[(&str, &str)]) -> Bench {
        let world = World::new(2000);
        let wire = Wire::plug(&world, offers);
        let mut store = world.store();
        let net = Net::open(world.clone(), &mut store, 0, config).unwrap();
        let mut bench = Bench {
            world,
            store,
            wire,
            net,
        };
        bench.connect();
        bench
    }

    fn plain() -> Bench {
        Bench::new(Config::default(), &[])
    }

    fn connect(&mut self) {
        let deadline = self.world.now() + SECOND;
        self.net.wait_until_connected(&mut self.store, deadline).unwrap();
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.net.send(&Frame {
            bytes,
            ..Frame::default()
        })
    }

    fn sent(&self) -> Vec<Sent> {
        self.world.turn();
        std::mem::take(&mut self.wire.0.borrow_mut().sent)
    }

    fn receive(&mut self) -> Result<Option<(Received, Vec<u8>)>, Error> {
        let mut buffer = vec![0; MOST];
        let received = self.net.receive(&mut buffer)?;
        Ok(received.map(|received| (received, buffer[..received.length].to_vec())))
    }

    /// Frames go both ways, after a while.
    fn works(&mut self) {
        self.connect();
        let frame = frame(3, 60);
        self.send(&frame).unwrap();
        assert_eq!(self.sent().last().unwrap().bytes, frame);
        self.wire.give(&self.world, 0, &[&frame], 0, &[]);
        assert_eq!(self.receive().unwrap().unwrap().1, frame);
    }

    fn is_reset(&mut self) {
        let said = self.net.poll(&mut self.store);
        assert!(
            matches!(said, Err(Error::Protocol { .. } | Error::Ring(_))),
            "{said:?}"
        );
        self.works();
    }

    fn ring(&self, name: &str) -> impl Memory + use<> {
        let reference = self
            .world
            .get(&format!("{FRONT}/{name}"))
            .unwrap()
            .parse()
            .unwrap();
        self.world.granted(reference).unwrap()
    }
}

fn frame(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index * 5 + seed + index / 256) as u8)
        .collect()
}

/// TCP over IPv4 from 10.9.0.1 to 10.9.0.2, without checksum.
fn segment(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend(((length - 14) as u16).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    bytes.resize(length, 7);
    bytes[14 + 20 + 16..14 + 20 + 18].fill(0);
    bytes
}

#[test]
fn frames_arrive_both_ways_for_several_rounds() {
    let mut bench = Bench::plain();
    assert_eq!(bench.net.offer().unwrap().address, [0, 0x16, 0x3e, 0, 0, 5]);
    for round in 0..700 {
        let out = frame(round, 14 + round % 1500);
        bench.send(&out).unwrap();
        assert_eq!(bench.sent()[0].bytes, out);
        let into = frame(round + 1, 1 + round % 1514);
        bench.wire.give(&bench.world, 0, &[&into], 0, &[]);
        assert_eq!(bench.receive().unwrap().unwrap().1, into);
        assert_eq!(bench.receive().unwrap(), None);
    }
    assert_eq!(bench.net.dropped(), 0);
}

#[test]
fn what_the_backend_does_not_offer_is_refused() {
    let mut bench = Bench::new(Config::default(), &[("feature-no-csum-offload", "1")]);
    let large = frame(1, 5000);
    assert_eq!(bench.send(&large), Err(Error::Unsupported { what: "feature-sg" }));
    let bytes = segment(100);
    for (checksum_blank, segment_size) in [(true, 0), (false, 1000)] {
        let frame = Frame {
            bytes: &bytes,
            checksum_blank,
            segment_size,
        };
        assert!(matches!(bench.net.send(&frame), Err(Error::Unsupported { .. })));
    }
    assert!(matches!(bench.net.join([1; 6]), Err(Error::Unsupported { .. })));
    assert!(matches!(bench.send(&[0; 13]), Err(Error::OutOfRange { .. })));
    assert!(matches!(bench.send(&[0; MOST + 1]), Err(Error::TooLong { .. })));
    bench.works();
}

#[test]
fn large_segments_are_sent_in_pieces_with_what_is_to_be_known() {
    let mut bench = Bench::new(
        Config::default(),
        &[("feature-sg", "1"), ("feature-gso-tcpv4", "1")],
    );
    let bytes = segment(20_000);
    let frame = Frame {
        bytes: &bytes,
        checksum_blank: true,
        segment_size: 1448,
    };
    for _ in 0..100 {
        bench.net.send(&frame).unwrap();
        let sent = bench.sent().remove(0);
        assert_eq!(sent.extras.len(), 1);
        assert_eq!(
            (sent.extras[0].kind, sent.extras[0].details[0]),
            (extra_kind::SEGMENTATION, 1448)
        );
        assert_eq!(sent.extras[0].details[1] as u8, segmentation::TCP_V4);
        assert_ne!(sent.flags & transmit_flag::CHECKSUM_BLANK, 0);
        // Only the checksum differs: it holds the pseudo-header's sum.
        let differs: Vec<usize> = (0..bytes.len())
            .filter(|at| sent.bytes[*at] != bytes[*at])
            .collect();
        assert_eq!((sent.bytes.len(), differs), (bytes.len(), vec![50, 51]));
        assert_eq!(
            sent.bytes[50..52],
            (0x0a09 + 1 + 0x0a09 + 2 + 6 + 19_966u16).to_be_bytes()
        );
    }
}

#[test]
fn frames_in_several_pieces_are_put_together() {
    let config = Config {
        large_receive: true,
        ..Config::default()
    };
    let mut bench = Bench::new(config, &[("feature-sg", "1")]);
    let whole = frame(9, 9000);
    let pieces: Vec<&[u8]> = whole.chunks(4000).collect();
    let extra = ExtraInfo {
        kind: extra_kind::SEGMENTATION,
        flags: EXTRA_FLAG_MORE,
        details: [1400, 1, 0],
    };
    let hash = ExtraInfo {
        kind: extra_kind::HASH,
        flags: 0,
        details: [1, 2, 3],
    };
    for _ in 0..100 {
        bench.wire.give(
            &bench.world,
            0,
            &pieces,
            receive_flag::CHECKSUM_BLANK,
            &[extra, hash],
        );
        let (received, bytes) = bench.receive().unwrap().unwrap();
        assert_eq!(
            (
                received.segment_size,
                received.checksum_blank,
                received.checksum_good
            ),
            (1400, true, true)
        );
        assert_eq!(bytes, whole);
    }
}

#[test]
fn a_frame_that_comes_in_parts_waits_for_the_rest() {
    let mut bench = Bench::plain();
    let pages: Vec<_> = (0..2).map(|_| bench.wire.next_page(0)).collect();
    let answer = |index: usize, flags| ReceiveResponse {
        id: pages[index].id,
        offset: 0,
        flags,
        status: 10,
    };
    bench
        .wire
        .answer(&bench.world, 0, &[answer(0, receive_flag::MORE_DATA)]);
    assert_eq!(bench.receive().unwrap(), None);
    bench.wire.answer(&bench.world, 0, &[answer(1, 0)]);
    assert_eq!(bench.receive().unwrap().unwrap().1.len(), 20);
}

#[test]
fn several_queues_and_split_event_channels_are_used() {
    let config = Config {
        queues: 2,
        ..Config::default()
    };
    let offers = [
        ("multi-queue-max-queues", "4"),
        ("feature-split-event-channels", "1"),
    ];
    let mut bench = Bench::new(config, &offers);
    assert_eq!(bench.net.ports().count(), 4);
    let one = frame(1, 100);
    bench.wire.give(&bench.world, 1, &[&one], 0, &[]);
    assert_eq!(bench.receive().unwrap().unwrap().1, one);
    // What the first queue has no room for goes by the second.
    bench.wire.0.borrow_mut().asleep = true;
    let sent = (0..).take_while(|_| bench.send(&one).is_ok()).count();
    assert_eq!(sent, 128);
    assert_eq!(bench.send(&one), Err(Error::Full));
    bench.wire.0.borrow_mut().asleep = false;
    assert_eq!(bench.sent().len(), 128);
    bench.works();
}

#[test]
fn room_is_found_by_who_only_asks_whether_there_is_any() {
    let mut bench = Bench::plain();
    for _ in 0..200 {
        assert!(bench.net.can_send());
        bench.send(&frame(1, 60)).unwrap();
        bench.world.turn();
    }
}

#[test]
fn multicast_addresses_are_joined_and_left() {
    let config = Config {
        multicast_control: true,
        ..Config::default()
    };
    let mut bench = Bench::new(config, &[("feature-multicast-control", "1")]);
    for round in 0..100 {
        let address = [1, 0, 0x5e, 0, 0, round];
        bench.net.join(address).unwrap();
        bench.net.leave(address).unwrap();
        let kinds: Vec<_> = bench.sent().iter().map(|sent| sent.extras[0].kind).collect();
        assert_eq!(kinds, [extra_kind::MULTICAST_ADD, extra_kind::MULTICAST_REMOVE]);
    }
    bench.works();
}

#[test]
fn frames_that_are_broken_or_too_large_are_passed_over() {
    let mut bench = Bench::plain();
    let page = bench.wire.next_page(0);
    let broken = ReceiveResponse {
        id: page.id,
        status: status::ERROR,
        ..ReceiveResponse::default()
    };
    bench.wire.answer(&bench.world, 0, &[broken]);
    bench.wire.give(&bench.world, 0, &[&frame(1, 2000)], 0, &[]);
    bench.wire.give(&bench.world, 0, &[&frame(2, 50)], 0, &[]);
    let mut small = [0; 1514];
    assert_eq!(bench.net.receive(&mut small).unwrap().unwrap().length, 50);
    assert_eq!(bench.net.dropped(), 2);
    bench.works();
}

#[test]
fn answers_twice_or_to_what_was_not_sent_reset_the_interface() {
    type Change = fn(&mut TransmitResponse) -> usize;
    let changes: [Change; 5] = [
        |_| 2,
        |response| {
            response.id = 63;
            1
        },
        |response| {
            response.id = u16::MAX;
            1
        },
        |response| {
            response.status = status::NULL;
            1
        },
        |response| {
            response.id ^= 1;
            2
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut bench = Bench::plain();
        let done = Cell::new(false);
        bench.wire.0.borrow_mut().mischief =
            Some(Box::new(
                move |response| {
                    if done.replace(true) { 1 } else { change(response) }
                },
            ));
        for _ in 0..3 {
            bench.send(&frame(index, 60)).unwrap();
        }
        bench.world.turn();
        bench.is_reset();
    }
}

#[test]
fn pieces_that_cannot_be_reset_the_interface() {
    let page = |bench: &Bench| bench.wire.next_page(0);
    let cases: [fn(&mut ReceiveResponse); 5] = [
        |response| response.id ^= 1,
        |response| response.id = u16::MAX,
        |response| response.offset = 4095,
        |response| response.offset = u16::MAX,
        |response| response.status = i16::MAX,
    ];
    for (index, change) in cases.into_iter().enumerate() {
        let mut bench = Bench::plain();
        let mut response = ReceiveResponse {
            id: page(&bench).id,
            status: 100,
            ..ReceiveResponse::default()
        };
        change(&mut response);
        bench.wire.answer(&bench.world, 0, &[response]);
        assert_eq!(bench.receive(), Err(Error::Disconnected), "{index}");
        bench.is_reset();
    }
}

#[test]
fn frames_without_end_reset_the_interface() {
    for flags in [receive_flag::MORE_DATA, receive_flag::EXTRA_INFO] {
        let mut bench = Bench::plain();
        let endless: Vec<ReceiveResponse> = (0..60)
            .map(|index| {
                let page = bench.wire.next_page(0);
                if index > 0 && flags == receive_flag::EXTRA_INFO {
                    // Extra information that says that there is more.
                    return ReceiveResponse {
                        id: 0x0101,
                        ..ReceiveResponse::default()
                    };
                }
                ReceiveResponse {
                    id: page.id,
                    flags,
                    status: 4000,
                    ..ReceiveResponse::default()
                }
            })
            .collect();
        bench.wire.answer(&bench.world, 0, &endless);
        assert_eq!(bench.receive(), Err(Error::Disconnected));
        bench.is_reset();
    }
}

#[test]
fn indices_that_jump_reset_the_interface() {
    for (name, jump) in [
        ("tx-ring-ref", 1),
        ("tx-ring-ref", u32::MAX),
        ("rx-ring-ref", 200),
        ("rx-ring-ref", 1 << 31),
    ] {
        let mut bench = Bench::plain();
        let producer = offset_of!(RingHeader, response_producer);
        bench.ring(name).store(producer, jump, Ordering::Relaxed);
        let _ = bench.receive();
        bench.is_reset();
    }
}

#[test]
fn an_interface_that_goes_away_says_so_and_comes_back() {
    let mut bench = Bench::plain();
    let before = (
        bench.world.pages_left(),
        bench.world.grants().len(),
        bench.world.open_ports(),
    );
    for state in [State::Closing, State::Closed, State::Initialising, State::Unknown] {
        bench.world.set(&format!("{BACK}/state"), state.text());
        bench.world.daemon.borrow_mut().serve();
        assert_eq!(bench.net.poll(&mut bench.store), Ok(Some(Change::Lost)));
        assert_eq!(bench.send(&frame(0, 60)), Err(Error::Disconnected));
        assert_eq!(bench.receive(), Err(Error::Disconnected));
        bench.wire.forget();
        bench.world.set(&format!("{BACK}/state"), State::Closed.text());
        bench.works();
    }
    let after = (
        bench.world.pages_left(),
        bench.world.grants().len(),
        bench.world.open_ports(),
    );
    assert_eq!(before, after);
    let deadline = bench.world.now() + SECOND;
    bench.net.close(&mut bench.store, deadline).unwrap();
    assert_eq!(
        (
            bench.world.pages_left(),
            bench.world.grants().len(),
            bench.world.open_ports()
        ),
        (2000, 0, 1)
    );
}

#[test]
fn an_old_backend_and_a_wrong_address_are_errors_that_say_so() {
    for (path, value, said) in [
        (
            format!("{BACK}/feature-rx-copy"),
            "0",
            "the backend does not offer feature-rx-copy",
        ),
        (
            format!("{FRONT}/mac"),
            "00:16",
            "`mac` in the store should be six bytes like 00:16:3e:00:00:01, and is `00:16`",
        ),
    ] {
        let world = World::new(2000);
        let _wire = Wire::plug(&world, &[]);
        world.set(&path, value);
        let mut store = world.store();
        let mut net = Net::open(world.clone(), &mut store, 0, Config::default()).unwrap();
        let error = net.wait_until_connected(&mut store, SECOND).unwrap_err();
        assert_eq!(error.to_string(), said);
    }
}
