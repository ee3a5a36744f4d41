//! The block protocol (`io/blkif.h`), in the layout of 64-bit domains (`x86_64-abi` in the store).
//! Sectors are 512 bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::grant_table::GrantReference;

/// Values of the first byte of each request.
pub mod op {
    /// Read ([`super::Request`]).
    #[doc(alias = "BLKIF_OP_READ")]
    pub const READ: u8 = 0;
    /// Write ([`super::Request`]).
    #[doc(alias = "BLKIF_OP_WRITE")]
    pub const WRITE: u8 = 1;
    /// Write, after everything before and before everything after ([`super::Request`]).
    #[doc(alias = "BLKIF_OP_WRITE_BARRIER")]
    pub const WRITE_BARRIER: u8 = 2;
    /// Make writes durable ([`super::Request`]).
    #[doc(alias = "BLKIF_OP_FLUSH_DISKCACHE")]
    pub const FLUSH_DISKCACHE: u8 = 3;
    /// Not to be used.
    #[doc(alias = "BLKIF_OP_RESERVED_1")]
    pub const RESERVED_1: u8 = 4;
    /// Forget sectors ([`super::DiscardRequest`]).
    #[doc(alias = "BLKIF_OP_DISCARD")]
    pub const DISCARD: u8 = 5;
    /// Read or write with segments in other pages ([`super::IndirectRequest`]).
    #[doc(alias = "BLKIF_OP_INDIRECT")]
    pub const INDIRECT: u8 = 6;
}

/// Segments in a [`Request`].
#[doc(alias = "BLKIF_MAX_SEGMENTS_PER_REQUEST")]
pub const MAX_SEGMENTS: usize = 11;

/// Pages of segments in an [`IndirectRequest`].
#[doc(alias = "BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST")]
pub const MAX_INDIRECT_PAGES: usize = 8;

/// Part of a page that takes part in a transfer.
#[doc(alias = "blkif_request_segment")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// The page.
    #[doc(alias = "gref")]
    pub grant: GrantReference,
    /// First sector in it, 0 to 7.
    #[doc(alias = "first_sect")]
    pub first_sector: u8,
    /// Last sector in it.
    #[doc(alias = "last_sect")]
    pub last_sector: u8,
    /// Padding: zero.
    pub _padding: u16,
}

/// Read, write, barrier or flush.
#[doc(alias = "blkif_request")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    /// See [`op`].
    pub operation: u8,
    /// How many.
    #[doc(alias = "nr_segments")]
    pub number_of_segments: u8,
    /// Virtual device.
    pub handle: u16,
    /// Padding: zero.
    pub _padding: u32,
    /// Comes back in the response.
    pub id: u64,
    /// First sector on the disk.
    pub sector_number: u64,
    /// The memory.
    #[doc(alias = "seg")]
    pub segments: [Segment; MAX_SEGMENTS],
}

/// Discard.
#[doc(alias = "blkif_request_discard")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DiscardRequest {
    /// [`op::DISCARD`].
    pub operation: u8,
    /// [`DISCARD_SECURE`] or zero.
    pub flag: u8,
    /// Virtual device.
    pub handle: u16,
    /// Padding: zero.
    pub _padding: u32,
    /// Comes back in the response.
    pub id: u64,
    /// First sector.
    pub sector_number: u64,
    /// How many.
    #[doc(alias = "nr_sectors")]
    pub number_of_sectors: u64,
}

/// Flag of [`DiscardRequest`]: the content must be unrecoverable.
#[doc(alias = "BLKIF_DISCARD_SECURE")]
pub const DISCARD_SECURE: u8 = 1 << 0;

/// Read or write whose segments are listed in other pages.
#[doc(alias = "blkif_request_indirect")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IndirectRequest {
    /// [`op::INDIRECT`].
    pub operation: u8,
    /// [`op::READ`] or [`op::WRITE`].
    #[doc(alias = "indirect_op")]
    pub indirect_operation: u8,
    /// How many.
    #[doc(alias = "nr_segments")]
    pub number_of_segments: u16,
    /// Padding: zero.
    pub _padding: u32,
    /// Comes back in the response.
    pub id: u64,
    /// First sector on the disk.
    pub sector_number: u64,
    /// Virtual device.
    pub handle: u16,
    /// Padding: zero.
    pub _padding1: u16,
    /// Pages of [`Segment`].
    #[doc(alias = "indirect_grefs")]
    pub indirect_grants: [GrantReference; MAX_INDIRECT_PAGES],
    /// Padding: zero.
    pub _padding2: u32,
}

/// Answer to any request.
#[doc(alias = "blkif_response")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// Padding: zero.
    pub _padding: u8,
    /// See [`status`].
    pub status: i16,
    /// Padding: zero.
    pub _padding1: u32,
}

/// Values of [`Response::status`].
pub mod status {
    /// Done.
    #[doc(alias = "BLKIF_RSP_OKAY")]
    pub const OKAY: i16 = 0;
    /// Failed.
    #[doc(alias = "BLKIF_RSP_ERROR")]
    pub const ERROR: i16 = -1;
    /// The backend does not do that.
    #[doc(alias = "BLKIF_RSP_EOPNOTSUPP")]
    pub const NOT_SUPPORTED: i16 = -2;
}

/// Bits of the store entry `info`.
pub mod disk_flag {
    /// A CD-ROM drive.
    #[doc(alias = "VDISK_CDROM")]
    pub const CDROM: u32 = 1;
    /// Removable.
    #[doc(alias = "VDISK_REMOVABLE")]
    pub const REMOVABLE: u32 = 2;
    /// Not writable.
    #[doc(alias = "VDISK_READONLY")]
    pub const READ_ONLY: u32 = 4;
}

/// A slot of the ring is as large as a request.
pub const SLOT_SIZE: usize = size_of::<Request>();
