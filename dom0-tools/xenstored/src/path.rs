//! Names of nodes: canonical, absolute, and checked once.

use crate::permission::DomainId;
use crate::wire::StoreError;
use std::borrow::Borrow;
use std::fmt;

pub use hypercall_abi::io::xenstore::limit::{ABSOLUTE_PATH_MAX, RELATIVE_PATH_MAX};

/// The absolute path of a node. Holding one proves that it is well-formed: it starts with a slash, ends in none
/// (but for the root), has no empty component and only the characters the protocol allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// The root of the tree.
    pub fn root() -> Self {
        Path("/".to_owned())
    }

    /// The home of a domain, where its relative paths begin.
    pub fn home(domain: DomainId) -> Self {
        Path(format!("/local/domain/{}", domain.0))
    }

    /// Checks a path from a client; relative ones count from the client's home.
    pub fn parse(text: &str, client: DomainId) -> Result<Self, StoreError> {
        let absolute = if text.starts_with('/') {
            if text.len() > ABSOLUTE_PATH_MAX {
                return Err(StoreError::InvalidArgument);
            }
            text.to_owned()
        } else {
            if text.len() > RELATIVE_PATH_MAX {
                return Err(StoreError::InvalidArgument);
            }
            format!("{}/{text}", Path::home(client))
        };
        if Self::is_well_formed(&absolute) {
            Ok(Path(absolute))
        } else {
            Err(StoreError::InvalidArgument)
        }
    }

    fn is_well_formed(text: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'@');
        text == "/"
            || (text.starts_with('/')
                && text.bytes().all(allowed)
                && text[1..].split('/').all(|component| !component.is_empty()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The names on the way from the root to the node.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/').filter(|component| !component.is_empty())
    }

    /// The node above; none above the root.
    pub fn parent(&self) -> Option<Path> {
        let cut = self.0.rfind('/')?;
        match (self.is_root(), cut) {
            (true, _) => None,
            (false, 0) => Some(Path::root()),
            (false, cut) => Some(Path(self.0[..cut].to_owned())),
        }
    }

    /// The last name of the path; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The child of this node with a name that is already known to be well-formed.
    pub fn child(&self, name: &str) -> Path {
        if self.is_root() {
            Path(format!("/{name}"))
        } else {
            Path(format!("{}/{name}", self.0))
        }
    }

    /// This path and all above it, as text, from the root down.
    pub fn lineage(&self) -> impl Iterator<Item = &str> {
        let inner = (!self.is_root()).then(|| {
            self.0
                .match_indices('/')
                .skip(1)
                .map(|(at, _)| &self.0[..at])
                .chain(std::iter::once(self.0.as_str()))
        });
        std::iter::once("/").chain(inner.into_iter().flatten())
    }

    /// The path of which only so many components are left.
    pub fn prefix(&self, components: usize) -> Path {
        match self.lineage().nth(components) {
            Some(text) => Path(text.to_owned()),
            None => self.clone(),
        }
    }

    /// The path of a node below this one, as seen from here.
    pub fn relative<'a>(&self, below: &'a str) -> Option<&'a str> {
        if self.is_root() {
            below.strip_prefix('/')
        } else {
            below.strip_prefix(self.as_str())?.strip_prefix('/')
        }
    }

    /// In order, the first path that any node below this one could have: a lower bound for searching, no node's name.
    pub(crate) fn below_begins_at(&self) -> Path {
        if self.is_root() {
            self.clone()
        } else {
            Path(format!("{}/", self.0))
        }
    }

    /// The length that counts for a client's limit: what follows the home of a domain, or all of it elsewhere.
    pub fn accounted_length(&self) -> usize {
        let local = self
            .0
            .strip_prefix("/local/domain/")
            .and_then(|rest| rest.split_once('/'));
        match local {
            Some((domain, rest)) if domain.parse::<u16>().is_ok() => rest.len(),
            _ => self.0.len(),
        }
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Path, StoreError> {
        Path::parse(text, DomainId(7))
    }

    #[test]
    fn relative_paths_begin_at_the_clients_home() {
        assert_eq!(
            parse("device/vbd").unwrap().as_str(),
            "/local/domain/7/device/vbd"
        );
    }

    #[test]
    fn malformed_paths_are_refused() {
        for bad in [
            "",
            "/a/",
            "//",
            "/a//b",
            "a/",
            "/a b",
            "/\u{e9}",
            "/a\n",
            "@introduceDomain/",
            "/a.b",
        ] {
            assert_eq!(parse(bad), Err(StoreError::InvalidArgument), "{bad:?}");
        }
        assert!(parse(&format!("/{}", "x".repeat(ABSOLUTE_PATH_MAX - 1))).is_ok());
        assert!(parse(&format!("/{}", "x".repeat(ABSOLUTE_PATH_MAX))).is_err());
        assert!(parse(&"x".repeat(RELATIVE_PATH_MAX + 1)).is_err());
    }

    #[test]
    fn parents_children_and_lineage_agree() {
        let path = parse("/a/b/c").unwrap();
        assert_eq!(path.lineage().collect::<Vec<_>>(), ["/", "/a", "/a/b", "/a/b/c"]);
        assert_eq!(path.parent().unwrap().as_str(), "/a/b");
        assert_eq!(path.parent().unwrap().child("c"), path);
        assert_eq!(Path::root().child("a").parent(), Some(Path::root()));
        assert_eq!(Path::root().parent(), None);
        assert_eq!(Path::root().lineage().collect::<Vec<_>>(), ["/"]);
        assert_eq!(Path::root().components().count(), 0);
        assert_eq!(path.name(), "c");
    }

    #[test]
    fn the_part_below_a_node_is_seen_from_there() {
        let path = parse("/a/b").unwrap();
        assert_eq!(path.relative("/a/b/c/d"), Some("c/d"));
        assert_eq!(path.relative("/a/bc"), None);
        assert_eq!(Path::root().relative("/a"), Some("a"));
    }

    #[test]
    fn a_domains_home_does_not_count_for_its_limit() {
        assert_eq!(parse("abc").unwrap().accounted_length(), 3);
        assert_eq!(parse("/local/domain/x/abc").unwrap().accounted_length(), 19);
    }
}
