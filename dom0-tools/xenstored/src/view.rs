//! What one caller may see and do, in the tree or in a transaction's copy of it.
//!
//! Every operation first decides, with everything that could refuse it, and then changes the tree in one step.

use crate::path::Path;
use crate::permission::{Access, Caller, PermissionList};
use crate::quota::Limits;
use crate::transaction::{Record, new_owner};
use crate::tree::{Change, Node, Operation, Tree};
use crate::wire::{PAYLOAD_MAX, StoreError};

/// A tree, seen by a caller.
pub struct View<'a> {
    /// The tree that is read and changed.
    pub tree: &'a mut Tree,
    /// Where a transaction keeps what happened; none outside of transactions.
    pub record: Option<&'a mut Record>,
    /// Who asks.
    pub caller: Caller,
    /// What a guest may take.
    pub limits: &'a Limits,
}

impl View<'_> {
    /// A node's value.
    pub fn read(&mut self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let node = self.permitted(path, Access::READ)?;
        Ok(node.value().to_vec())
    }

    /// The names of a node's children, each followed by a NUL.
    pub fn directory(&mut self, path: &Path) -> Result<Vec<u8>, StoreError> {
        self.observe_children(path)?;
        let node = self.permitted(path, Access::READ)?;
        if node.listing_length() > PAYLOAD_MAX {
            return Err(StoreError::TooBig);
        }
        Ok(node
            .child_names()
            .flat_map(|name| [name.as_bytes(), b"\0"].concat())
            .collect())
    }

    /// The part of a listing that begins `offset` bytes into it, behind the number that tells whether the listing
    /// changed between two parts. An empty string at the end says that there is no more.
    pub fn directory_part(&mut self, path: &Path, offset: usize) -> Result<Vec<u8>, StoreError> {
        self.observe_children(path)?;
        let node = self.permitted(path, Access::READ)?;
        let mut reply = format!("{}\0", node.children_generation()).into_bytes();
        let mut position = 0;
        for name in node.child_names() {
            let end = position + name.len() + 1;
            if position >= offset {
                // One byte is kept for the final empty string.
                if reply.len() + name.len() + 2 > PAYLOAD_MAX {
                    return Ok(reply);
                }
                reply.extend_from_slice(name.as_bytes());
                reply.push(0);
            }
            position = end;
        }
        reply.push(0);
        Ok(reply)
    }

    /// A node's permission list.
    pub fn permissions(&mut self, path: &Path) -> Result<PermissionList, StoreError> {
        Ok(self.permitted(path, Access::READ)?.permissions().clone())
    }

    /// Gives a node a value; creates it, and what is missing above it.
    pub fn write(&mut self, path: &Path, value: &[u8]) -> Result<Option<Change>, StoreError> {
        self.check_length(path)?;
        match self.permitted(path, Access::WRITE) {
            Ok(node) => {
                let size = node.accounted_size() - node.value().len() + value.len();
                self.check_size(size)?;
            }
            Err(StoreError::NoEntry) => self.check_creation(path, value.len())?,
            Err(error) => return Err(error),
        }
        self.carry_out(Operation::Write(path.clone(), value.into()))
    }

    /// Creates a node; one that exists is left alone.
    pub fn make_directory(&mut self, path: &Path) -> Result<Option<Change>, StoreError> {
        self.check_length(path)?;
        match self.permitted(path, Access::WRITE) {
            Ok(_) => return Ok(None),
            Err(StoreError::NoEntry) => self.check_creation(path, 0)?,
            Err(error) => return Err(error),
        }
        self.carry_out(Operation::MakeDirectory(path.clone()))
    }

    /// Removes a node and all below it. That there is none is no error if the node above exists.
    pub fn remove(&mut self, path: &Path) -> Result<Option<Change>, StoreError> {
        let parent = path.parent().ok_or(StoreError::InvalidArgument)?;
        match self.permitted(path, Access::WRITE) {
            Ok(_) => self.carry_out(Operation::Remove(path.clone())),
            Err(StoreError::NoEntry) => {
                self.observe(&parent)?;
                self.tree.get(&parent).map(|_| None).ok_or(StoreError::NoEntry)
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces a node's permission list: for its owner only, who must remain its owner.
    pub fn set_permissions(
        &mut self,
        path: &Path,
        permissions: PermissionList,
    ) -> Result<Option<Change>, StoreError> {
        let caller = self.caller;
        let node = self.permitted(path, Access::WRITE)?;
        if !node.permissions().is_owned_by(caller) {
            return Err(StoreError::AccessDenied);
        }
        if !caller.is_privileged() && node.permissions().owner() != permissions.owner() {
            return Err(StoreError::NotPermitted);
        }
        if !caller.is_privileged() && permissions.entries().len() > self.limits.permissions {
            return Err(StoreError::NoSpace);
        }
        self.carry_out(Operation::SetPermissions(path.clone(), permissions))
    }

    /// The node, if it exists and grants what is needed. Whether a node exists at all is only told to who may read
    /// the closest node above that does.
    fn permitted(&mut self, path: &Path, needed: Access) -> Result<&Node, StoreError> {
        self.observe(path)?;
        if self.tree.get(path).is_none() {
            let (depth, _) = self.tree.nearest_existing(path);
            self.observe(&path.prefix(depth))?;
            let (_, node) = self.tree.nearest_existing(path);
            let visible = node.permissions().access(self.caller).read;
            let creating = needed.write && node.permissions().access(self.caller).write;
            return Err(if visible || creating {
                StoreError::NoEntry
            } else {
                StoreError::AccessDenied
            });
        }
        let node = self.tree.get(path).ok_or(StoreError::NoEntry)?;
        if node.permissions().access(self.caller).covers(needed) {
            Ok(node)
        } else {
            Err(StoreError::AccessDenied)
        }
    }

    /// Whether the caller may create this node, with a value of this length, and everything missing above it.
    fn check_creation(&mut self, path: &Path, value_length: usize) -> Result<(), StoreError> {
        let (depth, node) = self.tree.nearest_existing(path);
        if !node.permissions().access(self.caller).write {
            return Err(StoreError::AccessDenied);
        }
        let missing: Vec<&str> = path.components().skip(depth).collect();
        let permissions_size = node.permissions().entries().len() * size_of::<u64>();
        let first = missing.first().map_or(0, |name| name.len() + 1);
        self.check_size(node.accounted_size() + first)?;
        self.check_size(value_length + permissions_size)?;
        if !self.caller.is_privileged()
            && self.tree.owned_by(self.caller.domain) + missing.len() > self.limits.nodes
        {
            return Err(StoreError::NoSpace);
        }
        // The nodes between are missing, too, and the result depends on that. Without a record it is nothing to note.
        if self.record.is_some() {
            for components in depth + 1..=path.components().count() {
                self.observe(&path.prefix(components))?;
            }
        }
        Ok(())
    }

    fn check_size(&self, size: usize) -> Result<(), StoreError> {
        if !self.caller.is_privileged() && size > self.limits.node_size {
            return Err(StoreError::NoSpace);
        }
        Ok(())
    }

    fn check_length(&self, path: &Path) -> Result<(), StoreError> {
        if !self.caller.is_privileged() && path.accounted_length() > self.limits.path_length {
            return Err(StoreError::InvalidArgument);
        }
        Ok(())
    }

    fn observe(&mut self, path: &Path) -> Result<(), StoreError> {
        if let Some(record) = &mut self.record {
            record.observe(path);
        }
        self.check_record()
    }

    fn observe_children(&mut self, path: &Path) -> Result<(), StoreError> {
        if let Some(record) = &mut self.record {
            record.observe_children(path);
        }
        self.check_record()
    }

    fn check_record(&self) -> Result<(), StoreError> {
        let full = self
            .record
            .as_ref()
            .is_some_and(|record| record.is_larger_than(self.limits));
        if full && !self.caller.is_privileged() {
            Err(StoreError::NoSpace)
        } else {
            Ok(())
        }
    }

    fn carry_out(&mut self, operation: Operation) -> Result<Option<Change>, StoreError> {
        let change = self.tree.apply(&operation, new_owner(self.caller));
        if let (Some(record), Some(change)) = (&mut self.record, &change) {
            record.did(operation, change.clone());
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::{DomainId, Permission};

    const GUEST: DomainId = DomainId(5);

    struct Fixture {
        tree: Tree,
        limits: Limits,
    }

    impl Fixture {
        /// A tree with the guest's home, of which it may write only `data`.
        fn new() -> Self {
            let mut fixture = Fixture {
                tree: Tree::new(),
                limits: Limits::default(),
            };
            for (at, list) in [
                ("/local/domain/5", "n0 r5"),
                ("/local/domain/5/data", "n5"),
                ("/secret", "n0"),
            ] {
                fixture.control().make_directory(&path(at)).unwrap();
                fixture
                    .control()
                    .set_permissions(&path(at), list_of(list))
                    .unwrap();
            }
            fixture
        }

        fn control(&mut self) -> View<'_> {
            View {
                tree: &mut self.tree,
                record: None,
                caller: Caller::CONTROL,
                limits: &self.limits,
            }
        }

        fn guest(&mut self) -> View<'_> {
            let caller = Caller {
                domain: GUEST,
                target: None,
            };
            View {
                tree: &mut self.tree,
                record: None,
                caller,
                limits: &self.limits,
            }
        }
    }

    fn path(text: &str) -> Path {
        Path::parse(text, GUEST).unwrap()
    }

    fn list_of(text: &str) -> PermissionList {
        PermissionList::new(
            text.split(' ')
                .map(|entry| Permission::parse(entry).unwrap())
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn a_guest_writes_only_where_it_may() {
        let mut fixture = Fixture::new();
        assert!(fixture.guest().write(&path("data/x/y"), b"1").unwrap().is_some());
        assert_eq!(fixture.guest().read(&path("data/x/y")), Ok(b"1".to_vec()));
        assert_eq!(
            fixture.guest().write(&path("name"), b"1").unwrap_err(),
            StoreError::AccessDenied
        );
        assert_eq!(
            fixture.guest().write(&path("/local/domain/5"), b"1").unwrap_err(),
            StoreError::AccessDenied
        );
        assert_eq!(fixture.tree.owned_by(GUEST), 3);
    }

    #[test]
    fn the_unseen_is_not_told_apart_from_the_missing() {
        let mut fixture = Fixture::new();
        fixture.control().write(&path("/secret/there"), b"").unwrap();
        assert_eq!(
            fixture.guest().read(&path("/secret/there")),
            Err(StoreError::AccessDenied)
        );
        assert_eq!(
            fixture.guest().read(&path("/secret/missing")),
            Err(StoreError::AccessDenied)
        );
        assert_eq!(fixture.guest().read(&path("/missing")), Err(StoreError::NoEntry));
    }

    #[test]
    fn nodes_created_by_a_guest_are_its_own() {
        let mut fixture = Fixture::new();
        fixture
            .control()
            .set_permissions(&path("data"), list_of("r0 b5"))
            .unwrap();
        fixture.guest().write(&path("data/x"), b"").unwrap();
        assert_eq!(
            fixture.guest().permissions(&path("data/x")).unwrap(),
            list_of("r5 b5")
        );
        fixture.control().write(&path("data/x/y"), b"").unwrap();
        assert_eq!(
            fixture.control().permissions(&path("data/x/y")).unwrap().owner(),
            GUEST
        );
    }

    #[test]
    fn only_the_owner_sets_permissions_and_stays_owner() {
        let mut fixture = Fixture::new();
        fixture
            .guest()
            .set_permissions(&path("data"), list_of("r5 b7"))
            .unwrap();
        assert_eq!(
            fixture
                .guest()
                .set_permissions(&path("data"), list_of("r7"))
                .unwrap_err(),
            StoreError::NotPermitted
        );
        fixture
            .control()
            .set_permissions(&path("/secret"), list_of("n0 b5"))
            .unwrap();
        assert_eq!(
            fixture
                .guest()
                .set_permissions(&path("/secret"), list_of("b0 b5"))
                .unwrap_err(),
            StoreError::AccessDenied
        );
        assert_eq!(
            fixture
                .guest()
                .set_permissions(&path("data"), list_of("n5 r1 r2 r3 r4 r6"))
                .unwrap_err(),
            StoreError::NoSpace
        );
    }

    #[test]
    fn a_guest_is_held_to_its_quota_and_nothing_is_half_done() {
        let mut fixture = Fixture::new();
        fixture.limits.nodes = 4;
        fixture.guest().write(&path("data/a"), b"").unwrap();
        let before = fixture.tree.generation();
        assert_eq!(
            fixture.guest().write(&path("data/b/c/d"), b"").unwrap_err(),
            StoreError::NoSpace
        );
        assert_eq!(fixture.tree.generation(), before);
        fixture.guest().write(&path("data/b/c"), b"").unwrap();
        assert_eq!(
            fixture.guest().make_directory(&path("data/e")).unwrap_err(),
            StoreError::NoSpace
        );
        fixture.guest().remove(&path("data/b")).unwrap();
        fixture.guest().make_directory(&path("data/e")).unwrap();
        fixture.control().write(&path("data/f/g/h/i"), b"").unwrap();
    }

    #[test]
    fn a_node_cannot_grow_beyond_its_limit() {
        let mut fixture = Fixture::new();
        assert!(fixture.guest().write(&path("data/a"), &[0; 2000]).is_ok());
        assert_eq!(
            fixture.guest().write(&path("data/a"), &[0; 2045]).unwrap_err(),
            StoreError::NoSpace
        );
        let long = "n".repeat(1000);
        fixture
            .guest()
            .make_directory(&path(&format!("data/{long}1")))
            .unwrap();
        fixture
            .guest()
            .make_directory(&path(&format!("data/{long}2")))
            .unwrap();
        assert_eq!(
            fixture
                .guest()
                .make_directory(&path(&format!("data/{long}3")))
                .unwrap_err(),
            StoreError::NoSpace
        );
    }

    #[test]
    fn removing_what_is_missing_is_fine_below_what_exists() {
        let mut fixture = Fixture::new();
        assert!(fixture.control().remove(&path("/missing")).unwrap().is_none());
        assert_eq!(
            fixture.control().remove(&path("/missing/below")).unwrap_err(),
            StoreError::NoEntry
        );
        assert_eq!(
            fixture.control().remove(&Path::root()).unwrap_err(),
            StoreError::InvalidArgument
        );
    }

    #[test]
    fn long_listings_come_in_parts() {
        let mut fixture = Fixture::new();
        let names: Vec<String> = (0..2000).map(|index| format!("child-{index:05}")).collect();
        for name in &names {
            fixture
                .control()
                .write(&path(&format!("/many/{name}")), b"")
                .unwrap();
        }
        assert_eq!(
            fixture.control().directory(&path("/many")),
            Err(StoreError::TooBig)
        );
        let mut collected = Vec::new();
        let generation = fixture
            .tree
            .get(&path("/many"))
            .unwrap()
            .children_generation()
            .to_string();
        loop {
            let part = fixture
                .control()
                .directory_part(&path("/many"), collected.len())
                .unwrap();
            assert!(part.len() <= PAYLOAD_MAX);
            let body = part.strip_prefix(format!("{generation}\0").as_bytes()).unwrap();
            collected.extend_from_slice(body);
            if collected.ends_with(b"\0\0") {
                break;
            }
        }
        collected.pop();
        let listed: Vec<&[u8]> = collected
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(
            listed,
            names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>()
        );
        assert!(
            fixture
                .control()
                .directory_part(&path("/many"), 1 << 20)
                .unwrap()
                .ends_with(b"\0\0")
        );
    }

    #[test]
    fn a_guests_transaction_is_bounded() {
        let mut fixture = Fixture::new();
        fixture.limits.transaction_nodes = 10;
        let mut record = Record::default();
        let caller = Caller {
            domain: GUEST,
            target: None,
        };
        let mut view = View {
            tree: &mut fixture.tree,
            record: Some(&mut record),
            caller,
            limits: &fixture.limits,
        };
        let refused = (0..100).find(|_| view.write(&path("data"), b"x").is_err());
        assert_eq!(refused, Some(11));
    }
}
