//! Domains: their rings, their coming and their going.

use crate::connection::Failure;
use crate::hypervisor::{DomainState, Hypervisor, Port};
use crate::permission::{Caller, DomainId};
use crate::ring::{Consumer, ImpossibleIndex, Layout, Producer, SharedPage};
use crate::store::{Store, log};
use crate::watch::{ConnectionId, SpecialNode};
use crate::wire::StoreError;
use std::time::Instant;

/// The ring that carries a guest's requests.
const REQUESTS: Layout = Layout {
    data: 0,
    size: 1024,
    consumer: 2048,
    producer: 2052,
};
/// The ring that carries answers and events.
const RESPONSES: Layout = Layout {
    data: 1024,
    size: 1024,
    consumer: 2056,
    producer: 2060,
};
/// Where the daemon says what it can do.
const SERVER_FEATURES: usize = 2064;
/// Where both sides say whether the ring is in use.
const CONNECTION_STATE: usize = 2068;
/// Where the daemon says what is wrong.
const ERROR: usize = 2072;
/// The daemon reports errors in the page.
#[doc(alias = "XENSTORE_SERVER_FEATURE_ERROR")]
const FEATURE_ERROR: u32 = 2;
#[doc(alias = "XENSTORE_CONNECTED")]
const CONNECTED: u32 = 0;
#[doc(alias = "XENSTORE_ERROR_NONE")]
const ERROR_NONE: u32 = 0;
#[doc(alias = "XENSTORE_ERROR_COMM")]
const ERROR_COMMUNICATION: u32 = 1;
#[doc(alias = "XENSTORE_ERROR_RINGIDX")]
const ERROR_RING_INDEX: u32 = 2;
#[doc(alias = "XENSTORE_ERROR_PROTO")]
const ERROR_PROTOCOL: u32 = 3;

/// A domain that was introduced.
#[derive(Debug)]
pub(crate) struct Domain<Page> {
    pub(crate) connection: ConnectionId,
    pub(crate) port: Option<Port>,
    /// Its shutdown has been announced.
    pub(crate) shut_down: bool,
    ring: Ring<Page>,
}

#[derive(Debug)]
struct Ring<Page> {
    page: Page,
    requests: Consumer,
    responses: Producer,
}

impl<Page: SharedPage> Ring<Page> {
    fn attach(page: Page) -> Self {
        page.store(SERVER_FEATURES, FEATURE_ERROR);
        page.store(ERROR, ERROR_NONE);
        page.store(CONNECTION_STATE, CONNECTED);
        let requests = Consumer::attach(&page, REQUESTS);
        let responses = Producer::attach(&page, RESPONSES);
        Ring {
            page,
            requests,
            responses,
        }
    }
}

impl<H: Hypervisor> Store<H> {
    /// Whether requests of this domain are served.
    pub(crate) fn is_introduced(&self, domain: DomainId) -> bool {
        self.domains.contains_key(&domain)
    }

    /// Starts to serve a domain. For one already served, connects to its event channel anew and begins afresh.
    pub(crate) fn introduce(&mut self, domain: DomainId, remote: u32) -> Result<(), StoreError> {
        if domain == DomainId::CONTROL || remote == 0 {
            return Err(StoreError::InvalidArgument);
        }
        if self.is_introduced(domain) {
            return self.introduce_again(domain, Port(remote));
        }
        let page = self.hypervisor.map_ring(domain).map_err(|error| {
            log(&format!("domain {domain}: its ring cannot be mapped: {error}"));
            StoreError::InvalidArgument
        })?;
        self.introduce_with(domain, page, Port(remote)).map_err(|error| {
            log(&format!(
                "domain {domain}: its event channel {remote} cannot be connected: {error}"
            ));
            StoreError::InvalidArgument
        })
    }

    /// Starts to serve a domain over a page that is already mapped.
    pub fn introduce_with(&mut self, domain: DomainId, page: H::Page, remote: Port) -> std::io::Result<()> {
        let port = self.hypervisor.bind(domain, remote)?;
        let connection = self.connect(Caller { domain, target: None });
        let ring = Ring::attach(page);
        self.domains.insert(
            domain,
            Domain {
                connection,
                port: Some(port),
                shut_down: false,
                ring,
            },
        );
        // Requests may be waiting, and the other side may be waiting for the ring to come alive.
        self.hypervisor.notify(port);
        self.fire_special(SpecialNode::IntroduceDomain);
        Ok(())
    }

    fn introduce_again(&mut self, domain: DomainId, remote: Port) -> Result<(), StoreError> {
        let Some(known) = self.domains.get_mut(&domain) else {
            return Err(StoreError::NoEntry);
        };
        if let Some(port) = known.port.take() {
            self.hypervisor.unbind(port);
        }
        known.port = self.hypervisor.bind(domain, remote).ok();
        let old = known.connection;
        let target = self
            .connections
            .get(&old)
            .and_then(|connection| connection.caller.target);
        self.disconnect(old);
        let fresh = self.connect(Caller { domain, target });
        if let Some(known) = self.domains.get_mut(&domain) {
            known.connection = fresh;
            known.shut_down = false;
            known.ring.page.store(ERROR, ERROR_NONE);
            known.ring.requests = Consumer::attach(&known.ring.page, REQUESTS);
            known.ring.responses = Producer::attach(&known.ring.page, RESPONSES);
        }
        Ok(())
    }

    /// Stops serving a domain, at the toolstack's request.
    pub(crate) fn release(&mut self, domain: DomainId) -> Result<(), StoreError> {
        if domain == DomainId::CONTROL {
            return Err(StoreError::InvalidArgument);
        }
        if !self.is_introduced(domain) {
            return Err(StoreError::NoEntry);
        }
        self.remove_domain(domain);
        self.fire_special(SpecialNode::ReleaseDomain);
        Ok(())
    }

    /// A domain that was shut down (suspended) lives again.
    pub(crate) fn resume(&mut self, domain: DomainId) -> Result<(), StoreError> {
        self.domains
            .get_mut(&domain)
            .ok_or(StoreError::NoEntry)?
            .shut_down = false;
        Ok(())
    }

    /// Lets a device model's domain act for the domain that it serves.
    pub(crate) fn set_target(&mut self, domain: DomainId, target: DomainId) -> Result<(), StoreError> {
        if !self.is_introduced(target) {
            return Err(StoreError::NoEntry);
        }
        let connection = self.domains.get(&domain).ok_or(StoreError::NoEntry)?.connection;
        let connection = self.connections.get_mut(&connection).ok_or(StoreError::NoEntry)?;
        connection.caller.target = Some(target);
        Ok(())
    }

    /// Looks which domains shut down or went away, and tells the watchers.
    pub fn check_domains(&mut self) {
        let mut changed = false;
        let known: Vec<DomainId> = self
            .domains
            .keys()
            .copied()
            .filter(|id| *id != DomainId::CONTROL)
            .collect();
        for domain in known {
            match self.hypervisor.state(domain) {
                Ok(DomainState::Absent | DomainState::Dying) => {
                    self.remove_domain(domain);
                    changed = true;
                }
                Ok(DomainState::ShutDown) => {
                    if let Some(known) = self.domains.get_mut(&domain) {
                        changed |= !std::mem::replace(&mut known.shut_down, true);
                    }
                }
                Ok(DomainState::Alive) => {}
                Err(error) => log(&format!("domain {domain}: its state is unknown: {error}")),
            }
        }
        self.forget_strangers();
        if changed {
            self.fire_special(SpecialNode::ReleaseDomain);
        }
    }

    /// Strikes domains from the tree that never were introduced and no longer exist, so that a later one with the
    /// same number inherits nothing.
    fn forget_strangers(&mut self) {
        let strangers: Vec<DomainId> = self
            .tree
            .mentioned_domains()
            .filter(|domain| *domain != DomainId::CONTROL && !self.domains.contains_key(domain))
            .collect();
        for domain in strangers {
            if matches!(self.hypervisor.state(domain), Ok(DomainState::Absent)) {
                self.erase_traces(domain);
            }
        }
    }

    fn remove_domain(&mut self, domain: DomainId) {
        let Some(known) = self.domains.remove(&domain) else {
            return;
        };
        if let Some(port) = known.port {
            self.hypervisor.unbind(port);
        }
        self.disconnect(known.connection);
        for connection in self.connections.values_mut() {
            if connection.caller.target == Some(domain) {
                connection.caller.target = None;
            }
        }
        for list in self.special_permissions.values_mut() {
            if let Some(without) = list.without(domain) {
                *list = without;
            }
        }
        self.erase_traces(domain);
    }

    fn erase_traces(&mut self, domain: DomainId) {
        for operation in self.tree.traces_of(domain) {
            let change = self.tree.apply(&operation, None);
            self.fire(change.as_slice());
        }
    }

    /// The domain whose events arrive at this port.
    pub fn domain_at(&self, port: Port) -> Option<DomainId> {
        self.domains
            .iter()
            .find(|(_, known)| known.port == Some(port))
            .map(|(domain, _)| *domain)
    }

    /// The domains that are served.
    pub fn introduced_domains(&self) -> impl Iterator<Item = DomainId> {
        self.domains.keys().copied()
    }

    /// The domains for which something waits and whose rings have room for it.
    pub fn domains_with_output(&self) -> Vec<DomainId> {
        let speaks = |known: &Domain<H::Page>| {
            let waiting = self
                .connections
                .get(&known.connection)
                .is_some_and(|it| !it.output.is_empty());
            // A ring that makes no sense counts as having room: serving it is what notices.
            waiting && known.ring.responses.room(&known.ring.page) != Ok(0)
        };
        self.domains
            .iter()
            .filter(|(_, known)| speaks(known))
            .map(|(domain, _)| *domain)
            .collect()
    }

    /// Moves a domain's bytes and answers one of its requests. Returns whether anything happened; if nothing did,
    /// there is nothing to do until its next event.
    pub fn serve_domain(&mut self, domain: DomainId, now: Instant) -> bool {
        let Some(known) = self.domains.get(&domain) else {
            return false;
        };
        let connection = known.connection;
        if self
            .connections
            .get(&connection)
            .is_none_or(|connection| connection.failure().is_some())
        {
            return false;
        }
        let outcome = self.take_in(domain, now).and_then(|taken| {
            let answered = self.process(connection, now);
            let given = self.give_out(domain)?;
            Ok((taken || given, answered))
        });
        let (moved, answered) = outcome.unwrap_or_else(|impossible| {
            self.fail(connection, Failure::Index(impossible));
            (true, false)
        });
        if moved && let Some(port) = self.domains.get(&domain).and_then(|known| known.port) {
            self.hypervisor.notify(port);
        }
        moved || answered
    }

    /// Takes what the ring holds, as far as there is room for it and the guest need not wait.
    fn take_in(&mut self, domain: DomainId, now: Instant) -> Result<bool, ImpossibleIndex> {
        let Some(known) = self.domains.get_mut(&domain) else {
            return Ok(false);
        };
        let Some(connection) = self.connections.get_mut(&known.connection) else {
            return Ok(false);
        };
        let mut buffer = [0; REQUESTS.size as usize];
        let wanted = if connection.must_wait(self.limits.outstanding, now) {
            0
        } else {
            connection.input.space()
        };
        let room = wanted.min(buffer.len());
        let taken = known.ring.requests.take(&known.ring.page, &mut buffer[..room])?;
        connection.input.feed(&buffer[..taken]);
        Ok(taken > 0)
    }

    /// Puts what waits for the guest into the ring, as far as there is room.
    fn give_out(&mut self, domain: DomainId) -> Result<bool, ImpossibleIndex> {
        let Some(known) = self.domains.get_mut(&domain) else {
            return Ok(false);
        };
        let Some(connection) = self.connections.get_mut(&known.connection) else {
            return Ok(false);
        };
        let mut moved = false;
        while !connection.output.is_empty() {
            let given = known
                .ring
                .responses
                .put(&known.ring.page, connection.output.next())?;
            if given == 0 {
                break;
            }
            connection.output.advance(given);
            moved = true;
        }
        Ok(moved)
    }

    /// Tells a guest in its page that its connection is broken.
    pub(crate) fn report_failure(&mut self, domain: DomainId, connection: ConnectionId, failure: Failure) {
        let Some(known) = self
            .domains
            .get(&domain)
            .filter(|known| known.connection == connection)
        else {
            return;
        };
        let code = match failure {
            Failure::Index(_) => ERROR_RING_INDEX,
            Failure::Framing(_) => ERROR_PROTOCOL,
            Failure::Stuck => ERROR_COMMUNICATION,
        };
        known.ring.page.store(ERROR, code);
    }
}
