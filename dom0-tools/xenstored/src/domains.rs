//! Domains: their rings, their coming and their going.

use crate::connection::{Connection, Failure};
use crate::hypervisor::{DomainState, Hypervisor, Port};
use crate::permission::{Caller, DomainId};
use crate::store::{Store, log};
use crate::watch::{ConnectionId, SpecialNode};
use crate::wire::StoreError;
use guest_page::GuestPage;
use hypercall_abi::io::xenstore::{
    DomainInterface, connection, connection_error, limit::RING_SIZE, server_feature,
};
use pv_drivers::ring::{ByteConsumer, ByteProducer, Fault, STORE_REQUEST, STORE_RESPONSE};
use std::collections::BTreeSet;
use std::mem::offset_of;
use std::time::Instant;

/// Where the daemon says what it can do.
const SERVER_FEATURES: usize = offset_of!(DomainInterface, server_features);
/// Where both sides say whether the ring is in use.
const CONNECTION_STATE: usize = offset_of!(DomainInterface, connection);
/// Where the daemon says what is wrong.
const ERROR: usize = offset_of!(DomainInterface, error);

/// A domain that was introduced.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) connection: ConnectionId,
    pub(crate) port: Option<Port>,
    /// Its shutdown has been announced.
    pub(crate) shut_down: bool,
    page: GuestPage,
    /// None if the guest's indices made no sense already when it was introduced.
    rings: Option<Rings>,
}

/// Our ends of the rings in a domain's page.
#[derive(Debug)]
struct Rings {
    requests: ByteConsumer<GuestPage>,
    responses: ByteProducer<GuestPage>,
}

impl Rings {
    fn attach(page: &GuestPage) -> Result<Self, Fault> {
        page.set(ERROR, connection_error::NONE);
        let requests = ByteConsumer::attach(STORE_REQUEST, page.clone())?;
        let responses = ByteProducer::attach(STORE_RESPONSE, page.clone())?;
        page.set(SERVER_FEATURES, server_feature::ERROR);
        page.set(CONNECTION_STATE, connection::CONNECTED);
        Ok(Rings { requests, responses })
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
    pub fn introduce_with(&mut self, domain: DomainId, page: GuestPage, remote: Port) -> std::io::Result<()> {
        let port = self.hypervisor.bind(domain, remote)?;
        let connection = self.connect(Caller { domain, target: None });
        let known = Domain {
            connection,
            port: Some(port),
            shut_down: false,
            page,
            rings: None,
        };
        self.domains.insert(domain, known);
        self.attach(domain);
        // Requests may be waiting, and the other side may be waiting for the ring to come alive.
        self.hypervisor.notify(port);
        self.fire_special(SpecialNode::IntroduceDomain);
        Ok(())
    }

    fn introduce_again(&mut self, domain: DomainId, remote: Port) -> Result<(), StoreError> {
        let known = self.domains.get_mut(&domain).ok_or(StoreError::NoEntry)?;
        if let Some(port) = known.port.take() {
            self.hypervisor.unbind(port);
        }
        known.port = self.hypervisor.bind(domain, remote).ok();
        known.shut_down = false;
        let old = known.connection;
        let target = self.connections.get(&old).and_then(|it| it.caller.target);
        self.disconnect(old);
        let fresh = self.connect(Caller { domain, target });
        if let Some(known) = self.domains.get_mut(&domain) {
            known.connection = fresh;
        }
        self.attach(domain);
        Ok(())
    }

    /// Takes up a domain's rings where they stand.
    fn attach(&mut self, domain: DomainId) {
        let Some(known) = self.domains.get_mut(&domain) else {
            return;
        };
        let connection = known.connection;
        match Rings::attach(&known.page) {
            Ok(rings) => known.rings = Some(rings),
            Err(fault) => {
                known.rings = None;
                self.fail(connection, Failure::Ring(fault));
            }
        }
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
        let gone = |domain: &DomainId| matches!(self.hypervisor.state(*domain), Ok(DomainState::Absent));
        let gone: BTreeSet<DomainId> = strangers.into_iter().filter(gone).collect();
        self.erase_traces(&gone);
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
            if let Some(without) = list.without(&BTreeSet::from([domain])) {
                *list = without;
            }
        }
        self.erase_traces(&BTreeSet::from([domain]));
    }

    fn erase_traces(&mut self, domains: &BTreeSet<DomainId>) {
        for operation in self.tree.traces_of(domains) {
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
        let speaks = |known: &Domain| {
            let connection = self.connections.get(&known.connection);
            let waiting = connection.is_some_and(|it| !it.output.is_empty());
            // A ring that makes no sense counts as having room: serving it is what notices.
            waiting
                && known
                    .rings
                    .as_ref()
                    .is_some_and(|rings| rings.responses.free() != Ok(0))
        };
        let speaking = self.domains.iter().filter(|(_, known)| speaks(known));
        speaking.map(|(domain, _)| *domain).collect()
    }

    /// Moves a domain's bytes and answers one of its requests. Returns whether anything happened; if nothing did,
    /// there is nothing to do until its next event.
    pub fn serve_domain(&mut self, domain: DomainId, now: Instant) -> bool {
        self.now = now;
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
        let (moved, answered) = outcome.unwrap_or_else(|fault| {
            self.fail(connection, Failure::Ring(fault));
            (true, false)
        });
        if moved && let Some(port) = self.domains.get(&domain).and_then(|known| known.port) {
            self.hypervisor.notify(port);
        }
        moved || answered
    }

    /// Takes what the ring holds, as far as there is room for it and the guest need not wait.
    fn take_in(&mut self, domain: DomainId, now: Instant) -> Result<bool, Fault> {
        let outstanding = self.limits.outstanding;
        let Some((rings, connection)) = self.ends(domain) else {
            return Ok(false);
        };
        // Looking even without room for anything: an impossible index is noticed at once.
        let waits = connection.must_wait(outstanding, now);
        let room = if waits { 0 } else { connection.input.space() };
        let mut buffer = [0; RING_SIZE];
        let taken = rings.requests.read(&mut buffer[..room.min(RING_SIZE)])?;
        connection.input.feed(&buffer[..taken]);
        Ok(taken > 0)
    }

    /// Puts what waits for the guest into the ring, as far as there is room.
    fn give_out(&mut self, domain: DomainId) -> Result<bool, Fault> {
        let Some((rings, connection)) = self.ends(domain) else {
            return Ok(false);
        };
        let mut moved = false;
        while !connection.output.is_empty() {
            let given = rings.responses.write(connection.output.next())?;
            if given == 0 {
                break;
            }
            connection.output.advance(given);
            moved = true;
        }
        Ok(moved)
    }

    fn ends(&mut self, domain: DomainId) -> Option<(&mut Rings, &mut Connection)> {
        let known = self.domains.get_mut(&domain)?;
        Some((
            known.rings.as_mut()?,
            self.connections.get_mut(&known.connection)?,
        ))
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
            Failure::Ring(_) => connection_error::RING_INDEX,
            Failure::Framing(_) => connection_error::PROTOCOL,
            Failure::Stuck => connection_error::COMMUNICATION,
        };
        known.page.set(ERROR, code);
    }
}
