//! Disks (`io/blkif.h`): requests of 512-byte sectors to a backend.
//!
//! A request takes pages of the driver's own, which are granted once (`feature-persistent`), and a place in one of the rings;
//! its [`Ticket`] is asked for with [`Block::finish`]. Reads and writes are as large as the backend allows ([`Geometry::most`]): with
//! indirect segments 256 KiB, else 44 KiB. [`Block::read`] and [`Block::write`] split, wait and copy.
//!
//! A disk can go away, come back and change its size: [`Block::poll`] follows that in the store. Requests in flight then end with
//! [`Error::Disconnected`].

#[cfg(feature = "embedded-sdmmc")]
pub mod card;
mod connect;
mod flight;
mod queue;
mod submit;
mod transfer;

use hypercall_abi::event_channel::Port;
use hypercall_abi::io::xenbus::State;

use self::flight::Flights;
pub use self::flight::Ticket;
use self::queue::Queue;
use super::granted::Granted;
use super::store::Store;
use super::xenbus::{Link, Phase, Step};
use super::{Error, Platform};

/// Bytes of a sector in requests and in [`Geometry::sectors`], whatever the media's own are.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;
const SECTORS_PER_PAGE: usize = PAGE / SECTOR;

/// Most segments of a request that this driver makes: as many pages.
pub const SEGMENTS: usize = 64;

/// Most queues.
pub const QUEUES: usize = 4;

/// What a disk may take.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Queues, where the backend has several (`multi-queue-max-queues`); at most [`QUEUES`].
    pub queues: usize,
    /// Pages of each ring, as a power of two (`ring-page-order`), where the backend allows it; at most 4.
    pub ring_order: u32,
    /// Pages for data; at most 256. They bound how much can be in flight.
    pub data_pages: usize,
}

impl Default for Config {
    /// One queue, a ring of one page (32 requests), 128 pages (512 KiB) for data.
    fn default() -> Config {
        Config {
            queues: 1,
            ring_order: 0,
            data_pages: 128,
        }
    }
}

/// What the backend says of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Its size, in sectors of 512 bytes.
    pub sectors: u64,
    /// Bytes of a sector of the media's: requests begin and end at multiples of it.
    pub sector_size: u32,
    /// It cannot be written to.
    pub read_only: bool,
    /// [`Block::submit_flush`] works (`feature-flush-cache`).
    pub flush: bool,
    /// [`Block::submit_discard`] works (`feature-discard`).
    pub discard: bool,
    /// It can make discarded content unrecoverable (`discard-secure`).
    pub secure_discard: bool,
    /// The backend keeps pages mapped (`feature-persistent`).
    pub persistent: bool,
    /// Most sectors of one read or write.
    pub most: usize,
}

/// What [`Block::poll`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The disk works, for the first time or again: [`Block::geometry`] says what it is.
    Connected,
    /// It has another size now.
    Resized,
    /// It does not work any more; it may come back.
    Lost,
    /// It was removed, or broke the protocol again and again: it does not come back.
    Gone,
}

/// A disk.
pub struct Block<P: Platform> {
    platform: P,
    config: Config,
    link: Link,
    queues: heapless::Vec<Queue<P>, QUEUES>,
    data: Option<Granted<P>>,
    flights: Flights,
    geometry: Option<Geometry>,
    /// The backend broke the protocol: until it was reset nothing goes on.
    broken: Option<Error>,
    next_queue: usize,
    lost_pages: usize,
}

impl<P: Platform> Block<P> {
    /// Takes up the disk `device/vbd/NUMBER`; 51712 is `xvda`, each next one 16 more (Xen's `docs/man/xen-vbd-interface`).
    ///
    /// # Errors
    /// [`Error::Store`] with `ENOENT` where there is none.
    pub fn open(platform: P, store: &mut Store<P>, number: u32, config: Config) -> Result<Block<P>, Error> {
        Ok(Block {
            link: Link::open(store, "vbd", number)?,
            platform,
            config,
            queues: heapless::Vec::new(),
            data: None,
            flights: Flights::new(),
            geometry: None,
            broken: None,
            next_queue: 0,
            lost_pages: 0,
        })
    }

    /// The disk, while it works.
    pub fn geometry(&self) -> Option<&Geometry> {
        self.geometry.as_ref()
    }

    /// Pages that a backend did not let go of, and that are lost for this kernel.
    pub fn lost_pages(&self) -> usize {
        self.lost_pages
    }

    /// Requests in flight or done and not asked for.
    pub fn in_use(&self) -> usize {
        self.flights.in_use()
    }

    /// The ports to wait on for answers.
    pub fn ports(&self) -> impl Iterator<Item = Port> {
        self.queues.iter().filter_map(|queue| queue.port)
    }

    /// Follows the backend's state, and takes in answers. To be called now and then, and when the store has an event.
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
            Step::Wait => Ok(None),
            Step::Announce => self.announce(store).map(|()| None),
            Step::Connect => {
                self.geometry = Some(self.read_geometry(store)?);
                self.link.connected(store)?;
                Ok(Some(Change::Connected))
            }
            Step::Refresh => {
                let now = self.read_geometry(store)?;
                let before = self.geometry.replace(now);
                Ok((before != Some(now)).then_some(Change::Resized))
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

    /// Fails what is in flight, lets go of rings and ports, and says so.
    fn reset(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        self.let_go();
        self.link.closed(store)
    }

    fn let_go(&mut self) {
        self.geometry = None;
        self.flights.fail_all();
        for queue in &mut self.queues {
            queue.stop(&self.platform);
        }
    }

    /// Polls until the disk works.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `deadline` (in nanoseconds of [`Platform::now`]), [`Error::Disconnected`] where it will never work.
    pub fn wait_until_connected(&mut self, store: &mut Store<P>, deadline: u64) -> Result<Geometry, Error> {
        loop {
            self.poll(store)?;
            if let Some(geometry) = self.geometry {
                return Ok(geometry);
            }
            if self.link.phase == Phase::Gone {
                return Err(Error::Disconnected);
            }
            if self.platform.now() >= deadline {
                return Err(Error::Timeout {
                    waiting_for: "the disk's backend",
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
        if let Some(mut data) = self.data.take() {
            data.end(&self.platform);
        }
        waited.and(unwatched)
    }
}
