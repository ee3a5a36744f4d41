//! A store without a hypervisor, and guests made of a page: shared by the store's targets.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use guest_page::GuestPage;
use pv_drivers::ring::{ByteConsumer, ByteProducer, Fault, STORE_REQUEST, STORE_RESPONSE};
use rustix::fd::BorrowedFd;
use xenstored::hypervisor::{DomainState, Event, Hypervisor, Port};
use xenstored::permission::{Caller, DomainId};
use xenstored::quota::Limits;
use xenstored::store::Store;
use xenstored::watch::ConnectionId;
use xenstored::wire::{HEADER_SIZE, Header, MessageType, encode};
use zerocopy::FromBytes;

/// The guest that does nothing wrong.
pub const BYSTANDER: u16 = 6;

/// Small, so that an input of some hundred bytes reaches each of them.
pub const LIMITS: Limits = Limits {
    nodes: 24,
    node_size: 256,
    watches: 6,
    transactions: 3,
    transaction_nodes: 16,
    transaction_bytes: 1024,
    permissions: 5,
    path_length: 64,
    outstanding: 4,
    event_bytes: 2048,
};

/// Domains as a target says they are.
#[derive(Default)]
pub struct FakeHypervisor {
    pages: BTreeMap<DomainId, GuestPage>,
    pub states: BTreeMap<DomainId, DomainState>,
}

impl Hypervisor for FakeHypervisor {
    fn map_ring(&mut self, domain: DomainId) -> io::Result<GuestPage> {
        self.pages
            .get(&domain)
            .cloned()
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn bind(&mut self, domain: DomainId, remote: Port) -> io::Result<Port> {
        Ok(Port(1000 * u32::from(domain.0) + remote.0 % 1000))
    }

    fn unbind(&mut self, _: Port) {}

    fn notify(&mut self, _: Port) {}

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
    toolstack: ConnectionId,
    now: Instant,
}

impl House {
    /// An empty store.
    pub fn new() -> Self {
        let mut store = Store::new(FakeHypervisor::default(), LIMITS);
        let toolstack = store.connect(Caller::CONTROL);
        House {
            store,
            toolstack,
            now: Instant::now(),
        }
    }

    /// Makes a domain known as a toolstack does: a home, a directory of its own, and the introduction.
    pub fn add_guest(&mut self, number: u16) -> Guest {
        let domain = DomainId(number);
        let page = GuestPage::plain();
        let hypervisor = self.store.hypervisor_mut();
        hypervisor.pages.insert(domain, page.clone());
        hypervisor.states.insert(domain, DomainState::Alive);
        for (path, permissions) in [("", format!("n0|r{number}|")), ("/data", format!("n{number}|"))] {
            let path = format!("/local/domain/{number}{path}|");
            self.ask(MessageType::MakeDirectory, &path);
            self.ask(MessageType::SetPermissions, &format!("{path}{permissions}"));
        }
        self.ask(MessageType::Introduce, &format!("{number}|1|7|"));
        Guest {
            domain,
            requests: ByteProducer::attach(STORE_REQUEST, page.clone()).expect("an empty page"),
            responses: ByteConsumer::attach(STORE_RESPONSE, page.clone()).expect("an empty page"),
            page,
            received: Vec::new(),
        }
    }

    /// The toolstack asks; `|` stands for NUL. The answer must not be an error.
    pub fn ask(&mut self, kind: MessageType, payload: &str) -> Vec<u8> {
        self.send_as(
            self.toolstack,
            &encode(kind, 77, 0, payload.replace('|', "\0").as_bytes()),
        );
        let mut received = self.take_as(self.toolstack);
        let answers: Vec<Message> = split(&mut received)
            .into_iter()
            .filter(|message| message.0.kind != MessageType::WatchEvent as u32)
            .collect();
        let [(header, answer)] = &answers[..] else {
            panic!("{} answers to {kind:?}", answers.len());
        };
        assert_eq!(header.kind, kind as u32, "{payload}: {}", answer.escape_ascii());
        answer.clone()
    }

    /// A tool in dom0 sends bytes, and the store serves it.
    pub fn send_as(&mut self, tool: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.store.connection_mut(tool) {
            connection.input.feed(bytes);
        }
        for _ in 0..100 {
            if !self.store.process(tool, self.now) {
                return;
            }
        }
        panic!("the store never finishes with a tool");
    }

    /// What waits for the tool.
    pub fn take_as(&mut self, tool: ConnectionId) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(connection) = self.store.connection_mut(tool) {
            while !connection.output.is_empty() {
                let length = connection.output.next().len();
                bytes.extend_from_slice(connection.output.next());
                connection.output.advance(length);
            }
        }
        bytes
    }

    /// Serves a guest until there is nothing more to do.
    pub fn serve(&mut self, domain: DomainId) {
        for _ in 0..10_000 {
            if !self.store.serve_domain(domain, self.now) {
                return;
            }
        }
        panic!("the store never finishes with domain {domain}");
    }

    /// Time passes: whoever was slowed down may go on.
    pub fn wait(&mut self) {
        self.now += Duration::from_millis(100);
    }

    /// The tree's own counts are right, and no guest has more than it may.
    pub fn check(&self, guests: &[u16]) {
        if let Err(error) = self.store.tree().check() {
            panic!("the store's books are wrong: {error}");
        }
        for &guest in guests {
            let owned = self.store.tree().owned_by(DomainId(guest));
            assert!(owned <= LIMITS.nodes, "domain {guest} owns {owned} nodes");
        }
    }
}

/// A guest's side of its page.
pub struct Guest {
    pub domain: DomainId,
    pub page: GuestPage,
    requests: ByteProducer<GuestPage>,
    responses: ByteConsumer<GuestPage>,
    received: Vec<u8>,
}

/// A header and its payload.
pub type Message = (Header, Vec<u8>);

impl Guest {
    /// Puts bytes into the ring, with the store serving as often as it takes; gives up where it does not take them.
    pub fn send(&mut self, house: &mut House, mut bytes: &[u8]) {
        for _ in 0..40 {
            let Ok(put) = self.requests.write(bytes) else {
                return;
            };
            bytes = &bytes[put..];
            house.serve(self.domain);
            if bytes.is_empty() {
                return;
            }
            if put == 0 {
                house.wait();
            }
        }
    }

    /// The whole messages that the store has for this guest.
    pub fn take(&mut self, house: &mut House) -> Result<Vec<Message>, Fault> {
        loop {
            house.serve(self.domain);
            let mut buffer = [0; 1024];
            let taken = self.responses.read(&mut buffer)?;
            self.received.extend_from_slice(&buffer[..taken]);
            if taken == 0 {
                return Ok(split(&mut self.received));
            }
        }
    }

    /// Asks and gets the one answer: for guests that keep to the protocol.
    pub fn ask(&mut self, house: &mut House, kind: MessageType, payload: &str) -> Message {
        self.send(house, &encode(kind, 5, 0, payload.replace('|', "\0").as_bytes()));
        let messages = self.take(house).expect("the store keeps to the protocol");
        let mut answers = messages
            .into_iter()
            .filter(|message| message.0.kind != MessageType::WatchEvent as u32);
        let answer = answers.next().expect("an answer");
        assert!(answers.next().is_none(), "one answer only");
        answer
    }
}

/// What the bystander keeps, and that nobody else may see.
pub struct Secret(String);

impl Secret {
    /// The bystander writes it down, and watches it.
    pub fn keep(house: &mut House, bystander: &mut Guest, number: u64) -> Self {
        let secret = Secret(format!("secret-{number:016x}"));
        bystander.ask(house, MessageType::Write, &format!("data/kept|{}", secret.0));
        let watched = bystander.ask(house, MessageType::Watch, "data/kept|mine|");
        assert_eq!(watched.1, b"OK\0");
        secret
    }

    /// These bytes went to somebody else.
    pub fn is_not_in(&self, bytes: &[u8]) {
        let found = bytes
            .windows(self.0.len())
            .any(|window| window == self.0.as_bytes());
        assert!(!found, "a guest's value was shown to another");
    }

    /// It is still what it was, and the bystander is served.
    pub fn is_kept(&self, house: &mut House, bystander: &mut Guest) {
        let (header, value) = bystander.ask(house, MessageType::Read, "data/kept|");
        assert_eq!(header.kind, MessageType::Read as u32, "{}", value.escape_ascii());
        assert_eq!(value, self.0.as_bytes(), "a guest's value was changed by another");
        let events = bystander.take(house).expect("the store keeps to the protocol");
        assert!(events.is_empty(), "told of what did not happen");
    }
}

/// Takes the complete messages off the front.
pub fn split(bytes: &mut Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(head) = bytes.first_chunk::<HEADER_SIZE>() {
        let header = Header::read_from_bytes(head).expect("as many bytes as a header has");
        assert!(
            MessageType::from_number(header.kind).is_some() && header.length <= 4096,
            "{header:?}"
        );
        let end = HEADER_SIZE + header.length as usize;
        if bytes.len() < end {
            break;
        }
        messages.push((header, bytes[HEADER_SIZE..end].to_vec()));
        bytes.drain(..end);
    }
    messages
}
