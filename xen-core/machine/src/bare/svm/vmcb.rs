//! The virtual machine control block: AMD's layout of what VMRUN takes and gives (APM volume 2, appendix B).

use core::mem::offset_of;

/// A segment as the control block keeps it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct SegmentRecord {
    pub selector: u16,
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

/// The control block. Hardware reads it at VMRUN and VMLOAD and writes it at exit and VMSAVE, at no other time.
#[repr(C, align(4096))]
pub struct Vmcb {
    pub intercept_control_registers: u32,
    pub intercept_debug_registers: u32,
    pub intercept_exceptions: u32,
    pub intercept_first: u32,
    pub intercept_second: u32,
    pub intercept_third: u32,
    reserved_1: [u8; 0x28],
    pub io_bitmap: u64,
    pub msr_bitmap: u64,
    pub tsc_offset: u64,
    pub asid: u32,
    pub tlb_control: u32,
    pub virtual_interrupt: u64,
    pub interrupt_shadow: u64,
    pub exit_code: u64,
    pub exit_info_1: u64,
    pub exit_info_2: u64,
    pub exit_interrupt_info: u64,
    pub nested_control: u64,
    reserved_2: [u8; 0x10],
    pub event_injection: u64,
    pub nested_root: u64,
    pub extended_control: u64,
    pub clean: u32,
    reserved_3: u32,
    pub next_rip: u64,
    pub fetched_bytes: u8,
    pub instruction: [u8; 15],
    reserved_4: [u8; 0x320],
    pub es: SegmentRecord,
    pub cs: SegmentRecord,
    pub ss: SegmentRecord,
    pub ds: SegmentRecord,
    pub fs: SegmentRecord,
    pub gs: SegmentRecord,
    pub gdtr: SegmentRecord,
    pub ldtr: SegmentRecord,
    pub idtr: SegmentRecord,
    pub tr: SegmentRecord,
    reserved_5: [u8; 0x2b],
    pub privilege: u8,
    reserved_6: u32,
    pub efer: u64,
    reserved_7: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_8: [u8; 0x58],
    pub rsp: u64,
    pub supervisor_cet: u64,
    pub shadow_stack_pointer: u64,
    pub interrupt_shadow_stacks: u64,
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub syscall_mask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_9: [u8; 0x20],
    pub pat: u64,
    pub debug_control: u64,
    reserved_10: [u8; 0x988],
}

const _: () = {
    assert!(size_of::<SegmentRecord>() == 16);
    assert!(size_of::<Vmcb>() == 4096);
    assert!(offset_of!(Vmcb, io_bitmap) == 0x40);
    assert!(offset_of!(Vmcb, asid) == 0x58);
    assert!(offset_of!(Vmcb, virtual_interrupt) == 0x60);
    assert!(offset_of!(Vmcb, exit_code) == 0x70);
    assert!(offset_of!(Vmcb, nested_control) == 0x90);
    assert!(offset_of!(Vmcb, event_injection) == 0xa8);
    assert!(offset_of!(Vmcb, extended_control) == 0xb8);
    assert!(offset_of!(Vmcb, clean) == 0xc0);
    assert!(offset_of!(Vmcb, next_rip) == 0xc8);
    assert!(offset_of!(Vmcb, instruction) == 0xd1);
    assert!(offset_of!(Vmcb, es) == 0x400);
    assert!(offset_of!(Vmcb, tr) == 0x490);
    assert!(offset_of!(Vmcb, privilege) == 0x4cb);
    assert!(offset_of!(Vmcb, efer) == 0x4d0);
    assert!(offset_of!(Vmcb, cr4) == 0x548);
    assert!(offset_of!(Vmcb, rip) == 0x578);
    assert!(offset_of!(Vmcb, rsp) == 0x5d8);
    assert!(offset_of!(Vmcb, rax) == 0x5f8);
    assert!(offset_of!(Vmcb, cr2) == 0x640);
    assert!(offset_of!(Vmcb, pat) == 0x668);
    assert!(offset_of!(Vmcb, debug_control) == 0x670);
};

/// Bits of `intercept_first`.
pub mod first {
    pub const INTERRUPT: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const SMI: u32 = 1 << 2;
    pub const INIT: u32 = 1 << 3;
    pub const RDTSC: u32 = 1 << 14;
    pub const RDPMC: u32 = 1 << 15;
    pub const PUSHF: u32 = 1 << 16;
    pub const POPF: u32 = 1 << 17;
    pub const CPUID: u32 = 1 << 18;
    pub const IRET: u32 = 1 << 20;
    pub const SOFTWARE_INTERRUPT: u32 = 1 << 21;
    pub const INVD: u32 = 1 << 22;
    pub const PAUSE: u32 = 1 << 23;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPGA: u32 = 1 << 26;
    pub const PORTS: u32 = 1 << 27;
    pub const MSRS: u32 = 1 << 28;
    pub const TASK_SWITCH: u32 = 1 << 29;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Bits of `intercept_second`.
pub mod second {
    pub const VMRUN: u32 = 1 << 0;
    pub const VMMCALL: u32 = 1 << 1;
    pub const VMLOAD: u32 = 1 << 2;
    pub const VMSAVE: u32 = 1 << 3;
    pub const STGI: u32 = 1 << 4;
    pub const CLGI: u32 = 1 << 5;
    pub const SKINIT: u32 = 1 << 6;
    pub const WBINVD: u32 = 1 << 9;
    pub const MONITOR: u32 = 1 << 10;
    pub const MWAIT: u32 = 1 << 11;
    pub const MWAIT_ARMED: u32 = 1 << 12;
    pub const XSETBV: u32 = 1 << 13;
    pub const RDPRU: u32 = 1 << 14;
}

/// A write of CR3, in `intercept_control_registers`.
pub const WRITE_CR3: u32 = 1 << (16 + 3);

/// Writes of DR7 and of DR5, its other name, in `intercept_debug_registers`.
pub const WRITE_BREAKPOINTS: u32 = 1 << (16 + 7) | 1 << (16 + 5);

/// Fields of `virtual_interrupt`.
pub mod virtual_interrupt {
    pub const TASK_PRIORITY: u64 = 0xff;
    pub const REQUEST: u64 = 1 << 8;
    pub const PRIORITY_HIGHEST: u64 = 0xf << 16;
    pub const IGNORE_TASK_PRIORITY: u64 = 1 << 20;
    pub const MASKING: u64 = 1 << 24;
    pub const VECTOR_SHIFT: u32 = 32;
    /// Everything that is about one interrupt.
    pub const OFFER: u64 = REQUEST | PRIORITY_HIGHEST | 0xff << VECTOR_SHIFT;
}

/// Parts of the control block that a processor may keep from one VMRUN to the next: a set bit says "unchanged".
pub mod clean {
    pub const INTERCEPTS: u32 = 1 << 0;
    pub const BITMAPS: u32 = 1 << 1;
    pub const ASID: u32 = 1 << 2;
    pub const VIRTUAL_INTERRUPT: u32 = 1 << 3;
    pub const NESTED_PAGING: u32 = 1 << 4;
    pub const CONTROL_REGISTERS: u32 = 1 << 5;
    pub const DEBUG_REGISTERS: u32 = 1 << 6;
    pub const DEBUG_CONTROL: u32 = 1 << 10;
    pub const ALL: u32 = 0x17ff;
}

/// `nested_control`: nested paging is on.
pub const NESTED_PAGING: u64 = 1;
/// `extended_control`: the guest's DEBUGCTL and last-branch records are switched with it.
pub const SWITCH_DEBUG_CONTROL: u64 = 1;
/// `tlb_control`: drop every translation of every ASID.
pub const FLUSH_ALL: u32 = 1;
/// `interrupt_shadow`: the next instruction runs before any interrupt.
pub const SHADOW: u64 = 1;

impl Vmcb {
    /// Segments by their number in instructions: es, cs, ss, ds, fs, gs.
    pub fn segment(&self, number: usize) -> Option<&SegmentRecord> {
        Some(match number {
            0 => &self.es,
            1 => &self.cs,
            2 => &self.ss,
            3 => &self.ds,
            4 => &self.fs,
            5 => &self.gs,
            _ => return None,
        })
    }
}
