//! A backend for a network interface, honest but for what it is told to do wrong.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use hypercall_abi::event_channel::Port;
use hypercall_abi::io::net::{
    ExtraInfo, ReceiveRequest, ReceiveResponse, TransmitRequest, TransmitResponse, receive_flag, status,
    transmit_flag,
};
use hypercall_abi::io::xenbus::State;
use zerocopy::{FromBytes, IntoBytes};

use super::{Pages, World};
use crate::ring::{BackRing, Memory};

/// The frontend's place in the store.
pub const FRONT: &str = "device/vif/0";
/// The backend's.
pub const BACK: &str = "/local/domain/0/backend/vif/5/0";

/// A frame as the frontend sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The flags of its first piece.
    pub flags: u16,
    /// Extra information behind that.
    pub extras: Vec<ExtraInfo>,
}

struct Queue {
    transmit: BackRing<TransmitRequest, TransmitResponse, Pages>,
    receive: BackRing<ReceiveRequest, ReceiveResponse, Pages>,
    ports: [Port; 2],
}

/// What is done to an answer: changes it, or says how often it is sent.
pub type Mischief = dyn FnMut(&mut TransmitResponse) -> usize;

/// The backend's own state.
pub struct Backend {
    queues: Vec<Queue>,
    /// Frames that were sent, in their order.
    pub sent: Vec<Sent>,
    /// Does not take what is sent.
    pub asleep: bool,
    /// Called for each answer to what was sent.
    pub mischief: Option<std::boxed::Box<Mischief>>,
}

/// An interface's backend; clones are the same one.
#[derive(Clone)]
pub struct Wire(pub Rc<RefCell<Backend>>);

impl Wire {
    /// Writes what a toolstack and a backend write, and plays the backend. `offers` are nodes of the backend's.
    pub fn plug(world: &World, offers: &[(&str, &str)]) -> Wire {
        let wire = Wire(Rc::new(RefCell::new(Backend {
            queues: Vec::new(),
            sent: Vec::new(),
            asleep: false,
            mischief: None,
        })));
        world.set(&std::format!("{BACK}/feature-rx-copy"), "1");
        world.set(&std::format!("{FRONT}/mac"), "00:16:3e:00:00:05");
        for (name, value) in offers {
            world.set(&std::format!("{BACK}/{name}"), value);
        }
        world.set(&std::format!("{FRONT}/backend"), BACK);
        world.set(&std::format!("{FRONT}/backend-id"), "0");
        world.set(&std::format!("{FRONT}/state"), State::Initialising.text());
        world.set(&std::format!("{BACK}/state"), State::InitialisationWait.text());
        let player = wire.clone();
        world.play(move |world| player.play(world));
        wire
    }

    /// Lets go of the rings, as a backend does that ends.
    pub fn forget(&self) {
        self.0.borrow_mut().queues.clear();
    }

    /// One turn: follows the frontend's state, takes what it sent.
    pub fn play(&self, world: &World) {
        let state = |path: &str| {
            let text = world.get(&std::format!("{path}/state"));
            State::parse(text.unwrap_or_default().as_bytes())
        };
        let tell = |state: State| world.set(&std::format!("{BACK}/state"), state.text());
        match (state(FRONT), state(BACK)) {
            (State::Connected, State::InitialisationWait) => {
                self.connect(world);
                tell(State::Connected);
            }
            (State::Closing | State::Closed, State::Connected | State::InitialisationWait) => {
                self.0.borrow_mut().queues.clear();
                tell(State::Closed);
            }
            (State::Initialising, State::Closed) => tell(State::InitialisationWait),
            _ => {}
        }
        self.take(world);
    }

    fn connect(&self, world: &World) {
        let number = |path: &str| -> Option<u32> { world.get(path)?.parse().ok() };
        let count = number(&std::format!("{FRONT}/multi-queue-num-queues"));
        let queue = |base: String| {
            let ring = |name: &str| world.granted(number(&std::format!("{base}/{name}"))?);
            let port = |name: &str| number(&std::format!("{base}/event-channel{name}"));
            Some(Queue {
                // None where somebody has scribbled in it already.
                transmit: BackRing::attach(ring("tx-ring-ref")?).ok()?,
                receive: BackRing::attach(ring("rx-ring-ref")?).ok()?,
                ports: match port("") {
                    Some(port) => [port; 2],
                    None => [port("-tx")?, port("-rx")?],
                },
            })
        };
        self.0.borrow_mut().queues = match count {
            None => queue(FRONT.into()).into_iter().collect(),
            Some(count) => (0..count.min(64))
                .filter_map(|index| queue(std::format!("{FRONT}/queue-{index}")))
                .collect(),
        };
    }

    /// How many pages the frontend has posted and that were not used yet, in one queue.
    pub fn posted(&self, queue: usize) -> usize {
        let mut backend = self.0.borrow_mut();
        let mut count = 0;
        while let Ok(Some(_)) = backend.queues[queue].receive.pop() {
            count += 1;
        }
        count
    }

    /// Gives the frontend a frame: its pieces, the flags of the first, and what is behind that.
    pub fn give(&self, world: &World, queue: usize, pieces: &[&[u8]], flags: u16, extras: &[ExtraInfo]) {
        let mut answers = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let request = self.next_page(queue);
            world
                .granted(request.grant)
                .expect("a granted page")
                .copy_in(16, piece);
            let mut own = if index == 0 { flags } else { 0 };
            if index + 1 < pieces.len() {
                own |= receive_flag::MORE_DATA;
            }
            if index == 0 && !extras.is_empty() {
                own |= receive_flag::EXTRA_INFO;
            }
            answers.push(ReceiveResponse {
                id: request.id,
                offset: 16,
                flags: own,
                status: piece.len() as i16,
            });
            for extra in extras.iter().filter(|_| index == 0) {
                // It takes a page's place, and has no number.
                self.next_page(queue);
                answers.push(ReceiveResponse::read_from_bytes(extra.as_bytes()).expect("of that size"));
            }
        }
        self.answer(world, queue, &answers);
    }

    /// The next page that the frontend has posted.
    pub fn next_page(&self, queue: usize) -> ReceiveRequest {
        let popped = self.0.borrow_mut().queues[queue].receive.pop();
        popped.expect("an honest frontend").expect("a page is posted")
    }

    /// Answers as they are, right or not.
    pub fn answer(&self, world: &World, queue: usize, answers: &[ReceiveResponse]) {
        let mut backend = self.0.borrow_mut();
        let queue = &mut backend.queues[queue];
        for answer in answers {
            queue.receive.push(answer).expect("as many as there were pages");
        }
        if queue.receive.publish() {
            world.event(queue.ports[1]);
        }
    }

    fn take(&self, world: &World) {
        let Backend {
            queues,
            sent,
            asleep,
            mischief,
        } = &mut *self.0.borrow_mut();
        if *asleep {
            return;
        }
        // A ring that was made anew while this backend believed that it was connected is not served any more.
        queues.retain_mut(|queue| {
            let mut answers = Vec::new();
            while let Ok(Some(first)) = queue.transmit.pop() {
                let mut frame = Sent {
                    flags: first.flags,
                    ..Sent::default()
                };
                answers.push(answer(first.id, status::OKAY));
                let mut more = first.flags & transmit_flag::EXTRA_INFO != 0;
                while more {
                    let slot = queue
                        .transmit
                        .pop()
                        .ok()
                        .flatten()
                        .expect("the extra that was promised");
                    let extra = ExtraInfo::read_from_bytes(&slot.as_bytes()[..8]).expect("of that size");
                    more = extra.flags & hypercall_abi::io::net::EXTRA_FLAG_MORE != 0;
                    frame.extras.push(extra);
                    answers.push(answer(0xffff, status::NULL));
                }
                let mut rest = Vec::new();
                let mut last = first;
                while last.flags & transmit_flag::MORE_DATA != 0 {
                    last = queue
                        .transmit
                        .pop()
                        .ok()
                        .flatten()
                        .expect("the piece that was promised");
                    answers.push(answer(last.id, status::OKAY));
                    rest.extend(read(world, &last, last.size));
                }
                let own = first.size - rest.len() as u16;
                if first.grant != 0 {
                    frame.bytes = read(world, &first, own);
                }
                frame.bytes.extend(rest);
                sent.push(frame);
            }
            for mut answer in answers {
                let times = match mischief {
                    Some(mischief) => mischief(&mut answer),
                    None => 1,
                };
                for _ in 0..times {
                    // More answers than requests do not fit.
                    let _ = queue.transmit.push(&answer);
                }
            }
            if queue.transmit.publish() {
                world.event(queue.ports[0]);
            }
            queue.transmit.announce().is_ok()
        });
    }
}

fn answer(id: u16, status: i16) -> TransmitResponse {
    TransmitResponse { id, status }
}

fn read(world: &World, request: &TransmitRequest, length: u16) -> Vec<u8> {
    let mut bytes = std::vec![0; length.into()];
    let page = world.granted(request.grant).expect("a granted page");
    page.copy_out(request.offset.into(), &mut bytes);
    bytes
}
