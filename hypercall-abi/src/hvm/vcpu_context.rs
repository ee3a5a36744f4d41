//! The start state of a vCPU (`hvm/hvm_vcpu.h`), as `vcpu_op`'s initialise takes it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::payload;

/// Argument of [`crate::vcpu::op::INITIALISE`].
#[doc(alias = "vcpu_hvm_context")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuContext {
    /// See [`mode`].
    pub mode: u32,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u32,
    /// [`Registers32`] or [`Registers64`].
    #[doc(alias = "cpu_regs")]
    pub registers: [u64; 15],
}

impl VcpuContext {
    /// The registers of a vCPU that starts with 32 bits; `None` in the other mode.
    pub fn registers_32(&self) -> Option<Registers32> {
        (self.mode == mode::BITS_32).then(|| payload::read(&self.registers))
    }

    /// The registers of a vCPU that starts with 64 bits; `None` in the other mode.
    pub fn registers_64(&self) -> Option<Registers64> {
        (self.mode == mode::BITS_64).then(|| payload::read(&self.registers))
    }
}

/// Values of [`VcpuContext::mode`].
pub mod mode {
    /// 16 or 32 bits, with or without paging.
    #[doc(alias = "VCPU_HVM_MODE_32B")]
    pub const BITS_32: u32 = 0;
    /// Long mode, with flat segments.
    #[doc(alias = "VCPU_HVM_MODE_64B")]
    pub const BITS_64: u32 = 1;
}

/// Start state with 32 bits.
#[doc(alias = "vcpu_hvm_x86_32")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Registers32 {
    /// General register.
    pub eax: u32,
    /// General register.
    pub ecx: u32,
    /// General register.
    pub edx: u32,
    /// General register.
    pub ebx: u32,
    /// General register.
    pub esp: u32,
    /// General register.
    pub ebp: u32,
    /// General register.
    pub esi: u32,
    /// General register.
    pub edi: u32,
    /// Instruction pointer.
    pub eip: u32,
    /// Flags.
    pub eflags: u32,
    /// Control register.
    pub cr0: u32,
    /// Control register.
    pub cr3: u32,
    /// Control register.
    pub cr4: u32,
    /// Padding: zero.
    #[doc(alias = "pad1")]
    pub _padding: u32,
    /// Extended features.
    pub efer: u64,
    /// Base of a segment.
    pub cs_base: u32,
    /// Base of a segment.
    pub ds_base: u32,
    /// Base of a segment.
    pub ss_base: u32,
    /// Base of a segment.
    pub es_base: u32,
    /// Base of a segment.
    pub tr_base: u32,
    /// Limit of a segment.
    pub cs_limit: u32,
    /// Limit of a segment.
    pub ds_limit: u32,
    /// Limit of a segment.
    pub ss_limit: u32,
    /// Limit of a segment.
    pub es_limit: u32,
    /// Limit of a segment.
    pub tr_limit: u32,
    /// Attributes in VMX format.
    #[doc(alias = "cs_ar")]
    pub cs_attributes: u16,
    /// Attributes in VMX format.
    #[doc(alias = "ds_ar")]
    pub ds_attributes: u16,
    /// Attributes in VMX format.
    #[doc(alias = "ss_ar")]
    pub ss_attributes: u16,
    /// Attributes in VMX format.
    #[doc(alias = "es_ar")]
    pub es_attributes: u16,
    /// Attributes in VMX format.
    #[doc(alias = "tr_ar")]
    pub tr_attributes: u16,
    /// Padding: zero.
    #[doc(alias = "pad2")]
    pub _padding2: [u16; 3],
}

/// Start state with 64 bits.
#[doc(alias = "vcpu_hvm_x86_64")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Registers64 {
    /// General register.
    pub rax: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub rsp: u64,
    /// General register.
    pub rbp: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdi: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Control register.
    pub cr0: u64,
    /// Control register.
    pub cr3: u64,
    /// Control register.
    pub cr4: u64,
    /// Extended features.
    pub efer: u64,
}
