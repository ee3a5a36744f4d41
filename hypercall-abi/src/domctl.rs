//! Domain control (`domctl.h`): what the toolstack does to one domain. Interface version 0x15, as Xen 4.17.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::xen::{ArchDomainConfig, ControlBitmap, CpuidLeaf, DomainHandle, MsrEntry};
use crate::{DomainId, GuestHandle, payload};

/// The version that both sides must name; another one is answered with `EACCES`.
#[doc(alias = "XEN_DOMCTL_INTERFACE_VERSION")]
pub const INTERFACE_VERSION: u32 = 0x15;

/// The argument of every domain control call.
#[doc(alias = "xen_domctl")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Domctl {
    /// See [`op`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// [`INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The domain concerned.
    pub domain: DomainId,
    /// Padding: zero.
    #[doc(alias = "_pad")]
    pub _padding: [u16; 3],
    /// The sub-operation's structure.
    #[doc(alias = "u")]
    pub payload: [u64; 16],
}

impl Domctl {
    /// A call of `command` on `domain`, with an empty payload.
    pub fn new(command: u32, domain: DomainId) -> Self {
        Self {
            command,
            interface_version: INTERFACE_VERSION,
            domain,
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
    /// Make a domain ([`super::CreateDomain`]); answers its number in the header.
    #[doc(alias = "XEN_DOMCTL_createdomain")]
    pub const CREATE_DOMAIN: u32 = 1;
    /// Destroy it; restarts until the memory is back.
    #[doc(alias = "XEN_DOMCTL_destroydomain")]
    pub const DESTROY_DOMAIN: u32 = 2;
    /// One more reason not to run.
    #[doc(alias = "XEN_DOMCTL_pausedomain")]
    pub const PAUSE_DOMAIN: u32 = 3;
    /// One reason less.
    #[doc(alias = "XEN_DOMCTL_unpausedomain")]
    pub const UNPAUSE_DOMAIN: u32 = 4;
    /// State of this domain or the next one that exists ([`super::DomainInfo`]).
    #[doc(alias = "XEN_DOMCTL_getdomaininfo")]
    pub const GET_DOMAIN_INFO: u32 = 5;
    /// Where a vCPU may run ([`super::VcpuAffinity`]).
    #[doc(alias = "XEN_DOMCTL_setvcpuaffinity")]
    pub const SET_VCPU_AFFINITY: u32 = 9;
    /// Paging memory and dirty tracking ([`super::ShadowOp`]).
    #[doc(alias = "XEN_DOMCTL_shadow_op")]
    pub const SHADOW_OP: u32 = 10;
    /// Memory limit ([`super::MaxMemory`]).
    #[doc(alias = "XEN_DOMCTL_max_mem")]
    pub const MAX_MEMORY: u32 = 11;
    /// Register state ([`super::VcpuContext`]).
    #[doc(alias = "XEN_DOMCTL_setvcpucontext")]
    pub const SET_VCPU_CONTEXT: u32 = 12;
    /// Register state ([`super::VcpuContext`]).
    #[doc(alias = "XEN_DOMCTL_getvcpucontext")]
    pub const GET_VCPU_CONTEXT: u32 = 13;
    /// State of a vCPU ([`super::VcpuInfo`]).
    #[doc(alias = "XEN_DOMCTL_getvcpuinfo")]
    pub const GET_VCPU_INFO: u32 = 14;
    /// How many vCPUs to make ([`super::MaxVcpus`]).
    #[doc(alias = "XEN_DOMCTL_max_vcpus")]
    pub const MAX_VCPUS: u32 = 15;
    /// Scheduling parameters ([`super::SchedulerOp`]).
    #[doc(alias = "XEN_DOMCTL_scheduler_op")]
    pub const SCHEDULER_OP: u32 = 16;
    /// Its UUID ([`super::SetDomainHandle`]).
    #[doc(alias = "XEN_DOMCTL_setdomainhandle")]
    pub const SET_DOMAIN_HANDLE: u32 = 17;
    /// Under a debugger or not ([`super::SetDebugging`]).
    #[doc(alias = "XEN_DOMCTL_setdebugging")]
    pub const SET_DEBUGGING: u32 = 18;
    /// Access to an interrupt ([`super::IrqPermission`]).
    #[doc(alias = "XEN_DOMCTL_irq_permission")]
    pub const IRQ_PERMISSION: u32 = 19;
    /// Access to device memory ([`super::IoMemoryPermission`]).
    #[doc(alias = "XEN_DOMCTL_iomem_permission")]
    pub const IOMEM_PERMISSION: u32 = 20;
    /// Access to ports ([`super::IoPortPermission`]).
    #[doc(alias = "XEN_DOMCTL_ioport_permission")]
    pub const IOPORT_PERMISSION: u32 = 21;
    /// Fill a hypercall page ([`super::HypercallInit`]).
    #[doc(alias = "XEN_DOMCTL_hypercall_init")]
    pub const HYPERCALL_INIT: u32 = 22;
    /// Wall clock offset ([`super::SetTimeOffset`]).
    #[doc(alias = "XEN_DOMCTL_settimeoffset")]
    pub const SET_TIME_OFFSET: u32 = 24;
    /// Where a vCPU may run ([`super::VcpuAffinity`]).
    #[doc(alias = "XEN_DOMCTL_getvcpuaffinity")]
    pub const GET_VCPU_AFFINITY: u32 = 25;
    /// PowerPC only.
    #[doc(alias = "XEN_DOMCTL_real_mode_area")]
    pub const REAL_MODE_AREA: u32 = 26;
    /// Let a domain that shut down go on.
    #[doc(alias = "XEN_DOMCTL_resumedomain")]
    pub const RESUME_DOMAIN: u32 = 27;
    /// NMI, reset, power button ([`super::SendTrigger`]).
    #[doc(alias = "XEN_DOMCTL_sendtrigger")]
    pub const SEND_TRIGGER: u32 = 28;
    /// Event on suspend ([`super::Subscribe`]).
    #[doc(alias = "XEN_DOMCTL_subscribe")]
    pub const SUBSCRIBE: u32 = 29;
    /// Whole machine state ([`super::HvmContext`]).
    #[doc(alias = "XEN_DOMCTL_gethvmcontext")]
    pub const GET_HVM_CONTEXT: u32 = 33;
    /// Whole machine state ([`super::HvmContext`]).
    #[doc(alias = "XEN_DOMCTL_sethvmcontext")]
    pub const SET_HVM_CONTEXT: u32 = 34;
    /// Classic PV only.
    #[doc(alias = "XEN_DOMCTL_set_address_size")]
    pub const SET_ADDRESS_SIZE: u32 = 35;
    /// Guest width ([`super::AddressSize`]).
    #[doc(alias = "XEN_DOMCTL_get_address_size")]
    pub const GET_ADDRESS_SIZE: u32 = 36;
    /// Pass a device through.
    #[doc(alias = "XEN_DOMCTL_assign_device")]
    pub const ASSIGN_DEVICE: u32 = 37;
    /// Pass an interrupt through.
    #[doc(alias = "XEN_DOMCTL_bind_pt_irq")]
    pub const BIND_PT_IRQ: u32 = 38;
    /// Map device memory ([`super::MemoryMapping`]).
    #[doc(alias = "XEN_DOMCTL_memory_mapping")]
    pub const MEMORY_MAPPING: u32 = 39;
    /// Map ports ([`super::IoPortMapping`]).
    #[doc(alias = "XEN_DOMCTL_ioport_mapping")]
    pub const IOPORT_MAPPING: u32 = 40;
    /// More register state.
    #[doc(alias = "XEN_DOMCTL_set_ext_vcpucontext")]
    pub const SET_EXT_VCPU_CONTEXT: u32 = 42;
    /// More register state.
    #[doc(alias = "XEN_DOMCTL_get_ext_vcpucontext")]
    pub const GET_EXT_VCPU_CONTEXT: u32 = 43;
    /// Itanium only.
    #[doc(alias = "XEN_DOMCTL_set_opt_feature")]
    pub const SET_OPT_FEATURE: u32 = 44;
    /// Could a device be passed through?
    #[doc(alias = "XEN_DOMCTL_test_assign_device")]
    pub const TEST_ASSIGN_DEVICE: u32 = 45;
    /// Whom a device model domain serves ([`super::SetTarget`]).
    #[doc(alias = "XEN_DOMCTL_set_target")]
    pub const SET_TARGET: u32 = 46;
    /// Take a device back.
    #[doc(alias = "XEN_DOMCTL_deassign_device")]
    pub const DEASSIGN_DEVICE: u32 = 47;
    /// Take an interrupt back.
    #[doc(alias = "XEN_DOMCTL_unbind_pt_irq")]
    pub const UNBIND_PT_IRQ: u32 = 48;
    /// Devices that share an IOMMU group.
    #[doc(alias = "XEN_DOMCTL_get_device_group")]
    pub const GET_DEVICE_GROUP: u32 = 50;
    /// Single stepping.
    #[doc(alias = "XEN_DOMCTL_debug_op")]
    pub const DEBUG_OP: u32 = 54;
    /// One record of the machine state ([`super::HvmContextPartial`]).
    #[doc(alias = "XEN_DOMCTL_gethvmcontext_partial")]
    pub const GET_HVM_CONTEXT_PARTIAL: u32 = 55;
    /// Introspection rings.
    #[doc(alias = "XEN_DOMCTL_vm_event_op")]
    pub const VM_EVENT_OP: u32 = 56;
    /// Memory sharing.
    #[doc(alias = "XEN_DOMCTL_mem_sharing_op")]
    pub const MEM_SHARING_OP: u32 = 57;
    /// Time stamp counter ([`super::TscInfo`]).
    #[doc(alias = "XEN_DOMCTL_gettscinfo")]
    pub const GET_TSC_INFO: u32 = 59;
    /// Time stamp counter ([`super::TscInfo`]).
    #[doc(alias = "XEN_DOMCTL_settscinfo")]
    pub const SET_TSC_INFO: u32 = 60;
    /// Kinds of frames ([`super::PageFrameInfo3`]).
    #[doc(alias = "XEN_DOMCTL_getpageframeinfo3")]
    pub const GET_PAGE_FRAME_INFO3: u32 = 61;
    /// Extended register state ([`super::VcpuExtState`]).
    #[doc(alias = "XEN_DOMCTL_setvcpuextstate")]
    pub const SET_VCPU_EXT_STATE: u32 = 62;
    /// Extended register state ([`super::VcpuExtState`]).
    #[doc(alias = "XEN_DOMCTL_getvcpuextstate")]
    pub const GET_VCPU_EXT_STATE: u32 = 63;
    /// Introspection.
    #[doc(alias = "XEN_DOMCTL_set_access_required")]
    pub const SET_ACCESS_REQUIRED: u32 = 64;
    /// Check the physmap.
    #[doc(alias = "XEN_DOMCTL_audit_p2m")]
    pub const AUDIT_P2M: u32 = 65;
    /// Who gets a global virtual interrupt ([`super::SetVirqHandler`]).
    #[doc(alias = "XEN_DOMCTL_set_virq_handler")]
    pub const SET_VIRQ_HANDLER: u32 = 66;
    /// Mark a frame broken.
    #[doc(alias = "XEN_DOMCTL_set_broken_page_p2m")]
    pub const SET_BROKEN_PAGE_P2M: u32 = 67;
    /// Preferred NUMA nodes ([`super::NodeAffinity`]).
    #[doc(alias = "XEN_DOMCTL_setnodeaffinity")]
    pub const SET_NODE_AFFINITY: u32 = 68;
    /// Preferred NUMA nodes ([`super::NodeAffinity`]).
    #[doc(alias = "XEN_DOMCTL_getnodeaffinity")]
    pub const GET_NODE_AFFINITY: u32 = 69;
    /// Arm only.
    #[doc(alias = "XEN_DOMCTL_cacheflush")]
    pub const CACHE_FLUSH: u32 = 71;
    /// MSRs of a vCPU.
    #[doc(alias = "XEN_DOMCTL_get_vcpu_msrs")]
    pub const GET_VCPU_MSRS: u32 = 72;
    /// MSRs of a vCPU.
    #[doc(alias = "XEN_DOMCTL_set_vcpu_msrs")]
    pub const SET_VCPU_MSRS: u32 = 73;
    /// Virtual NUMA topology.
    #[doc(alias = "XEN_DOMCTL_setvnumainfo")]
    pub const SET_VNUMA_INFO: u32 = 74;
    /// Cache monitoring.
    #[doc(alias = "XEN_DOMCTL_psr_cmt_op")]
    pub const PSR_CMT_OP: u32 = 75;
    /// Introspection.
    #[doc(alias = "XEN_DOMCTL_monitor_op")]
    pub const MONITOR_OP: u32 = 77;
    /// Cache allocation.
    #[doc(alias = "XEN_DOMCTL_psr_alloc")]
    pub const PSR_ALLOC: u32 = 78;
    /// Reset the domain's state, keep its memory.
    #[doc(alias = "XEN_DOMCTL_soft_reset")]
    pub const SOFT_RESET: u32 = 79;
    /// Arm only.
    #[doc(alias = "XEN_DOMCTL_vuart_op")]
    pub const VUART_OP: u32 = 81;
    /// CPUID and MSRs of the domain ([`super::CpuPolicy`]).
    #[doc(alias = "XEN_DOMCTL_get_cpu_policy")]
    pub const GET_CPU_POLICY: u32 = 82;
    /// CPUID and MSRs of the domain ([`super::CpuPolicy`]).
    #[doc(alias = "XEN_DOMCTL_set_cpu_policy")]
    pub const SET_CPU_POLICY: u32 = 83;
    /// Tracing.
    #[doc(alias = "XEN_DOMCTL_vmtrace_op")]
    pub const VMTRACE_OP: u32 = 84;
    /// Memory for page tables ([`super::PagingMempool`]).
    #[doc(alias = "XEN_DOMCTL_get_paging_mempool_size")]
    pub const GET_PAGING_MEMPOOL_SIZE: u32 = 85;
    /// Memory for page tables ([`super::PagingMempool`]).
    #[doc(alias = "XEN_DOMCTL_set_paging_mempool_size")]
    pub const SET_PAGING_MEMPOOL_SIZE: u32 = 86;
    /// Debugger.
    #[doc(alias = "XEN_DOMCTL_gdbsx_guestmemio")]
    pub const GDBSX_GUEST_MEMORY_IO: u32 = 1000;
    /// Debugger.
    #[doc(alias = "XEN_DOMCTL_gdbsx_pausevcpu")]
    pub const GDBSX_PAUSE_VCPU: u32 = 1001;
    /// Debugger.
    #[doc(alias = "XEN_DOMCTL_gdbsx_unpausevcpu")]
    pub const GDBSX_UNPAUSE_VCPU: u32 = 1002;
    /// Debugger.
    #[doc(alias = "XEN_DOMCTL_gdbsx_domstatus")]
    pub const GDBSX_DOMAIN_STATUS: u32 = 1003;
}

/// Payload of [`op::CREATE_DOMAIN`].
#[doc(alias = "xen_domctl_createdomain")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateDomain {
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: DomainHandle,
    /// See [`create_flag`].
    pub flags: u32,
    /// [`IOMMU_NO_SHARED_TABLES`] or zero.
    #[doc(alias = "iommu_opts")]
    pub iommu_options: u32,
    /// Most vCPUs that it can have.
    pub max_vcpus: u32,
    /// Highest event channel port.
    #[doc(alias = "max_evtchn_port")]
    pub max_event_channel_port: u32,
    /// Most frames of its grant table; negative for the default.
    pub max_grant_frames: i32,
    /// Most frames that track its mappings; negative for the default.
    pub max_maptrack_frames: i32,
    /// Highest grant table version, in the bits of [`GRANT_VERSION_MASK`].
    #[doc(alias = "grant_opts")]
    pub grant_options: u32,
    /// Bytes of trace buffer per vCPU.
    pub vmtrace_size: u32,
    /// Its CPU pool.
    pub cpupool_id: u32,
    /// x86's part.
    pub arch: ArchDomainConfig,
}

/// Bits of [`CreateDomain::flags`].
pub mod create_flag {
    /// Hardware-assisted.
    #[doc(alias = "XEN_DOMCTL_CDF_hvm")]
    pub const HVM: u32 = 1 << 0;
    /// With nested paging.
    #[doc(alias = "XEN_DOMCTL_CDF_hap")]
    pub const HAP: u32 = 1 << 1;
    /// Check its memory across the host's sleep.
    #[doc(alias = "XEN_DOMCTL_CDF_s3_integrity")]
    pub const S3_INTEGRITY: u32 = 1 << 2;
    /// Shadow paging only.
    #[doc(alias = "XEN_DOMCTL_CDF_oos_off")]
    pub const OUT_OF_SYNC_OFF: u32 = 1 << 3;
    /// It runs the store daemon.
    #[doc(alias = "XEN_DOMCTL_CDF_xs_domain")]
    pub const STORE_DOMAIN: u32 = 1 << 4;
    /// It may get devices.
    #[doc(alias = "XEN_DOMCTL_CDF_iommu")]
    pub const IOMMU: u32 = 1 << 5;
    /// It may be a hypervisor.
    #[doc(alias = "XEN_DOMCTL_CDF_nested_virt")]
    pub const NESTED_VIRTUALISATION: u32 = 1 << 6;
    /// It may use performance counters.
    #[doc(alias = "XEN_DOMCTL_CDF_vpmu")]
    pub const VPMU: u32 = 1 << 7;
    /// The highest bit.
    #[doc(alias = "XEN_DOMCTL_CDF_MAX")]
    pub const MAX: u32 = 1 << 7;
}

/// Bit of [`CreateDomain::iommu_options`]: separate page tables for devices.
#[doc(alias = "XEN_DOMCTL_IOMMU_no_sharept")]
pub const IOMMU_NO_SHARED_TABLES: u32 = 1 << 0;

/// The bits of [`CreateDomain::grant_options`] that hold the version.
#[doc(alias = "XEN_DOMCTL_GRANT_version_mask")]
pub const GRANT_VERSION_MASK: u32 = 0xf;

/// State of a domain.
#[doc(alias = "xen_domctl_getdomaininfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInfo {
    /// Its number.
    pub domain: DomainId,
    /// Padding: zero.
    #[doc(alias = "pad1")]
    pub _padding: u16,
    /// See [`info_flag`]; the shutdown reason in bits 16 to 23.
    pub flags: u32,
    /// Frames it has.
    #[doc(alias = "tot_pages")]
    pub total_pages: u64,
    /// Frames it may have.
    pub max_pages: u64,
    /// Frames claimed and not yet taken.
    pub outstanding_pages: u64,
    /// Frames shared.
    #[doc(alias = "shr_pages")]
    pub shared_pages: u64,
    /// Frames paged out.
    pub paged_pages: u64,
    /// Frame of its shared page.
    pub shared_info_frame: u64,
    /// Nanoseconds run, all vCPUs.
    pub cpu_time: u64,
    /// vCPUs online.
    #[doc(alias = "nr_online_vcpus")]
    pub number_of_online_vcpus: u32,
    /// Highest vCPU number, or [`INVALID_MAX_VCPU_ID`].
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: DomainHandle,
    /// Its CPU pool.
    pub cpupool: u32,
    /// Width of its physical addresses.
    #[doc(alias = "gpaddr_bits")]
    pub guest_physical_address_bits: u8,
    /// Padding: zero.
    #[doc(alias = "pad2")]
    pub _padding2: [u8; 7],
    /// x86's part of how it was created.
    pub arch_config: ArchDomainConfig,
}

impl DomainInfo {
    /// Why it shut down ([`crate::sched::shutdown`]); `None` unless it did.
    pub const fn shutdown_reason(&self) -> Option<u32> {
        if self.flags & info_flag::SHUTDOWN != 0 {
            Some(self.flags >> info_flag::SHUTDOWN_SHIFT & info_flag::SHUTDOWN_MASK)
        } else {
            None
        }
    }
}

/// No vCPU was made yet.
#[doc(alias = "XEN_INVALID_MAX_VCPU_ID")]
pub const INVALID_MAX_VCPU_ID: u32 = !0;

/// Bits of [`DomainInfo::flags`].
pub mod info_flag {
    /// Being destroyed.
    #[doc(alias = "XEN_DOMINF_dying")]
    pub const DYING: u32 = 1 << 0;
    /// Hardware-assisted.
    #[doc(alias = "XEN_DOMINF_hvm_guest")]
    pub const HVM_GUEST: u32 = 1 << 1;
    /// It shut down; the reason is beside.
    #[doc(alias = "XEN_DOMINF_shutdown")]
    pub const SHUTDOWN: u32 = 1 << 2;
    /// Paused by the toolstack.
    #[doc(alias = "XEN_DOMINF_paused")]
    pub const PAUSED: u32 = 1 << 3;
    /// All its vCPUs wait.
    #[doc(alias = "XEN_DOMINF_blocked")]
    pub const BLOCKED: u32 = 1 << 4;
    /// A vCPU runs right now.
    #[doc(alias = "XEN_DOMINF_running")]
    pub const RUNNING: u32 = 1 << 5;
    /// Under a debugger.
    #[doc(alias = "XEN_DOMINF_debugged")]
    pub const DEBUGGED: u32 = 1 << 6;
    /// It runs the store daemon.
    #[doc(alias = "XEN_DOMINF_xs_domain")]
    pub const STORE_DOMAIN: u32 = 1 << 7;
    /// With nested paging.
    #[doc(alias = "XEN_DOMINF_hap")]
    pub const HAP: u32 = 1 << 8;
    /// The reason, after shifting.
    #[doc(alias = "XEN_DOMINF_shutdownmask")]
    pub const SHUTDOWN_MASK: u32 = 255;
    /// Where the reason is.
    #[doc(alias = "XEN_DOMINF_shutdownshift")]
    pub const SHUTDOWN_SHIFT: u32 = 16;
}

/// Payload of the vCPU affinity calls.
#[doc(alias = "xen_domctl_vcpuaffinity")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuAffinity {
    /// Which vCPU.
    pub vcpu: u32,
    /// See [`affinity_flag`].
    pub flags: u32,
    /// CPUs it may run on; out: what took effect.
    #[doc(alias = "cpumap_hard")]
    pub hard: ControlBitmap,
    /// CPUs it prefers; out: what took effect.
    #[doc(alias = "cpumap_soft")]
    pub soft: ControlBitmap,
}

/// Bits of [`VcpuAffinity::flags`].
pub mod affinity_flag {
    /// The hard map is meant.
    #[doc(alias = "XEN_VCPUAFFINITY_HARD")]
    pub const HARD: u32 = 1 << 0;
    /// The soft map is meant.
    #[doc(alias = "XEN_VCPUAFFINITY_SOFT")]
    pub const SOFT: u32 = 1 << 1;
    /// Break a temporary pinning.
    #[doc(alias = "XEN_VCPUAFFINITY_FORCE")]
    pub const FORCE: u32 = 1 << 2;
}

/// Payload of the node affinity calls.
#[doc(alias = "xen_domctl_nodeaffinity")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NodeAffinity {
    /// NUMA nodes.
    #[doc(alias = "nodemap")]
    pub nodes: ControlBitmap,
}

/// Payload of [`op::SHADOW_OP`].
#[doc(alias = "xen_domctl_shadow_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShadowOp {
    /// See [`shadow`].
    #[doc(alias = "op")]
    pub operation: u32,
    /// Depends on the operation.
    pub mode: u32,
    /// Paging memory, in MiB.
    #[doc(alias = "mb")]
    pub megabytes: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Bitmap of dirtied frames.
    pub dirty_bitmap: GuestHandle<u8>,
    /// In: bits of the bitmap; out: bits written.
    pub pages: u64,
    /// Out: faults since the last look.
    #[doc(alias = "stats.fault_count")]
    pub fault_count: u32,
    /// Out: frames dirtied since the last look.
    #[doc(alias = "stats.dirty_count")]
    pub dirty_count: u32,
}

/// Values of [`ShadowOp::operation`].
pub mod shadow {
    /// Stop.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_OFF")]
    pub const OFF: u32 = 0;
    /// Read the dirty bitmap and clear it.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_CLEAN")]
    pub const CLEAN: u32 = 11;
    /// Read it only.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_PEEK")]
    pub const PEEK: u32 = 12;
    /// Paging memory.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION")]
    pub const GET_ALLOCATION: u32 = 30;
    /// Paging memory.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION")]
    pub const SET_ALLOCATION: u32 = 31;
    /// Start.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_ENABLE")]
    pub const ENABLE: u32 = 32;
    /// Start, for tests.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_ENABLE_TEST")]
    pub const ENABLE_TEST: u32 = 1;
    /// Start tracking dirty frames.
    #[doc(alias = "XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY")]
    pub const ENABLE_LOG_DIRTY: u32 = 2;
}

/// Payload of [`op::MAX_MEMORY`].
#[doc(alias = "xen_domctl_max_mem")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxMemory {
    /// The limit in KiB.
    #[doc(alias = "max_memkb")]
    pub kibibytes: u64,
}

/// Payload of the vCPU context calls.
#[doc(alias = "xen_domctl_vcpucontext")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuContext {
    /// Which vCPU.
    pub vcpu: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// The registers; a hardware-assisted domain's are read and written by the HVM context calls.
    #[doc(alias = "ctxt")]
    pub context: GuestHandle<u8>,
}

/// Payload of [`op::GET_VCPU_INFO`].
#[doc(alias = "xen_domctl_getvcpuinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuInfo {
    /// Which vCPU.
    pub vcpu: u32,
    /// Out: it is up.
    pub online: u8,
    /// Out: it waits.
    pub blocked: u8,
    /// Out: it runs right now.
    pub running: u8,
    /// Padding: zero.
    pub _padding: u8,
    /// Out: nanoseconds run.
    pub cpu_time: u64,
    /// Out: where it runs or ran last.
    pub cpu: u32,
    /// Padding: zero.
    pub _padding1: u32,
}

/// Payload of [`op::MAX_VCPUS`].
#[doc(alias = "xen_domctl_max_vcpus")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxVcpus {
    /// How many.
    pub max: u32,
}

/// Schedulers.
pub mod scheduler {
    /// Credit.
    #[doc(alias = "XEN_SCHEDULER_CREDIT")]
    pub const CREDIT: u32 = 5;
    /// Credit 2, Xen's default.
    #[doc(alias = "XEN_SCHEDULER_CREDIT2")]
    pub const CREDIT2: u32 = 6;
    /// Avionics.
    #[doc(alias = "XEN_SCHEDULER_ARINC653")]
    pub const ARINC653: u32 = 7;
    /// Real time.
    #[doc(alias = "XEN_SCHEDULER_RTDS")]
    pub const RTDS: u32 = 8;
    /// One vCPU per CPU.
    #[doc(alias = "XEN_SCHEDULER_NULL")]
    pub const NULL: u32 = 9;
}

/// Payload of [`op::SCHEDULER_OP`].
#[doc(alias = "xen_domctl_scheduler_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedulerOp {
    /// See [`scheduler`].
    #[doc(alias = "sched_id")]
    pub scheduler: u32,
    /// See [`scheduler_command`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// [`SchedCredit`], [`SchedRtds`] or [`SchedVcpus`].
    #[doc(alias = "u")]
    pub parameters: [u64; 2],
}

/// Values of [`SchedulerOp::command`].
pub mod scheduler_command {
    /// Set the domain's.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_putinfo")]
    pub const PUT_INFO: u32 = 0;
    /// Read the domain's.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_getinfo")]
    pub const GET_INFO: u32 = 1;
    /// Set vCPUs'.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_putvcpuinfo")]
    pub const PUT_VCPU_INFO: u32 = 2;
    /// Read vCPUs'.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_getvcpuinfo")]
    pub const GET_VCPU_INFO: u32 = 3;
}

/// Parameters of the credit scheduler and, with the same layout, of credit 2.
#[doc(alias = "xen_domctl_sched_credit")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedCredit {
    /// Share of the CPUs; 256 is usual.
    pub weight: u16,
    /// Most per cent of a CPU; zero for no limit.
    pub cap: u16,
}

/// Parameters of the real-time scheduler.
#[doc(alias = "xen_domctl_sched_rtds")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedRtds {
    /// Microseconds.
    pub period: u32,
    /// Microseconds.
    pub budget: u32,
    /// Bit 0: may use spare time.
    pub flags: u32,
}

/// Parameters for vCPUs (the anonymous member `v` of the union).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedVcpus {
    /// Their parameters.
    pub vcpus: GuestHandle<SchedVcpu>,
    /// In: length of the array; out: entries done.
    #[doc(alias = "nr_vcpus")]
    pub number_of_vcpus: u32,
    /// Padding: zero.
    #[doc(alias = "padding")]
    pub _padding: u32,
}

/// A vCPU's scheduling parameters.
#[doc(alias = "xen_domctl_schedparam_vcpu")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedVcpu {
    /// [`SchedCredit`] or [`SchedRtds`].
    #[doc(alias = "u")]
    pub parameters: [u32; 3],
    /// Which vCPU.
    #[doc(alias = "vcpuid")]
    pub vcpu: u32,
}

/// Payload of [`op::SET_DOMAIN_HANDLE`].
#[doc(alias = "xen_domctl_setdomainhandle")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDomainHandle {
    /// UUID.
    pub handle: DomainHandle,
}

/// Payload of [`op::SET_DEBUGGING`].
#[doc(alias = "xen_domctl_setdebugging")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDebugging {
    /// Nonzero: under a debugger.
    pub enable: u8,
}

/// Payload of [`op::IRQ_PERMISSION`].
#[doc(alias = "xen_domctl_irq_permission")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqPermission {
    /// Which interrupt.
    pub pirq: u32,
    /// Nonzero: grant.
    pub allow_access: u8,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: [u8; 3],
}

/// Payload of [`op::IOMEM_PERMISSION`].
#[doc(alias = "xen_domctl_iomem_permission")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoMemoryPermission {
    /// First machine frame.
    #[doc(alias = "first_mfn")]
    pub first_frame: u64,
    /// How many.
    #[doc(alias = "nr_mfns")]
    pub number_of_frames: u64,
    /// Nonzero: grant.
    pub allow_access: u8,
    /// Padding: zero.
    pub _padding: [u8; 7],
}

/// Payload of [`op::IOPORT_PERMISSION`].
#[doc(alias = "xen_domctl_ioport_permission")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoPortPermission {
    /// First port.
    pub first_port: u32,
    /// How many.
    #[doc(alias = "nr_ports")]
    pub number_of_ports: u32,
    /// Nonzero: grant.
    pub allow_access: u8,
    /// Padding: zero.
    pub _padding: [u8; 3],
}

/// Payload of [`op::HYPERCALL_INIT`].
#[doc(alias = "xen_domctl_hypercall_init")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HypercallInit {
    /// Where the page goes.
    #[doc(alias = "gmfn")]
    pub guest_frame: u64,
}

/// Payload of [`op::SET_TIME_OFFSET`].
#[doc(alias = "xen_domctl_settimeoffset")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTimeOffset {
    /// Added to the host's wall clock.
    #[doc(alias = "time_offset_seconds")]
    pub seconds: i64,
}

/// Payload of the HVM context calls; the records are in [`crate::hvm::save`].
#[doc(alias = "xen_domctl_hvmcontext")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmContext {
    /// In: bytes of the buffer; out: bytes needed or written.
    pub size: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// The records; null asks for the size.
    pub buffer: GuestHandle<u8>,
}

/// Payload of [`op::GET_HVM_CONTEXT_PARTIAL`].
#[doc(alias = "xen_domctl_hvmcontext_partial")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmContextPartial {
    /// Type code of the record.
    #[doc(alias = "type")]
    pub kind: u32,
    /// Which one: for vCPU records, its number.
    pub instance: u32,
    /// In: bytes of the buffer; out: bytes written.
    #[doc(alias = "bufsz")]
    pub buffer_size: u64,
    /// The record without its descriptor.
    pub buffer: GuestHandle<u8>,
}

/// Payload of the address size calls.
#[doc(alias = "xen_domctl_address_size")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressSize {
    /// Bits.
    pub size: u32,
}

/// Payload of [`op::SEND_TRIGGER`].
#[doc(alias = "xen_domctl_sendtrigger")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SendTrigger {
    /// See [`trigger`].
    pub trigger: u32,
    /// Which vCPU.
    pub vcpu: u32,
}

/// Values of [`SendTrigger::trigger`].
pub mod trigger {
    /// Non-maskable interrupt.
    #[doc(alias = "XEN_DOMCTL_SENDTRIGGER_NMI")]
    pub const NMI: u32 = 0;
    /// Reset.
    #[doc(alias = "XEN_DOMCTL_SENDTRIGGER_RESET")]
    pub const RESET: u32 = 1;
    /// INIT.
    #[doc(alias = "XEN_DOMCTL_SENDTRIGGER_INIT")]
    pub const INIT: u32 = 2;
    /// Power button.
    #[doc(alias = "XEN_DOMCTL_SENDTRIGGER_POWER")]
    pub const POWER: u32 = 3;
    /// Sleep button.
    #[doc(alias = "XEN_DOMCTL_SENDTRIGGER_SLEEP")]
    pub const SLEEP: u32 = 4;
}

/// Payload of [`op::SUBSCRIBE`].
#[doc(alias = "xen_domctl_subscribe")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Subscribe {
    /// Port to notify.
    pub port: u32,
}

/// Payload of [`op::MEMORY_MAPPING`].
#[doc(alias = "xen_domctl_memory_mapping")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMapping {
    /// Where.
    #[doc(alias = "first_gfn")]
    pub first_guest_frame: u64,
    /// What.
    #[doc(alias = "first_mfn")]
    pub first_machine_frame: u64,
    /// How many.
    #[doc(alias = "nr_mfns")]
    pub number_of_frames: u64,
    /// 1 maps, 0 unmaps.
    pub add_mapping: u32,
    /// Padding: zero.
    #[doc(alias = "padding")]
    pub _padding: u32,
}

/// Payload of [`op::IOPORT_MAPPING`].
#[doc(alias = "xen_domctl_ioport_mapping")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IoPortMapping {
    /// Where.
    #[doc(alias = "first_gport")]
    pub first_guest_port: u32,
    /// What.
    #[doc(alias = "first_mport")]
    pub first_machine_port: u32,
    /// How many.
    #[doc(alias = "nr_ports")]
    pub number_of_ports: u32,
    /// 1 maps, 0 unmaps.
    pub add_mapping: u32,
}

/// Payload of [`op::SET_TARGET`].
#[doc(alias = "xen_domctl_set_target")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTarget {
    /// Whom it serves.
    pub target: DomainId,
}

/// Payload of the CPU policy calls.
#[doc(alias = "xen_domctl_cpu_policy")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuPolicy {
    /// In: length of the array; out: leaves there are.
    #[doc(alias = "nr_leaves")]
    pub number_of_leaves: u32,
    /// In: length of the array; out: MSRs there are.
    #[doc(alias = "nr_msrs")]
    pub number_of_msrs: u32,
    /// CPUID leaves.
    pub leaves: GuestHandle<CpuidLeaf>,
    /// MSRs.
    pub msrs: GuestHandle<MsrEntry>,
    /// Out: the leaf that was refused, or all ones.
    #[doc(alias = "err_leaf")]
    pub error_leaf: u32,
    /// Out: its sub-leaf, or all ones.
    #[doc(alias = "err_subleaf")]
    pub error_subleaf: u32,
    /// Out: the MSR that was refused, or all ones.
    #[doc(alias = "err_msr")]
    pub error_msr: u32,
    /// Padding: zero.
    pub _padding: u32,
}

/// Payload of the TSC calls.
#[doc(alias = "xen_domctl_tsc_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TscInfo {
    /// 0 default, 1 always emulated, 2 never emulated.
    #[doc(alias = "tsc_mode")]
    pub mode: u32,
    /// The guest's TSC frequency.
    #[doc(alias = "gtsc_khz")]
    pub frequency_khz: u32,
    /// How often the domain was restored.
    pub incarnation: u32,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u32,
    /// Nanoseconds that the guest's TSC has counted.
    #[doc(alias = "elapsed_nsec")]
    pub elapsed_ns: u64,
}

/// Payload of [`op::GET_PAGE_FRAME_INFO3`].
#[doc(alias = "xen_domctl_getpageframeinfo3")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PageFrameInfo3 {
    /// Length of the array.
    #[doc(alias = "num")]
    pub number: u64,
    /// In: guest frames; out: kinds in bits 28 to 31.
    pub array: GuestHandle<u64>,
}

/// Answers of [`op::GET_PAGE_FRAME_INFO3`].
pub mod frame_kind {
    /// Ordinary memory.
    #[doc(alias = "XEN_DOMCTL_PFINFO_NOTAB")]
    pub const NO_TABLE: u32 = 0;
    /// Nothing there.
    #[doc(alias = "XEN_DOMCTL_PFINFO_XTAB")]
    pub const INVALID: u32 = 0xf << 28;
    /// Needs memory, has no content.
    #[doc(alias = "XEN_DOMCTL_PFINFO_XALLOC")]
    pub const ALLOCATE_ONLY: u32 = 0xe << 28;
    /// Defective.
    #[doc(alias = "XEN_DOMCTL_PFINFO_BROKEN")]
    pub const BROKEN: u32 = 0xd << 28;
}

/// Payload of the extended state calls.
#[doc(alias = "xen_domctl_vcpuextstate")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuExtState {
    /// Which vCPU.
    pub vcpu: u32,
    /// Padding: zero.
    pub _padding: u32,
    /// Components that the state may have.
    #[doc(alias = "xfeature_mask")]
    pub feature_mask: u64,
    /// In: bytes of the buffer; out: bytes needed or written.
    pub size: u64,
    /// XCR0, the components ever enabled, then the XSAVE area.
    pub buffer: GuestHandle<u64>,
}

/// One MSR of a vCPU.
#[doc(alias = "xen_domctl_vcpu_msr")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuMsr {
    /// MSR number.
    pub index: u32,
    /// Reserved: zero.
    #[doc(alias = "reserved")]
    pub _reserved: u32,
    /// Its value.
    pub value: u64,
}

/// Payload of the vCPU MSR calls.
#[doc(alias = "xen_domctl_vcpu_msrs")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuMsrs {
    /// Which vCPU.
    pub vcpu: u32,
    /// In: length of the array; out: entries.
    #[doc(alias = "msr_count")]
    pub count: u32,
    /// The MSRs.
    pub msrs: GuestHandle<VcpuMsr>,
}

/// Payload of [`op::SET_VIRQ_HANDLER`].
#[doc(alias = "xen_domctl_set_virq_handler")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVirqHandler {
    /// Which virtual interrupt.
    pub virq: u32,
}

/// Payload of the paging memory calls.
#[doc(alias = "xen_domctl_paging_mempool")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagingMempool {
    /// Size of the pool.
    #[doc(alias = "size")]
    pub bytes: u64,
}
