//! A domain as a whole: creation, state, memory, identity.

use crate::DomainId;
use crate::xen::{ArchDomainConfig, ControlBitmap, DomainHandle};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Payload of [`super::op::CREATE_DOMAIN`].
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

/// Payload of the node affinity calls.
#[doc(alias = "xen_domctl_nodeaffinity")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NodeAffinity {
    /// NUMA nodes.
    #[doc(alias = "nodemap")]
    pub nodes: ControlBitmap,
}

/// Payload of [`super::op::MAX_MEMORY`].
#[doc(alias = "xen_domctl_max_mem")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxMemory {
    /// The limit in KiB.
    #[doc(alias = "max_memkb")]
    pub kibibytes: u64,
}

/// Payload of [`super::op::MAX_VCPUS`].
#[doc(alias = "xen_domctl_max_vcpus")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxVcpus {
    /// How many.
    pub max: u32,
}

/// Payload of [`super::op::SET_DOMAIN_HANDLE`].
#[doc(alias = "xen_domctl_setdomainhandle")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDomainHandle {
    /// UUID.
    pub handle: DomainHandle,
}

/// Payload of [`super::op::SET_DEBUGGING`].
#[doc(alias = "xen_domctl_setdebugging")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDebugging {
    /// Nonzero: under a debugger.
    pub enable: u8,
}

/// Payload of [`super::op::HYPERCALL_INIT`].
#[doc(alias = "xen_domctl_hypercall_init")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HypercallInit {
    /// Where the page goes.
    #[doc(alias = "gmfn")]
    pub guest_frame: u64,
}

/// Payload of [`super::op::SET_TIME_OFFSET`].
#[doc(alias = "xen_domctl_settimeoffset")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTimeOffset {
    /// Added to the host's wall clock.
    #[doc(alias = "time_offset_seconds")]
    pub seconds: i64,
}

/// Payload of the address size calls.
#[doc(alias = "xen_domctl_address_size")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressSize {
    /// Bits.
    pub size: u32,
}

/// Payload of [`super::op::SEND_TRIGGER`].
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

/// Payload of [`super::op::SUBSCRIBE`].
#[doc(alias = "xen_domctl_subscribe")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Subscribe {
    /// Port to notify.
    pub port: u32,
}

/// Payload of [`super::op::SET_TARGET`].
#[doc(alias = "xen_domctl_set_target")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTarget {
    /// Whom it serves.
    pub target: DomainId,
}

/// Payload of [`super::op::SET_VIRQ_HANDLER`].
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
