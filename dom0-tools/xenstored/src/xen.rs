//! The hypervisor, asked through dom0's drivers.

use crate::hypervisor::{DomainState, Event, Hypervisor, Port};
use crate::permission::DomainId;
use control::{EventChannels, GrantReference, VirtualInterrupt};
use guest_page::GuestPage;
use rustix::fd::{AsFd, BorrowedFd};
use std::io;

/// The drivers, open.
pub struct Xen {
    events: EventChannels,
    hypercalls: control::Hypervisor,
    domain_exception: Port,
}

impl Xen {
    /// Opens the drivers and asks to be told when domains stop.
    pub fn open() -> io::Result<Self> {
        let events = EventChannels::open()?;
        let hypercalls = control::Hypervisor::open()?;
        let domain_exception = events.bind_virtual_interrupt(VirtualInterrupt::DomainException)?;
        Ok(Xen {
            events,
            hypercalls,
            domain_exception,
        })
    }
}

impl Hypervisor for Xen {
    fn map_ring(&mut self, domain: DomainId) -> io::Result<GuestPage> {
        Ok(GuestPage::granted(domain, GrantReference::STORE)?)
    }

    fn bind(&mut self, domain: DomainId, remote: Port) -> io::Result<Port> {
        Ok(self.events.bind_interdomain(domain, remote)?)
    }

    fn unbind(&mut self, port: Port) {
        // A port that the hypervisor already closed, because its domain is gone, is as good as closed by us.
        let _ = self.events.unbind(port);
    }

    fn notify(&mut self, port: Port) {
        // As above: nobody is left to be told.
        let _ = self.events.notify(port);
    }

    fn state(&mut self, domain: DomainId) -> io::Result<DomainState> {
        let info = self.hypercalls.domain_info(domain)?;
        Ok(match info {
            None => DomainState::Absent,
            Some(info) if info.dying => DomainState::Dying,
            Some(info) if info.shutdown.is_some() => DomainState::ShutDown,
            Some(_) => DomainState::Alive,
        })
    }

    fn event_source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.events.as_fd())
    }

    fn next_event(&mut self) -> io::Result<Option<Event>> {
        let Some(port) = self.events.pending()? else {
            return Ok(None);
        };
        // Before looking at what the event is about, so that nothing that happens while we look is missed.
        self.events.unmask(port)?;
        Ok(Some(if port == self.domain_exception {
            Event::DomainsChanged
        } else {
            Event::Notified(port)
        }))
    }
}
