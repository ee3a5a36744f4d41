//! The tree of nodes: persistent, so that a transaction's snapshot costs one reference.
//!
//! Cloning a [`Tree`] shares everything; a change copies only the nodes on the way from the root to what it touches,
//! and within a node only a logarithmic part of its table of children. The tree knows nothing of callers: who may do
//! what is decided in [`view`](crate::view) before anything here runs, so that no function here fails halfway.

use crate::path::Path;
use crate::permission::{Access, DomainId, PermissionList};
use rpds::RedBlackTreeMapSync;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A node: a value, a permission list and children.
#[derive(Clone, Debug)]
pub struct Node {
    value: Arc<[u8]>,
    permissions: PermissionList,
    children: RedBlackTreeMapSync<Arc<str>, Arc<Node>>,
    /// Bytes of all children's names, each with its NUL: what a directory listing takes.
    listing_length: usize,
    content_generation: u64,
    children_generation: u64,
}

impl Node {
    fn new(value: &[u8], permissions: PermissionList, generation: u64) -> Self {
        Node {
            value: value.into(),
            permissions,
            children: RedBlackTreeMapSync::new_sync(),
            listing_length: 0,
            content_generation: generation,
            children_generation: generation,
        }
    }

    /// What the node holds.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Who may do what with it.
    pub fn permissions(&self) -> &PermissionList {
        &self.permissions
    }

    /// The children's names, in order.
    pub fn child_names(&self) -> impl Iterator<Item = &str> {
        self.children.keys().map(|name| &**name)
    }

    /// Bytes that a listing of the children takes.
    pub fn listing_length(&self) -> usize {
        self.listing_length
    }

    /// Changes whenever a child appears or vanishes.
    pub fn children_generation(&self) -> u64 {
        self.children_generation
    }

    /// What the node counts against the limit on a node's size.
    pub fn accounted_size(&self) -> usize {
        self.value.len() + self.listing_length + self.permissions.entries().len() * size_of::<u64>()
    }

    /// The node at a relative path below this one.
    pub fn descendant(&self, relative: &str) -> Option<&Node> {
        relative
            .split('/')
            .try_fold(self, |node, name| node.children.get(name).map(|child| &**child))
    }

    /// Calls `visit` for this node and all below it. The depth is bounded by the longest path.
    fn for_each(&self, visit: &mut impl FnMut(&Node)) {
        visit(self);
        for child in self.children.values() {
            child.for_each(visit);
        }
    }
}

/// What a node looked like at a moment, for conflict detection; `None` where there was no node.
pub type Stamp = Option<(u64, u64)>;

/// How often a domain is mentioned in the tree's permission lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mentions {
    /// Nodes that it owns.
    owned: usize,
    /// Entries about it in lists of others' nodes.
    named: usize,
}

/// All nodes, and how many of them each domain owns.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
    mentions: RedBlackTreeMapSync<DomainId, Mentions>,
    generation: u64,
}

/// One change to the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Give the node this value; create it and what is missing above it.
    Write(Path, Arc<[u8]>),
    /// Create the node, empty, and what is missing above it; nothing if it exists.
    MakeDirectory(Path),
    /// Remove the node and all below it; nothing if there is none.
    Remove(Path),
    /// Replace the permission list of a node, if it exists.
    SetPermissions(Path, PermissionList),
}

/// What an operation changed: the material of watch events.
#[derive(Clone, Debug)]
pub struct Change {
    /// The node that the operation named.
    pub path: Path,
    /// The node with all below it, if it was removed.
    pub removed: Option<Arc<Node>>,
    /// The permission list before, if that was replaced.
    pub previous: Option<PermissionList>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// A tree with nothing but a root, which everybody may read.
    pub fn new() -> Self {
        let permissions = PermissionList::owned_by(DomainId::CONTROL, Access::READ);
        let mut tree = Tree {
            root: Arc::new(Node::new(b"", permissions.clone(), 1)),
            mentions: RedBlackTreeMapSync::new_sync(),
            generation: 1,
        };
        tree.count(&permissions, 1);
        tree
    }

    /// Changes with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The node at a path.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        path.components().try_fold(&*self.root, |node, name| {
            node.children.get(name).map(|child| &**child)
        })
    }

    /// The node at a path, for comparing it with itself at another moment.
    pub fn stamp(&self, path: &Path) -> Stamp {
        self.get(path)
            .map(|node| (node.content_generation, node.children_generation))
    }

    /// The node at the path itself or the closest one above it, and how many components of the path lead there.
    pub fn nearest_existing(&self, path: &Path) -> (usize, &Node) {
        let mut node = &*self.root;
        for (depth, name) in path.components().enumerate() {
            match node.children.get(name) {
                Some(child) => node = child,
                None => return (depth, node),
            }
        }
        (path.components().count(), node)
    }

    /// How many nodes the domain owns.
    pub fn owned_by(&self, domain: DomainId) -> usize {
        self.mentions.get(&domain).map_or(0, |mentions| mentions.owned)
    }

    /// The domains that some node's permission list mentions.
    pub fn mentioned_domains(&self) -> impl Iterator<Item = DomainId> {
        self.mentions.keys().copied()
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.mentions.values().map(|mentions| mentions.owned).sum()
    }

    /// Carries out an operation. `new_owner` becomes the owner of nodes it creates; without one they inherit theirs.
    /// Returns nothing if nothing changed.
    pub fn apply(&mut self, operation: &Operation, new_owner: Option<DomainId>) -> Option<Change> {
        let (path, removed, previous) = match operation {
            Operation::Write(path, value) => {
                if !self.set_value(path, value) {
                    self.create(path, value, new_owner);
                }
                (path, None, None)
            }
            Operation::MakeDirectory(path) => {
                if self.get(path).is_some() {
                    return None;
                }
                self.create(path, b"", new_owner);
                (path, None, None)
            }
            Operation::Remove(path) => (path, Some(self.remove(path)?), None),
            Operation::SetPermissions(path, permissions) => {
                (path, None, Some(self.set_permissions(path, permissions)?))
            }
        };
        Some(Change {
            path: path.clone(),
            removed,
            previous,
        })
    }

    /// The node for changing, with everything above it made this tree's own.
    fn get_mut(&mut self, path: &Path) -> Option<&mut Node> {
        // Looking first spares the copies when there is nothing to change.
        self.get(path)?;
        let mut node = Arc::make_mut(&mut self.root);
        for name in path.components() {
            node = Arc::make_mut(node.children.get_mut(name)?);
        }
        Some(node)
    }

    fn set_value(&mut self, path: &Path, value: &Arc<[u8]>) -> bool {
        let generation = self.generation + 1;
        let Some(node) = self.get_mut(path) else {
            return false;
        };
        node.value = value.clone();
        node.content_generation = generation;
        self.generation = generation;
        true
    }

    fn create(&mut self, path: &Path, value: &[u8], new_owner: Option<DomainId>) {
        let (depth, node) = self.nearest_existing(path);
        let nearest = path.prefix(depth);
        let inherited = node.permissions();
        let permissions = new_owner.map_or_else(|| inherited.clone(), |owner| inherited.with_owner(owner));
        let mut missing = path.components().skip(depth).collect::<Vec<_>>();
        let generation = self.generation + 1;
        let created = missing.len();
        // The new branch is built from its tip, so that the tree itself is touched once.
        let mut branch = Node::new(value, permissions.clone(), generation);
        while missing.len() > 1 {
            let name: &str = missing.pop().unwrap_or_default();
            let mut parent = Node::new(b"", permissions.clone(), generation);
            parent.adopt(name, branch);
            branch = parent;
        }
        if let (Some(name), Some(parent)) = (missing.pop(), self.get_mut(&nearest)) {
            parent.adopt(name, branch);
            parent.children_generation = generation;
            self.generation = generation;
            self.count(&permissions, created as isize);
        }
    }

    fn remove(&mut self, path: &Path) -> Option<Arc<Node>> {
        let generation = self.generation + 1;
        self.get(path)?;
        let name = path.name();
        let parent = self.get_mut(&path.parent()?)?;
        let removed = parent.children.get(name)?.clone();
        parent.children.remove_mut(name);
        parent.listing_length -= name.len() + 1;
        parent.children_generation = generation;
        self.generation = generation;
        removed.for_each(&mut |node| self.count(&node.permissions, -1));
        Some(removed)
    }

    fn set_permissions(&mut self, path: &Path, permissions: &PermissionList) -> Option<PermissionList> {
        let generation = self.generation + 1;
        let node = self.get_mut(path)?;
        let previous = std::mem::replace(&mut node.permissions, permissions.clone());
        node.content_generation = generation;
        self.generation = generation;
        self.count(&previous, -1);
        self.count(permissions, 1);
        Some(previous)
    }

    /// Accounts for `nodes` more (or fewer) nodes with this permission list.
    fn count(&mut self, permissions: &PermissionList, nodes: isize) {
        for (index, entry) in permissions.entries().iter().enumerate() {
            let mut mentions = self.mentions.get(&entry.domain).copied().unwrap_or_default();
            let counter = if index == 0 {
                &mut mentions.owned
            } else {
                &mut mentions.named
            };
            *counter = counter.saturating_add_signed(nodes);
            if mentions == Mentions::default() {
                self.mentions.remove_mut(&entry.domain);
            } else {
                self.mentions.insert_mut(entry.domain, mentions);
            }
        }
    }

    /// What must happen to the tree when domains are gone: the topmost nodes that they own are to be removed, and they
    /// are to be struck from the lists of all others, lest later domains with their numbers inherit what they could
    /// see. One walk finds everything, however many domains there are: guests name domains at will.
    pub fn traces_of(&self, domains: &BTreeSet<DomainId>) -> Vec<Operation> {
        let mut found = Vec::new();
        if domains.iter().any(|domain| self.mentions.get(domain).is_some()) {
            Self::collect_traces(&self.root, &Path::root(), domains, &mut found);
        }
        found
    }

    fn collect_traces(node: &Node, path: &Path, domains: &BTreeSet<DomainId>, found: &mut Vec<Operation>) {
        if domains.contains(&node.permissions.owner()) && !path.is_root() {
            found.push(Operation::Remove(path.clone()));
            return;
        }
        if let Some(permissions) = node.permissions.without(domains) {
            found.push(Operation::SetPermissions(path.clone(), permissions));
        }
        for (name, child) in node.children.iter() {
            Self::collect_traces(child, &path.child(name), domains, found);
        }
    }

    /// Compares every count kept along with the nodes with what the nodes themselves say.
    pub fn check(&self) -> Result<(), String> {
        let mut recounted = Tree {
            mentions: RedBlackTreeMapSync::new_sync(),
            ..self.clone()
        };
        let mut wrong = 0;
        self.root.for_each(&mut |node| {
            recounted.count(&node.permissions, 1);
            let listing: usize = node.child_names().map(|name| name.len() + 1).sum();
            wrong += usize::from(listing != node.listing_length);
        });
        if wrong > 0 || recounted.mentions != self.mentions {
            return Err(format!(
                "{wrong} listings wrong, counts {:?}, nodes say {:?}",
                self.mentions, recounted.mentions
            ));
        }
        Ok(())
    }
}

impl Node {
    fn adopt(&mut self, name: &str, child: Node) {
        self.children.insert_mut(name.into(), Arc::new(child));
        self.listing_length += name.len() + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Permission;

    fn path(text: &str) -> Path {
        Path::parse(text, DomainId::CONTROL).unwrap()
    }

    fn write(tree: &mut Tree, at: &str, value: &str) -> Change {
        tree.apply(&Operation::Write(path(at), value.as_bytes().into()), None)
            .unwrap()
    }

    #[test]
    fn writing_creates_everything_above() {
        let mut tree = Tree::new();
        write(&mut tree, "/a/b/c", "x");
        assert_eq!(tree.get(&path("/a/b/c")).unwrap().value(), b"x");
        assert_eq!(tree.get(&path("/a/b")).unwrap().value(), b"");
        assert_eq!(tree.node_count(), 4);
        tree.check().unwrap();
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut tree = Tree::new();
        write(&mut tree, "/a/b", "old");
        let snapshot = tree.clone();
        write(&mut tree, "/a/b", "new");
        write(&mut tree, "/a/c", "");
        tree.apply(&Operation::Remove(path("/a/b")), None).unwrap();
        assert_eq!(snapshot.get(&path("/a/b")).unwrap().value(), b"old");
        assert!(snapshot.get(&path("/a/c")).is_none());
        assert!(tree.get(&path("/a/b")).is_none());
        snapshot.check().unwrap();
        tree.check().unwrap();
    }

    #[test]
    fn removing_takes_the_whole_branch_and_its_counts() {
        let mut tree = Tree::new();
        tree.apply(
            &Operation::Write(path("/a/b/c"), b"x"[..].into()),
            Some(DomainId(5)),
        );
        assert_eq!(tree.owned_by(DomainId(5)), 3);
        let change = tree.apply(&Operation::Remove(path("/a")), None).unwrap();
        assert!(change.removed.unwrap().descendant("b/c").is_some());
        assert_eq!(tree.owned_by(DomainId(5)), 0);
        assert_eq!(tree.node_count(), 1);
        assert_eq!(tree.mentioned_domains().collect::<Vec<_>>(), [DomainId(0)]);
        tree.check().unwrap();
    }

    #[test]
    fn stamps_tell_content_from_children() {
        let mut tree = Tree::new();
        write(&mut tree, "/a", "");
        let before = tree.stamp(&path("/a")).unwrap();
        write(&mut tree, "/a/b", "");
        let with_child = tree.stamp(&path("/a")).unwrap();
        assert_eq!(before.0, with_child.0);
        assert_ne!(before.1, with_child.1);
        write(&mut tree, "/a", "value");
        let with_value = tree.stamp(&path("/a")).unwrap();
        assert_ne!(with_child.0, with_value.0);
        assert_eq!(with_child.1, with_value.1);
    }

    #[test]
    fn a_gone_domain_leaves_no_trace() {
        let mut tree = Tree::new();
        let guest = DomainId(5);
        tree.apply(
            &Operation::Write(path("/local/domain/5/data/x"), b""[..].into()),
            Some(guest),
        );
        write(&mut tree, "/backend/vif/5", "");
        let list = ["n0", "r5", "r6"].map(|entry| Permission::parse(entry).unwrap());
        let list = PermissionList::new(list.to_vec()).unwrap();
        tree.apply(&Operation::SetPermissions(path("/backend/vif/5"), list), None);
        for operation in tree.traces_of(&BTreeSet::from([guest])) {
            tree.apply(&operation, None);
        }
        assert_eq!(
            tree.get(&path("/backend/vif/5")).unwrap().permissions().encode(),
            b"n0\0r6\0"
        );
        assert!(tree.traces_of(&BTreeSet::from([guest])).is_empty());
        assert!(!tree.mentioned_domains().any(|domain| domain == guest));
        tree.check().unwrap();
    }

    #[test]
    fn the_deepest_path_is_no_danger() {
        let mut tree = Tree::new();
        let deep = "/a".repeat(crate::path::ABSOLUTE_PATH_MAX / 2);
        write(&mut tree, &deep, "x");
        assert_eq!(tree.node_count(), 1 + crate::path::ABSOLUTE_PATH_MAX / 2);
        let snapshot = tree.clone();
        tree.apply(&Operation::Remove(path("/a")), None).unwrap();
        snapshot.check().unwrap();
        drop(snapshot);
    }
}
