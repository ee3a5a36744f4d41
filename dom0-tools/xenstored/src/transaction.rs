//! Transactions: a private copy of the tree, a record of what was looked at, and a list of what was done.
//!
//! A transaction commits if everything it looked at is still as it was when it began; otherwise the client is told to
//! try again. If nothing else happened meanwhile, its copy simply becomes the tree; else its operations are carried
//! out again on the tree as it is now, which gives the same result because all they depend on is unchanged.

use crate::path::Path;
use crate::permission::{Caller, DomainId};
use crate::quota::Limits;
use crate::tree::{Change, Operation, Tree};
use crate::wire::StoreError;
use std::collections::{BTreeMap, HashSet};

/// What was looked at and done in a transaction.
#[derive(Debug, Default)]
pub struct Record {
    /// Nodes looked at, also in vain; true where the table of children mattered, too.
    observed: BTreeMap<Path, bool>,
    operations: Vec<Operation>,
    changes: Vec<Change>,
    /// Bytes of paths and values in all of that.
    bytes: usize,
}

impl Record {
    /// Notes that the outcome depends on this node's existence, value and permissions.
    pub fn observe(&mut self, path: &Path) {
        if !self.observed.contains_key(path) {
            self.bytes += path.as_str().len();
            self.observed.insert(path.clone(), false);
        }
    }

    /// Notes that the outcome depends on the node's children, too.
    pub fn observe_children(&mut self, path: &Path) {
        self.observe(path);
        self.observed.insert(path.clone(), true);
    }

    /// Notes a change that was made in the transaction's copy.
    pub fn did(&mut self, operation: Operation, change: Change) {
        self.bytes += change.path.as_str().len();
        if let Operation::Write(_, value) = &operation {
            self.bytes += value.len();
        }
        self.operations.push(operation);
        self.changes.push(change);
    }

    /// Whether the record holds more than a guest's may.
    pub fn is_larger_than(&self, limits: &Limits) -> bool {
        self.observed.len().max(self.operations.len()) > limits.transaction_nodes
            || self.bytes > limits.transaction_bytes
    }
}

/// An open transaction.
#[derive(Debug)]
pub struct Transaction {
    base: Tree,
    /// The private copy.
    pub tree: Tree,
    /// What was looked at and done.
    pub record: Record,
}

impl Transaction {
    /// Begins with the tree as it is.
    pub fn begin(tree: &Tree) -> Self {
        Transaction {
            base: tree.clone(),
            tree: tree.clone(),
            record: Record::default(),
        }
    }

    /// Ends it by carrying it out. The changes returned are what watchers are to be told.
    pub fn commit(self, main: &mut Tree, caller: Caller, limits: &Limits) -> Result<Vec<Change>, StoreError> {
        if main.generation() == self.base.generation() {
            *main = self.tree;
            return Ok(distinct(self.record.changes));
        }
        if self.conflicts_with(main) {
            return Err(StoreError::TryAgain);
        }
        if self.record.operations.is_empty() {
            return Ok(Vec::new());
        }
        let mut merged = main.clone();
        let owner = new_owner(caller);
        let changes = self
            .record
            .operations
            .iter()
            .filter_map(|operation| merged.apply(operation, owner))
            .collect::<Vec<_>>();
        // Each of two transactions may have kept within the limit that both together exceed.
        if !caller.is_privileged()
            && merged.owned_by(caller.domain) > limits.nodes.max(main.owned_by(caller.domain))
        {
            return Err(StoreError::NoSpace);
        }
        *main = merged;
        Ok(distinct(changes))
    }

    fn conflicts_with(&self, main: &Tree) -> bool {
        self.record.observed.iter().any(|(path, children)| {
            let (then, now) = (self.base.stamp(path), main.stamp(path));
            if *children {
                then != now
            } else {
                then.map(|stamp| stamp.0) != now.map(|stamp| stamp.0)
            }
        })
    }
}

/// Who owns the nodes that the caller creates; nobody in particular for the control domain, whose nodes inherit.
pub fn new_owner(caller: Caller) -> Option<DomainId> {
    (!caller.is_privileged()).then_some(caller.domain)
}

/// One change per node and kind: watchers are to look again, how often something changed is nothing to them.
fn distinct(changes: Vec<Change>) -> Vec<Change> {
    let mut seen = HashSet::new();
    changes
        .into_iter()
        .filter(|change| seen.insert((change.path.clone(), change.removed.is_some())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text, DomainId::CONTROL).unwrap()
    }

    fn write(tree: &mut Tree, at: &str, value: &str) {
        tree.apply(&Operation::Write(path(at), value.as_bytes().into()), None);
    }

    fn write_in(transaction: &mut Transaction, at: &str, value: &str) {
        let operation = Operation::Write(path(at), value.as_bytes().into());
        transaction.record.observe(&path(at));
        let change = transaction.tree.apply(&operation, None).unwrap();
        transaction.record.did(operation, change);
    }

    fn commit(transaction: Transaction, main: &mut Tree) -> Result<usize, StoreError> {
        transaction
            .commit(main, Caller::CONTROL, &Limits::default())
            .map(|changes| changes.len())
    }

    #[test]
    fn an_undisturbed_transaction_becomes_the_tree() {
        let mut main = Tree::new();
        let mut transaction = Transaction::begin(&main);
        write_in(&mut transaction, "/a", "1");
        write_in(&mut transaction, "/a", "2");
        assert!(main.get(&path("/a")).is_none());
        assert_eq!(commit(transaction, &mut main), Ok(1));
        assert_eq!(main.get(&path("/a")).unwrap().value(), b"2");
    }

    #[test]
    fn what_was_read_must_not_have_changed() {
        let mut main = Tree::new();
        write(&mut main, "/a", "1");
        let mut transaction = Transaction::begin(&main);
        transaction.record.observe(&path("/a"));
        write_in(&mut transaction, "/b", "derived");
        write(&mut main, "/a", "2");
        assert_eq!(commit(transaction, &mut main), Err(StoreError::TryAgain));
        assert!(main.get(&path("/b")).is_none());
    }

    #[test]
    fn what_was_missing_must_still_be_missing() {
        let mut main = Tree::new();
        let mut transaction = Transaction::begin(&main);
        transaction.record.observe(&path("/a"));
        write_in(&mut transaction, "/b", "");
        write(&mut main, "/a", "");
        assert_eq!(commit(transaction, &mut main), Err(StoreError::TryAgain));
    }

    #[test]
    fn unrelated_changes_are_merged() {
        let mut main = Tree::new();
        write(&mut main, "/dir/x", "");
        let mut transaction = Transaction::begin(&main);
        transaction.record.observe(&path("/dir"));
        write_in(&mut transaction, "/dir/mine", "1");
        write(&mut main, "/dir/theirs", "2");
        assert_eq!(commit(transaction, &mut main), Ok(1));
        assert_eq!(main.get(&path("/dir/mine")).unwrap().value(), b"1");
        assert_eq!(main.get(&path("/dir/theirs")).unwrap().value(), b"2");
        main.check().unwrap();
    }

    #[test]
    fn a_listing_conflicts_with_a_new_child() {
        let mut main = Tree::new();
        write(&mut main, "/dir/x", "");
        let mut transaction = Transaction::begin(&main);
        transaction.record.observe_children(&path("/dir"));
        write(&mut main, "/dir/y", "");
        assert_eq!(commit(transaction, &mut main), Err(StoreError::TryAgain));
    }

    #[test]
    fn removed_and_created_again_is_not_the_same_node() {
        let mut main = Tree::new();
        write(&mut main, "/a", "1");
        let mut transaction = Transaction::begin(&main);
        transaction.record.observe(&path("/a"));
        main.apply(&Operation::Remove(path("/a")), None);
        write(&mut main, "/a", "1");
        assert_eq!(commit(transaction, &mut main), Err(StoreError::TryAgain));
    }
}
