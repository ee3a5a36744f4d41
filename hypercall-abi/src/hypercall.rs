//! Hypercall numbers (`xen.h`), as the caller puts them in RAX; arguments follow in RDI, RSI, RDX, R10 and R8.

/// Hypercall numbers.
pub mod number {
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_set_trap_table")]
    pub const SET_TRAP_TABLE: u64 = 0;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_mmu_update")]
    pub const MMU_UPDATE: u64 = 1;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_set_gdt")]
    pub const SET_GDT: u64 = 2;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_stack_switch")]
    pub const STACK_SWITCH: u64 = 3;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_set_callbacks")]
    pub const SET_CALLBACKS: u64 = 4;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_fpu_taskswitch")]
    pub const FPU_TASKSWITCH: u64 = 5;
    /// The scheduler calls of ancient guests.
    #[doc(alias = "__HYPERVISOR_sched_op_compat")]
    pub const SCHED_OP_COMPAT: u64 = 6;
    /// The physical platform, for dom0: [`crate::platform`].
    #[doc(alias = "__HYPERVISOR_platform_op")]
    pub const PLATFORM_OP: u64 = 7;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_set_debugreg")]
    pub const SET_DEBUGREG: u64 = 8;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_get_debugreg")]
    pub const GET_DEBUGREG: u64 = 9;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_update_descriptor")]
    pub const UPDATE_DESCRIPTOR: u64 = 10;
    /// Memory and physmap: [`crate::memory`].
    #[doc(alias = "__HYPERVISOR_memory_op")]
    pub const MEMORY_OP: u64 = 12;
    /// A list of hypercalls: [`crate::xen::MulticallEntry`].
    #[doc(alias = "__HYPERVISOR_multicall")]
    pub const MULTICALL: u64 = 13;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_update_va_mapping")]
    pub const UPDATE_VA_MAPPING: u64 = 14;
    /// Sets the vCPU's one-shot timer; the argument is a system time in ns.
    #[doc(alias = "__HYPERVISOR_set_timer_op")]
    pub const SET_TIMER_OP: u64 = 15;
    /// The event channel calls of ancient guests.
    #[doc(alias = "__HYPERVISOR_event_channel_op_compat")]
    pub const EVENT_CHANNEL_OP_COMPAT: u64 = 16;
    /// Version and features: [`crate::version`].
    #[doc(alias = "__HYPERVISOR_xen_version")]
    pub const XEN_VERSION: u64 = 17;
    /// The hypervisor's console: [`crate::console`].
    #[doc(alias = "__HYPERVISOR_console_io")]
    pub const CONSOLE_IO: u64 = 18;
    /// The device calls of ancient guests.
    #[doc(alias = "__HYPERVISOR_physdev_op_compat")]
    pub const PHYSDEV_OP_COMPAT: u64 = 19;
    /// Grants: [`crate::grant_table`].
    #[doc(alias = "__HYPERVISOR_grant_table_op")]
    pub const GRANT_TABLE_OP: u64 = 20;
    /// Per-domain behaviours: [`crate::xen::vm_assist`].
    #[doc(alias = "__HYPERVISOR_vm_assist")]
    pub const VM_ASSIST: u64 = 21;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_update_va_mapping_otherdomain")]
    pub const UPDATE_VA_MAPPING_OTHERDOMAIN: u64 = 22;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_iret")]
    pub const IRET: u64 = 23;
    /// Virtual CPUs: [`crate::vcpu`].
    #[doc(alias = "__HYPERVISOR_vcpu_op")]
    pub const VCPU_OP: u64 = 24;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_set_segment_base")]
    pub const SET_SEGMENT_BASE: u64 = 25;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_mmuext_op")]
    pub const MMUEXT_OP: u64 = 26;
    /// Security module.
    #[doc(alias = "__HYPERVISOR_xsm_op")]
    pub const XSM_OP: u64 = 27;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_nmi_op")]
    pub const NMI_OP: u64 = 28;
    /// Yield, block, poll, shut down: [`crate::sched`].
    #[doc(alias = "__HYPERVISOR_sched_op")]
    pub const SCHED_OP: u64 = 29;
    /// Classic PV only.
    #[doc(alias = "__HYPERVISOR_callback_op")]
    pub const CALLBACK_OP: u64 = 30;
    /// Profiling.
    #[doc(alias = "__HYPERVISOR_xenoprof_op")]
    pub const XENOPROF_OP: u64 = 31;
    /// Event channels: [`crate::event_channel`].
    #[doc(alias = "__HYPERVISOR_event_channel_op")]
    pub const EVENT_CHANNEL_OP: u64 = 32;
    /// Physical devices: [`crate::physdev`].
    #[doc(alias = "__HYPERVISOR_physdev_op")]
    pub const PHYSDEV_OP: u64 = 33;
    /// Hardware-assisted guests: [`crate::hvm`].
    #[doc(alias = "__HYPERVISOR_hvm_op")]
    pub const HVM_OP: u64 = 34;
    /// The whole system, for the tools: [`crate::sysctl`].
    #[doc(alias = "__HYPERVISOR_sysctl")]
    pub const SYSCTL: u64 = 35;
    /// One domain, for the tools: [`crate::domctl`].
    #[doc(alias = "__HYPERVISOR_domctl")]
    pub const DOMCTL: u64 = 36;
    /// Crash kernel.
    #[doc(alias = "__HYPERVISOR_kexec_op")]
    pub const KEXEC_OP: u64 = 37;
    /// Removed from Xen.
    #[doc(alias = "__HYPERVISOR_tmem_op")]
    pub const TMEM_OP: u64 = 38;
    /// Hypervisor-mediated messages.
    #[doc(alias = "__HYPERVISOR_argo_op")]
    pub const ARGO_OP: u64 = 39;
    /// Performance counters.
    #[doc(alias = "__HYPERVISOR_xenpmu_op")]
    pub const XENPMU_OP: u64 = 40;
    /// Device models.
    #[doc(alias = "__HYPERVISOR_dm_op")]
    pub const DM_OP: u64 = 41;
    /// The hypervisor's parameter tree.
    #[doc(alias = "__HYPERVISOR_hypfs_op")]
    pub const HYPFS_OP: u64 = 42;
    /// Machine check architecture, x86's first architecture-specific call.
    #[doc(alias = "__HYPERVISOR_arch_0")]
    pub const MCA: u64 = 48;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_1")]
    pub const ARCH_1: u64 = 49;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_2")]
    pub const ARCH_2: u64 = 50;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_3")]
    pub const ARCH_3: u64 = 51;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_4")]
    pub const ARCH_4: u64 = 52;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_5")]
    pub const ARCH_5: u64 = 53;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_6")]
    pub const ARCH_6: u64 = 54;
    /// Unused on x86.
    #[doc(alias = "__HYPERVISOR_arch_7")]
    pub const ARCH_7: u64 = 55;
}

/// The length of one entry of the hypercall page; entry `n` starts at `n` times this.
pub const PAGE_ENTRY_SIZE: usize = 32;

/// How many numbers there are, gaps included.
pub const NUMBERS: usize = 64;

/// The name of a hypercall in Xen's headers, for traces and counters.
pub const fn name(number: u64) -> Option<&'static str> {
    Some(match number {
        number::SET_TRAP_TABLE => "set_trap_table",
        number::MMU_UPDATE => "mmu_update",
        number::SET_GDT => "set_gdt",
        number::STACK_SWITCH => "stack_switch",
        number::SET_CALLBACKS => "set_callbacks",
        number::FPU_TASKSWITCH => "fpu_taskswitch",
        number::SCHED_OP_COMPAT => "sched_op_compat",
        number::PLATFORM_OP => "platform_op",
        number::SET_DEBUGREG => "set_debugreg",
        number::GET_DEBUGREG => "get_debugreg",
        number::UPDATE_DESCRIPTOR => "update_descriptor",
        number::MEMORY_OP => "memory_op",
        number::MULTICALL => "multicall",
        number::UPDATE_VA_MAPPING => "update_va_mapping",
        number::SET_TIMER_OP => "set_timer_op",
        number::EVENT_CHANNEL_OP_COMPAT => "event_channel_op_compat",
        number::XEN_VERSION => "xen_version",
        number::CONSOLE_IO => "console_io",
        number::PHYSDEV_OP_COMPAT => "physdev_op_compat",
        number::GRANT_TABLE_OP => "grant_table_op",
        number::VM_ASSIST => "vm_assist",
        number::UPDATE_VA_MAPPING_OTHERDOMAIN => "update_va_mapping_otherdomain",
        number::IRET => "iret",
        number::VCPU_OP => "vcpu_op",
        number::SET_SEGMENT_BASE => "set_segment_base",
        number::MMUEXT_OP => "mmuext_op",
        number::XSM_OP => "xsm_op",
        number::NMI_OP => "nmi_op",
        number::SCHED_OP => "sched_op",
        number::CALLBACK_OP => "callback_op",
        number::XENOPROF_OP => "xenoprof_op",
        number::EVENT_CHANNEL_OP => "event_channel_op",
        number::PHYSDEV_OP => "physdev_op",
        number::HVM_OP => "hvm_op",
        number::SYSCTL => "sysctl",
        number::DOMCTL => "domctl",
        number::KEXEC_OP => "kexec_op",
        number::TMEM_OP => "tmem_op",
        number::ARGO_OP => "argo_op",
        number::XENPMU_OP => "xenpmu_op",
        number::DM_OP => "dm_op",
        number::HYPFS_OP => "hypfs_op",
        number::MCA => "mca",
        _ => return None,
    })
}
