//! Watches: who wants to hear of changes where.

use crate::path::Path;
use crate::permission::DomainId;
use crate::wire::StoreError;
use hypercall_abi::io::xenstore::special_watch;
use std::collections::{BTreeMap, BTreeSet};

/// Names a connection for as long as the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What can be watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A node and all below it.
    Node(Path),
    /// The coming or going of domains.
    Special(SpecialNode),
}

/// Names that can be watched but are no nodes of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecialNode {
    /// A domain was introduced.
    IntroduceDomain,
    /// A domain was released, shut down or destroyed.
    ReleaseDomain,
}

impl SpecialNode {
    /// Both of them.
    pub const ALL: [SpecialNode; 2] = [SpecialNode::IntroduceDomain, SpecialNode::ReleaseDomain];

    /// The name that clients use.
    pub fn name(self) -> &'static str {
        match self {
            SpecialNode::IntroduceDomain => special_watch::INTRODUCE_DOMAIN,
            SpecialNode::ReleaseDomain => special_watch::RELEASE_DOMAIN,
        }
    }
}

impl Subject {
    /// Reads what a client names; a name that begins with `@` must be one we know.
    pub fn parse(text: &str, client: DomainId) -> Result<Self, StoreError> {
        if text.starts_with('@') {
            let known = SpecialNode::ALL
                .into_iter()
                .find(|special| special.name() == text);
            return known.map(Subject::Special).ok_or(StoreError::InvalidArgument);
        }
        Path::parse(text, client).map(Subject::Node)
    }
}

/// One watch, as delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Who is told.
    pub connection: ConnectionId,
    /// The client's word for this watch.
    pub token: String,
    /// The client's home if it named the node relative to it, so that events name it so, too.
    pub home: Option<Path>,
}

impl Watch {
    /// The path that an event about `path` carries.
    pub fn event_path<'a>(&self, path: &'a str) -> &'a str {
        self.home
            .as_ref()
            .and_then(|home| home.relative(path))
            .unwrap_or(path)
    }
}

/// All watches, found by what they watch and by whose they are.
#[derive(Debug, Default)]
pub struct Watches {
    by_subject: BTreeMap<Subject, Vec<Watch>>,
    by_connection: BTreeMap<ConnectionId, BTreeSet<(Subject, String)>>,
}

impl Watches {
    /// Adds a watch. The same subject may be watched several times, with different tokens.
    pub fn add(&mut self, subject: Subject, watch: Watch) -> Result<(), StoreError> {
        let own = self.by_connection.entry(watch.connection).or_default();
        if !own.insert((subject.clone(), watch.token.clone())) {
            return Err(StoreError::Exists);
        }
        self.by_subject.entry(subject).or_default().push(watch);
        Ok(())
    }

    /// Removes one watch.
    pub fn remove(
        &mut self,
        connection: ConnectionId,
        subject: &Subject,
        token: &str,
    ) -> Result<(), StoreError> {
        let own = self
            .by_connection
            .get_mut(&connection)
            .ok_or(StoreError::NoEntry)?;
        if !own.remove(&(subject.clone(), token.to_owned())) {
            return Err(StoreError::NoEntry);
        }
        if own.is_empty() {
            self.by_connection.remove(&connection);
        }
        self.forget(subject, |watch| {
            watch.connection == connection && watch.token == token
        });
        Ok(())
    }

    /// Removes all watches of a connection.
    pub fn remove_all(&mut self, connection: ConnectionId) {
        for (subject, _) in self.by_connection.remove(&connection).unwrap_or_default() {
            self.forget(&subject, |watch| watch.connection == connection);
        }
    }

    fn forget(&mut self, subject: &Subject, gone: impl Fn(&Watch) -> bool) {
        if let Some(watches) = self.by_subject.get_mut(subject) {
            watches.retain(|watch| !gone(watch));
            if watches.is_empty() {
                self.by_subject.remove(subject);
            }
        }
    }

    /// How many watches a connection has.
    pub fn count(&self, connection: ConnectionId) -> usize {
        self.by_connection.get(&connection).map_or(0, BTreeSet::len)
    }

    /// The watches on exactly this subject.
    pub fn on(&self, subject: &Subject) -> &[Watch] {
        self.by_subject.get(subject).map_or(&[], Vec::as_slice)
    }

    /// The watches that hear of a change at `path`: those on it and on everything above.
    pub fn concerned(&self, path: &Path) -> impl Iterator<Item = &Watch> {
        let mut at = Some(path.clone());
        std::iter::from_fn(move || {
            let here = at.take()?;
            at = here.parent();
            Some(self.on(&Subject::Node(here)))
        })
        .flatten()
    }

    /// The watches on nodes below `path`, with the nodes' paths.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Path, &'a Watch)> {
        self.by_subject
            .range(Subject::Node(path.below_begins_at())..)
            .map_while(move |(subject, watches)| match subject {
                Subject::Node(node) => path.relative(node.as_str()).map(|rest| (rest, node, watches)),
                Subject::Special(_) => None,
            })
            .filter(|(rest, _, _)| !rest.is_empty())
            .flat_map(|(_, node, watches)| watches.iter().map(move |watch| (node, watch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text, DomainId::CONTROL).unwrap()
    }

    fn watch(connection: u64, token: &str) -> Watch {
        Watch {
            connection: ConnectionId(connection),
            token: token.to_owned(),
            home: None,
        }
    }

    #[test]
    fn watches_are_told_apart_by_subject_and_token() {
        let mut watches = Watches::default();
        let subject = Subject::Node(path("/a"));
        watches.add(subject.clone(), watch(1, "x")).unwrap();
        watches.add(subject.clone(), watch(1, "y")).unwrap();
        watches.add(subject.clone(), watch(2, "x")).unwrap();
        assert_eq!(
            watches.add(subject.clone(), watch(1, "x")),
            Err(StoreError::Exists)
        );
        assert_eq!(watches.count(ConnectionId(1)), 2);
        watches.remove(ConnectionId(1), &subject, "x").unwrap();
        assert_eq!(
            watches.remove(ConnectionId(1), &subject, "x"),
            Err(StoreError::NoEntry)
        );
        watches.remove_all(ConnectionId(1));
        assert_eq!(watches.count(ConnectionId(1)), 0);
        assert_eq!(watches.on(&subject), [watch(2, "x")]);
    }

    #[test]
    fn watches_above_and_below_are_found() {
        let mut watches = Watches::default();
        for at in ["/", "/a", "/a/b", "/a/b/c", "/a-x", "/a/bc", "/b"] {
            watches.add(Subject::Node(path(at)), watch(1, at)).unwrap();
        }
        let above: Vec<_> = watches
            .concerned(&path("/a/b"))
            .map(|watch| watch.token.as_str())
            .collect();
        assert_eq!(above, ["/a/b", "/a", "/"]);
        let top = path("/a");
        let below: Vec<_> = watches.below(&top).map(|(node, _)| node.as_str()).collect();
        assert_eq!(below, ["/a/b", "/a/b/c", "/a/bc"]);
        assert_eq!(watches.below(&Path::root()).count(), 6);
    }

    #[test]
    fn only_known_special_names_can_be_watched() {
        assert_eq!(
            Subject::parse("@releaseDomain", DomainId(1)),
            Ok(Subject::Special(SpecialNode::ReleaseDomain))
        );
        assert_eq!(
            Subject::parse("@nonsense", DomainId(1)),
            Err(StoreError::InvalidArgument)
        );
    }

    #[test]
    fn events_of_relative_watches_are_relative() {
        let relative = Watch {
            home: Some(Path::home(DomainId(3))),
            ..watch(1, "t")
        };
        assert_eq!(relative.event_path("/local/domain/3/device"), "device");
        assert_eq!(
            watch(1, "t").event_path("/local/domain/3/device"),
            "/local/domain/3/device"
        );
    }
}
