//! What the kernel sees of a virtual processor: its state, and why it stopped.
//!
//! AMD's SVM implements this (svm/); Intel's VT-x will behind the same trait. Everything vendor-specific, from exit codes
//! to how an interrupt is offered, ends here.

use crate::address::GuestAddress;

/// General registers, in the order of their numbers in instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub general: [u64; 16],
    /// The instruction pointer.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
}

/// Index of a register in [`Registers::general`].
#[allow(missing_docs, reason = "the names are the processor's own")]
pub mod register {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// Attributes in the compressed form of VMCB and Xen's records: type and S in bits 0-4, DPL 5-6, P 7, AVL 8, L 9,
    /// D/B 10, G 11.
    pub attributes: u16,
    /// Limit in bytes, expanded.
    pub limit: u32,
    /// Linear base.
    pub base: u64,
}

/// A vCPU's whole architectural state, as toolstacks load and save it (Xen's `hvm_hw_cpu` without the FPU).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the processor's own")]
pub struct ArchitecturalState {
    pub registers: Registers,
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldtr: Segment,
    pub gdtr: Segment,
    pub idtr: Segment,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub dr6: u64,
    pub dr7: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub kernel_gs_base: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub syscall_mask: u64,
    pub tsc_aux: u64,
    pub pat: u64,
}

/// How linear addresses are translated: what a walk of the guest's own tables needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PagingState {
    /// CR0 (PG, WP).
    pub cr0: u64,
    /// The root of the guest's tables.
    pub cr3: u64,
    /// CR4 (PAE, PSE, LA57, SMEP, SMAP).
    pub cr4: u64,
    /// EFER (LMA, NXE).
    pub efer: u64,
    /// The current privilege level.
    pub privilege: u8,
}

/// The size of code that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeSize {
    /// Real mode or 16-bit segments.
    Sixteen,
    /// 32-bit segments, also in compatibility mode.
    ThirtyTwo,
    /// 64-bit mode.
    SixtyFour,
}

/// An exception for a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// The vector: 6 is #UD, 13 is #GP, 14 is #PF.
    pub vector: u8,
    /// The error code, for those vectors that push one.
    pub error_code: Option<u32>,
}

impl Exception {
    /// #UD.
    pub const INVALID_OPCODE: Exception = Exception {
        vector: 6,
        error_code: None,
    };
    /// #GP(0).
    pub const GENERAL_PROTECTION: Exception = Exception {
        vector: 13,
        error_code: Some(0),
    };
}

/// A port access that was intercepted. `rip` still points at the instruction; [`VirtualCpu::complete_port`] moves on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// 1, 2 or 4 bytes.
    pub size: u8,
    /// IN rather than OUT.
    pub read: bool,
    /// INS or OUTS.
    pub string: bool,
    /// A REP prefix.
    pub repeat: bool,
}

/// Why a guest stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// A host interrupt arrived (and waits in [`crate::Machine::take_interrupt`]), or somebody kicked this processor.
    Interrupt,
    /// VMMCALL or VMCALL.
    Hypercall,
    /// CPUID.
    CpuId,
    /// RDMSR of a register that is not passed through; its number is in ecx.
    ReadMsr,
    /// WRMSR of a register that is not passed through.
    WriteMsr,
    /// A port that is not passed through.
    Port(PortAccess),
    /// HLT.
    Halt,
    /// An access that the stage-two tables do not allow.
    StageTwoFault {
        /// Where.
        address: GuestAddress,
        /// A store (or a read-modify-write).
        write: bool,
        /// An instruction fetch.
        fetch: bool,
        /// An entry was there, but it forbids this.
        present: bool,
        /// The access is not one that the instruction at rip asks for: the walk of the guest's own page tables, or the
        /// delivery of an event, with its descriptors and its stack.
        table_walk: bool,
    },
    /// XSETBV: the index is in ecx, the value in edx:eax.
    SetExtendedControl,
    /// WBINVD or INVD.
    WriteBackCaches,
    /// A move to DR7, or to DR5, which is another name for it: only where the machine would leave breakpoints armed
    /// when the guest is left.
    SetBreakpoints,
    /// MONITOR, MWAIT, VMRUN and its kin, SKINIT, RDPRU: instructions that are not offered.
    Forbidden,
    /// A triple fault.
    TripleFault,
    /// An exception that is intercepted for the core's own ends (#DB and #AC storms, #MC).
    Exception(Exception),
    /// The processor refused the guest's state, or exited for a reason that we do not know: the domain's end.
    Invalid {
        /// The hardware's own code.
        code: u64,
    },
}

/// Number of kinds of [`Exit`], for counting.
pub const EXIT_KINDS: usize = 15;

impl Exit {
    /// A dense index for statistics.
    pub fn kind(&self) -> usize {
        match self {
            Exit::Interrupt => 0,
            Exit::Hypercall => 1,
            Exit::CpuId => 2,
            Exit::ReadMsr => 3,
            Exit::WriteMsr => 4,
            Exit::Port(_) => 5,
            Exit::Halt => 6,
            Exit::StageTwoFault { .. } => 7,
            Exit::SetExtendedControl => 8,
            Exit::WriteBackCaches => 9,
            Exit::Forbidden => 10,
            Exit::TripleFault => 11,
            Exit::Exception(_) => 12,
            Exit::Invalid { .. } => 13,
            Exit::SetBreakpoints => 14,
        }
    }

    /// The name of a kind, as statistics print it.
    pub fn kind_name(kind: usize) -> &'static str {
        const NAMES: [&str; EXIT_KINDS] = [
            "interrupt",
            "hypercall",
            "cpuid",
            "rdmsr",
            "wrmsr",
            "port",
            "halt",
            "stage-two fault",
            "xsetbv",
            "cache flush",
            "forbidden",
            "triple fault",
            "exception",
            "invalid",
            "breakpoints",
        ];
        NAMES.get(kind).copied().unwrap_or("other")
    }
}

/// What a new vCPU is allowed to touch without an exit.
#[derive(Clone, Copy, Debug)]
pub struct DirectPorts<'a> {
    /// Inclusive ranges of ports that the guest drives itself.
    pub ranges: &'a [(u16, u16)],
}

/// A virtual processor's context. One processor at a time works on it; the kernel's `Vcpu` sees to that.
pub trait VirtualCpu: Send + Sized {
    /// General registers, rip and flags. Valid whether or not the vCPU is loaded.
    fn registers(&self) -> &Registers;
    /// General registers, rip and flags, to be changed. Changes take effect at the next run.
    fn registers_mut(&mut self) -> &mut Registers;
    /// Move rip past the instruction that exited (CPUID, hypercall, MSR, HLT, XSETBV, WBINVD: lengths are known to the
    /// implementation or saved by hardware). Ends an interrupt shadow.
    fn advance(&mut self);
    /// Move rip past an instruction of `length` bytes that the kernel decoded. Ends an interrupt shadow.
    fn advance_by(&mut self, length: usize);
    /// Finish an intercepted, non-string port access: for reads, `value` goes to al, ax or eax; rip moves on.
    fn complete_port(&mut self, access: &PortAccess, value: u32);
    /// What a walk of the guest's tables needs.
    fn paging(&self) -> PagingState;
    /// The size of the code at rip.
    fn code_size(&self) -> CodeSize;
    /// The linear base of a segment, by its number in instructions: es, cs, ss, ds, fs, gs.
    fn segment_base(&self, segment: usize) -> u64;
    /// The instruction bytes that hardware saved with the exit; empty where it saves none.
    fn instruction_bytes(&self) -> &[u8];
    /// Queue an exception for the next run. A second one before that run replaces the first by a double fault, as on
    /// hardware.
    fn inject(&mut self, exception: Exception);
    /// Queue a non-maskable interrupt for the next run.
    fn inject_nmi(&mut self);
    /// Offer an external interrupt: the guest takes it as soon as it can. `None` withdraws the offer. The kernel calls
    /// this before each run; whether it was taken, [`VirtualCpu::interrupt_taken`] says after the run.
    fn offer_interrupt(&mut self, vector: Option<u8>);
    /// The offered interrupt's vector, if the guest took it during the last run. Says so once.
    fn interrupt_taken(&mut self) -> Option<u8>;
    /// Whether the guest would take an interrupt now (RFLAGS.IF, no shadow): decides whether HLT blocks.
    fn interrupts_enabled(&self) -> bool;
    /// CR8, the task priority as the guest moved it by instruction.
    fn task_priority(&self) -> u8;
    /// Set what CR8 reads as.
    fn set_task_priority(&mut self, priority: u8);
    /// EFER as the guest sees it (without what virtualisation needs).
    fn efer(&self) -> u64;
    /// Set EFER; the kernel has checked which bits the guest is offered.
    fn set_efer(&mut self, value: u64);
    /// A register that hardware keeps for the guest and that exits only to be validated: SYSENTER_*, PAT, TSC_AUX,
    /// STAR and kin, FS/GS bases, DEBUGCTL. `None`: not one of those.
    fn read_msr(&self, number: u32) -> Option<u64>;
    /// Set such a register; `false`: not one of those, or the value would fault.
    fn write_msr(&mut self, number: u32, value: u64) -> bool;
    /// The whole architectural state. Only for a vCPU that is not loaded.
    fn save(&self) -> ArchitecturalState;
    /// Set the whole architectural state. Only for a vCPU that is not loaded.
    ///
    /// # Errors
    /// [`BadState`] when the processor could never run with it; nothing has changed.
    fn restore(&mut self, state: &ArchitecturalState) -> Result<(), BadState>;
    /// Back to the state after INIT, with the FPU's too.
    fn reset(&mut self);
    /// XCR0 as the guest has it.
    fn extended_control(&self) -> u64;
    /// Set XCR0; `false` when the processor would refuse it.
    fn set_extended_control(&mut self, value: u64) -> bool;
    /// Set DR7, after [`Exit::SetBreakpoints`]: the enabling bits stay clear, since the machine could not take them back.
    fn set_breakpoints(&mut self, value: u32);
    /// The guest's TSC minus the host's.
    fn set_tsc_offset(&mut self, offset: i64);
}

/// A state that the processor could never run with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadState;
