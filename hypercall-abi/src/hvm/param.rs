//! Parameters of hardware-assisted domains (`hvm/params.h`).

/// How events interrupt the guest: kind in the top byte ([`callback_type`]).
#[doc(alias = "HVM_PARAM_CALLBACK_IRQ")]
pub const CALLBACK_IRQ: u32 = 0;
/// Frame of the store ring.
#[doc(alias = "HVM_PARAM_STORE_PFN")]
pub const STORE_PFN: u32 = 1;
/// Port of the store ring.
#[doc(alias = "HVM_PARAM_STORE_EVTCHN")]
pub const STORE_EVTCHN: u32 = 2;
/// Offer PAE.
#[doc(alias = "HVM_PARAM_PAE_ENABLED")]
pub const PAE_ENABLED: u32 = 4;
/// Frame of the device model's requests.
#[doc(alias = "HVM_PARAM_IOREQ_PFN")]
pub const IOREQ_PFN: u32 = 5;
/// Frame of its buffered requests.
#[doc(alias = "HVM_PARAM_BUFIOREQ_PFN")]
pub const BUFIOREQ_PFN: u32 = 6;
/// Hyper-V interfaces to offer.
#[doc(alias = "HVM_PARAM_VIRIDIAN")]
pub const VIRIDIAN: u32 = 9;
/// What happens to missed ticks: [`timer_mode`].
#[doc(alias = "HVM_PARAM_TIMER_MODE")]
pub const TIMER_MODE: u32 = 10;
/// Offer the HPET.
#[doc(alias = "HVM_PARAM_HPET_ENABLED")]
pub const HPET_ENABLED: u32 = 11;
/// Identity page table for real mode on older Intel CPUs.
#[doc(alias = "HVM_PARAM_IDENT_PT")]
pub const IDENT_PT: u32 = 12;
/// Domain of the device model.
#[doc(alias = "HVM_PARAM_DM_DOMAIN")]
pub const DM_DOMAIN: u32 = 13;
/// Sleep state.
#[doc(alias = "HVM_PARAM_ACPI_S_STATE")]
pub const ACPI_S_STATE: u32 = 14;
/// Task state segment for real mode on older Intel CPUs.
#[doc(alias = "HVM_PARAM_VM86_TSS")]
pub const VM86_TSS: u32 = 15;
/// Align timers to save wake-ups.
#[doc(alias = "HVM_PARAM_VPT_ALIGN")]
pub const VPT_ALIGN: u32 = 16;
/// Frame of the console ring.
#[doc(alias = "HVM_PARAM_CONSOLE_PFN")]
pub const CONSOLE_PFN: u32 = 17;
/// Port of the console ring.
#[doc(alias = "HVM_PARAM_CONSOLE_EVTCHN")]
pub const CONSOLE_EVTCHN: u32 = 18;
/// Where the ACPI ports are.
#[doc(alias = "HVM_PARAM_ACPI_IOPORTS_LOCATION")]
pub const ACPI_IOPORTS_LOCATION: u32 = 19;
/// Removed.
#[doc(alias = "HVM_PARAM_MEMORY_EVENT_CR0")]
pub const MEMORY_EVENT_CR0: u32 = 20;
/// Removed.
#[doc(alias = "HVM_PARAM_MEMORY_EVENT_CR3")]
pub const MEMORY_EVENT_CR3: u32 = 21;
/// Removed.
#[doc(alias = "HVM_PARAM_MEMORY_EVENT_CR4")]
pub const MEMORY_EVENT_CR4: u32 = 22;
/// Removed.
#[doc(alias = "HVM_PARAM_MEMORY_EVENT_INT3")]
pub const MEMORY_EVENT_INT3: u32 = 23;
/// Replaced by a flag at creation.
#[doc(alias = "HVM_PARAM_NESTEDHVM")]
pub const NESTED_HVM: u32 = 24;
/// Removed.
#[doc(alias = "HVM_PARAM_MEMORY_EVENT_SINGLE_STEP")]
pub const MEMORY_EVENT_SINGLE_STEP: u32 = 25;
/// Port of buffered requests.
#[doc(alias = "HVM_PARAM_BUFIOREQ_EVTCHN")]
pub const BUFIOREQ_EVTCHN: u32 = 26;
/// Frame of the paging ring.
#[doc(alias = "HVM_PARAM_PAGING_RING_PFN")]
pub const PAGING_RING_PFN: u32 = 27;
/// Frame of the introspection ring.
#[doc(alias = "HVM_PARAM_MONITOR_RING_PFN")]
pub const MONITOR_RING_PFN: u32 = 28;
/// Frame of the sharing ring.
#[doc(alias = "HVM_PARAM_SHARING_RING_PFN")]
pub const SHARING_RING_PFN: u32 = 29;
/// Removed.
#[doc(alias = "HVM_PARAM_MEMORY_EVENT_MSR")]
pub const MEMORY_EVENT_MSR: u32 = 30;
/// Shutdown reason of a triple fault: [`crate::sched::shutdown`].
#[doc(alias = "HVM_PARAM_TRIPLE_FAULT_REASON")]
pub const TRIPLE_FAULT_REASON: u32 = 31;
/// First frame for request servers.
#[doc(alias = "HVM_PARAM_IOREQ_SERVER_PFN")]
pub const IOREQ_SERVER_PFN: u32 = 32;
/// How many frames.
#[doc(alias = "HVM_PARAM_NR_IOREQ_SERVER_PAGES")]
pub const NR_IOREQ_SERVER_PAGES: u32 = 33;
/// Where the generation ID is.
#[doc(alias = "HVM_PARAM_VM_GENERATION_ID_ADDR")]
pub const VM_GENERATION_ID_ADDR: u32 = 34;
/// Alternate physmaps: 0 disabled.
#[doc(alias = "HVM_PARAM_ALTP2M")]
pub const ALTP2M: u32 = 35;
/// Width of the saved FPU instruction pointer.
#[doc(alias = "HVM_PARAM_X87_FIP_WIDTH")]
pub const X87_FIP_WIDTH: u32 = 36;
/// Like `VM86_TSS`, with its size.
#[doc(alias = "HVM_PARAM_VM86_TSS_SIZED")]
pub const VM86_TSS_SIZED: u32 = 37;
/// Machine check capabilities.
#[doc(alias = "HVM_PARAM_MCA_CAP")]
pub const MCA_CAP: u32 = 38;
/// How many parameters there are.
#[doc(alias = "HVM_NR_PARAMS")]
pub const COUNT: u32 = 39;

/// Kinds of [`CALLBACK_IRQ`], in its top byte.
pub mod callback_type {
    /// The kind's bits.
    #[doc(alias = "HVM_PARAM_CALLBACK_IRQ_TYPE_MASK")]
    pub const MASK: u64 = 0xff00_0000_0000_0000;
    /// An I/O APIC line.
    #[doc(alias = "HVM_PARAM_CALLBACK_TYPE_GSI")]
    pub const GSI: u64 = 0;
    /// A PCI line.
    #[doc(alias = "HVM_PARAM_CALLBACK_TYPE_PCI_INTX")]
    pub const PCI_INTX: u64 = 1;
    /// A vector, on every vCPU, without an APIC.
    #[doc(alias = "HVM_PARAM_CALLBACK_TYPE_VECTOR")]
    pub const VECTOR: u64 = 2;
}

/// Values of [`TIMER_MODE`].
pub mod timer_mode {
    /// Time stands still with the guest.
    #[doc(alias = "HVMPTM_delay_for_missed_ticks")]
    pub const DELAY_FOR_MISSED_TICKS: u64 = 0;
    /// Ticks arrive late, all of them.
    #[doc(alias = "HVMPTM_no_delay_for_missed_ticks")]
    pub const NO_DELAY_FOR_MISSED_TICKS: u64 = 1;
    /// Missed ticks are lost.
    #[doc(alias = "HVMPTM_no_missed_ticks_pending")]
    pub const NO_MISSED_TICKS_PENDING: u64 = 2;
    /// One missed tick arrives.
    #[doc(alias = "HVMPTM_one_missed_tick_pending")]
    pub const ONE_MISSED_TICK_PENDING: u64 = 3;
}
