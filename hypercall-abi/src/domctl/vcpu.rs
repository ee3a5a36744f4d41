//! vCPUs: where they run, and their registers.

use crate::GuestHandle;
use crate::xen::ControlBitmap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

/// Payload of [`super::op::GET_VCPU_INFO`].
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

/// Payload of [`super::op::GET_HVM_CONTEXT_PARTIAL`].
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
