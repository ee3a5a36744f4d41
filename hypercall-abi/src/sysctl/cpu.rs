//! The CPUs: topology, features, pools, scheduling.

use crate::GuestHandle;
use crate::xen::{ControlBitmap, CpuidLeaf, MsrEntry};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Payload of [`super::op::SCHEDULER_ID`].
#[doc(alias = "xen_sysctl_sched_id")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerId {
    /// Out: see [`crate::domctl::scheduler`].
    #[doc(alias = "sched_id")]
    pub scheduler: u32,
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

/// Payload of [`super::op::GET_CPU_INFO`].
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

/// Payload of [`super::op::CPU_HOTPLUG`].
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

/// No such socket; the same number.
#[doc(alias = "XEN_INVALID_SOCKET_ID")]
pub const INVALID_SOCKET_ID: u32 = !0;

/// No such node; the same number.
#[doc(alias = "XEN_INVALID_NODE_ID")]
pub const INVALID_NODE_ID: u32 = !0;

/// Payload of [`super::op::CPU_TOPOLOGY_INFO`].
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

/// Payload of [`super::op::CPUPOOL_OP`].
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

/// Payload of [`super::op::SCHEDULER_OP`].
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
    /// See [`scheduler_command`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// [`SchedCredit`] or [`SchedCredit2`].
    #[doc(alias = "u")]
    pub parameters: [u64; 2],
}

/// Values of [`SchedulerOp::command`].
pub mod scheduler_command {
    /// Set them.
    #[doc(alias = "XEN_SYSCTL_SCHEDOP_putinfo")]
    pub const PUT_INFO: u32 = 0;
    /// Read them.
    #[doc(alias = "XEN_SYSCTL_SCHEDOP_getinfo")]
    pub const GET_INFO: u32 = 1;
}

/// Bounds of what [`SchedCredit`] and [`SchedCredit2`] may say.
pub mod scheduler_limit {
    /// Microseconds of a rate limit, unless it is zero: none.
    #[doc(alias = "XEN_SYSCTL_SCHED_RATELIMIT_MIN")]
    pub const RATE_LIMIT_MIN_US: u32 = 100;
    /// Microseconds.
    #[doc(alias = "XEN_SYSCTL_SCHED_RATELIMIT_MAX")]
    pub const RATE_LIMIT_MAX_US: u32 = 500_000;
    /// Milliseconds.
    #[doc(alias = "XEN_SYSCTL_CSCHED_TSLICE_MIN")]
    pub const TIME_SLICE_MIN_MS: u32 = 1;
    /// Milliseconds.
    #[doc(alias = "XEN_SYSCTL_CSCHED_TSLICE_MAX")]
    pub const TIME_SLICE_MAX_MS: u32 = 1000;
    /// Microseconds.
    #[doc(alias = "XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US")]
    pub const MIGRATION_DELAY_MAX_US: u32 = 100_000;
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

/// Payload of [`super::op::GET_CPU_LEVELLING_CAPS`].
#[doc(alias = "xen_sysctl_cpu_levelling_caps")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuLevellingCaps {
    /// Out: zero where CPUID faults as a whole.
    #[doc(alias = "caps")]
    pub capabilities: u32,
}

/// Payload of [`super::op::GET_CPU_FEATURESET`].
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

/// Payload of [`super::op::GET_CPU_POLICY`].
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
