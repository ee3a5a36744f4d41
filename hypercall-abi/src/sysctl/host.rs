//! The host: console, memory, domains, counters.

use crate::domctl::DomainInfo;
use crate::physdev::PciDevice;
use crate::{DomainId, GuestHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Payload of [`super::op::READ_CONSOLE`].
#[doc(alias = "xen_sysctl_readconsole")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadConsole {
    /// In: nonzero empties the ring.
    pub clear: u8,
    /// In: nonzero starts at `index`.
    pub incremental: u8,
    /// Padding: zero.
    #[doc(alias = "pad0")]
    pub _padding: u8,
    /// Padding: zero.
    #[doc(alias = "pad1")]
    pub _padding1: u8,
    /// In: where to start; out: where to go on.
    pub index: u32,
    /// The text.
    pub buffer: GuestHandle<u8>,
    /// In: bytes of the buffer; out: bytes written.
    pub count: u32,
    /// Padding: zero.
    pub _padding2: u32,
}

/// Payload of [`super::op::PHYSICAL_INFO`].
#[doc(alias = "xen_sysctl_physinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysicalInfo {
    /// Hardware threads in a core.
    pub threads_per_core: u32,
    /// Cores in a socket.
    pub cores_per_socket: u32,
    /// CPUs online.
    #[doc(alias = "nr_cpus")]
    pub number_of_cpus: u32,
    /// Highest CPU number possible.
    pub max_cpu_id: u32,
    /// NUMA nodes online.
    #[doc(alias = "nr_nodes")]
    pub number_of_nodes: u32,
    /// Highest node number possible.
    pub max_node_id: u32,
    /// Frequency of the time stamp counter.
    pub cpu_khz: u32,
    /// See [`physical_capability`].
    pub capabilities: u32,
    /// Zero on x86.
    pub arch_capabilities: u32,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u32,
    /// Frames of RAM.
    pub total_pages: u64,
    /// Frames free.
    pub free_pages: u64,
    /// Free frames that are not wiped yet.
    pub scrub_pages: u64,
    /// Frames claimed and not yet taken.
    pub outstanding_pages: u64,
    /// Highest frame number.
    #[doc(alias = "max_mfn")]
    pub max_frame: u64,
    /// CPUID feature words of the boot CPU.
    #[doc(alias = "hw_cap")]
    pub hardware_capabilities: [u32; 8],
}

/// Bits of [`PhysicalInfo::capabilities`].
pub mod physical_capability {
    /// Hardware-assisted guests.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_hvm")]
    pub const HVM: u32 = 1 << 0;
    /// Classic PV guests.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_pv")]
    pub const PV: u32 = 1 << 1;
    /// Device pass-through.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_directio")]
    pub const DIRECT_IO: u32 = 1 << 2;
    /// Nested paging.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_hap")]
    pub const HAP: u32 = 1 << 3;
    /// Shadow paging.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_shadow")]
    pub const SHADOW: u32 = 1 << 4;
    /// Devices can use the nested tables.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share")]
    pub const IOMMU_SHARED_TABLES: u32 = 1 << 5;
    /// Processor trace.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_vmtrace")]
    pub const VMTRACE: u32 = 1 << 6;
    /// Performance counters.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_vpmu")]
    pub const VPMU: u32 = 1 << 7;
    /// Grant tables, version 1.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_gnttab_v1")]
    pub const GRANT_TABLE_V1: u32 = 1 << 8;
    /// Grant tables, version 2.
    #[doc(alias = "XEN_SYSCTL_PHYSCAP_gnttab_v2")]
    pub const GRANT_TABLE_V2: u32 = 1 << 9;
}

/// Payload of [`super::op::PERFORMANCE_COUNTER_OP`].
#[doc(alias = "xen_sysctl_perfc_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PerformanceCounterOp {
    /// See [`performance_counter`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// Out: counters.
    #[doc(alias = "nr_counters")]
    pub number_of_counters: u32,
    /// Out: values.
    #[doc(alias = "nr_vals")]
    pub number_of_values: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Out: names.
    #[doc(alias = "desc")]
    pub descriptions: GuestHandle<PerformanceCounterDescription>,
    /// Out: values, counter by counter.
    #[doc(alias = "val")]
    pub values: GuestHandle<u32>,
}

/// Values of [`PerformanceCounterOp::command`].
pub mod performance_counter {
    /// Zero them.
    #[doc(alias = "XEN_SYSCTL_PERFCOP_reset")]
    pub const RESET: u32 = 1;
    /// Read them.
    #[doc(alias = "XEN_SYSCTL_PERFCOP_query")]
    pub const QUERY: u32 = 2;
}

/// Names of counters that our core publishes and Xen does not: a table. First come counters without values, one for each column; then for each
/// virtual CPU one with as many values as there are columns, in the same order. All values are 32 bits wide and start anew after 2^32.
pub mod vcpu_counter {
    /// What the name of a column begins with.
    pub const COLUMN_PREFIX: &str = "vcpu column ";
    /// The column of microseconds that the virtual CPU could have run and had no processor.
    pub const RUNNABLE: &str = "runnable us";
    /// What the names of other columns begin with: how often it left its guest, and behind the prefix why.
    pub const EXITS_PREFIX: &str = "exits ";
    /// What the name of a virtual CPU's counter begins with; its domain's number and its own follow, as in `vcpu 3.1`.
    pub const ROW_PREFIX: &str = "vcpu ";
}

/// A counter's name.
#[doc(alias = "xen_sysctl_perfc_desc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PerformanceCounterDescription {
    /// Zero-terminated.
    pub name: [u8; 80],
    /// Values it has.
    #[doc(alias = "nr_vals")]
    pub number_of_values: u32,
}

zeroed_default!(PerformanceCounterDescription);

/// Payload of [`super::op::GET_DOMAIN_INFO_LIST`].
#[doc(alias = "xen_sysctl_getdomaininfolist")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetDomainInfoList {
    /// Where to start.
    pub first_domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// Length of the buffer.
    pub max_domains: u32,
    /// Out: states.
    pub buffer: GuestHandle<DomainInfo>,
    /// Out: how many.
    #[doc(alias = "num_domains")]
    pub number_of_domains: u32,
    /// Padding: zero.
    pub _padding1: u32,
}

/// Payload of [`super::op::DEBUG_KEYS`].
#[doc(alias = "xen_sysctl_debug_keys")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DebugKeys {
    /// Characters.
    pub keys: GuestHandle<u8>,
    /// How many.
    #[doc(alias = "nr_keys")]
    pub number_of_keys: u32,
    /// Padding: zero.
    pub _padding: u32,
}

/// Payload of [`super::op::AVAILABLE_HEAP`].
#[doc(alias = "xen_sysctl_availheap")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AvailableHeap {
    /// Least address width, zero for any.
    #[doc(alias = "min_bitwidth")]
    pub min_bit_width: u32,
    /// Greatest address width, zero for any.
    #[doc(alias = "max_bitwidth")]
    pub max_bit_width: u32,
    /// NUMA node, -1 for all.
    pub node: i32,
    /// Padding: zero.
    pub _padding: u32,
    /// Out.
    #[doc(alias = "avail_bytes")]
    pub available_bytes: u64,
}

/// Element of [`NumaInfo`].
#[doc(alias = "xen_sysctl_meminfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryInfo {
    /// Bytes of the node.
    #[doc(alias = "memsize")]
    pub size: u64,
    /// Bytes free.
    #[doc(alias = "memfree")]
    pub free: u64,
}

/// There is no such node: in place of its memory.
#[doc(alias = "XEN_INVALID_MEM_SZ")]
pub const INVALID_MEMORY_SIZE: u32 = !0;

/// No distance is known.
#[doc(alias = "XEN_INVALID_NODE_DIST")]
pub const INVALID_NODE_DISTANCE: u32 = !0;

/// Payload of [`super::op::NUMA_INFO`].
#[doc(alias = "xen_sysctl_numainfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NumaInfo {
    /// In: length of the arrays; out: nodes there are.
    #[doc(alias = "num_nodes")]
    pub number_of_nodes: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Out: memory of each node.
    #[doc(alias = "meminfo")]
    pub memory: GuestHandle<MemoryInfo>,
    /// Out: distance table.
    #[doc(alias = "distance")]
    pub distances: GuestHandle<u32>,
}

/// Payload of [`super::op::PCI_TOPOLOGY_INFO`].
#[doc(alias = "xen_sysctl_pcitopoinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciTopologyInfo {
    /// Length of the arrays.
    #[doc(alias = "num_devs")]
    pub number_of_devices: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// In: which devices.
    #[doc(alias = "devs")]
    pub devices: GuestHandle<PciDevice>,
    /// Out: their nodes.
    pub nodes: GuestHandle<u32>,
}
