//! Grant tables (`grant_table.h`): a domain names, in a table it shares with the hypervisor, the frames that another
//! domain may map or copy.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomainId, GuestHandle};

/// The index of an entry in a grant table.
#[doc(alias = "grant_ref_t")]
pub type GrantReference = u32;

/// Names a mapping that the caller made; needed to undo it.
#[doc(alias = "grant_handle_t")]
pub type GrantHandle = u32;

/// An entry of a version 1 table.
#[doc(alias = "grant_entry_v1")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// Kind and state: [`entry_flag`].
    pub flags: u16,
    /// Who may use it.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Guest frame.
    pub frame: u32,
}

/// Entries of version 1 in a page.
pub const ENTRIES_PER_PAGE_V1: usize = 4096 / size_of::<GrantEntryV1>();

/// References that the toolstack fills in before the domain starts.
pub mod reserved {
    /// How many are reserved.
    #[doc(alias = "GNTTAB_NR_RESERVED_ENTRIES")]
    pub const COUNT: u32 = 8;
    /// The console ring.
    #[doc(alias = "GNTTAB_RESERVED_CONSOLE")]
    pub const CONSOLE: u32 = 0;
    /// The store ring.
    #[doc(alias = "GNTTAB_RESERVED_XENSTORE")]
    pub const XENSTORE: u32 = 1;
}

/// Bits of [`GrantEntryV1::flags`].
pub mod entry_flag {
    /// Kind: unused.
    #[doc(alias = "GTF_invalid")]
    pub const INVALID: u16 = 0;
    /// Kind: the frame may be mapped or copied.
    #[doc(alias = "GTF_permit_access")]
    pub const PERMIT_ACCESS: u16 = 1;
    /// Kind: a frame may be given here.
    #[doc(alias = "GTF_accept_transfer")]
    pub const ACCEPT_TRANSFER: u16 = 2;
    /// Kind: names another grant (version 2).
    #[doc(alias = "GTF_transitive")]
    pub const TRANSITIVE: u16 = 3;
    /// The bits of the kind.
    #[doc(alias = "GTF_type_mask")]
    pub const TYPE_MASK: u16 = 3;
    /// Not writable; set by the granting domain.
    #[doc(alias = "GTF_readonly")]
    pub const READ_ONLY: u16 = 1 << 2;
    /// In use for reading; set by the hypervisor.
    #[doc(alias = "GTF_reading")]
    pub const READING: u16 = 1 << 3;
    /// In use for writing; set by the hypervisor.
    #[doc(alias = "GTF_writing")]
    pub const WRITING: u16 = 1 << 4;
    /// Cache attribute of mappings.
    #[doc(alias = "GTF_PWT")]
    pub const WRITE_THROUGH: u16 = 1 << 5;
    /// Cache attribute of mappings.
    #[doc(alias = "GTF_PCD")]
    pub const CACHE_DISABLE: u16 = 1 << 6;
    /// Cache attribute of mappings.
    #[doc(alias = "GTF_PAT")]
    pub const PAGE_ATTRIBUTE: u16 = 1 << 7;
    /// Only part of the frame, for copies (version 2).
    #[doc(alias = "GTF_sub_page")]
    pub const SUB_PAGE: u16 = 1 << 8;
    /// A transfer is on its way.
    #[doc(alias = "GTF_transfer_committed")]
    pub const TRANSFER_COMMITTED: u16 = 1 << 2;
    /// A transfer arrived.
    #[doc(alias = "GTF_transfer_completed")]
    pub const TRANSFER_COMPLETED: u16 = 1 << 3;
}

/// Sub-operations of `grant_table_op`; each takes an array.
pub mod op {
    /// Map a grant ([`super::MapGrantRef`]).
    #[doc(alias = "GNTTABOP_map_grant_ref")]
    pub const MAP_GRANT_REF: u32 = 0;
    /// Undo a mapping ([`super::UnmapGrantRef`]).
    #[doc(alias = "GNTTABOP_unmap_grant_ref")]
    pub const UNMAP_GRANT_REF: u32 = 1;
    /// Size the table and list its frames ([`super::SetupTable`]).
    #[doc(alias = "GNTTABOP_setup_table")]
    pub const SETUP_TABLE: u32 = 2;
    /// Print a table on the console ([`super::DumpTable`]).
    #[doc(alias = "GNTTABOP_dump_table")]
    pub const DUMP_TABLE: u32 = 3;
    /// Give a frame away ([`super::Transfer`]).
    #[doc(alias = "GNTTABOP_transfer")]
    pub const TRANSFER: u32 = 4;
    /// Copy bytes between frames ([`super::Copy`]).
    #[doc(alias = "GNTTABOP_copy")]
    pub const COPY: u32 = 5;
    /// Size of a table ([`super::QuerySize`]).
    #[doc(alias = "GNTTABOP_query_size")]
    pub const QUERY_SIZE: u32 = 6;
    /// Classic PV only ([`super::UnmapAndReplace`]).
    #[doc(alias = "GNTTABOP_unmap_and_replace")]
    pub const UNMAP_AND_REPLACE: u32 = 7;
    /// Choose the entry format ([`super::SetVersion`]).
    #[doc(alias = "GNTTABOP_set_version")]
    pub const SET_VERSION: u32 = 8;
    /// Version 2: frames of the status words ([`super::GetStatusFrames`]).
    #[doc(alias = "GNTTABOP_get_status_frames")]
    pub const GET_STATUS_FRAMES: u32 = 9;
    /// The entry format in use ([`super::GetVersion`]).
    #[doc(alias = "GNTTABOP_get_version")]
    pub const GET_VERSION: u32 = 10;
    /// Swap two entries ([`super::SwapGrantRef`]).
    #[doc(alias = "GNTTABOP_swap_grant_ref")]
    pub const SWAP_GRANT_REF: u32 = 11;
    /// Clean or invalidate caches ([`super::CacheFlush`]).
    #[doc(alias = "GNTTABOP_cache_flush")]
    pub const CACHE_FLUSH: u32 = 12;
}

/// Element of [`op::MAP_GRANT_REF`].
#[doc(alias = "gnttab_map_grant_ref")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapGrantRef {
    /// Where: a guest-physical address for translated domains.
    #[doc(alias = "host_addr")]
    pub host_address: u64,
    /// See [`map_flag`].
    pub flags: u32,
    /// Which entry.
    #[doc(alias = "ref")]
    pub reference: GrantReference,
    /// Whose table.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Out.
    pub status: GrantStatus,
    /// Out.
    pub handle: GrantHandle,
    /// Out: address for devices.
    #[doc(alias = "dev_bus_addr")]
    pub device_bus_address: u64,
}

/// Element of [`op::UNMAP_GRANT_REF`].
#[doc(alias = "gnttab_unmap_grant_ref")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// Where it was mapped; zero leaves the host mapping.
    #[doc(alias = "host_addr")]
    pub host_address: u64,
    /// Device address; zero leaves the device mapping.
    #[doc(alias = "dev_bus_addr")]
    pub device_bus_address: u64,
    /// Which mapping.
    pub handle: GrantHandle,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding: u16,
}

/// Element of [`op::SETUP_TABLE`].
#[doc(alias = "gnttab_setup_table")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetupTable {
    /// Whose table.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// At least this many.
    #[doc(alias = "nr_frames")]
    pub number_of_frames: u32,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding1: [u16; 3],
    /// Out: frames.
    pub frame_list: GuestHandle<u64>,
}

/// Element of [`op::DUMP_TABLE`].
#[doc(alias = "gnttab_dump_table")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DumpTable {
    /// Whose table.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Out.
    pub status: GrantStatus,
}

/// Element of [`op::TRANSFER`].
#[doc(alias = "gnttab_transfer")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Transfer {
    /// Which frame.
    #[doc(alias = "mfn")]
    pub frame: u64,
    /// To whom.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// Its entry that accepts the frame.
    #[doc(alias = "ref")]
    pub reference: GrantReference,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding1: [u16; 3],
}

/// One end of a [`struct@Copy`].
#[doc(alias = "gnttab_copy_ptr")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyPointer {
    /// A grant reference in the low half, or an own guest frame: the copy's flags say which.
    #[doc(alias = "u")]
    pub location: u64,
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Byte in the frame.
    pub offset: u16,
    /// Padding: zero.
    pub _padding: u32,
}

impl CopyPointer {
    /// The location as a grant reference.
    pub const fn reference(&self) -> GrantReference {
        self.location as u32
    }
}

/// Element of [`op::COPY`].
#[doc(alias = "gnttab_copy")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Copy {
    /// From.
    pub source: CopyPointer,
    /// To.
    #[doc(alias = "dest")]
    pub destination: CopyPointer,
    /// Bytes; may not cross a frame's end.
    #[doc(alias = "len")]
    pub length: u16,
    /// See [`copy_flag`].
    pub flags: u16,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding: u16,
}

/// Bits of [`Copy::flags`].
pub mod copy_flag {
    /// The source is a grant.
    #[doc(alias = "GNTCOPY_source_gref")]
    pub const SOURCE_IS_REFERENCE: u16 = 1 << 0;
    /// The destination is a grant.
    #[doc(alias = "GNTCOPY_dest_gref")]
    pub const DESTINATION_IS_REFERENCE: u16 = 1 << 1;
}

/// Element of [`op::QUERY_SIZE`].
#[doc(alias = "gnttab_query_size")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuerySize {
    /// Whose table.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// Out: frames now.
    #[doc(alias = "nr_frames")]
    pub number_of_frames: u32,
    /// Out: frames at most.
    #[doc(alias = "max_nr_frames")]
    pub max_number_of_frames: u32,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding1: u16,
}

/// Element of [`op::UNMAP_AND_REPLACE`].
#[doc(alias = "gnttab_unmap_and_replace")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// Where it was mapped.
    #[doc(alias = "host_addr")]
    pub host_address: u64,
    /// The mapping that takes its place.
    #[doc(alias = "new_addr")]
    pub new_address: u64,
    /// Which mapping.
    pub handle: GrantHandle,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding: u16,
}

/// Argument of [`op::SET_VERSION`].
#[doc(alias = "gnttab_set_version")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVersion {
    /// In: wanted; out: in use.
    pub version: u32,
}

/// Argument of [`op::GET_STATUS_FRAMES`].
#[doc(alias = "gnttab_get_status_frames")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetStatusFrames {
    /// How many.
    #[doc(alias = "nr_frames")]
    pub number_of_frames: u32,
    /// Whose.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Out.
    pub status: GrantStatus,
    /// Out: frames.
    pub frame_list: GuestHandle<u64>,
}

/// Argument of [`op::GET_VERSION`].
#[doc(alias = "gnttab_get_version")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetVersion {
    /// Whose.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u16,
    /// Out.
    pub version: u32,
}

/// Element of [`op::SWAP_GRANT_REF`].
#[doc(alias = "gnttab_swap_grant_ref")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SwapGrantRef {
    /// One entry.
    #[doc(alias = "ref_a")]
    pub first: GrantReference,
    /// The other.
    #[doc(alias = "ref_b")]
    pub second: GrantReference,
    /// Out.
    pub status: GrantStatus,
    /// Padding: zero.
    pub _padding: u16,
}

/// Element of [`op::CACHE_FLUSH`].
#[doc(alias = "gnttab_cache_flush")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CacheFlush {
    /// A bus address, or a grant reference in the low half.
    #[doc(alias = "a")]
    pub location: u64,
    /// First byte in the frame.
    pub offset: u16,
    /// Bytes.
    pub length: u16,
    /// See [`cache_flag`].
    #[doc(alias = "op")]
    pub operation: u32,
}

/// Bits of [`CacheFlush::operation`].
pub mod cache_flag {
    /// Write back.
    #[doc(alias = "GNTTAB_CACHE_CLEAN")]
    pub const CLEAN: u32 = 1 << 0;
    /// Drop.
    #[doc(alias = "GNTTAB_CACHE_INVAL")]
    pub const INVALIDATE: u32 = 1 << 1;
    /// The location is a grant.
    #[doc(alias = "GNTTAB_CACHE_SOURCE_GREF")]
    pub const SOURCE_IS_REFERENCE: u32 = 1 << 31;
}

/// Bits of [`MapGrantRef::flags`].
pub mod map_flag {
    /// For devices.
    #[doc(alias = "GNTMAP_device_map")]
    pub const DEVICE_MAP: u32 = 1 << 0;
    /// For CPUs.
    #[doc(alias = "GNTMAP_host_map")]
    pub const HOST_MAP: u32 = 1 << 1;
    /// Not writable.
    #[doc(alias = "GNTMAP_readonly")]
    pub const READ_ONLY: u32 = 1 << 2;
    /// Classic PV only.
    #[doc(alias = "GNTMAP_application_map")]
    pub const APPLICATION_MAP: u32 = 1 << 3;
    /// Classic PV only.
    #[doc(alias = "GNTMAP_contains_pte")]
    pub const CONTAINS_PTE: u32 = 1 << 4;
    /// Bits that go into classic PV's page table entries.
    #[doc(alias = "GNTMAP_guest_avail_mask")]
    pub const GUEST_AVAILABLE_MASK: u32 = 0xffff_0000;
}

/// Outcome of one grant operation, in its `status` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GrantStatus(pub i16);

impl GrantStatus {
    /// Done.
    #[doc(alias = "GNTST_okay")]
    pub const OKAY: GrantStatus = GrantStatus(0);
    /// Something else went wrong.
    #[doc(alias = "GNTST_general_error")]
    pub const GENERAL_ERROR: GrantStatus = GrantStatus(-1);
    /// No such domain.
    #[doc(alias = "GNTST_bad_domain")]
    pub const BAD_DOMAIN: GrantStatus = GrantStatus(-2);
    /// No such entry, or not for the caller.
    #[doc(alias = "GNTST_bad_gntref")]
    pub const BAD_REFERENCE: GrantStatus = GrantStatus(-3);
    /// No such mapping.
    #[doc(alias = "GNTST_bad_handle")]
    pub const BAD_HANDLE: GrantStatus = GrantStatus(-4);
    /// The place to map at is not acceptable.
    #[doc(alias = "GNTST_bad_virt_addr")]
    pub const BAD_VIRTUAL_ADDRESS: GrantStatus = GrantStatus(-5);
    /// The device address does not match.
    #[doc(alias = "GNTST_bad_dev_addr")]
    pub const BAD_DEVICE_ADDRESS: GrantStatus = GrantStatus(-6);
    /// The IOMMU cannot take it.
    #[doc(alias = "GNTST_no_device_space")]
    pub const NO_DEVICE_SPACE: GrantStatus = GrantStatus(-7);
    /// The entry forbids it.
    #[doc(alias = "GNTST_permission_denied")]
    pub const PERMISSION_DENIED: GrantStatus = GrantStatus(-8);
    /// The frame cannot be granted.
    #[doc(alias = "GNTST_bad_page")]
    pub const BAD_PAGE: GrantStatus = GrantStatus(-9);
    /// The copy crosses a frame's end.
    #[doc(alias = "GNTST_bad_copy_arg")]
    pub const BAD_COPY_ARGUMENT: GrantStatus = GrantStatus(-10);
    /// The frame number does not fit.
    #[doc(alias = "GNTST_address_too_big")]
    pub const ADDRESS_TOO_BIG: GrantStatus = GrantStatus(-11);
    /// The frame is paged out: try again.
    #[doc(alias = "GNTST_eagain")]
    pub const TRY_AGAIN: GrantStatus = GrantStatus(-12);
    /// The hypervisor has no room to track it.
    #[doc(alias = "GNTST_no_space")]
    pub const NO_SPACE: GrantStatus = GrantStatus(-13);
}
