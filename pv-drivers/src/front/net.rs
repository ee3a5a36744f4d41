//! Network interfaces (`io/netif.h`): Ethernet frames to and from a backend.
//!
//! A frame that is sent is copied into pages of the driver's own and is gone; one that was received is copied out before it
//! is looked at. Pages are granted once.
//!
//! What is agreed with the backend is in [`Offer`]: frames in several pieces (`feature-sg`), checksums that the other end
//! leaves out because memory does not lose bits (`NETTXF_csum_blank`), TCP segments larger than a frame (`feature-gso-tcpv4`,
//! `feature-gso-tcpv6`), an event channel for each direction (`feature-split-event-channels`), several queues, and filters for
//! multicast addresses.

mod checksum;
mod connect;
#[cfg(feature = "smoltcp")]
pub mod phy;
mod queue;
mod receive;
mod transmit;

use hypercall_abi::event_channel::Port;
use hypercall_abi::io::net::extra_kind;
use hypercall_abi::io::xenbus::State;

use self::queue::Queue;
use super::store::Store;
use super::xenbus::{Link, Phase, Step};
use super::{Error, Platform};
pub use receive::Received;
pub use transmit::Frame;

/// Most queues.
pub const QUEUES: usize = 4;

/// Most bytes of a frame in several pieces.
pub const MOST: usize = 65_535;

/// An Ethernet address.
pub type Address = [u8; 6];

/// What an interface may take, and what it wants.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Queues, where the backend has several; at most [`QUEUES`]. Frames are received from all and sent by the first with room.
    pub queues: usize,
    /// Pages to receive into, for each queue; at most 256, and no more than 256 frames can wait.
    pub receive_pages: usize,
    /// Pages to send from, for each queue; at most 256.
    pub transmit_pages: usize,
    /// The backend may leave checksums out of what it gives us.
    pub checksum_offload: bool,
    /// The backend may give us TCP segments of up to [`MOST`] bytes, in one frame.
    pub large_receive: bool,
    /// The backend drops multicast frames to addresses that were not joined.
    pub multicast_control: bool,
}

impl Default for Config {
    /// One queue, 128 pages to receive into, 64 to send from, checksums left out, no large segments, all multicast.
    fn default() -> Config {
        Config {
            queues: 1,
            receive_pages: 128,
            transmit_pages: 64,
            checksum_offload: true,
            large_receive: false,
            multicast_control: false,
        }
    }
}

/// What the backend offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Our address, from the toolstack.
    pub address: Address,
    /// Most bytes of a frame behind its Ethernet header.
    pub mtu: usize,
    /// Frames in several pieces.
    pub scatter_gather: bool,
    /// Checksums of TCP and UDP over IPv4 may be left out.
    pub checksum_v4: bool,
    /// Checksums of TCP and UDP over IPv6 may be left out.
    pub checksum_v6: bool,
    /// TCP segments over IPv4 larger than a frame.
    pub segmentation_v4: bool,
    /// TCP segments over IPv6 larger than a frame.
    pub segmentation_v6: bool,
    /// [`Net::join`] works.
    pub multicast_control: bool,
    /// Each direction has an event channel of its own.
    pub split_event_channels: bool,
}

/// What [`Net::poll`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The interface works, for the first time or again: [`Net::offer`] says what it can do.
    Connected,
    /// It does not work any more; it may come back. Frames that were on their way are gone.
    Lost,
    /// It was removed, or broke the protocol again and again: it does not come back.
    Gone,
}

/// A network interface.
pub struct Net<P: Platform> {
    platform: P,
    config: Config,
    link: Link,
    queues: heapless::Vec<Queue<P>, QUEUES>,
    /// What was read when the rings were made.
    offered: Offer,
    connected: bool,
    /// The backend broke the protocol: until it was reset nothing goes on.
    broken: Option<Error>,
    lost_pages: usize,
    dropped: u64,
}

impl<P: Platform> Net<P> {
    /// Takes up the interface `device/vif/NUMBER`.
    ///
    /// # Errors
    /// [`Error::Store`] with `ENOENT` where there is none.
    pub fn open(platform: P, store: &mut Store<P>, number: u32, config: Config) -> Result<Net<P>, Error> {
        Ok(Net {
            link: Link::open(store, "vif", number)?,
            platform,
            config,
            queues: heapless::Vec::new(),
            offered: Offer::default(),
            connected: false,
            broken: None,
            lost_pages: 0,
            dropped: 0,
        })
    }

    /// What the interface can do, while it works.
    pub fn offer(&self) -> Option<&Offer> {
        self.connected.then_some(&self.offered)
    }

    /// Pages that a backend did not let go of, and that are lost for this kernel.
    pub fn lost_pages(&self) -> usize {
        self.lost_pages
    }

    /// Frames that were received and could not be given to anybody: marked as broken by the backend, or larger than the
    /// caller's buffer; and frames sent that the backend says it dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The ports to wait on.
    pub fn ports(&self) -> impl Iterator<Item = Port> {
        self.queues.iter().flat_map(Queue::ports)
    }

    /// Follows the backend's state. To be called now and then, and when the store has an event.
    ///
    /// # Errors
    /// The backend broke the protocol or does not say what it must: it is reset. The store does not answer.
    pub fn poll(&mut self, store: &mut Store<P>) -> Result<Option<Change>, Error> {
        self.take_answers();
        if let Some(error) = self.broken.take() {
            self.reset(store)?;
            return Err(error);
        }
        let step = self.link.look(store)?;
        match self.act(step, store) {
            Ok(change) => Ok(change),
            Err(error) => {
                // What came of it does not matter where the first error says why.
                let _ = self.reset(store);
                Err(error)
            }
        }
    }

    fn act(&mut self, step: Step, store: &mut Store<P>) -> Result<Option<Change>, Error> {
        match step {
            Step::Wait | Step::Refresh => Ok(None),
            Step::Announce => self.announce(store).map(|()| None),
            Step::Connect => {
                self.link.phase = Phase::Running;
                self.connected = true;
                Ok(Some(Change::Connected))
            }
            Step::Close => {
                self.reset(store)?;
                Ok(Some(Change::Lost))
            }
            Step::Restart => self.link.restart(store).map(|()| None),
            Step::Remove => {
                self.link.remove(store)?;
                self.let_go();
                Ok(Some(Change::Gone))
            }
        }
    }

    fn reset(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        self.let_go();
        self.link.closed(store)
    }

    fn let_go(&mut self) {
        self.connected = false;
        for queue in &mut self.queues {
            queue.stop(&self.platform);
        }
    }

    /// Polls until the interface works.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `deadline` (in nanoseconds of [`Platform::now`]), [`Error::Disconnected`] where it will never work.
    pub fn wait_until_connected(&mut self, store: &mut Store<P>, deadline: u64) -> Result<Offer, Error> {
        loop {
            self.poll(store)?;
            if self.connected {
                return Ok(self.offered);
            }
            if self.link.phase == Phase::Gone {
                return Err(Error::Disconnected);
            }
            if self.platform.now() >= deadline {
                return Err(Error::Timeout {
                    waiting_for: "the interface's backend",
                });
            }
            self.platform.wait(&[store.port()], deadline);
            self.platform.take_event(store.port());
        }
    }

    /// Lets go for good: tells the backend, waits until it has let go, too, and gives the pages back.
    ///
    /// # Errors
    /// [`Error::Timeout`]: it has not by `deadline`; pages that it holds are lost.
    pub fn close(mut self, store: &mut Store<P>, deadline: u64) -> Result<(), Error> {
        self.let_go();
        let told = self.link.tell(store, State::Closing);
        let told = told.and_then(|()| self.link.closed(store));
        let waited = told.and_then(|()| self.link.wait_until_let_go(store, &self.platform, deadline));
        let unwatched = self.link.remove(store);
        for queue in &mut self.queues {
            queue.end(&self.platform);
        }
        waited.and(unwatched)
    }

    /// Whether [`Net::send`] has room for a frame in one piece. Takes in answers first.
    pub fn can_send(&mut self) -> bool {
        self.take_answers();
        self.connected && self.queues.iter().any(|queue| queue.transmit.has_room(1))
    }

    /// Sends a frame. It is copied before this returns; whether it arrives nobody says.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Disconnected`]; [`Error::TooLong`] for one in more pieces than the backend takes;
    /// [`Error::Unsupported`] for what is not in the [`Offer`].
    pub fn send(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        self.take_answers();
        if !self.connected {
            return Err(Error::Disconnected);
        }
        let slots = frame.check(&self.offered)?;
        let queue = self
            .queues
            .iter_mut()
            .find(|queue| queue.transmit.has_room(slots));
        queue.ok_or(Error::Full)?.send(&self.platform, frame)
    }

    /// Receives a frame into `buffer`: `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Disconnected`]. What the backend must not do resets the interface at the next [`Net::poll`].
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, Error> {
        if !self.connected {
            return Err(Error::Disconnected);
        }
        for queue in &mut self.queues {
            match queue.receive(&self.platform, buffer, &mut self.dropped) {
                Ok(None) => {}
                Ok(Some(received)) => {
                    self.link.worked();
                    return Ok(Some(received));
                }
                Err(error) => {
                    self.broken.get_or_insert(error);
                    self.let_go();
                    return Err(Error::Disconnected);
                }
            }
        }
        Ok(None)
    }

    /// Asks for frames to a multicast address.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Full`], [`Error::Disconnected`].
    pub fn join(&mut self, address: Address) -> Result<(), Error> {
        self.multicast(extra_kind::MULTICAST_ADD, address)
    }

    /// Asks for them no more.
    ///
    /// # Errors
    /// As [`Net::join`].
    pub fn leave(&mut self, address: Address) -> Result<(), Error> {
        self.multicast(extra_kind::MULTICAST_REMOVE, address)
    }

    fn multicast(&mut self, kind: u8, address: Address) -> Result<(), Error> {
        self.take_answers();
        if !self.connected {
            return Err(Error::Disconnected);
        }
        if !self.offered.multicast_control {
            return Err(Error::Unsupported {
                what: "feature-multicast-control",
            });
        }
        let queue = self.queues.iter_mut().find(|queue| queue.transmit.has_room(2));
        queue.ok_or(Error::Full)?.filter(&self.platform, kind, address)
    }

    /// Takes in answers to what was sent.
    fn take_answers(&mut self) {
        for queue in &mut self.queues {
            if let Err(error) = queue.take_answers(&self.platform, &mut self.dropped) {
                self.broken.get_or_insert(error);
            }
        }
        if self.broken.is_some() && self.connected {
            self.let_go();
        }
    }
}
