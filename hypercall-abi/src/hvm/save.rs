//! Saved state of a hardware-assisted domain (`hvm/save.h`, `arch-x86/hvm/save.h`): a stream of records, each behind
//! a [`Descriptor`], from a header to an end record.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What precedes each record.
#[doc(alias = "hvm_save_descriptor")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Descriptor {
    /// See [`kind`].
    #[doc(alias = "typecode")]
    pub kind: u16,
    /// For per-vCPU records, the vCPU; else zero.
    pub instance: u16,
    /// Bytes that follow.
    pub length: u32,
}

/// Type codes of records.
pub mod kind {
    /// The last record, empty.
    #[doc(alias = "HVM_SAVE_CODE(END)")]
    pub const END: u16 = 0;
    /// [`super::Header`].
    #[doc(alias = "HVM_SAVE_CODE(HEADER)")]
    pub const HEADER: u16 = 1;
    /// [`super::Cpu`], per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(CPU)")]
    pub const CPU: u16 = 2;
    /// 8259.
    #[doc(alias = "HVM_SAVE_CODE(PIC)")]
    pub const PIC: u16 = 3;
    /// I/O APIC.
    #[doc(alias = "HVM_SAVE_CODE(IOAPIC)")]
    pub const IOAPIC: u16 = 4;
    /// [`super::LocalApic`], per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(LAPIC)")]
    pub const LAPIC: u16 = 5;
    /// [`super::LocalApicRegisters`], per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(LAPIC_REGS)")]
    pub const LAPIC_REGS: u16 = 6;
    /// PCI lines.
    #[doc(alias = "HVM_SAVE_CODE(PCI_IRQ)")]
    pub const PCI_IRQ: u16 = 7;
    /// ISA lines.
    #[doc(alias = "HVM_SAVE_CODE(ISA_IRQ)")]
    pub const ISA_IRQ: u16 = 8;
    /// Routing of PCI lines.
    #[doc(alias = "HVM_SAVE_CODE(PCI_LINK)")]
    pub const PCI_LINK: u16 = 9;
    /// 8254.
    #[doc(alias = "HVM_SAVE_CODE(PIT)")]
    pub const PIT: u16 = 10;
    /// Real-time clock.
    #[doc(alias = "HVM_SAVE_CODE(RTC)")]
    pub const RTC: u16 = 11;
    /// HPET.
    #[doc(alias = "HVM_SAVE_CODE(HPET)")]
    pub const HPET: u16 = 12;
    /// Power management timer.
    #[doc(alias = "HVM_SAVE_CODE(PMTIMER)")]
    pub const PMTIMER: u16 = 13;
    /// [`super::Mtrr`], per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(MTRR)")]
    pub const MTRR: u16 = 14;
    /// Hyper-V state of the domain.
    #[doc(alias = "HVM_SAVE_CODE(VIRIDIAN_DOMAIN)")]
    pub const VIRIDIAN_DOMAIN: u16 = 15;
    /// Extended registers, per vCPU.
    #[doc(alias = "CPU_XSAVE_CODE")]
    pub const CPU_XSAVE: u16 = 16;
    /// Hyper-V state, per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(VIRIDIAN_VCPU)")]
    pub const VIRIDIAN_VCPU: u16 = 17;
    /// Machine check state, per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(VMCE_VCPU)")]
    pub const VMCE_VCPU: u16 = 18;
    /// [`super::TscAdjust`], per vCPU.
    #[doc(alias = "HVM_SAVE_CODE(TSC_ADJUST)")]
    pub const TSC_ADJUST: u16 = 19;
    /// Other MSRs, per vCPU.
    #[doc(alias = "CPU_MSR_CODE")]
    pub const CPU_MSR: u16 = 20;
    /// The highest code.
    #[doc(alias = "HVM_SAVE_CODE_MAX")]
    pub const MAX: u16 = 20;
}

/// The first record.
#[doc(alias = "hvm_save_header")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// The hypervisor's source version.
    pub changeset: u64,
    /// EAX of CPUID leaf 1 of the host.
    pub cpuid: u32,
    /// The guest's TSC frequency.
    #[doc(alias = "gtsc_khz")]
    pub tsc_khz: u32,
}

/// [`Header::magic`].
#[doc(alias = "HVM_FILE_MAGIC")]
pub const MAGIC: u32 = 0x5438_1286;

/// [`Header::version`].
#[doc(alias = "HVM_FILE_VERSION")]
pub const VERSION: u32 = 1;

/// A vCPU's registers. Segment attributes are in VMX format.
#[doc(alias = "hvm_hw_cpu")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cpu {
    /// FXSAVE image.
    #[doc(alias = "fpu_regs")]
    pub fpu_registers: [u8; 512],
    /// General register.
    pub rax: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rbp: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdi: u64,
    /// General register.
    pub rsp: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r11: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r15: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Control register.
    pub cr0: u64,
    /// Control register.
    pub cr2: u64,
    /// Control register.
    pub cr3: u64,
    /// Control register.
    pub cr4: u64,
    /// Debug register.
    pub dr0: u64,
    /// Debug register.
    pub dr1: u64,
    /// Debug register.
    pub dr2: u64,
    /// Debug register.
    pub dr3: u64,
    /// Debug register.
    pub dr6: u64,
    /// Debug register.
    pub dr7: u64,
    /// Selector.
    #[doc(alias = "cs_sel")]
    pub cs_selector: u32,
    /// Selector.
    #[doc(alias = "ds_sel")]
    pub ds_selector: u32,
    /// Selector.
    #[doc(alias = "es_sel")]
    pub es_selector: u32,
    /// Selector.
    #[doc(alias = "fs_sel")]
    pub fs_selector: u32,
    /// Selector.
    #[doc(alias = "gs_sel")]
    pub gs_selector: u32,
    /// Selector.
    #[doc(alias = "ss_sel")]
    pub ss_selector: u32,
    /// Selector.
    #[doc(alias = "tr_sel")]
    pub tr_selector: u32,
    /// Selector.
    #[doc(alias = "ldtr_sel")]
    pub ldtr_selector: u32,
    /// Limit in bytes.
    pub cs_limit: u32,
    /// Limit in bytes.
    pub ds_limit: u32,
    /// Limit in bytes.
    pub es_limit: u32,
    /// Limit in bytes.
    pub fs_limit: u32,
    /// Limit in bytes.
    pub gs_limit: u32,
    /// Limit in bytes.
    pub ss_limit: u32,
    /// Limit in bytes.
    pub tr_limit: u32,
    /// Limit in bytes.
    pub ldtr_limit: u32,
    /// Limit in bytes.
    pub idtr_limit: u32,
    /// Limit in bytes.
    pub gdtr_limit: u32,
    /// Base.
    pub cs_base: u64,
    /// Base.
    pub ds_base: u64,
    /// Base.
    pub es_base: u64,
    /// Base.
    pub fs_base: u64,
    /// Base.
    pub gs_base: u64,
    /// Base.
    pub ss_base: u64,
    /// Base.
    pub tr_base: u64,
    /// Base.
    pub ldtr_base: u64,
    /// Base.
    pub idtr_base: u64,
    /// Base.
    pub gdtr_base: u64,
    /// Attributes.
    #[doc(alias = "cs_arbytes")]
    pub cs_attributes: u32,
    /// Attributes.
    #[doc(alias = "ds_arbytes")]
    pub ds_attributes: u32,
    /// Attributes.
    #[doc(alias = "es_arbytes")]
    pub es_attributes: u32,
    /// Attributes.
    #[doc(alias = "fs_arbytes")]
    pub fs_attributes: u32,
    /// Attributes.
    #[doc(alias = "gs_arbytes")]
    pub gs_attributes: u32,
    /// Attributes.
    #[doc(alias = "ss_arbytes")]
    pub ss_attributes: u32,
    /// Attributes.
    #[doc(alias = "tr_arbytes")]
    pub tr_attributes: u32,
    /// Attributes.
    #[doc(alias = "ldtr_arbytes")]
    pub ldtr_attributes: u32,
    /// MSR.
    pub sysenter_cs: u64,
    /// MSR.
    pub sysenter_esp: u64,
    /// MSR.
    pub sysenter_eip: u64,
    /// The GS base that SWAPGS brings in.
    pub shadow_gs: u64,
    /// Obsolete: zero.
    pub msr_flags: u64,
    /// MSR.
    pub msr_lstar: u64,
    /// MSR.
    pub msr_star: u64,
    /// MSR.
    pub msr_cstar: u64,
    /// MSR.
    pub msr_syscall_mask: u64,
    /// MSR.
    pub msr_efer: u64,
    /// MSR.
    pub msr_tsc_aux: u64,
    /// Time stamp counter.
    pub tsc: u64,
    /// Event to inject, as VMX writes it: vector, type, error code valid (bit 11), valid (bit 31).
    pub pending_event: u32,
    /// Its error code.
    pub error_code: u32,
    /// [`FPU_INITIALISED`] or zero.
    pub flags: u32,
    /// Padding: zero.
    #[doc(alias = "pad0")]
    pub _padding: u32,
}

zeroed_default!(Cpu);

/// Flag of [`Cpu`]: the FPU image holds something.
#[doc(alias = "XEN_X86_FPU_INITIALISED")]
pub const FPU_INITIALISED: u32 = 1 << 0;

/// A local APIC's state outside its registers.
#[doc(alias = "hvm_hw_lapic")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LocalApic {
    /// MSR 0x1b.
    pub apic_base_msr: u64,
    /// Bit 0: by software; bit 1: in the MSR.
    pub disabled: u32,
    /// Divisor of the timer.
    pub timer_divisor: u32,
    /// MSR 0x6e0.
    #[doc(alias = "tdt_msr")]
    pub tsc_deadline_msr: u64,
}

/// A local APIC's registers.
#[doc(alias = "hvm_hw_lapic_regs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LocalApicRegisters {
    /// As in its page.
    pub data: [u8; 1024],
}

zeroed_default!(LocalApicRegisters);

/// Memory type ranges of a vCPU.
#[doc(alias = "hvm_hw_mtrr")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mtrr {
    /// MSR 0x277.
    #[doc(alias = "msr_pat_cr")]
    pub pat: u64,
    /// Base and mask of each variable range.
    #[doc(alias = "msr_mtrr_var")]
    pub variable: [u64; 16],
    /// Fixed ranges: 64 KiB, 16 KiB, 4 KiB ones.
    #[doc(alias = "msr_mtrr_fixed")]
    pub fixed: [u64; 11],
    /// MSR 0xfe.
    #[doc(alias = "msr_mtrr_cap")]
    pub capabilities: u64,
    /// MSR 0x2ff.
    #[doc(alias = "msr_mtrr_def_type")]
    pub default_type: u64,
}

/// TSC adjustment of a vCPU.
#[doc(alias = "hvm_tsc_adjust")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TscAdjust {
    /// MSR 0x3b.
    pub tsc_adjust: u64,
}

/// An element of the MSR record, which starts with a 32-bit count and 4 bytes of padding.
#[doc(alias = "hvm_one_msr")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Msr {
    /// MSR number.
    pub index: u32,
    /// Reserved: zero.
    #[doc(alias = "_rsvd")]
    pub _reserved: u32,
    /// Its value.
    #[doc(alias = "val")]
    pub value: u64,
}
