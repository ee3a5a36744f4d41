//! The network protocol (`io/netif.h`): a transmit and a receive ring, seen from the guest. A packet is one or more
//! consecutive slots; slots of extra information may follow the first.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::grant_table::GrantReference;

/// Slots that a backend accepts for one packet at least.
#[doc(alias = "XEN_NETIF_NR_SLOTS_MIN")]
pub const SLOTS_MIN: usize = 18;

/// Most bytes of a packet.
#[doc(alias = "XEN_NETIF_MAX_TX_SIZE")]
pub const MAX_TRANSMIT_SIZE: u32 = 0xffff;

/// A piece of a packet to send.
#[doc(alias = "netif_tx_request")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransmitRequest {
    /// The page.
    #[doc(alias = "gref")]
    pub grant: GrantReference,
    /// Byte in it.
    pub offset: u16,
    /// See [`transmit_flag`].
    pub flags: u16,
    /// Comes back in the response.
    pub id: u16,
    /// Bytes; in the first slot, of the whole packet.
    pub size: u16,
}

/// Bits of [`TransmitRequest::flags`].
pub mod transmit_flag {
    /// The protocol's checksum is missing.
    #[doc(alias = "NETTXF_csum_blank")]
    pub const CHECKSUM_BLANK: u16 = 1 << 0;
    /// The data was checked.
    #[doc(alias = "NETTXF_data_validated")]
    pub const DATA_VALIDATED: u16 = 1 << 1;
    /// Another slot of this packet follows.
    #[doc(alias = "NETTXF_more_data")]
    pub const MORE_DATA: u16 = 1 << 2;
    /// Extra information follows.
    #[doc(alias = "NETTXF_extra_info")]
    pub const EXTRA_INFO: u16 = 1 << 3;
}

/// A slot of extra information.
#[doc(alias = "netif_extra_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtraInfo {
    /// See [`extra_kind`].
    #[doc(alias = "type")]
    pub kind: u8,
    /// [`EXTRA_FLAG_MORE`] or zero.
    pub flags: u8,
    /// Depends on the kind.
    #[doc(alias = "u")]
    pub details: [u16; 3],
}

/// Flag of [`ExtraInfo`]: another one follows.
#[doc(alias = "XEN_NETIF_EXTRA_FLAG_MORE")]
pub const EXTRA_FLAG_MORE: u8 = 1 << 0;

/// Values of [`ExtraInfo::kind`].
pub mod extra_kind {
    /// Not to be used.
    #[doc(alias = "XEN_NETIF_EXTRA_TYPE_NONE")]
    pub const NONE: u8 = 0;
    /// Segment size in the first word, [`super::segmentation`] in the second.
    #[doc(alias = "XEN_NETIF_EXTRA_TYPE_GSO")]
    pub const SEGMENTATION: u8 = 1;
    /// An address to receive.
    #[doc(alias = "XEN_NETIF_EXTRA_TYPE_MCAST_ADD")]
    pub const MULTICAST_ADD: u8 = 2;
    /// An address not to receive any more.
    #[doc(alias = "XEN_NETIF_EXTRA_TYPE_MCAST_DEL")]
    pub const MULTICAST_REMOVE: u8 = 3;
    /// The packet's hash.
    #[doc(alias = "XEN_NETIF_EXTRA_TYPE_HASH")]
    pub const HASH: u8 = 4;
    /// How many kinds there are.
    #[doc(alias = "XEN_NETIF_EXTRA_TYPE_MAX")]
    pub const COUNT: u8 = 5;
}

/// Protocols that can be segmented.
pub mod segmentation {
    /// None.
    #[doc(alias = "XEN_NETIF_GSO_TYPE_NONE")]
    pub const NONE: u8 = 0;
    /// TCP over IPv4.
    #[doc(alias = "XEN_NETIF_GSO_TYPE_TCPV4")]
    pub const TCP_V4: u8 = 1;
    /// TCP over IPv6.
    #[doc(alias = "XEN_NETIF_GSO_TYPE_TCPV6")]
    pub const TCP_V6: u8 = 2;
}

/// Answer to a slot of a packet that was sent.
#[doc(alias = "netif_tx_response")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransmitResponse {
    /// The request's.
    pub id: u16,
    /// See [`status`].
    pub status: i16,
}

/// A page to receive into.
#[doc(alias = "netif_rx_request")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReceiveRequest {
    /// Comes back in the response.
    pub id: u16,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u16,
    /// The page.
    #[doc(alias = "gref")]
    pub grant: GrantReference,
}

/// A piece of a packet that arrived.
#[doc(alias = "netif_rx_response")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReceiveResponse {
    /// The request's.
    pub id: u16,
    /// Byte in the page.
    pub offset: u16,
    /// See [`receive_flag`].
    pub flags: u16,
    /// Bytes, or one of [`status`].
    pub status: i16,
}

/// Bits of [`ReceiveResponse::flags`].
pub mod receive_flag {
    /// The data was checked.
    #[doc(alias = "NETRXF_data_validated")]
    pub const DATA_VALIDATED: u16 = 1 << 0;
    /// The protocol's checksum is missing.
    #[doc(alias = "NETRXF_csum_blank")]
    pub const CHECKSUM_BLANK: u16 = 1 << 1;
    /// Another slot of this packet follows.
    #[doc(alias = "NETRXF_more_data")]
    pub const MORE_DATA: u16 = 1 << 2;
    /// Extra information follows.
    #[doc(alias = "NETRXF_extra_info")]
    pub const EXTRA_INFO: u16 = 1 << 3;
    /// The slot carries only the segment size.
    #[doc(alias = "NETRXF_gso_prefix")]
    pub const SEGMENTATION_PREFIX: u16 = 1 << 4;
}

/// Negative or special outcomes.
pub mod status {
    /// Dropped.
    #[doc(alias = "NETIF_RSP_DROPPED")]
    pub const DROPPED: i16 = -2;
    /// Failed.
    #[doc(alias = "NETIF_RSP_ERROR")]
    pub const ERROR: i16 = -1;
    /// Done.
    #[doc(alias = "NETIF_RSP_OKAY")]
    pub const OKAY: i16 = 0;
    /// Answers a slot of extra information.
    #[doc(alias = "NETIF_RSP_NULL")]
    pub const NULL: i16 = 1;
}
