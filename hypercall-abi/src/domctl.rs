//! Domain control (`domctl.h`): what the toolstack does to one domain. Interface version 0x15, as Xen 4.17.

mod domain;
mod hardware;
mod scheduling;
mod vcpu;

pub use domain::*;
pub use hardware::*;
pub use scheduling::*;
pub use vcpu::*;

use crate::{DomainId, payload};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
