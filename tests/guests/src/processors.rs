//! The second vCPU: started by INIT and SIPI, as an operating system does it, and told things by IPIs (x2APIC).

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::{interrupts, page};

/// Where the second vCPU begins, in real mode.
const TRAMPOLINE: u64 = 0x8000;

mod msr {
    pub const APIC_BASE: u32 = 0x1b;
    pub const SPURIOUS: u32 = 0x80f;
    pub const INTERRUPT_COMMAND: u32 = 0x830;
}

global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .code16
    .globl micro_trampoline, micro_trampoline_end
micro_trampoline:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl (3f - micro_trampoline)
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $micro_page_map, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax       // protected mode and paging in one step: straight to long mode
    movl %eax, %cr0
    ljmpl $8, $micro_second_entry
3:  .word 23
    .long micro_gdt
micro_trampoline_end:

    .text
    .code64
micro_second_entry:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq $micro_second_stack_top, %rsp
    xorl %ebp, %ebp
    call micro_second
    ud2

    .section .bss.second_stack, "aw", @nobits
    .balign 4096
    .zero 16384
micro_second_stack_top:
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    static micro_trampoline: u8;
    static micro_trampoline_end: u8;
}

/// What the second vCPU does, once it runs: the address of a function.
static WORK: AtomicUsize = AtomicUsize::new(0);

/// Switches this vCPU's local APIC to x2APIC mode and on.
pub fn enable_apic() {
    const X2APIC_AND_ENABLED: u64 = 3 << 10;
    const SOFTWARE_ENABLED: u64 = 0x1ff;
    write_msr(msr::APIC_BASE, read_msr(msr::APIC_BASE) | X2APIC_AND_ENABLED);
    write_msr(msr::SPURIOUS, SOFTWARE_ENABLED);
}

/// Switches this vCPU's local APIC back to the mode in which its registers are in memory. They forget everything.
pub fn use_apic_page() {
    const ENABLED: u64 = 1 << 11;
    const MODES: u64 = 3 << 10;
    let base = read_msr(msr::APIC_BASE) & !MODES;
    write_msr(msr::APIC_BASE, base);
    write_msr(msr::APIC_BASE, base | ENABLED);
}

/// Starts all other vCPUs, of which there must be one at most, at `work`.
pub fn start(work: fn() -> !) {
    const INIT: u64 = 0x4500;
    const START_UP: u64 = 0x4600;
    WORK.store(work as usize, Ordering::SeqCst);
    let begin = &raw const micro_trampoline as u64;
    let end = &raw const micro_trampoline_end as u64;
    for offset in 0..end - begin {
        page::write(TRAMPOLINE + offset, page::read::<u8>(begin + offset));
    }
    send_to_others(INIT);
    send_to_others(START_UP | TRAMPOLINE >> 12);
}

/// An interrupt for all vCPUs but this one.
pub fn interrupt_others(vector: u8) {
    send_to_others(0x4000 | u64::from(vector));
}

/// A command for the others' local APICs.
pub fn send_to_others(command: u64) {
    const ALL_BUT_SELF: u64 = 3 << 18;
    write_msr(msr::INTERRUPT_COMMAND, command | ALL_BUT_SELF);
}

// SAFETY: the trampoline is the only other mention of this name.
#[unsafe(no_mangle)]
extern "C" fn micro_second() -> ! {
    interrupts::load();
    let work = WORK.load(Ordering::SeqCst);
    // SAFETY: `start` stored the address of a function of this type before it started this vCPU.
    let work: fn() -> ! = unsafe { core::mem::transmute(work) };
    work()
}

/// Reads a model-specific register that exists.
pub fn read_msr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: these registers exist wherever PVH guests run, and reading them has no effect.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack, nomem)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes one of the local APIC's registers.
pub fn write_msr(index: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the local APIC's registers, whose interrupts all have handlers; an INIT only hits a vCPU that does
    // not run yet.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack)) };
}
