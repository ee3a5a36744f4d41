//! How the two ends of a device find each other, part, and meet again (`io/xenbus.h`).
//!
//! Each end writes its state to the store and watches the other's. What to do is decided by [`next`], a table of what we have
//! done so far and what the other end says, and nothing else: whichever way its state jumps, there is an answer.

use hypercall_abi::DomainId;
pub use hypercall_abi::io::xenbus::State;

use super::store::{Path, Store, Token, path};
use super::{Error, Platform, Text};

/// How far a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a backend that waits for it.
    Waiting,
    /// Rings and ports are in the store.
    Announced,
    /// It works.
    Running,
    /// It has let go of everything, and waits for the backend to do the same.
    Closing,
    /// The backend was removed, or broke the protocol too often.
    Gone,
}

/// What a frontend is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Make rings and ports and write them to the store.
    Announce,
    /// Read what the backend offers, and begin to work.
    Connect,
    /// Look whether what the backend offers has changed.
    Refresh,
    /// Fail what is in flight and let go.
    Close,
    /// Say that it is there anew.
    Restart,
    /// Give up.
    Remove,
}

/// What to do, by how far we are and what the backend's state says.
pub fn next(phase: Phase, theirs: State) -> Step {
    match (phase, theirs) {
        (Phase::Gone, _) => Step::Wait,
        (Phase::Waiting, State::InitialisationWait) => Step::Announce,
        // Still connected to somebody before us: to a kernel that was replaced without an end.
        (Phase::Waiting, State::Connected | State::Closing) => Step::Close,
        (Phase::Waiting, _) => Step::Wait,
        (Phase::Announced, State::Connected) => Step::Connect,
        (Phase::Announced, State::InitialisationWait | State::Initialised) => Step::Wait,
        (Phase::Announced, _) => Step::Close,
        (Phase::Running, State::Connected) => Step::Refresh,
        (Phase::Running, State::Reconfiguring | State::Reconfigured) => Step::Wait,
        (Phase::Running, _) => Step::Close,
        (Phase::Closing, State::Closed | State::InitialisationWait) => Step::Restart,
        (Phase::Closing, State::Unknown) => Step::Remove,
        (Phase::Closing, _) => Step::Wait,
    }
}

/// How often a device is reset in a row, without having worked in between, before it is given up.
pub const RESETS: u32 = 8;

/// A frontend's place in the store.
pub struct Link {
    /// `device/KIND/NUMBER`, relative to this domain's home.
    pub front: Path,
    /// The backend's path, absolute.
    pub back: Path,
    /// The backend's domain.
    pub peer: DomainId,
    /// How far we are.
    pub phase: Phase,
    watch: Token,
    /// The watch's path.
    state: Path,
    /// Closed in a row without having worked.
    resets: u32,
    /// The last step was not taken because of the store: look again although no watch fires.
    again: bool,
}

impl Link {
    /// Finds the backend of `device/KIND/NUMBER` and begins to watch it.
    ///
    /// # Errors
    /// [`Error::Store`] with `ENOENT` where there is no such device; [`Error::Malformed`] where its entries are none.
    pub fn open<P: Platform>(store: &mut Store<P>, kind: &str, number: u32) -> Result<Link, Error> {
        let front = path(format_args!("device/{kind}/{number}"))?;
        let (back, peer) = Self::backend(store, &front)?;
        let ours = State::parse(store.read(None, &path(format_args!("{front}/state"))?)?);
        let state = path(format_args!("{back}/state"))?;
        let watch = store.watch(&state)?;
        let mut link = Link {
            front,
            back,
            peer,
            phase: Phase::Waiting,
            watch,
            state,
            resets: 0,
            again: true,
        };
        if ours != State::Initialising {
            // What was here before us did not clean up: the backend is to let go of it first.
            link.tell(store, State::Closed)?;
            link.phase = Phase::Closing;
        }
        Ok(link)
    }

    fn backend<P: Platform>(store: &mut Store<P>, front: &Path) -> Result<(Path, DomainId), Error> {
        let node = path(format_args!("{front}/backend"))?;
        let text = store.read(None, &node)?;
        let shown = core::str::from_utf8(text)
            .ok()
            .map(|text| text.trim_end_matches('\0'))
            .filter(|text| text.starts_with('/'));
        let Some(shown) = shown else {
            return Err(Error::Malformed {
                node: Text::name_of(&node),
                expected: "an absolute path",
                found: Text::of(text),
            });
        };
        let back = path(format_args!("{shown}"))?;
        let node = path(format_args!("{front}/backend-id"))?;
        let number = store.read_number(&node)?.unwrap_or(0);
        let peer = u16::try_from(number).map(DomainId).ok();
        let Some(peer) = peer.filter(|peer| !peer.is_reserved()) else {
            let mut digits = heapless::String::<20>::new();
            let _ = core::fmt::Write::write_fmt(&mut digits, format_args!("{number}"));
            return Err(Error::Malformed {
                node: Text::name_of(&node),
                expected: "a domain's number",
                found: Text::of(digits.as_bytes()),
            });
        };
        Ok((back, peer))
    }

    /// What is to be done now. Cheap while nothing has changed.
    ///
    /// # Errors
    /// What the store says.
    pub fn look<P: Platform>(&mut self, store: &mut Store<P>) -> Result<Step, Error> {
        if !store.has_fired(self.watch)? && !self.again {
            return Ok(Step::Wait);
        }
        self.again = true;
        let theirs = match store.read(None, &self.state) {
            Ok(text) => State::parse(text),
            Err(Error::Store { .. }) => State::Unknown,
            Err(error) => return Err(error),
        };
        self.again = false;
        Ok(next(self.phase, theirs))
    }

    /// Looks again next time, whatever watches say: a step could not be finished.
    fn look_again(&mut self) {
        self.again = true;
    }

    /// Writes our state.
    ///
    /// # Errors
    /// What the store says.
    pub fn tell<P: Platform>(&self, store: &mut Store<P>, state: State) -> Result<(), Error> {
        let node = path(format_args!("{}/state", self.front))?;
        store.write(None, &node, state.text().as_bytes())
    }

    /// We work.
    ///
    /// # Errors
    /// What the store says.
    pub fn connected<P: Platform>(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        self.tell(store, State::Connected)?;
        self.phase = Phase::Running;
        Ok(())
    }

    /// The device did something of use: it may break again as often as [`RESETS`] allows.
    pub fn worked(&mut self) {
        self.resets = 0;
    }

    /// We let go. After [`RESETS`] in a row it is for good.
    ///
    /// # Errors
    /// What the store says; the phase has changed all the same.
    pub fn closed<P: Platform>(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        self.resets += 1;
        self.phase = if self.resets > RESETS {
            Phase::Gone
        } else {
            Phase::Closing
        };
        self.again = true;
        self.tell(store, State::Closed)
    }

    /// We are there anew.
    ///
    /// # Errors
    /// What the store says.
    pub fn restart<P: Platform>(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        self.tell(store, State::Initialising)?;
        self.phase = Phase::Waiting;
        self.again = true;
        Ok(())
    }

    /// Waits until the backend has let go, too.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `deadline`; what the store says.
    pub fn wait_until_let_go<P: Platform>(
        &mut self,
        store: &mut Store<P>,
        platform: &P,
        deadline: u64,
    ) -> Result<(), Error> {
        loop {
            self.look_again();
            if matches!(self.look(store)?, Step::Restart | Step::Remove) {
                return Ok(());
            }
            if platform.now() >= deadline {
                return Err(Error::Timeout {
                    waiting_for: "the backend to let go",
                });
            }
            platform.wait(&[store.port()], deadline);
            platform.take_event(store.port());
        }
    }

    /// Ends for good: the watch, too.
    ///
    /// # Errors
    /// What the store says.
    pub fn remove<P: Platform>(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        self.phase = Phase::Gone;
        let state = self.state.clone();
        store.unwatch(&state, self.watch)
    }

    /// A number among what the backend says of itself; zero where it says nothing.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is no number; what the store says.
    pub fn offer<P: Platform>(&self, store: &mut Store<P>, node: &str) -> Result<u64, Error> {
        let node = path(format_args!("{}/{node}", self.back))?;
        Ok(store.read_number(&node)?.unwrap_or(0))
    }

    /// The same for what it must say.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is missing, too.
    pub fn demand<P: Platform>(&self, store: &mut Store<P>, node: &str) -> Result<u64, Error> {
        let node = path(format_args!("{}/{node}", self.back))?;
        store.read_number(&node)?.ok_or(Error::Malformed {
            node: Text::name_of(&node),
            expected: "a decimal number",
            found: Text::of(b"nothing"),
        })
    }
}
