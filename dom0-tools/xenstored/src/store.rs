//! The store: the tree, its clients, and what passes between them.

use crate::connection::{Connection, Failure};
use crate::domains::Domain;
use crate::hypervisor::{Event, Hypervisor};
use crate::path::Path;
use crate::permission::{Access, Caller, DomainId, PermissionList};
use crate::quota::Limits;
use crate::tree::Tree;
use crate::view::View;
use crate::watch::{ConnectionId, SpecialNode, Watches};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a guest's requests wait after it added to such a queue.
const PENALTY: Duration = Duration::from_millis(100);
/// Everything the daemon knows.
pub struct Store<H: Hypervisor> {
    pub(crate) hypervisor: H,
    pub(crate) tree: Tree,
    pub(crate) limits: Limits,
    pub(crate) watches: Watches,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) domains: BTreeMap<DomainId, Domain>,
    pub(crate) special_permissions: BTreeMap<SpecialNode, PermissionList>,
    /// Whether every request is written to the log.
    pub(crate) tracing: bool,
    /// When the present turn began.
    pub(crate) now: Instant,
    last_connection: u64,
}

impl<H: Hypervisor> Store<H> {
    /// An empty store, with the nodes that clients expect from the beginning.
    pub fn new(hypervisor: H, limits: Limits) -> Self {
        let only_control = PermissionList::owned_by(DomainId::CONTROL, Access::NONE);
        let mut store = Store {
            hypervisor,
            tree: Tree::new(),
            limits,
            watches: Watches::default(),
            connections: BTreeMap::new(),
            domains: BTreeMap::new(),
            special_permissions: SpecialNode::ALL
                .map(|special| (special, only_control.clone()))
                .into(),
            tracing: false,
            now: Instant::now(),
            last_connection: 0,
        };
        store.write_as_control("/tool/xenstored", "");
        store
    }

    /// Writes a node on behalf of the daemon itself. Paths that are not well-formed are a mistake of ours.
    pub fn write_as_control(&mut self, path: &str, value: &str) {
        let path = Path::parse(path, DomainId::CONTROL);
        debug_assert!(path.is_ok());
        if let Ok(path) = path {
            let change = self.view(Caller::CONTROL).write(&path, value.as_bytes());
            self.fire(change.ok().flatten().as_slice());
        }
    }

    /// The tree as a caller outside of any transaction sees it.
    pub fn view(&mut self, caller: Caller) -> View<'_> {
        View {
            tree: &mut self.tree,
            record: None,
            caller,
            limits: &self.limits,
        }
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The hypervisor.
    pub fn hypervisor(&self) -> &H {
        &self.hypervisor
    }

    /// The hypervisor, for a test to play its part.
    pub fn hypervisor_mut(&mut self) -> &mut H {
        &mut self.hypervisor
    }

    /// How many answers a client may leave waiting before its requests wait, too.
    pub fn outstanding_limit(&self) -> usize {
        self.limits.outstanding
    }

    /// Whether every request is written to the log.
    pub fn set_verbose(&mut self, verbose: bool) {
        self.tracing = verbose;
    }

    /// What the hypervisor has to say next.
    pub fn next_event(&mut self) -> std::io::Result<Option<Event>> {
        self.hypervisor.next_event()
    }

    /// Takes in a new client.
    pub fn connect(&mut self, caller: Caller) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        self.connections.insert(id, Connection::new(caller));
        id
    }

    /// Forgets a client, with its watches and transactions.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.watches.remove_all(id);
        self.connections.remove(&id);
    }

    /// A client's state.
    pub fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// A client's state, for moving its bytes.
    pub fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Answers the first complete request of a client, if it has one and need not wait. Returns whether it did.
    pub fn process(&mut self, id: ConnectionId, now: Instant) -> bool {
        self.now = now;
        let outstanding = self.limits.outstanding;
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        if connection.failure().is_some() || connection.must_wait(outstanding, now) {
            return false;
        }
        match connection.input.take() {
            Ok(None) => false,
            Ok(Some(message)) => {
                self.answer(id, message);
                true
            }
            Err(oversized) => {
                self.fail(id, Failure::Framing(oversized));
                true
            }
        }
    }

    /// Whether [`process`](Self::process) would do something for this client.
    pub fn is_ready(&self, id: ConnectionId, now: Instant) -> bool {
        self.connections.get(&id).is_some_and(|connection| {
            connection.failure().is_none()
                && connection.input.has_message()
                && !connection.must_wait(self.limits.outstanding, now)
        })
    }

    /// The next moment at which a client that was slowed down may go on.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.connections
            .values()
            .filter_map(|connection| connection.resume_at)
            .filter(|until| *until > now)
            .min()
    }

    /// Gives up on a client: the one who broke the rules is told, everybody else is unharmed.
    pub(crate) fn fail(&mut self, id: ConnectionId, failure: Failure) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let domain = connection.caller.domain;
        log(&format!(
            "connection {} of domain {domain} is broken: {failure}",
            id.0
        ));
        connection.fail(failure);
        self.watches.remove_all(id);
        self.report_failure(domain, id, failure);
    }

    /// Slows down a guest whose changes pile up before somebody else.
    pub(crate) fn penalise(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.caller.is_privileged()
        {
            connection.resume_at = Some(self.now + PENALTY);
        }
    }
}

/// Writes a line to the daemon's log.
pub(crate) fn log(line: &str) {
    eprintln!("xenstored: {line}");
}
