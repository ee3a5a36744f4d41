//! One of an interface's queues: a ring and pages for each direction, and one port or two.

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::Port;

use super::receive::Receive;
use super::transmit::{Frame, Transmit};
use super::{Address, Received};
use crate::front::{Error, Platform};

pub struct Queue<P: Platform> {
    pub transmit: Transmit<P>,
    pub receive: Receive<P>,
    /// For both directions, or for what is sent.
    pub port: Option<Port>,
    /// For what is received, where that has its own.
    pub receive_port: Option<Port>,
}

impl<P: Platform> Queue<P> {
    pub fn new(platform: &P, transmit: usize, receive: usize, peer: DomainId) -> Result<Self, Error> {
        let mut transmit = Transmit::new(platform, transmit, peer)?;
        match Receive::new(platform, receive, peer) {
            Ok(receive) => Ok(Queue {
                transmit,
                receive,
                port: None,
                receive_port: None,
            }),
            Err(error) => {
                transmit.end(platform);
                Err(error)
            }
        }
    }

    pub fn start(&mut self, platform: &P, peer: DomainId, split: bool) -> Result<(), Error> {
        self.stop(platform);
        self.transmit.start()?;
        self.receive.start()?;
        self.port = Some(platform.open_port(peer)?);
        if split {
            self.receive_port = Some(platform.open_port(peer)?);
        }
        Ok(())
    }

    pub fn stop(&mut self, platform: &P) {
        self.transmit.stop();
        self.receive.stop();
        for port in [self.port.take(), self.receive_port.take()].into_iter().flatten() {
            platform.close_port(port);
        }
    }

    pub fn end(&mut self, platform: &P) -> usize {
        self.stop(platform);
        self.transmit.end(platform) + self.receive.end(platform)
    }

    pub fn ports(&self) -> impl Iterator<Item = Port> + use<P> {
        [self.port, self.receive_port].into_iter().flatten()
    }

    pub fn send(&mut self, platform: &P, frame: &Frame<'_>) -> Result<(), Error> {
        let notify = self.transmit.send(frame)?;
        self.notify(platform, self.port, notify);
        Ok(())
    }

    pub fn filter(&mut self, platform: &P, kind: u8, address: Address) -> Result<(), Error> {
        let notify = self.transmit.filter(kind, address)?;
        self.notify(platform, self.port, notify);
        Ok(())
    }

    pub fn receive(
        &mut self,
        platform: &P,
        buffer: &mut [u8],
        dropped: &mut u64,
    ) -> Result<Option<Received>, Error> {
        for port in self.ports() {
            platform.take_event(port);
        }
        let received = self.receive.receive(buffer, dropped)?;
        if self.receive.give_back() {
            self.notify(platform, self.receive_port.or(self.port), true);
        }
        Ok(received)
    }

    pub fn take_answers(&mut self, platform: &P, dropped: &mut u64) -> Result<(), Error> {
        if let (Some(port), true) = (self.port, self.receive_port.is_some()) {
            platform.take_event(port);
        }
        self.transmit.take_answers(dropped)
    }

    fn notify(&self, platform: &P, port: Option<Port>, wanted: bool) {
        if let (Some(port), true) = (port, wanted) {
            platform.notify(port);
        }
    }
}
