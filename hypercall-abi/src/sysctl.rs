//! System control (`sysctl.h`): what the toolstack asks about the whole host. Interface version 0x15, as Xen 4.17.

mod cpu;
mod host;

pub use cpu::*;
pub use host::*;

use crate::payload;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
