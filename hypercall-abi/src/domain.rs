//! Domain identifiers (`DOMID_*` and `domid_t` in `xen.h`).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The number of a domain, or one of the reserved numbers that name a domain by its role.
#[doc(alias = "domid_t")]
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct DomainId(pub u16);

impl DomainId {
    /// The privileged control domain.
    pub const CONTROL: DomainId = DomainId(0);
    /// Numbers from here on never belong to an ordinary domain.
    #[doc(alias = "DOMID_FIRST_RESERVED")]
    pub const FIRST_RESERVED: DomainId = DomainId(0x7ff0);
    /// The caller itself.
    #[doc(alias = "DOMID_SELF")]
    pub const SELF: DomainId = DomainId(0x7ff0);
    /// The owner of memory-mapped I/O frames.
    #[doc(alias = "DOMID_IO")]
    pub const IO: DomainId = DomainId(0x7ff1);
    /// The owner of frames that the hypervisor shares out.
    #[doc(alias = "DOMID_XEN")]
    pub const HYPERVISOR: DomainId = DomainId(0x7ff2);
    /// The owner of copy-on-write shared frames.
    #[doc(alias = "DOMID_COW")]
    pub const COPY_ON_WRITE: DomainId = DomainId(0x7ff3);
    /// No domain; also "choose one" in some requests.
    #[doc(alias = "DOMID_INVALID")]
    pub const INVALID: DomainId = DomainId(0x7ff4);
    /// The idle domain.
    #[doc(alias = "DOMID_IDLE")]
    pub const IDLE: DomainId = DomainId(0x7fff);
    /// The bits that a valid number may have.
    #[doc(alias = "DOMID_MASK")]
    pub const MASK: DomainId = DomainId(0x7fff);

    /// Whether the number lies outside the range of ordinary domains.
    pub const fn is_reserved(self) -> bool {
        self.0 >= Self::FIRST_RESERVED.0
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SELF => formatter.write_str("self"),
            Self::IO => formatter.write_str("io"),
            Self::HYPERVISOR => formatter.write_str("hypervisor"),
            Self::COPY_ON_WRITE => formatter.write_str("copy-on-write"),
            Self::INVALID => formatter.write_str("invalid"),
            Self::IDLE => formatter.write_str("idle"),
            Self(number) => write!(formatter, "{number}"),
        }
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "d[{self}]")
    }
}
