//! Memory operations (`memory.h`): reservations, the physmap, memory maps, claims and resources.
//!
//! Frame numbers count 4 KiB frames; an extent of order `n` is `2^n` of them. A long operation returns to the caller
//! by way of a continuation: the number of extents done travels in the upper bits of the command.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{DomainId, GuestHandle};

/// Sub-operations of `memory_op`.
pub mod op {
    /// Allocate frames ([`super::MemoryReservation`]); returns extents done.
    #[doc(alias = "XENMEM_increase_reservation")]
    pub const INCREASE_RESERVATION: u32 = 0;
    /// Give frames back ([`super::MemoryReservation`]); returns extents done.
    #[doc(alias = "XENMEM_decrease_reservation")]
    pub const DECREASE_RESERVATION: u32 = 1;
    /// Returns the host's highest RAM frame number plus one; no argument.
    #[doc(alias = "XENMEM_maximum_ram_page")]
    pub const MAXIMUM_RAM_PAGE: u32 = 2;
    /// Returns the frames a domain has ([`super::MemoryDomain`]).
    #[doc(alias = "XENMEM_current_reservation")]
    pub const CURRENT_RESERVATION: u32 = 3;
    /// Returns the frames a domain may have ([`super::MemoryDomain`]).
    #[doc(alias = "XENMEM_maximum_reservation")]
    pub const MAXIMUM_RESERVATION: u32 = 4;
    /// Classic PV: frames of the machine-to-physical table ([`super::MachphysMfnList`]).
    #[doc(alias = "XENMEM_machphys_mfn_list")]
    pub const MACHPHYS_MFN_LIST: u32 = 5;
    /// Back guest frames with fresh memory ([`super::MemoryReservation`]); returns extents done.
    #[doc(alias = "XENMEM_populate_physmap")]
    pub const POPULATE_PHYSMAP: u32 = 6;
    /// Put one thing at a guest frame ([`super::AddToPhysmap`]).
    #[doc(alias = "XENMEM_add_to_physmap")]
    pub const ADD_TO_PHYSMAP: u32 = 7;
    /// Read the own memory map ([`super::MemoryMap`]).
    #[doc(alias = "XENMEM_memory_map")]
    pub const MEMORY_MAP: u32 = 9;
    /// Read the host's memory map ([`super::MemoryMap`]).
    #[doc(alias = "XENMEM_machine_memory_map")]
    pub const MACHINE_MEMORY_MAP: u32 = 10;
    /// Trade extents ([`super::MemoryExchange`]).
    #[doc(alias = "XENMEM_exchange")]
    pub const EXCHANGE: u32 = 11;
    /// Classic PV: where the machine-to-physical table is ([`super::MachphysMapping`]).
    #[doc(alias = "XENMEM_machphys_mapping")]
    pub const MACHPHYS_MAPPING: u32 = 12;
    /// Set a domain's memory map ([`super::ForeignMemoryMap`]).
    #[doc(alias = "XENMEM_set_memory_map")]
    pub const SET_MEMORY_MAP: u32 = 13;
    /// Returns the highest frame number that a domain's physmap holds ([`super::MemoryDomain`]).
    #[doc(alias = "XENMEM_maximum_gpfn")]
    pub const MAXIMUM_GPFN: u32 = 14;
    /// Empty a guest frame ([`super::RemoveFromPhysmap`]).
    #[doc(alias = "XENMEM_remove_from_physmap")]
    pub const REMOVE_FROM_PHYSMAP: u32 = 15;
    /// Populate on demand ([`super::PodTarget`]).
    #[doc(alias = "XENMEM_set_pod_target")]
    pub const SET_POD_TARGET: u32 = 16;
    /// Populate on demand ([`super::PodTarget`]).
    #[doc(alias = "XENMEM_get_pod_target")]
    pub const GET_POD_TARGET: u32 = 17;
    /// Returns the frames that sharing saved; no argument.
    #[doc(alias = "XENMEM_get_sharing_freed_pages")]
    pub const GET_SHARING_FREED_PAGES: u32 = 18;
    /// Returns the frames that are shared; no argument.
    #[doc(alias = "XENMEM_get_sharing_shared_pages")]
    pub const GET_SHARING_SHARED_PAGES: u32 = 19;
    /// Guest memory paging.
    #[doc(alias = "XENMEM_paging_op")]
    pub const PAGING_OP: u32 = 20;
    /// Memory access for introspection.
    #[doc(alias = "XENMEM_access_op")]
    pub const ACCESS_OP: u32 = 21;
    /// Memory sharing and forks.
    #[doc(alias = "XENMEM_sharing_op")]
    pub const SHARING_OP: u32 = 22;
    /// Put many things at guest frames ([`super::AddToPhysmapBatch`]).
    #[doc(alias = "XENMEM_add_to_physmap_batch")]
    pub const ADD_TO_PHYSMAP_BATCH: u32 = 23;
    /// Stake out free memory for a domain ([`super::MemoryReservation`]); zero cancels.
    #[doc(alias = "XENMEM_claim_pages")]
    pub const CLAIM_PAGES: u32 = 24;
    /// Classic 32-bit PV ([`super::MachphysMfnList`]).
    #[doc(alias = "XENMEM_machphys_compat_mfn_list")]
    pub const MACHPHYS_COMPAT_MFN_LIST: u32 = 25;
    /// Virtual NUMA topology ([`super::VnumaTopologyInfo`]).
    #[doc(alias = "XENMEM_get_vnumainfo")]
    pub const GET_VNUMAINFO: u32 = 26;
    /// Regions that devices need mapped one to one.
    #[doc(alias = "XENMEM_reserved_device_memory_map")]
    pub const RESERVED_DEVICE_MEMORY_MAP: u32 = 27;
    /// Map a domain's resource, as its grant table ([`super::AcquireResource`]).
    #[doc(alias = "XENMEM_acquire_resource")]
    pub const ACQUIRE_RESOURCE: u32 = 28;
}

/// Commands carry a continuation's progress above this bit (`MEMOP_EXTENT_SHIFT` in Xen).
pub const COMMAND_BITS: u32 = 6;

/// Bits of [`MemoryReservation::memory_flags`].
pub mod flag {
    /// The low byte: how many address bits the frames may need; zero for any.
    pub const ADDRESS_BITS_MASK: u32 = 0xff;
    /// Back the frames when they are touched.
    #[doc(alias = "XENMEMF_populate_on_demand")]
    pub const POPULATE_ON_DEMAND: u32 = 1 << 16;
    /// From the named NUMA node or not at all.
    #[doc(alias = "XENMEMF_exact_node_request")]
    pub const EXACT_NODE_REQUEST: u32 = 1 << 17;
    /// The node is one of the domain's own virtual ones.
    #[doc(alias = "XENMEMF_vnode")]
    pub const VIRTUAL_NODE: u32 = 1 << 18;
}

/// Argument of the reservation operations.
#[doc(alias = "xen_memory_reservation")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryReservation {
    /// In: guest frame of each extent. Out, for some: machine frames.
    pub extent_start: GuestHandle<u64>,
    /// How many extents.
    #[doc(alias = "nr_extents")]
    pub number_of_extents: u64,
    /// Each is `2^extent_order` frames.
    pub extent_order: u32,
    /// See [`flag`]; the second byte is the NUMA node plus one.
    #[doc(alias = "mem_flags")]
    pub memory_flags: u32,
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: [u16; 3],
}

/// Argument of [`op::EXCHANGE`].
#[doc(alias = "xen_memory_exchange")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryExchange {
    /// What is given up.
    #[doc(alias = "in")]
    pub input: MemoryReservation,
    /// What is wanted.
    #[doc(alias = "out")]
    pub output: MemoryReservation,
    /// Out: input extents traded; in: zero.
    #[doc(alias = "nr_exchanged")]
    pub number_exchanged: u64,
}

/// Argument of the operations that only name a domain.
#[doc(alias = "xen_memory_domain")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryDomain {
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
}

/// Argument of [`op::MACHPHYS_MFN_LIST`].
#[doc(alias = "xen_machphys_mfn_list")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachphysMfnList {
    /// Capacity of the array.
    pub max_extents: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Out: frames.
    pub extent_start: GuestHandle<u64>,
    /// Out: how many.
    #[doc(alias = "nr_extents")]
    pub number_of_extents: u32,
    /// Padding: zero.
    pub _padding1: u32,
}

/// Argument of [`op::MACHPHYS_MAPPING`].
#[doc(alias = "xen_machphys_mapping")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachphysMapping {
    /// First virtual address.
    pub v_start: u64,
    /// Last virtual address.
    pub v_end: u64,
    /// Highest frame number.
    pub max_mfn: u64,
}

/// What [`AddToPhysmap`] puts at a guest frame.
pub mod map_space {
    /// The shared page.
    #[doc(alias = "XENMAPSPACE_shared_info")]
    pub const SHARED_INFO: u32 = 0;
    /// A frame of the grant table (index: which).
    #[doc(alias = "XENMAPSPACE_grant_table")]
    pub const GRANT_TABLE: u32 = 1;
    /// Another own guest frame, moved (index: which).
    #[doc(alias = "XENMAPSPACE_gmfn")]
    pub const GMFN: u32 = 2;
    /// The same for a range; not in batches.
    #[doc(alias = "XENMAPSPACE_gmfn_range")]
    pub const GMFN_RANGE: u32 = 3;
    /// Another domain's guest frame; only in batches.
    #[doc(alias = "XENMAPSPACE_gmfn_foreign")]
    pub const GMFN_FOREIGN: u32 = 4;
    /// A device's frame.
    #[doc(alias = "XENMAPSPACE_dev_mmio")]
    pub const DEVICE_MMIO: u32 = 5;
}

/// Flag in [`AddToPhysmap::index`]: the status frames of a version 2 grant table.
#[doc(alias = "XENMAPIDX_grant_table_status")]
pub const GRANT_TABLE_STATUS_INDEX: u64 = 0x8000_0000;

/// Argument of [`op::ADD_TO_PHYSMAP`].
#[doc(alias = "xen_add_to_physmap")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmap {
    /// Whose physmap.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Number of frames, for [`map_space::GMFN_RANGE`] only.
    pub size: u16,
    /// See [`map_space`].
    pub space: u32,
    /// Which thing of that space.
    #[doc(alias = "idx")]
    pub index: u64,
    /// Where to put it.
    #[doc(alias = "gpfn")]
    pub guest_frame: u64,
}

/// Argument of [`op::ADD_TO_PHYSMAP_BATCH`].
#[doc(alias = "xen_add_to_physmap_batch")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// Whose physmap.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// See [`map_space`].
    pub space: u16,
    /// Number of entries.
    pub size: u16,
    /// For [`map_space::GMFN_FOREIGN`]: the owner; else zero.
    #[doc(alias = "u")]
    pub foreign_domain: DomainId,
    /// Which things.
    #[doc(alias = "idxs")]
    pub indices: GuestHandle<u64>,
    /// Where to put them.
    #[doc(alias = "gpfns")]
    pub guest_frames: GuestHandle<u64>,
    /// Out: zero or a negative error for each.
    #[doc(alias = "errs")]
    pub errors: GuestHandle<i32>,
}

/// Argument of [`op::REMOVE_FROM_PHYSMAP`].
#[doc(alias = "xen_remove_from_physmap")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// Whose physmap.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: [u16; 3],
    /// Which frame.
    #[doc(alias = "gpfn")]
    pub guest_frame: u64,
}

/// Argument of [`op::MEMORY_MAP`]; the buffer holds E820 entries of 20 bytes.
#[doc(alias = "xen_memory_map")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMap {
    /// In: capacity; out: entries.
    #[doc(alias = "nr_entries")]
    pub number_of_entries: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// The entries.
    pub buffer: GuestHandle<E820Entry>,
}

/// Length of an E820 entry in memory; they follow each other without padding.
pub const E820_ENTRY_SIZE: usize = 20;

/// One range of a memory map, in the BIOS format: address and length in bytes, split in halves because entries of
/// 20 bytes leave every second one only 4-byte aligned. Xen's public headers name the format without declaring it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct E820Entry {
    /// Start address: low and high half.
    pub address: [u32; 2],
    /// Length: low and high half.
    pub size: [u32; 2],
    /// See [`e820`].
    pub kind: u32,
}

impl E820Entry {
    /// A range of `size` bytes from `address` on.
    pub const fn new(address: u64, size: u64, kind: u32) -> Self {
        Self {
            address: [address as u32, (address >> 32) as u32],
            size: [size as u32, (size >> 32) as u32],
            kind,
        }
    }

    /// Start address in bytes.
    pub const fn address(&self) -> u64 {
        self.address[0] as u64 | (self.address[1] as u64) << 32
    }

    /// Length in bytes.
    pub const fn size(&self) -> u64 {
        self.size[0] as u64 | (self.size[1] as u64) << 32
    }
}

/// Kinds of [`E820Entry`], as the BIOS numbers them.
pub mod e820 {
    /// Usable.
    pub const RAM: u32 = 1;
    /// Not to be touched.
    pub const RESERVED: u32 = 2;
    /// ACPI tables.
    pub const ACPI: u32 = 3;
    /// ACPI non-volatile storage.
    pub const NVS: u32 = 4;
    /// Defective, or withheld.
    pub const UNUSABLE: u32 = 5;
}

/// Argument of [`op::SET_MEMORY_MAP`].
#[doc(alias = "xen_foreign_memory_map")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// Whose map.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: [u16; 3],
    /// The map.
    pub map: MemoryMap,
}

/// Argument of the populate-on-demand operations.
#[doc(alias = "xen_pod_target")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PodTarget {
    /// Wanted.
    pub target_pages: u64,
    /// Out: frames the domain has.
    #[doc(alias = "tot_pages")]
    pub total_pages: u64,
    /// Out: frames in its cache.
    pub pod_cache_pages: u64,
    /// Out: guest frames not backed yet.
    pub pod_entries: u64,
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: [u16; 3],
}

/// Kinds of [`AcquireResource::kind`].
pub mod resource {
    /// Pages of a device model's request server.
    #[doc(alias = "XENMEM_resource_ioreq_server")]
    pub const IOREQ_SERVER: u16 = 0;
    /// Frames of the grant table.
    #[doc(alias = "XENMEM_resource_grant_table")]
    pub const GRANT_TABLE: u16 = 1;
    /// Trace buffer.
    #[doc(alias = "XENMEM_resource_vmtrace_buf")]
    pub const VMTRACE_BUFFER: u16 = 2;
}

/// Values of [`AcquireResource::id`] for grant tables.
pub mod grant_table_resource {
    /// The entries.
    #[doc(alias = "XENMEM_resource_grant_table_id_shared")]
    pub const SHARED: u32 = 0;
    /// The status words of version 2.
    #[doc(alias = "XENMEM_resource_grant_table_id_status")]
    pub const STATUS: u32 = 1;
}

/// Argument of [`op::ACQUIRE_RESOURCE`]. With a null list and no frames, answers the size.
#[doc(alias = "xen_mem_acquire_resource")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AcquireResource {
    /// Whose resource.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// See [`resource`].
    #[doc(alias = "type")]
    pub kind: u16,
    /// Which one of its kind.
    pub id: u32,
    /// In: frames wanted; out: how many there are when zero was asked.
    #[doc(alias = "nr_frames")]
    pub number_of_frames: u32,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u32,
    /// First frame of the resource.
    pub frame: u64,
    /// In, for translated callers: guest frames to put them at.
    pub frame_list: GuestHandle<u64>,
}

/// A range of a virtual NUMA node.
#[doc(alias = "xen_vmemrange")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VirtualMemoryRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Reserved: zero.
    pub flags: u32,
    /// Virtual node.
    #[doc(alias = "nid")]
    pub node: u32,
}

/// Argument of [`op::GET_VNUMAINFO`].
#[doc(alias = "xen_vnuma_topology_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VnumaTopologyInfo {
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u16,
    /// In: capacity; out: count.
    #[doc(alias = "nr_vnodes")]
    pub number_of_nodes: u32,
    /// In: capacity; out: count.
    #[doc(alias = "nr_vcpus")]
    pub number_of_vcpus: u32,
    /// In: capacity; out: count.
    #[doc(alias = "nr_vmemranges")]
    pub number_of_ranges: u32,
    /// Out: distance table.
    #[doc(alias = "vdistance")]
    pub distances: GuestHandle<u32>,
    /// Out: node of each vCPU.
    #[doc(alias = "vcpu_to_vnode")]
    pub vcpu_to_node: GuestHandle<u32>,
    /// Out: memory ranges.
    #[doc(alias = "vmemrange")]
    pub ranges: GuestHandle<VirtualMemoryRange>,
}
