//! What a domain sees of the hardware: devices, CPU features, time, frames.

use crate::GuestHandle;
use crate::xen::{CpuidLeaf, MsrEntry};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Payload of [`super::op::SHADOW_OP`].
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

/// Payload of [`super::op::IRQ_PERMISSION`].
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

/// Payload of [`super::op::IOMEM_PERMISSION`].
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

/// Payload of [`super::op::IOPORT_PERMISSION`].
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

/// Payload of [`super::op::MEMORY_MAPPING`].
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

/// Payload of [`super::op::IOPORT_MAPPING`].
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

/// Payload of [`super::op::GET_PAGE_FRAME_INFO3`].
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

/// Answers of [`super::op::GET_PAGE_FRAME_INFO3`].
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
