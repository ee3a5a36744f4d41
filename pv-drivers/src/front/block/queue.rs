//! One of a disk's queues: a ring and its port.

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::Port;
use hypercall_abi::grant_table::GrantReference;
use hypercall_abi::io::block::{Request, Response};

use super::flight::Flights;
use crate::front::granted::Granted;
use crate::front::{Error, Platform};
use crate::ring::FrontRing;

pub struct Queue<P: Platform> {
    ring: Option<FrontRing<Request, Response, P::Pages>>,
    granted: Granted<P>,
    pub port: Option<Port>,
}

impl<P: Platform> Queue<P> {
    pub fn new(platform: &P, pages: usize, peer: DomainId) -> Result<Self, Error> {
        Ok(Queue {
            ring: None,
            granted: Granted::new(platform, pages, peer)?,
            port: None,
        })
    }

    pub fn fits(&self, pages: usize, peer: DomainId) -> bool {
        self.granted.fits(pages, peer)
    }

    /// An empty ring and a fresh port.
    pub fn start(&mut self, platform: &P, peer: DomainId) -> Result<(), Error> {
        self.stop(platform);
        let pages = self.granted.lend().ok_or(Error::Disconnected)?;
        self.ring = Some(FrontRing::initialise(pages)?);
        self.port = Some(platform.open_port(peer)?);
        Ok(())
    }

    /// Takes the pages back from the ring; the grants stay for the next one.
    pub fn stop(&mut self, platform: &P) {
        if let Some(ring) = self.ring.take() {
            self.granted.take_back(ring.into_memory());
        }
        if let Some(port) = self.port.take() {
            platform.close_port(port);
        }
    }

    /// Gives everything back; how many pages that was not possible for.
    pub fn end(&mut self, platform: &P) -> usize {
        self.stop(platform);
        self.granted.end(platform)
    }

    pub fn references(&self) -> &[GrantReference] {
        self.granted.references()
    }

    pub fn has_room(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.free() > 0)
    }

    pub fn send(&mut self, platform: &P, request: &Request) {
        let Some(ring) = &mut self.ring else {
            return;
        };
        // `has_room` was asked before.
        if ring.push(request).is_ok()
            && ring.publish()
            && let Some(port) = self.port
        {
            platform.notify(port);
        }
    }

    /// Takes in all answers: no more than were asked for, the ring sees to that. Asks for an event for the next one.
    pub fn take_answers(&mut self, platform: &P, index: usize, flights: &mut Flights) -> Result<(), Error> {
        let Some(ring) = &mut self.ring else {
            return Ok(());
        };
        if let Some(port) = self.port {
            platform.take_event(port);
        }
        loop {
            while let Some(response) = ring.pop()? {
                flights.answer(index, &response)?;
            }
            if !ring.announce()? {
                return Ok(());
            }
        }
    }
}
