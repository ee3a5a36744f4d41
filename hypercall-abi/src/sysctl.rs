//! System control (`sysctl.h`): what the toolstack asks about the whole host. Interface version 0x15, as Xen 4.17.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domctl::DomainInfo;
use crate::physdev::PciDevice;
use crate::xen::{ControlBitmap, CpuidLeaf, MsrEntry};
use crate::{DomainId, GuestHandle, payload};

/// The version that both sides must name; another one is answered with `EACCES`.
#[doc(alias = "XEN_SYSCTL_INTERFACE_VERSION")]
pub const INTERFACE_VERSION: u32 = 0x15;

/// The argument of every system control call.
#[doc(alias = "xen_sysctl")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sysctl {
    /// See [`op`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// [`INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The sub-operation's structure.
    #[doc(alias = "u")]
    pub payload: [u64; 16],
}

impl Sysctl {
    /// A call of `command` with an empty payload.
    pub fn new(command: u32) -> Self {
        Self {
            command,
            interface_version: INTERFACE_VERSION,
            ..Self::default()
        }
    }

    /// The payload as one of its views.
    pub fn view<T: FromBytes>(&self) -> T {
        payload::read(&self.payload)
    }

    /// Writes a view into the payload.
    pub fn set_view<T: IntoBytes + Immutable>(&mut self, view: &T) {
        payload::write(&mut self.payload, view);
    }
}

/// Sub-operations; where a structure is named it is the payload.
pub mod op {
    /// Read the console ring ([`super::ReadConsole`]).
    #[doc(alias = "XEN_SYSCTL_readconsole")]
    pub const READ_CONSOLE: u32 = 1;
    /// Trace buffers.
    #[doc(alias = "XEN_SYSCTL_tbuf_op")]
    pub const TRACE_BUFFER_OP: u32 = 2;
    /// The host ([`super::PhysicalInfo`]).
    #[doc(alias = "XEN_SYSCTL_physinfo")]
    pub const PHYSICAL_INFO: u32 = 3;
    /// The scheduler ([`super::SchedulerId`]).
    #[doc(alias = "XEN_SYSCTL_sched_id")]
    pub const SCHEDULER_ID: u32 = 4;
    /// The hypervisor's own counters ([`super::PerformanceCounterOp`]).
    #[doc(alias = "XEN_SYSCTL_perfc_op")]
    pub const PERFORMANCE_COUNTER_OP: u32 = 5;
    /// States of many domains ([`super::GetDomainInfoList`]).
    #[doc(alias = "XEN_SYSCTL_getdomaininfolist")]
    pub const GET_DOMAIN_INFO_LIST: u32 = 6;
    /// Press debug keys ([`super::DebugKeys`]).
    #[doc(alias = "XEN_SYSCTL_debug_keys")]
    pub const DEBUG_KEYS: u32 = 7;
    /// Idle times ([`super::GetCpuInfo`]).
    #[doc(alias = "XEN_SYSCTL_getcpuinfo")]
    pub const GET_CPU_INFO: u32 = 8;
    /// Free memory ([`super::AvailableHeap`]).
    #[doc(alias = "XEN_SYSCTL_availheap")]
    pub const AVAILABLE_HEAP: u32 = 9;
    /// Power statistics.
    #[doc(alias = "XEN_SYSCTL_get_pmstat")]
    pub const GET_PM_STAT: u32 = 10;
    /// CPUs on and off ([`super::CpuHotplug`]).
    #[doc(alias = "XEN_SYSCTL_cpu_hotplug")]
    pub const CPU_HOTPLUG: u32 = 11;
    /// Power policy.
    #[doc(alias = "XEN_SYSCTL_pm_op")]
    pub const PM_OP: u32 = 12;
    /// Retire frames.
    #[doc(alias = "XEN_SYSCTL_page_offline_op")]
    pub const PAGE_OFFLINE_OP: u32 = 14;
    /// Lock statistics.
    #[doc(alias = "XEN_SYSCTL_lockprof_op")]
    pub const LOCK_PROFILE_OP: u32 = 15;
    /// Cores and sockets ([`super::CpuTopologyInfo`]).
    #[doc(alias = "XEN_SYSCTL_cputopoinfo")]
    pub const CPU_TOPOLOGY_INFO: u32 = 16;
    /// Memory nodes ([`super::NumaInfo`]).
    #[doc(alias = "XEN_SYSCTL_numainfo")]
    pub const NUMA_INFO: u32 = 17;
    /// CPU pools ([`super::CpupoolOp`]).
    #[doc(alias = "XEN_SYSCTL_cpupool_op")]
    pub const CPUPOOL_OP: u32 = 18;
    /// Scheduling parameters of a pool ([`super::SchedulerOp`]).
    #[doc(alias = "XEN_SYSCTL_scheduler_op")]
    pub const SCHEDULER_OP: u32 = 19;
    /// Coverage data.
    #[doc(alias = "XEN_SYSCTL_coverage_op")]
    pub const COVERAGE_OP: u32 = 20;
    /// Cache monitoring.
    #[doc(alias = "XEN_SYSCTL_psr_cmt_op")]
    pub const PSR_CMT_OP: u32 = 21;
    /// Nodes of PCI devices ([`super::PciTopologyInfo`]).
    #[doc(alias = "XEN_SYSCTL_pcitopoinfo")]
    pub const PCI_TOPOLOGY_INFO: u32 = 22;
    /// Cache allocation.
    #[doc(alias = "XEN_SYSCTL_psr_alloc")]
    pub const PSR_ALLOC: u32 = 23;
    /// How CPUID can be masked for PV ([`super::CpuLevellingCaps`]).
    #[doc(alias = "XEN_SYSCTL_get_cpu_levelling_caps")]
    pub const GET_CPU_LEVELLING_CAPS: u32 = 25;
    /// Feature words ([`super::CpuFeatureset`]).
    #[doc(alias = "XEN_SYSCTL_get_cpu_featureset")]
    pub const GET_CPU_FEATURESET: u32 = 26;
    /// Live patches.
    #[doc(alias = "XEN_SYSCTL_livepatch_op")]
    pub const LIVEPATCH_OP: u32 = 27;
    /// CPU policies of the host ([`super::CpuPolicy`]).
    #[doc(alias = "XEN_SYSCTL_get_cpu_policy")]
    pub const GET_CPU_POLICY: u32 = 29;
}

/// Payload of [`op::READ_CONSOLE`].
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

/// Payload of [`op::PHYSICAL_INFO`].
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

/// Payload of [`op::SCHEDULER_ID`].
#[doc(alias = "xen_sysctl_sched_id")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerId {
    /// Out: see [`crate::domctl::scheduler`].
    #[doc(alias = "sched_id")]
    pub scheduler: u32,
}

/// Payload of [`op::PERFORMANCE_COUNTER_OP`].
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

/// Payload of [`op::GET_DOMAIN_INFO_LIST`].
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

/// Payload of [`op::DEBUG_KEYS`].
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

/// Element of [`GetCpuInfo`].
#[doc(alias = "xen_sysctl_cpuinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuInfo {
    /// Nanoseconds idle.
    #[doc(alias = "idletime")]
    pub idle_time: u64,
}

/// Payload of [`op::GET_CPU_INFO`].
#[doc(alias = "xen_sysctl_getcpuinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetCpuInfo {
    /// Length of the array.
    pub max_cpus: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Out.
    pub info: GuestHandle<CpuInfo>,
    /// Out: entries.
    #[doc(alias = "nr_cpus")]
    pub number_of_cpus: u32,
    /// Padding: zero.
    pub _padding1: u32,
}

/// Payload of [`op::AVAILABLE_HEAP`].
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

/// Payload of [`op::CPU_HOTPLUG`].
#[doc(alias = "xen_sysctl_cpu_hotplug")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuHotplug {
    /// Which CPU.
    pub cpu: u32,
    /// See [`cpu_hotplug`].
    #[doc(alias = "op")]
    pub operation: u32,
}

/// Values of [`CpuHotplug::operation`].
pub mod cpu_hotplug {
    /// Bring up.
    #[doc(alias = "XEN_SYSCTL_CPU_HOTPLUG_ONLINE")]
    pub const ONLINE: u32 = 0;
    /// Take down.
    #[doc(alias = "XEN_SYSCTL_CPU_HOTPLUG_OFFLINE")]
    pub const OFFLINE: u32 = 1;
    /// Sibling threads up.
    #[doc(alias = "XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE")]
    pub const SMT_ENABLE: u32 = 2;
    /// Sibling threads down.
    #[doc(alias = "XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE")]
    pub const SMT_DISABLE: u32 = 3;
}

/// Element of [`CpuTopologyInfo`].
#[doc(alias = "xen_sysctl_cputopo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuTopology {
    /// Core, or [`INVALID_TOPOLOGY_ID`].
    pub core: u32,
    /// Socket, or [`INVALID_TOPOLOGY_ID`].
    pub socket: u32,
    /// NUMA node, or [`INVALID_TOPOLOGY_ID`].
    pub node: u32,
}

/// No such core, socket or node.
#[doc(alias = "XEN_INVALID_CORE_ID")]
pub const INVALID_TOPOLOGY_ID: u32 = !0;

/// Payload of [`op::CPU_TOPOLOGY_INFO`].
#[doc(alias = "xen_sysctl_cputopoinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuTopologyInfo {
    /// In: length of the array; out: CPUs there are.
    #[doc(alias = "num_cpus")]
    pub number_of_cpus: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Out; null asks for the count.
    #[doc(alias = "cputopo")]
    pub topology: GuestHandle<CpuTopology>,
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

/// Payload of [`op::NUMA_INFO`].
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

/// Payload of [`op::CPUPOOL_OP`].
#[doc(alias = "xen_sysctl_cpupool_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpupoolOp {
    /// See [`cpupool`].
    #[doc(alias = "op")]
    pub operation: u32,
    /// Which pool; out: which one was found.
    #[doc(alias = "cpupool_id")]
    pub pool: u32,
    /// Its scheduler.
    #[doc(alias = "sched_id")]
    pub scheduler: u32,
    /// The domain to move.
    #[doc(alias = "domid")]
    pub domain: u32,
    /// The CPU to add or remove.
    pub cpu: u32,
    /// Out: domains in it.
    #[doc(alias = "n_dom")]
    pub number_of_domains: u32,
    /// Out: its CPUs.
    #[doc(alias = "cpumap")]
    pub cpus: ControlBitmap,
}

/// Values of [`CpupoolOp::operation`].
pub mod cpupool {
    /// Make one.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_CREATE")]
    pub const CREATE: u32 = 1;
    /// Remove one.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_DESTROY")]
    pub const DESTROY: u32 = 2;
    /// This pool or the next one that exists.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_INFO")]
    pub const INFO: u32 = 3;
    /// Add a CPU.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_ADDCPU")]
    pub const ADD_CPU: u32 = 4;
    /// Remove a CPU.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_RMCPU")]
    pub const REMOVE_CPU: u32 = 5;
    /// Move a domain.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN")]
    pub const MOVE_DOMAIN: u32 = 6;
    /// CPUs in no pool.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_OP_FREEINFO")]
    pub const FREE_INFO: u32 = 7;
    /// Any pool, any CPU.
    #[doc(alias = "XEN_SYSCTL_CPUPOOL_PAR_ANY")]
    pub const ANY: u32 = 0xffff_ffff;
}

/// Payload of [`op::SCHEDULER_OP`].
#[doc(alias = "xen_sysctl_scheduler_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    /// Which pool.
    #[doc(alias = "cpupool_id")]
    pub pool: u32,
    /// See [`crate::domctl::scheduler`].
    #[doc(alias = "sched_id")]
    pub scheduler: u32,
    /// 0 sets, 1 reads.
    #[doc(alias = "cmd")]
    pub command: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// [`SchedCredit`] or [`SchedCredit2`].
    #[doc(alias = "u")]
    pub parameters: [u64; 2],
}

/// Parameters of the credit scheduler.
#[doc(alias = "xen_sysctl_credit_schedule")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit {
    /// Milliseconds of a time slice.
    #[doc(alias = "tslice_ms")]
    pub time_slice_ms: u32,
    /// Least microseconds before a preemption.
    #[doc(alias = "ratelimit_us")]
    pub rate_limit_us: u32,
    /// Microseconds during which a vCPU counts as cache-hot.
    #[doc(alias = "vcpu_migr_delay_us")]
    pub migration_delay_us: u32,
}

/// Parameters of the credit 2 scheduler.
#[doc(alias = "xen_sysctl_credit2_schedule")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit2 {
    /// Least microseconds before a preemption.
    #[doc(alias = "ratelimit_us")]
    pub rate_limit_us: u32,
}

/// Payload of [`op::PCI_TOPOLOGY_INFO`].
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

/// Payload of [`op::GET_CPU_LEVELLING_CAPS`].
#[doc(alias = "xen_sysctl_cpu_levelling_caps")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuLevellingCaps {
    /// Out: zero where CPUID faults as a whole.
    #[doc(alias = "caps")]
    pub capabilities: u32,
}

/// Payload of [`op::GET_CPU_FEATURESET`].
#[doc(alias = "xen_sysctl_cpu_featureset")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuFeatureset {
    /// See [`featureset`].
    pub index: u32,
    /// In: words of the array; out: words there are.
    #[doc(alias = "nr_features")]
    pub number_of_features: u32,
    /// Out; null asks for the count.
    pub features: GuestHandle<u32>,
}

/// Values of [`CpuFeatureset::index`].
pub mod featureset {
    /// What CPUID says.
    #[doc(alias = "XEN_SYSCTL_cpu_featureset_raw")]
    pub const RAW: u32 = 0;
    /// What the hypervisor uses.
    #[doc(alias = "XEN_SYSCTL_cpu_featureset_host")]
    pub const HOST: u32 = 1;
    /// Default of classic PV guests.
    #[doc(alias = "XEN_SYSCTL_cpu_featureset_pv")]
    pub const PV: u32 = 2;
    /// Default of hardware-assisted guests.
    #[doc(alias = "XEN_SYSCTL_cpu_featureset_hvm")]
    pub const HVM: u32 = 3;
    /// Most for classic PV guests.
    #[doc(alias = "XEN_SYSCTL_cpu_featureset_pv_max")]
    pub const PV_MAX: u32 = 4;
    /// Most for hardware-assisted guests.
    #[doc(alias = "XEN_SYSCTL_cpu_featureset_hvm_max")]
    pub const HVM_MAX: u32 = 5;
}

/// Payload of [`op::GET_CPU_POLICY`].
#[doc(alias = "xen_sysctl_cpu_policy")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuPolicy {
    /// See [`policy`].
    pub index: u32,
    /// In: length of the array; out: leaves there are.
    #[doc(alias = "nr_leaves")]
    pub number_of_leaves: u32,
    /// In: length of the array; out: MSRs there are.
    #[doc(alias = "nr_msrs")]
    pub number_of_msrs: u32,
    /// Reserved: zero.
    #[doc(alias = "_rsvd")]
    pub _reserved: u32,
    /// Out; null asks for the counts.
    pub leaves: GuestHandle<CpuidLeaf>,
    /// Out; null asks for the counts.
    pub msrs: GuestHandle<MsrEntry>,
}

/// Values of [`CpuPolicy::index`].
pub mod policy {
    /// What the CPU says.
    #[doc(alias = "XEN_SYSCTL_cpu_policy_raw")]
    pub const RAW: u32 = 0;
    /// What the hypervisor uses.
    #[doc(alias = "XEN_SYSCTL_cpu_policy_host")]
    pub const HOST: u32 = 1;
    /// Most for classic PV guests.
    #[doc(alias = "XEN_SYSCTL_cpu_policy_pv_max")]
    pub const PV_MAX: u32 = 2;
    /// Most for hardware-assisted guests.
    #[doc(alias = "XEN_SYSCTL_cpu_policy_hvm_max")]
    pub const HVM_MAX: u32 = 3;
    /// Default of classic PV guests.
    #[doc(alias = "XEN_SYSCTL_cpu_policy_pv_default")]
    pub const PV_DEFAULT: u32 = 4;
    /// Default of hardware-assisted guests.
    #[doc(alias = "XEN_SYSCTL_cpu_policy_hvm_default")]
    pub const HVM_DEFAULT: u32 = 5;
}
