//! What the store asks of the hypervisor: the seam at which tests put a fake.

use crate::permission::DomainId;
use guest_page::GuestPage;
use rustix::fd::BorrowedFd;
use std::io;

pub use control::Port;

/// Whether a domain lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// There is no such domain.
    Absent,
    /// It lives.
    Alive,
    /// It stopped, in whatever way, and its memory is still there.
    ShutDown,
    /// It is being destroyed.
    Dying,
}

/// Something that the hypervisor tells the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end of an event channel wants us to look.
    Notified(Port),
    /// Some domain shut down or is being destroyed.
    DomainsChanged,
}

/// The hypervisor, as the store needs it.
pub trait Hypervisor {
    /// Maps the page that the domain granted for its ring.
    fn map_ring(&mut self, domain: DomainId) -> io::Result<GuestPage>;
    /// Connects to the domain's event channel.
    fn bind(&mut self, domain: DomainId, remote: Port) -> io::Result<Port>;
    /// Closes our end of an event channel.
    fn unbind(&mut self, port: Port);
    /// Tells the other end to look.
    fn notify(&mut self, port: Port);
    /// Whether the domain lives.
    fn state(&mut self, domain: DomainId) -> io::Result<DomainState>;
    /// The file that is readable when there is an event.
    fn event_source(&self) -> Option<BorrowedFd<'_>>;
    /// The next event, if there is one.
    fn next_event(&mut self) -> io::Result<Option<Event>>;
}

/// No hypervisor: a store for sockets only.
#[derive(Debug, Default)]
pub struct NoHypervisor;

impl Hypervisor for NoHypervisor {
    fn map_ring(&mut self, _: DomainId) -> io::Result<GuestPage> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bind(&mut self, _: DomainId, _: Port) -> io::Result<Port> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unbind(&mut self, _: Port) {}

    fn notify(&mut self, _: Port) {}

    fn state(&mut self, _: DomainId) -> io::Result<DomainState> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn event_source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next_event(&mut self) -> io::Result<Option<Event>> {
        Ok(None)
    }
}
