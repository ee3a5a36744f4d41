//! Telling the watchers: who is concerned, who may know, and whose queue grows too long.

use crate::connection::{Connection, Failure};
use crate::hypervisor::Hypervisor;
use crate::path::Path;
use crate::permission::{Caller, DomainId, PermissionList};
use crate::store::Store;
use crate::tree::{Change, Node, Tree};
use crate::watch::{ConnectionId, SpecialNode, Subject, Watch};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Events waiting for one client, in bytes, from which on guests that cause more of them are slowed down.
const PRESSURE: usize = 256 << 10;
/// A client in dom0 before which so much waits, and that has taken nothing for so long, is stuck: it must not slow
/// down others for ever.
const STUCK_AFTER: Duration = Duration::from_secs(10);

impl<H: Hypervisor> Store<H> {
    /// Tells the watchers of changes. Returns whether somebody's queue became long.
    pub(crate) fn fire(&mut self, changes: &[Change]) -> bool {
        let mut delivery = self.delivery_rules();
        for change in changes {
            let mut known = Permitted::default();
            for watch in self.watches.concerned(&change.path) {
                let sees = |caller| sees_change(&self.tree, caller, change);
                delivery.offer(
                    &mut self.connections,
                    watch,
                    change.path.as_str(),
                    &mut known,
                    sees,
                );
            }
            let Some(removed) = &change.removed else { continue };
            // Whoever watches a node below hears that this very node is gone.
            let mut at = &change.path;
            for (path, watch) in self.watches.below(&change.path) {
                let rest = change.path.relative(path.as_str());
                let Some(node) = rest.and_then(|rest| removed.descendant(rest)) else {
                    continue;
                };
                if at != path {
                    known = Permitted::default();
                    at = path;
                }
                let sees = |caller| sees_removal(removed, &change.path, path, node, caller);
                delivery.offer(&mut self.connections, watch, path.as_str(), &mut known, sees);
            }
        }
        self.finish(delivery)
    }

    /// Tells the watchers of the coming and going of domains.
    pub(crate) fn fire_special(&mut self, special: SpecialNode) {
        let mut delivery = self.delivery_rules();
        let permissions = self.special_permissions.get(&special);
        let mut known = Permitted::default();
        for watch in self.watches.on(&Subject::Special(special)) {
            let sees = |caller| permissions.is_some_and(|list| list.access(caller).read);
            delivery.offer(&mut self.connections, watch, special.name(), &mut known, sees);
        }
        self.finish(delivery);
    }

    fn delivery_rules(&self) -> Delivery {
        Delivery {
            kernel: self.domains.get(&DomainId::CONTROL).map(|known| known.connection),
            guest_limit: self.limits.event_bytes,
            now: self.now,
            pressed: false,
            stuck: Vec::new(),
        }
    }

    fn finish(&mut self, delivery: Delivery) -> bool {
        for id in delivery.stuck {
            self.fail(id, Failure::Stuck);
        }
        delivery.pressed
    }
}

/// Which guests may know of a change: found out once for each, however many watches it has.
type Permitted = HashMap<DomainId, bool>;

/// Passes events into the queues of connections, and notes whose are too long.
struct Delivery {
    /// The connection of dom0's own kernel, which is never given up: nothing works without it.
    kernel: Option<ConnectionId>,
    guest_limit: usize,
    now: Instant,
    pressed: bool,
    stuck: Vec<ConnectionId>,
}

impl Delivery {
    fn offer(
        &mut self,
        connections: &mut BTreeMap<ConnectionId, Connection>,
        watch: &Watch,
        path: &str,
        known: &mut Permitted,
        sees: impl Fn(Caller) -> bool,
    ) {
        let Some(connection) = connections.get_mut(&watch.connection) else {
            return;
        };
        let caller = connection.caller;
        let permitted = caller.is_privileged() || *known.entry(caller.domain).or_insert_with(|| sees(caller));
        if permitted && connection.failure().is_none() {
            connection.output.push_event(watch.event_path(path), &watch.token);
            self.weigh(watch.connection, connection);
        }
    }

    fn weigh(&mut self, id: ConnectionId, connection: &mut Connection) {
        let waiting = connection.output.event_bytes();
        if waiting <= PRESSURE {
            return;
        }
        self.pressed = true;
        let stalled = connection.output.stalled_since(self.now);
        let stuck = if connection.caller.is_privileged() {
            Some(id) != self.kernel && self.now.duration_since(stalled) > STUCK_AFTER
        } else {
            waiting > self.guest_limit
        };
        if stuck && !self.stuck.contains(&id) {
            self.stuck.push(id);
        }
    }
}

/// Whether a guest may know of a change: it can read the node, or could before, or the node above.
fn sees_change(tree: &Tree, caller: Caller, change: &Change) -> bool {
    let reads = |list: &PermissionList| list.access(caller).read;
    let parent = || change.path.parent().and_then(|parent| tree.get(&parent));
    change.previous.as_ref().is_some_and(reads)
        || change
            .removed
            .as_ref()
            .is_some_and(|node| reads(node.permissions()))
        || tree
            .get(&change.path)
            .is_some_and(|node| reads(node.permissions()))
        || parent().is_some_and(|node| reads(node.permissions()))
}

/// Whether a guest may know that a node below the removed one is gone.
fn sees_removal(removed: &Node, top: &Path, path: &Path, node: &Node, caller: Caller) -> bool {
    let reads = |node: &Node| node.permissions().access(caller).read;
    let parent = path
        .parent()
        .and_then(|parent| match top.relative(parent.as_str()) {
            Some("") | None => Some(removed),
            Some(rest) => removed.descendant(rest),
        });
    reads(node) || parent.is_some_and(reads)
}
