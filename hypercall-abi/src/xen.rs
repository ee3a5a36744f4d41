//! What every domain shares with the hypervisor (`xen.h`, `arch-x86/xen.h`): the shared page, per-vCPU state and
//! time, virtual interrupts, multicalls, VM assists.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Virtual interrupts, delivered as events. "Global" ones go to one domain, the others to each vCPU.
pub mod virq {
    /// Per vCPU: its timer expired.
    #[doc(alias = "VIRQ_TIMER")]
    pub const TIMER: u32 = 0;
    /// Per vCPU: dump your state.
    #[doc(alias = "VIRQ_DEBUG")]
    pub const DEBUG: u32 = 1;
    /// Global, dom0: bytes arrived on the emergency console.
    #[doc(alias = "VIRQ_CONSOLE")]
    pub const CONSOLE: u32 = 2;
    /// Global, dom0: some domain shut down, crashed or is dead. The store daemon lives by it.
    #[doc(alias = "VIRQ_DOM_EXC")]
    pub const DOMAIN_EXCEPTION: u32 = 3;
    /// Global, dom0: the trace buffer has records.
    #[doc(alias = "VIRQ_TBUF")]
    pub const TRACE_BUFFER: u32 = 4;
    /// Global, dom0: a domain paused for debugging.
    #[doc(alias = "VIRQ_DEBUGGER")]
    pub const DEBUGGER: u32 = 6;
    /// Per vCPU: a profile sample.
    #[doc(alias = "VIRQ_XENOPROF")]
    pub const XENOPROF: u32 = 7;
    /// Global, dom0: the console ring has text.
    #[doc(alias = "VIRQ_CON_RING")]
    pub const CONSOLE_RING: u32 = 8;
    /// Global, dom0: a physical CPU came or went.
    #[doc(alias = "VIRQ_PCPU_STATE")]
    pub const PHYSICAL_CPU_STATE: u32 = 9;
    /// Global, dom0: memory event.
    #[doc(alias = "VIRQ_MEM_EVENT")]
    pub const MEMORY_EVENT: u32 = 10;
    /// Global: message notification.
    #[doc(alias = "VIRQ_ARGO")]
    pub const ARGO: u32 = 11;
    /// Global, dom0: the heap is low.
    #[doc(alias = "VIRQ_ENOMEM")]
    pub const OUT_OF_MEMORY: u32 = 12;
    /// Per vCPU: a performance counter overflowed.
    #[doc(alias = "VIRQ_XENPMU")]
    pub const PERFORMANCE_COUNTER: u32 = 13;
    /// On x86: machine check.
    #[doc(alias = "VIRQ_ARCH_0")]
    pub const ARCHITECTURE_0: u32 = 16;
    /// How many numbers there are.
    #[doc(alias = "NR_VIRQS")]
    pub const COUNT: u32 = 24;
}

/// Sizes of the shared page.
pub mod limit {
    /// vCPUs whose state lies in the shared page; the others must register a place.
    #[doc(alias = "XEN_LEGACY_MAX_VCPUS")]
    pub const LEGACY_VCPUS: usize = 32;
}

/// x86's part of [`VcpuInfo`].
#[doc(alias = "arch_vcpu_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// Faulting address of classic PV guests.
    pub cr2: u64,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u64,
}

/// How a vCPU turns its time stamp counter into system time. The hypervisor makes `version` odd
/// while it writes; a reader retries until it sees the same even number before and after.
#[doc(alias = "vcpu_time_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while an update is in progress.
    pub version: u32,
    /// Padding: zero.
    #[doc(alias = "pad0")]
    pub _padding: u32,
    /// The counter's value at `system_time`.
    pub tsc_timestamp: u64,
    /// Nanoseconds since the hypervisor's start, at `tsc_timestamp`.
    pub system_time: u64,
    /// Multiplier: ns = ((ticks << `tsc_shift`) * this) >> 32.
    pub tsc_to_system_mul: u32,
    /// Shift before the multiplication; to the right when negative.
    pub tsc_shift: i8,
    /// See [`time_flag`].
    pub flags: u8,
    /// Padding: zero.
    #[doc(alias = "pad1")]
    pub _padding1: [u8; 2],
}

/// Bits of [`VcpuTimeInfo::flags`].
pub mod time_flag {
    /// All vCPUs' times agree, so that a reader need not enforce monotony.
    #[doc(alias = "XEN_PVCLOCK_TSC_STABLE_BIT")]
    pub const TSC_STABLE: u8 = 1 << 0;
    /// The guest was stopped by the host; watchdogs should be lenient.
    #[doc(alias = "XEN_PVCLOCK_GUEST_STOPPED")]
    pub const GUEST_STOPPED: u8 = 1 << 1;
}

/// A vCPU's side of event delivery and time; 64 bytes, in the shared page or where the guest registered it.
#[doc(alias = "vcpu_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuInfo {
    /// Set when an event waits; cleared by the guest before it looks.
    pub evtchn_upcall_pending: u8,
    /// Nonzero while the guest wants no upcall (classic PV; ignored for hardware-assisted guests).
    pub evtchn_upcall_mask: u8,
    /// Padding: zero.
    pub _padding: [u8; 6],
    /// Which words of the 2-level pending array to look at.
    pub evtchn_pending_sel: u64,
    /// x86's part.
    pub arch: ArchVcpuInfo,
    /// System time.
    pub time: VcpuTimeInfo,
}

/// x86's part of [`SharedInfo`].
#[doc(alias = "arch_shared_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Classic PV: highest valid frame number.
    pub max_pfn: u64,
    /// Classic PV: frame of the root of the physical-to-machine list.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Why the last NMI came.
    pub nmi_reason: u64,
    /// Classic PV: page table of the linear physical-to-machine list.
    pub p2m_cr3: u64,
    /// Classic PV: virtual address of the linear list.
    pub p2m_vaddr: u64,
    /// Classic PV: changes of the list.
    pub p2m_generation: u64,
}

/// The page that a domain shares with the hypervisor.
#[doc(alias = "shared_info")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedInfo {
    /// State of the first 32 vCPUs.
    pub vcpu_info: [VcpuInfo; 32],
    /// 2-level event ABI: one bit per channel, set by the hypervisor.
    pub evtchn_pending: [u64; 64],
    /// 2-level event ABI: one bit per channel, set by the guest to hold it back.
    pub evtchn_mask: [u64; 64],
    /// Odd while the wall clock is being written.
    pub wc_version: u32,
    /// Wall clock at system time 0: seconds since 1970, low half.
    pub wc_sec: u32,
    /// Wall clock at system time 0: nanoseconds.
    pub wc_nsec: u32,
    /// Wall clock at system time 0: seconds, high half.
    pub wc_sec_hi: u32,
    /// x86's part.
    pub arch: ArchSharedInfo,
}

zeroed_default!(SharedInfo);

/// One call of a multicall list; the hypervisor writes `result`.
#[doc(alias = "multicall_entry")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MulticallEntry {
    /// The hypercall's number.
    pub op: u64,
    /// What it returned.
    pub result: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// `vm_assist`: behaviours that a domain switches on or off for itself.
pub mod vm_assist {
    /// Command: switch on.
    #[doc(alias = "VMASST_CMD_enable")]
    pub const ENABLE: u32 = 0;
    /// Command: switch off.
    #[doc(alias = "VMASST_CMD_disable")]
    pub const DISABLE: u32 = 1;
    /// Classic PV only.
    #[doc(alias = "VMASST_TYPE_4gb_segments")]
    pub const TYPE_4GB_SEGMENTS: u32 = 0;
    /// Classic PV only.
    #[doc(alias = "VMASST_TYPE_4gb_segments_notify")]
    pub const TYPE_4GB_SEGMENTS_NOTIFY: u32 = 1;
    /// Classic PV only.
    #[doc(alias = "VMASST_TYPE_writable_pagetables")]
    pub const TYPE_WRITABLE_PAGETABLES: u32 = 2;
    /// Classic PV only.
    #[doc(alias = "VMASST_TYPE_pae_extended_cr3")]
    pub const TYPE_PAE_EXTENDED_CR3: u32 = 3;
    /// Classic PV only.
    #[doc(alias = "VMASST_TYPE_architectural_iopl")]
    pub const TYPE_ARCHITECTURAL_IOPL: u32 = 4;
    /// Mark runstate areas while they are written: [`crate::vcpu::RUNSTATE_UPDATE`].
    #[doc(alias = "VMASST_TYPE_runstate_update_flag")]
    pub const TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;
    /// Classic PV only.
    #[doc(alias = "VMASST_TYPE_m2p_strict")]
    pub const TYPE_M2P_STRICT: u32 = 32;
}

/// Flags of the start information (classic PV's `start_info` and PVH's).
pub mod start_flag {
    /// The domain is privileged.
    #[doc(alias = "SIF_PRIVILEGED")]
    pub const PRIVILEGED: u32 = 1 << 0;
    /// The domain is the first one.
    #[doc(alias = "SIF_INITDOMAIN")]
    pub const INITIAL_DOMAIN: u32 = 1 << 1;
}

/// A bitmap in the caller's memory, as the toolstack interfaces pass CPU and node sets.
#[doc(alias = "xenctl_bitmap")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ControlBitmap {
    /// Its bytes, lowest bit first.
    pub bitmap: crate::GuestHandle<u8>,
    /// Its length in bits.
    pub nr_bits: u32,
    /// Padding: zero.
    pub _padding: u32,
}

/// 16 bytes that the toolstack names a domain by: its UUID.
#[doc(alias = "xen_domain_handle_t")]
pub type DomainHandle = [u8; 16];

/// One CPUID leaf of a serialised CPU policy.
#[doc(alias = "xen_cpuid_leaf")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuidLeaf {
    /// Value of EAX that selects it.
    pub leaf: u32,
    /// Value of ECX that selects it, or [`cpu_policy::NO_SUBLEAF`].
    pub subleaf: u32,
    /// EAX.
    pub a: u32,
    /// EBX.
    pub b: u32,
    /// ECX.
    pub c: u32,
    /// EDX.
    pub d: u32,
}

/// One MSR of a serialised CPU policy.
#[doc(alias = "xen_msr_entry")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MsrEntry {
    /// MSR number.
    #[doc(alias = "idx")]
    pub index: u32,
    /// Reserved: zero.
    pub flags: u32,
    /// Its value.
    #[doc(alias = "val")]
    pub value: u64,
}

/// Constants of CPU policies and of a domain's x86 configuration.
pub mod cpu_policy {
    /// The leaf has no sub-leaves.
    #[doc(alias = "XEN_CPUID_NO_SUBLEAF")]
    pub const NO_SUBLEAF: u32 = 0xffff_ffff;
}

/// x86's part of [`crate::domctl::CreateDomain`].
#[doc(alias = "xen_arch_domainconfig")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchDomainConfig {
    /// Devices that the hypervisor emulates: [`emulation`].
    pub emulation_flags: u32,
    /// See [`domain_misc`].
    pub misc_flags: u32,
}

/// Devices that the hypervisor emulates for a domain; PVH asks for the local APIC alone.
pub mod emulation {
    /// Local APIC.
    #[doc(alias = "XEN_X86_EMU_LAPIC")]
    pub const LAPIC: u32 = 1 << 0;
    /// HPET.
    #[doc(alias = "XEN_X86_EMU_HPET")]
    pub const HPET: u32 = 1 << 1;
    /// Power management timer and ports.
    #[doc(alias = "XEN_X86_EMU_PM")]
    pub const PM: u32 = 1 << 2;
    /// Real-time clock.
    #[doc(alias = "XEN_X86_EMU_RTC")]
    pub const RTC: u32 = 1 << 3;
    /// I/O APIC.
    #[doc(alias = "XEN_X86_EMU_IOAPIC")]
    pub const IOAPIC: u32 = 1 << 4;
    /// 8259 pair.
    #[doc(alias = "XEN_X86_EMU_PIC")]
    pub const PIC: u32 = 1 << 5;
    /// Standard VGA.
    #[doc(alias = "XEN_X86_EMU_VGA")]
    pub const VGA: u32 = 1 << 6;
    /// IOMMU.
    #[doc(alias = "XEN_X86_EMU_IOMMU")]
    pub const IOMMU: u32 = 1 << 7;
    /// 8254.
    #[doc(alias = "XEN_X86_EMU_PIT")]
    pub const PIT: u32 = 1 << 8;
    /// Physical interrupts as event channels.
    #[doc(alias = "XEN_X86_EMU_USE_PIRQ")]
    pub const USE_PIRQ: u32 = 1 << 9;
    /// PCI configuration space handled by the hypervisor.
    #[doc(alias = "XEN_X86_EMU_VPCI")]
    pub const VPCI: u32 = 1 << 10;
    /// Every bit.
    #[doc(alias = "XEN_X86_EMU_ALL")]
    pub const ALL: u32 = 0x7ff;
}

/// Bits of [`ArchDomainConfig::misc_flags`].
pub mod domain_misc {
    /// Unknown MSRs read as zero and ignore writes, instead of #GP.
    #[doc(alias = "XEN_X86_MSR_RELAXED")]
    pub const MSR_RELAXED: u32 = 1 << 0;
}
