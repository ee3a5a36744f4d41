//! A world for frontends on the host: pages, grants and ports in ordinary memory, a clock that moves when somebody waits, a
//! store, and backends. Everything happens in one thread and in the same order each time.
//!
//! Who plays the other end reads and writes the pages that it was granted and whatever it likes in the store: an honest
//! [`Disk`](disk::Disk) is there, with a place for mischief.

extern crate std;

pub mod daemon;
pub mod disk;
pub mod wire;

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use core::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::Port;
use hypercall_abi::grant_table::GrantReference;

use crate::front::store::Store;
use crate::front::{Access, Error, Platform};
use crate::ring::Memory;
use daemon::Daemon;

const WORDS: usize = 1024;
const PAGE: usize = 4096;
/// The port of the store's ring.
pub const STORE_PORT: Port = 1;
/// Nanoseconds that pass when somebody waits: ten milliseconds.
pub const TICK: u64 = 10_000_000;

/// A page, and the frame that it has: zero where nobody can grant it.
struct Frame {
    number: Cell<u64>,
    words: [Cell<u32>; WORDS],
}

type Page = Rc<Frame>;

/// Pages that both ends see.
#[derive(Clone)]
pub struct Pages(Vec<Page>);

impl Pages {
    fn new(count: usize) -> Pages {
        let page = |_| Frame {
            number: Cell::new(0),
            words: [const { Cell::new(0) }; WORDS],
        };
        Pages((0..count).map(page).map(Rc::new).collect())
    }

    fn word(&self, offset: usize) -> Option<&Cell<u32>> {
        self.0.get(offset / PAGE)?.words.get(offset % PAGE / 4)
    }

    /// The pages of several, in a row.
    pub fn join(parts: impl IntoIterator<Item = Pages>) -> Pages {
        Pages(parts.into_iter().flat_map(|part| part.0).collect())
    }
}

impl Memory for Pages {
    fn length(&self) -> usize {
        self.0.len() * PAGE
    }

    fn load(&self, offset: usize, _: Ordering) -> u32 {
        assert!(offset.is_multiple_of(4), "an unaligned word at {offset}");
        self.word(offset).expect("inside of the pages").get()
    }

    fn store(&self, offset: usize, value: u32, _: Ordering) {
        assert!(offset.is_multiple_of(4), "an unaligned word at {offset}");
        self.word(offset).expect("inside of the pages").set(value);
    }

    fn load_byte(&self, offset: usize) -> u8 {
        let word = self.word(offset).expect("inside of the pages").get();
        word.to_le_bytes()[offset % 4]
    }

    fn store_byte(&self, offset: usize, value: u8) {
        let word = self.word(offset).expect("inside of the pages");
        let mut bytes = word.get().to_le_bytes();
        bytes[offset % 4] = value;
        word.set(u32::from_le_bytes(bytes));
    }
}

struct Grant {
    frame: u64,
    /// The other end has it mapped: it cannot be revoked.
    mapped: bool,
}

#[derive(Default)]
struct State {
    frames: BTreeMap<u64, Page>,
    next_frame: u64,
    /// Pages that may still be taken.
    left: usize,
    grants: BTreeMap<GrantReference, Grant>,
    next_grant: GrantReference,
    /// Open ports, and whether each has an event for the frontend.
    ports: BTreeMap<Port, bool>,
    next_port: Port,
    /// How often the frontend has notified.
    notified: u64,
    now: u64,
    tick: u64,
}

/// What plays the other ends while the frontend waits.
type Script = Box<dyn FnMut(&World)>;

/// The world, as a frontend's platform.
#[derive(Clone)]
pub struct World {
    state: Rc<RefCell<State>>,
    store_page: &'static Pages,
    /// The store's daemon.
    pub daemon: Rc<RefCell<Daemon>>,
    script: Rc<RefCell<Option<Script>>>,
}

impl World {
    /// An empty world with so many pages for the frontend.
    pub fn new(pages: usize) -> World {
        let state = State {
            left: pages,
            next_frame: 0x100,
            next_grant: 8,
            next_port: 8,
            tick: TICK,
            ports: BTreeMap::from([(STORE_PORT, false)]),
            ..State::default()
        };
        // As long as the program: stores are attached to it.
        let store_page: &'static Pages = Box::leak(Box::new(Pages::new(1)));
        World {
            state: Rc::new(RefCell::new(state)),
            daemon: Rc::new(RefCell::new(Daemon::new(store_page.clone()))),
            store_page,
            script: Rc::new(RefCell::new(None)),
        }
    }

    /// Who plays the other ends: called whenever the frontend waits, after the store's daemon.
    pub fn play(&self, script: impl FnMut(&World) + 'static) {
        *self.script.borrow_mut() = Some(Box::new(script));
    }

    /// A client of the store.
    pub fn store(&self) -> Store<World> {
        Store::attach(self.clone(), self.store_page, STORE_PORT).expect("an empty ring")
    }

    /// The store's page.
    pub fn store_page(&self) -> &'static Pages {
        self.store_page
    }

    /// Sets a node, as the toolstack or a backend does.
    pub fn set(&self, path: &str, value: &str) {
        self.daemon.borrow_mut().set(path, value.as_bytes());
        self.event(STORE_PORT);
    }

    /// Removes a node and all below.
    pub fn unset(&self, path: &str) {
        self.daemon.borrow_mut().unset(path);
        self.event(STORE_PORT);
    }

    /// A node's value.
    pub fn get(&self, path: &str) -> Option<String> {
        let daemon = self.daemon.borrow();
        let value = daemon.get(path)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The page that a grant is for.
    pub fn granted(&self, reference: GrantReference) -> Option<Pages> {
        let state = self.state.borrow();
        let frame = state.grants.get(&reference)?.frame;
        state
            .frames
            .get(&frame)
            .map(|page| Pages(std::vec![page.clone()]))
    }

    /// Keeps a grant from being revoked, or lets it.
    pub fn hold(&self, reference: GrantReference, mapped: bool) {
        if let Some(grant) = self.state.borrow_mut().grants.get_mut(&reference) {
            grant.mapped = mapped;
        }
    }

    /// All grants there are.
    pub fn grants(&self) -> Vec<GrantReference> {
        self.state.borrow().grants.keys().copied().collect()
    }

    /// Sends the frontend an event.
    pub fn event(&self, port: Port) {
        if let Some(pending) = self.state.borrow_mut().ports.get_mut(&port) {
            *pending = true;
        }
    }

    /// How many ports are open, the store's among them.
    pub fn open_ports(&self) -> usize {
        self.state.borrow().ports.len()
    }

    /// How many pages are left to take.
    pub fn pages_left(&self) -> usize {
        self.state.borrow().left
    }

    /// How often the frontend has notified somebody.
    pub fn notified(&self) -> u64 {
        self.state.borrow().notified
    }

    /// From now on so many nanoseconds pass when somebody waits: to have done with time limits.
    pub fn set_tick(&self, nanoseconds: u64) {
        self.state.borrow_mut().tick = nanoseconds;
    }

    /// Lets the other ends do something.
    pub fn turn(&self) {
        {
            let state = &mut *self.state.borrow_mut();
            state.now += state.tick;
        }
        self.others_turn();
    }

    fn others_turn(&self) {
        self.daemon.borrow_mut().serve();
        self.event(STORE_PORT);
        // Taken out: the script may call the frontend's platform.
        let script = self.script.borrow_mut().take();
        if let Some(mut script) = script {
            script(self);
            self.script.borrow_mut().get_or_insert(script);
        }
        self.daemon.borrow_mut().serve();
    }
}

impl Platform for World {
    type Pages = Pages;

    fn allocate(&self, count: usize) -> Result<Pages, Error> {
        let mut state = self.state.borrow_mut();
        if count > state.left {
            return Err(Error::OutOfPages { wanted: count });
        }
        state.left -= count;
        let pages = Pages::new(count);
        for page in &pages.0 {
            let frame = state.next_frame;
            state.next_frame += 1;
            page.number.set(frame);
            state.frames.insert(frame, page.clone());
        }
        Ok(pages)
    }

    fn release(&self, pages: Pages) {
        let mut state = self.state.borrow_mut();
        state.left += pages.0.len();
        for page in &pages.0 {
            let frame = page.number.get();
            let granted = state.grants.values().any(|grant| grant.frame == frame);
            assert!(!granted, "a page is given back while there is a grant to it");
            assert!(
                state.frames.remove(&frame).is_some(),
                "a page is given back twice"
            );
        }
    }

    fn frame(&self, pages: &Pages, index: usize) -> u64 {
        pages.0[index].number.get()
    }

    fn grant(&self, _: DomainId, frame: u64, _: Access) -> Result<GrantReference, Error> {
        let mut state = self.state.borrow_mut();
        let reference = state.next_grant;
        state.next_grant += 1;
        state.grants.insert(reference, Grant { frame, mapped: false });
        Ok(reference)
    }

    fn revoke(&self, reference: GrantReference) -> bool {
        let mut state = self.state.borrow_mut();
        match state.grants.get(&reference) {
            Some(grant) if grant.mapped => false,
            Some(_) => state.grants.remove(&reference).is_some(),
            None => panic!("a grant that there is not is revoked"),
        }
    }

    fn open_port(&self, _: DomainId) -> Result<Port, Error> {
        let mut state = self.state.borrow_mut();
        let port = state.next_port;
        state.next_port += 1;
        state.ports.insert(port, false);
        Ok(port)
    }

    fn close_port(&self, port: Port) {
        let closed = self.state.borrow_mut().ports.remove(&port);
        assert!(closed.is_some(), "a port that is not open is closed");
    }

    fn notify(&self, port: Port) {
        self.state.borrow_mut().notified += 1;
        if port == STORE_PORT {
            self.daemon.borrow_mut().serve();
        }
    }

    fn take_event(&self, port: Port) -> bool {
        match self.state.borrow_mut().ports.get_mut(&port) {
            Some(pending) => core::mem::take(pending),
            None => false,
        }
    }

    fn now(&self) -> u64 {
        self.state.borrow().now
    }

    fn wait(&self, _: &[Port], _: u64) {
        self.turn();
    }
}
