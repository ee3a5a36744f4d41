//! A store without a hypervisor, and guests made of a page and a pair of indices.
#![allow(dead_code)]

use guest_page::GuestPage;
use hypercall_abi::io::xenstore::DomainInterface;
use pv_drivers::ring::{ByteConsumer, ByteProducer, STORE_REQUEST, STORE_RESPONSE};
use rustix::fd::BorrowedFd;
use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::time::{Duration, Instant};
use xenstored::hypervisor::{DomainState, Event, Hypervisor, Port};
use xenstored::permission::{Caller, DomainId};
use xenstored::quota::Limits;
use xenstored::store::Store;
use xenstored::watch::ConnectionId;
use xenstored::wire::{HEADER_SIZE, Header, Message, MessageType, encode};
use zerocopy::FromBytes;

pub const REQUEST_CONSUMER: usize = offset_of!(DomainInterface, request_consumer);
pub const REQUEST_PRODUCER: usize = offset_of!(DomainInterface, request_producer);
pub const RESPONSE_CONSUMER: usize = offset_of!(DomainInterface, response_consumer);
pub const ERROR: usize = offset_of!(DomainInterface, error);

/// Domains as the test says they are.
#[derive(Default)]
pub struct FakeHypervisor {
    pub pages: BTreeMap<DomainId, GuestPage>,
    pub states: BTreeMap<DomainId, DomainState>,
    pub bound: Vec<Port>,
    pub notified: Vec<Port>,
}

impl Hypervisor for FakeHypervisor {
    fn map_ring(&mut self, domain: DomainId) -> io::Result<GuestPage> {
        self.pages
            .get(&domain)
            .cloned()
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn bind(&mut self, domain: DomainId, remote: Port) -> io::Result<Port> {
        let port = Port(1000 * u32::from(domain.0) + remote.0);
        self.bound.push(port);
        Ok(port)
    }

    fn unbind(&mut self, port: Port) {
        self.bound.retain(|bound| *bound != port);
    }

    fn notify(&mut self, port: Port) {
        self.notified.push(port);
    }

    fn state(&mut self, domain: DomainId) -> io::Result<DomainState> {
        Ok(self.states.get(&domain).copied().unwrap_or(DomainState::Absent))
    }

    fn event_source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next_event(&mut self) -> io::Result<Option<Event>> {
        Ok(None)
    }
}

/// A store, its clock, and the toolstack's connection.
pub struct House {
    pub store: Store<FakeHypervisor>,
    pub now: Instant,
    pub toolstack: ConnectionId,
}

/// An answer's payload as text with `|` for NUL, or the error's name.
pub type Answer = Result<String, String>;

impl House {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        let mut store = Store::new(FakeHypervisor::default(), limits);
        let toolstack = store.connect(Caller::CONTROL);
        House {
            store,
            now: Instant::now(),
            toolstack,
        }
    }

    /// Creates a domain, gives it a home as libxl does, and introduces it.
    pub fn add_guest(&mut self, number: u16) -> Guest {
        let domain = DomainId(number);
        let page = GuestPage::plain();
        self.store.hypervisor_mut().pages.insert(domain, page.clone());
        self.store
            .hypervisor_mut()
            .states
            .insert(domain, DomainState::Alive);
        for (path, permissions) in [("", format!("n0|r{number}|")), ("/data", format!("n{number}|"))] {
            let path = format!("/local/domain/{number}{path}|");
            self.ask(MessageType::MakeDirectory, 0, &path).unwrap();
            self.ask(MessageType::SetPermissions, 0, &format!("{path}{permissions}"))
                .unwrap();
        }
        self.ask(MessageType::Introduce, 0, &format!("{number}|1|7|"))
            .unwrap();
        Guest {
            domain,
            requests: ByteProducer::attach(STORE_REQUEST, page.clone()).unwrap(),
            responses: ByteConsumer::attach(STORE_RESPONSE, page.clone()).unwrap(),
            page,
            received: Vec::new(),
        }
    }

    /// The toolstack asks and gets its answer; `|` stands for NUL.
    pub fn ask(&mut self, kind: MessageType, transaction: u32, payload: &str) -> Answer {
        self.ask_as(self.toolstack, kind, transaction, payload)
    }

    pub fn ask_as(&mut self, id: ConnectionId, kind: MessageType, transaction: u32, payload: &str) -> Answer {
        let bytes = encode(kind, 77, transaction, &payload.replace('|', "\0").into_bytes());
        self.store.connection_mut(id).unwrap().input.feed(&bytes);
        assert!(self.store.process(id, self.now));
        let (mut answers, mut kept) = (Vec::new(), Vec::new());
        for message in self.drain(id) {
            if message.header.kind == MessageType::WatchEvent as u32 {
                kept.push(text(&message.payload));
            } else {
                assert_eq!(message.header.request_id, 77);
                answers.push(message);
            }
        }
        EVENTS.with_borrow_mut(|events| events.entry(id).or_default().extend(kept));
        assert_eq!(answers.len(), 1);
        answer(&answers[0])
    }

    /// The events that a client got so far, as `path|token|`.
    pub fn events(&mut self, id: ConnectionId) -> Vec<String> {
        let fresh: Vec<String> = self
            .drain(id)
            .iter()
            .map(|message| text(&message.payload))
            .collect();
        let mut events = EVENTS.with_borrow_mut(|events| events.remove(&id).unwrap_or_default());
        events.extend(fresh);
        events
    }

    fn drain(&mut self, id: ConnectionId) -> Vec<Message> {
        let Some(connection) = self.store.connection_mut(id) else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        while !connection.output.is_empty() {
            let length = connection.output.next().len();
            bytes.extend_from_slice(connection.output.next());
            connection.output.advance(length);
        }
        split(&mut bytes)
    }

    /// Serves a guest until there is nothing more to do.
    pub fn serve(&mut self, guest: &Guest) {
        for _ in 0..10_000 {
            if !self.store.serve_domain(guest.domain, self.now) {
                return;
            }
        }
        panic!("the store never finishes with domain {}", guest.domain);
    }

    pub fn wait(&mut self, duration: Duration) {
        self.now += duration;
    }
}

thread_local! {
    static EVENTS: std::cell::RefCell<BTreeMap<ConnectionId, Vec<String>>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

/// A guest's side of its ring.
pub struct Guest {
    pub domain: DomainId,
    pub page: GuestPage,
    pub requests: ByteProducer<GuestPage>,
    pub responses: ByteConsumer<GuestPage>,
    received: Vec<u8>,
}

impl Guest {
    /// Sends a request, lets the store serve, and takes the answer; events are dropped.
    pub fn ask(&mut self, house: &mut House, kind: MessageType, transaction: u32, payload: &str) -> Answer {
        let bytes = encode(kind, 5, transaction, &payload.replace('|', "\0").into_bytes());
        self.send(house, &bytes);
        let messages = self.take(house);
        let answers: Vec<&Message> = messages
            .iter()
            .filter(|message| message.header.kind != MessageType::WatchEvent as u32)
            .collect();
        assert_eq!(answers.len(), 1, "answers to {kind:?} {payload:?}");
        answer(answers[0])
    }

    /// Puts bytes into the ring, with the store serving as often as it takes.
    pub fn send(&mut self, house: &mut House, mut bytes: &[u8]) {
        for _ in 0..1000 {
            let Ok(put) = self.requests.write(bytes) else {
                return;
            };
            bytes = &bytes[put..];
            if bytes.is_empty() {
                return;
            }
            house.serve(self);
            if put == 0 {
                house.wait(Duration::from_millis(100));
            }
        }
    }

    /// Everything that the store has for this guest.
    pub fn take(&mut self, house: &mut House) -> Vec<Message> {
        loop {
            house.serve(self);
            let mut buffer = [0; 1024];
            let taken = self.responses.read(&mut buffer).unwrap();
            self.received.extend_from_slice(&buffer[..taken]);
            if taken == 0 {
                return split(&mut self.received);
            }
        }
    }

    /// The events among what the store has for this guest.
    pub fn events(&mut self, house: &mut House) -> Vec<String> {
        let is_event = |message: &Message| message.header.kind == MessageType::WatchEvent as u32;
        self.take(house)
            .iter()
            .filter(|message| is_event(message))
            .map(|message| text(&message.payload))
            .collect()
    }

    /// What the store says about the connection in the page.
    pub fn error(&self) -> u32 {
        self.page.get(ERROR)
    }
}

pub fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).replace('\0', "|")
}

fn answer(message: &Message) -> Answer {
    let payload = text(&message.payload);
    if message.header.kind == MessageType::Error as u32 {
        Err(payload.trim_end_matches('|').to_owned())
    } else {
        Ok(payload)
    }
}

/// Takes the complete messages off the front.
pub fn split(bytes: &mut Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(head) = bytes.first_chunk::<HEADER_SIZE>() {
        let header = Header::read_from_bytes(head).unwrap();
        let end = HEADER_SIZE + header.length as usize;
        if bytes.len() < end {
            break;
        }
        messages.push(Message {
            header,
            payload: bytes[HEADER_SIZE..end].to_vec(),
        });
        bytes.drain(..end);
    }
    messages
}
