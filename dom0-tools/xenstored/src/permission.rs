//! Who may do what with a node.
//!
//! A node's permission list begins with its owner, who may do everything; the access letter of that first entry is
//! what everybody without an entry of their own gets. Domain 0 may do everything everywhere. A device model's domain
//! may act for the one domain that is its target.

use crate::wire::StoreError;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use control::DomainId;

/// The domain with this number in decimal.
pub fn parse_domain(text: &str) -> Result<DomainId, StoreError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(StoreError::InvalidArgument);
    }
    let domain = text
        .parse()
        .map(DomainId)
        .map_err(|_| StoreError::InvalidArgument)?;
    if domain.is_reserved() {
        Err(StoreError::InvalidArgument)
    } else {
        Ok(domain)
    }
}

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The domain that asks.
    pub domain: DomainId,
    /// The domain whose nodes it may treat as its own, for a device model.
    pub target: Option<DomainId>,
}

impl Caller {
    /// The control domain.
    pub const CONTROL: Caller = Caller {
        domain: DomainId::CONTROL,
        target: None,
    };

    /// An ordinary domain.
    pub fn domain(number: u16) -> Self {
        Caller {
            domain: DomainId(number),
            target: None,
        }
    }

    /// Whether permissions, quotas and privileged requests are no obstacle.
    pub fn is_privileged(&self) -> bool {
        self.domain == DomainId::CONTROL
    }
}

/// What one domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// May read the value, the children and the permissions.
    pub read: bool,
    /// May write the value, create children and remove the node.
    pub write: bool,
}

impl Access {
    /// Nothing.
    pub const NONE: Access = Access {
        read: false,
        write: false,
    };
    /// Reading only.
    pub const READ: Access = Access {
        read: true,
        write: false,
    };
    /// Writing only.
    pub const WRITE: Access = Access {
        read: false,
        write: true,
    };
    /// Both.
    pub const BOTH: Access = Access {
        read: true,
        write: true,
    };

    fn letter(self) -> char {
        match (self.read, self.write) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        }
    }

    fn from_letter(letter: char) -> Result<Self, StoreError> {
        match letter {
            'n' => Ok(Access::NONE),
            'r' => Ok(Access::READ),
            'w' => Ok(Access::WRITE),
            'b' => Ok(Access::BOTH),
            _ => Err(StoreError::InvalidArgument),
        }
    }

    /// Whether everything in `needed` is granted.
    pub fn covers(self, needed: Access) -> bool {
        (self.read || !needed.read) && (self.write || !needed.write)
    }
}

/// One entry of a permission list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain it is about.
    pub domain: DomainId,
    /// What that domain may do (in the first entry: what all others may do).
    pub access: Access,
}

impl Permission {
    /// Reads an entry such as `r5`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let letter = text.chars().next().ok_or(StoreError::InvalidArgument)?;
        let access = Access::from_letter(letter)?;
        Ok(Permission {
            domain: parse_domain(&text[1..])?,
            access,
        })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.access.letter(), self.domain)
    }
}

/// A node's permission list; never empty. Shared between the nodes that inherited it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionList(Arc<[Permission]>);

impl PermissionList {
    /// A list from its entries, the owner's first.
    pub fn new(entries: Vec<Permission>) -> Result<Self, StoreError> {
        if entries.is_empty() {
            Err(StoreError::InvalidArgument)
        } else {
            Ok(PermissionList(entries.into()))
        }
    }

    /// A list with an owner and what everybody else gets.
    pub fn owned_by(domain: DomainId, others: Access) -> Self {
        PermissionList(Arc::new([Permission {
            domain,
            access: others,
        }]))
    }

    /// The domain that owns the node.
    pub fn owner(&self) -> DomainId {
        self.0[0].domain
    }

    /// All entries, the owner's first.
    pub fn entries(&self) -> &[Permission] {
        &self.0
    }

    /// What the caller may do.
    pub fn access(&self, caller: Caller) -> Access {
        if self.is_owned_by(caller) {
            return Access::BOTH;
        }
        let entry = self.0[1..].iter().find(|entry| entry.domain == caller.domain);
        entry.unwrap_or(&self.0[0]).access
    }

    /// Whether the caller has an owner's rights.
    pub fn is_owned_by(&self, caller: Caller) -> bool {
        caller.is_privileged() || self.owner() == caller.domain || Some(self.owner()) == caller.target
    }

    /// The same list with another owner: what a node created by a guest inherits.
    pub fn with_owner(&self, owner: DomainId) -> Self {
        if self.owner() == owner {
            return self.clone();
        }
        let mut entries = self.0.to_vec();
        entries[0].domain = owner;
        PermissionList(entries.into())
    }

    /// The list without the entries (other than the owner's) of domains that are gone, if it has any.
    pub fn without(&self, gone: &BTreeSet<DomainId>) -> Option<Self> {
        if !self.0[1..].iter().any(|entry| gone.contains(&entry.domain)) {
            return None;
        }
        let kept = self
            .0
            .iter()
            .enumerate()
            .filter(|(index, entry)| *index == 0 || !gone.contains(&entry.domain));
        Some(PermissionList(kept.map(|(_, entry)| *entry).collect()))
    }

    /// The list as the protocol carries it: every entry followed by a NUL.
    pub fn encode(&self) -> Vec<u8> {
        self.0
            .iter()
            .flat_map(|entry| format!("{entry}\0").into_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> PermissionList {
        PermissionList::new(
            text.split(' ')
                .map(|entry| Permission::parse(entry).unwrap())
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn owner_named_and_others_get_what_the_list_says() {
        let list = list("r5 b6 w7 n8");
        assert_eq!(list.access(Caller::domain(5)), Access::BOTH);
        assert_eq!(list.access(Caller::domain(6)), Access::BOTH);
        assert_eq!(list.access(Caller::domain(7)), Access::WRITE);
        assert_eq!(list.access(Caller::domain(8)), Access::NONE);
        assert_eq!(list.access(Caller::domain(9)), Access::READ);
        assert_eq!(list.access(Caller::CONTROL), Access::BOTH);
    }

    #[test]
    fn a_device_model_acts_for_its_target_only() {
        let model = Caller {
            domain: DomainId(9),
            target: Some(DomainId(5)),
        };
        assert!(list("n5").is_owned_by(model));
        assert!(!list("n6").is_owned_by(model));
        assert_eq!(list("n6 r5").access(model), Access::NONE);
    }

    #[test]
    fn entries_are_parsed_strictly() {
        for bad in ["", "r", "x1", "r-1", "r1x", "r65536", "r32752", "1", "r+1"] {
            assert!(Permission::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Permission::parse("b12").unwrap().to_string(), "b12");
    }

    #[test]
    fn lists_are_encoded_entry_by_entry() {
        assert_eq!(list("n0 r5").encode(), b"n0\0r5\0");
    }

    #[test]
    fn a_gone_domain_is_struck_from_the_list_but_not_as_owner() {
        assert_eq!(
            list("n0 r5 b6").without(&BTreeSet::from([DomainId(5)])),
            Some(list("n0 b6"))
        );
        assert_eq!(list("n5 r6").without(&BTreeSet::from([DomainId(5)])), None);
    }
}
