//! A backend for a disk, honest but for what it is told to do wrong.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use hypercall_abi::event_channel::Port;
use hypercall_abi::io::block::{
    DiscardRequest, IndirectRequest, MAX_SEGMENTS, Request, Response, Segment, op, status,
};
use hypercall_abi::io::xenbus::State;
use zerocopy::{FromBytes, IntoBytes};

use super::{Pages, World};
use crate::ring::{BackRing, Memory};

/// The disk's number, and the two ends' places in the store.
pub const NUMBER: u32 = 51712;
/// The frontend's.
pub const FRONT: &str = "device/vbd/51712";
/// The backend's.
pub const BACK: &str = "/local/domain/0/backend/vbd/5/51712";
const SECTOR: usize = 512;

/// A queue as the frontend has announced it.
struct Queue {
    ring: BackRing<Request, Response, Pages>,
    port: Port,
}

/// What is done to an answer: changes it, or says how often it is sent.
pub type Mischief = dyn FnMut(&mut Response) -> usize;

/// The backend's own state.
pub struct Backend {
    /// What is on the disk.
    pub content: Vec<u8>,
    queues: Vec<Queue>,
    /// Requests that were taken, in their order.
    pub requests: Vec<Request>,
    /// Answers that are held back, to be sent in the other order.
    pub reverse: bool,
    /// Takes no requests.
    pub asleep: bool,
    /// Called for each answer.
    pub mischief: Option<std::boxed::Box<Mischief>>,
}

/// A disk's backend; clones are the same one.
#[derive(Clone)]
pub struct Disk(pub Rc<RefCell<Backend>>);

impl Disk {
    /// Writes what a toolstack and a backend write, and plays the backend. `offers` are nodes of the backend's beside those for a disk of
    /// so many sectors.
    pub fn plug(world: &World, sectors: usize, offers: &[(&str, &str)]) -> Disk {
        let disk = Disk(Rc::new(RefCell::new(Backend {
            content: std::vec![0; sectors * SECTOR],
            queues: Vec::new(),
            requests: Vec::new(),
            reverse: false,
            asleep: false,
            mischief: None,
        })));
        let nodes = [
            ("sectors", std::format!("{sectors}")),
            ("sector-size", "512".into()),
            ("info", "0".into()),
            ("feature-flush-cache", "1".into()),
            ("feature-discard", "1".into()),
        ];
        for (name, value) in &nodes {
            world.set(&std::format!("{BACK}/{name}"), value);
        }
        for (name, value) in offers {
            world.set(&std::format!("{BACK}/{name}"), value);
        }
        world.set(&std::format!("{FRONT}/backend"), BACK);
        world.set(&std::format!("{FRONT}/backend-id"), "0");
        world.set(&std::format!("{FRONT}/state"), State::Initialising.text());
        world.set(&std::format!("{BACK}/state"), State::InitialisationWait.text());
        let player = disk.clone();
        world.play(move |world| player.play(world));
        disk
    }

    /// One turn: follows the frontend's state, serves its requests.
    pub fn play(&self, world: &World) {
        let state = |path: &str| {
            let text = world.get(&std::format!("{path}/state"));
            State::parse(text.unwrap_or_default().as_bytes())
        };
        let tell = |state: State| world.set(&std::format!("{BACK}/state"), state.text());
        match (state(FRONT), state(BACK)) {
            (State::Initialised, State::InitialisationWait) => {
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
        self.serve(world);
    }

    fn number(world: &World, path: &str) -> Option<u32> {
        world.get(path)?.parse().ok()
    }

    fn connect(&self, world: &World) {
        let count = Self::number(world, &std::format!("{FRONT}/multi-queue-num-queues"));
        let order = Self::number(world, &std::format!("{FRONT}/ring-page-order"));
        let queue = |base: String| {
            let references: Vec<u32> = match order {
                None => Self::number(world, &std::format!("{base}/ring-ref"))
                    .into_iter()
                    .collect(),
                Some(order) => (0..1 << order)
                    .map_while(|index| Self::number(world, &std::format!("{base}/ring-ref{index}")))
                    .collect(),
            };
            let pages = references
                .iter()
                .filter_map(|reference| world.granted(*reference));
            Some(Queue {
                // None where somebody has scribbled in it already.
                ring: BackRing::attach(Pages::join(pages)).ok()?,
                port: Self::number(world, &std::format!("{base}/event-channel"))?,
            })
        };
        self.0.borrow_mut().queues = match count {
            None => queue(FRONT.into()).into_iter().collect(),
            Some(count) => (0..count.min(64))
                .filter_map(|index| queue(std::format!("{FRONT}/queue-{index}")))
                .collect(),
        };
    }

    fn serve(&self, world: &World) {
        let backend = &mut *self.0.borrow_mut();
        if backend.asleep {
            return;
        }
        let Backend {
            content,
            queues,
            requests,
            reverse,
            mischief,
            ..
        } = backend;
        // A ring that was made anew while this backend believed that it was connected is not served any more.
        queues.retain_mut(|queue| {
            let mut answers = Vec::new();
            loop {
                match queue.ring.pop() {
                    Ok(Some(request)) => {
                        requests.push(request);
                        answers.push(perform(world, content, &request));
                    }
                    Ok(None) => break,
                    Err(_) => return false,
                }
            }
            if *reverse {
                answers.reverse();
            }
            for mut answer in answers {
                let times = match mischief {
                    Some(mischief) => mischief(&mut answer),
                    None => 1,
                };
                for _ in 0..times {
                    // More answers than requests do not fit: that is another kind of mischief.
                    let _ = queue.ring.push(&answer);
                }
            }
            if queue.ring.publish() {
                world.event(queue.port);
            }
            queue.ring.announce().is_ok()
        });
    }
}

fn perform(world: &World, content: &mut [u8], request: &Request) -> Response {
    let (id, operation, status) = match request.operation {
        op::READ | op::WRITE => {
            let count = usize::from(request.number_of_segments);
            assert!((1..=MAX_SEGMENTS).contains(&count), "{count} segments");
            let segments = &request.segments[..count];
            transfer(world, content, request.operation, request.sector_number, segments);
            (request.id, request.operation, status::OKAY)
        }
        op::INDIRECT => {
            let (whole, _) = IndirectRequest::read_from_prefix(request.as_bytes()).expect("it is smaller");
            let list = world.granted(whole.indirect_grants[0]).expect("a granted page");
            let mut bytes = [0; 4096];
            list.copy_out(0, &mut bytes);
            let segments: Vec<Segment> = bytes
                .chunks_exact(size_of::<Segment>())
                .take(whole.number_of_segments.into())
                .map(|chunk| Segment::read_from_bytes(chunk).expect("of that size"))
                .collect();
            transfer(
                world,
                content,
                whole.indirect_operation,
                whole.sector_number,
                &segments,
            );
            (whole.id, whole.indirect_operation, status::OKAY)
        }
        op::DISCARD => {
            let (whole, _) = DiscardRequest::read_from_prefix(request.as_bytes()).expect("it is smaller");
            let start = whole.sector_number as usize * SECTOR;
            content[start..start + whole.number_of_sectors as usize * SECTOR].fill(0);
            (whole.id, op::DISCARD, status::OKAY)
        }
        op::FLUSH_DISKCACHE => (request.id, request.operation, status::OKAY),
        _ => (request.id, request.operation, status::NOT_SUPPORTED),
    };
    Response {
        id,
        operation,
        status,
        ..Response::default()
    }
}

fn transfer(world: &World, content: &mut [u8], operation: u8, sector: u64, segments: &[Segment]) {
    let mut place = sector as usize * SECTOR;
    for segment in segments {
        let page = world.granted(segment.grant).expect("a granted page");
        let (first, last) = (
            usize::from(segment.first_sector),
            usize::from(segment.last_sector),
        );
        assert!(first <= last && last < 8, "sectors {first} to {last} of a page");
        let length = (last + 1 - first) * SECTOR;
        let part = &mut content[place..place + length];
        match operation {
            op::READ => page.copy_in(first * SECTOR, part),
            _ => page.copy_out(first * SECTOR, part),
        }
        place += length;
    }
}
