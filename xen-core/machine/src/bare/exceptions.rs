//! Exceptions in the core. None of them is expected: each is reported with the registers, and is the end.

use x86_64::registers::control::{Cr2, Cr3};

use super::traps::TrapFrame;
use super::{console, crash, stack};

const NON_MASKABLE: u64 = 2;

const NAMES: [&str; 32] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "reserved",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization exception",
    "control protection exception",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security exception",
    "reserved",
];

/// Report an exception.
pub fn handle(frame: &TrapFrame) {
    if frame.vector == NON_MASKABLE {
        if crash::is_crashing() {
            crash::halt();
        }
        console::print_unlocked(format_args!(
            "{}: non-maskable interrupt at {:#x}\n",
            crash::Here,
            frame.rip
        ));
        return;
    }
    crash::begin();
    let name = NAMES.get(frame.vector as usize).copied().unwrap_or("exception");
    console::print_unlocked(format_args!(
        "\nXenolith crash on {}: {name}, error code {:#x}\n",
        crash::Here,
        frame.error_code
    ));
    const PAGE_FAULT: u64 = 14;
    if frame.vector == PAGE_FAULT && stack::is_guard(Cr2::read_raw()) {
        console::print_unlocked(format_args!("a stack overflowed\n"));
    }
    registers(frame);
    const RBP: usize = 10;
    crash::print_backtrace(frame.registers[RBP]);
    crash::end()
}

fn registers(frame: &TrapFrame) {
    const ORDER: [(&str, usize); 15] = [
        ("rax", 14),
        ("rbx", 11),
        ("rcx", 13),
        ("rdx", 12),
        ("rsi", 9),
        ("rdi", 8),
        ("rbp", 10),
        ("r8 ", 7),
        ("r9 ", 6),
        ("r10", 5),
        ("r11", 4),
        ("r12", 3),
        ("r13", 2),
        ("r14", 1),
        ("r15", 0),
    ];
    let TrapFrame {
        rip,
        cs,
        rflags,
        rsp,
        ss,
        ..
    } = *frame;
    console::print_unlocked(format_args!("rip {rip:#018x} cs {cs:#x} rflags {rflags:#x}\n"));
    console::print_unlocked(format_args!("rsp {rsp:#018x} ss {ss:#x}\n"));
    let cr2 = Cr2::read_raw();
    let cr3 = Cr3::read().0.start_address().as_u64();
    console::print_unlocked(format_args!("cr2 {cr2:#018x} cr3 {cr3:#018x}\n"));
    for row in ORDER.chunks(3) {
        for &(name, index) in row {
            let value = frame.registers.get(index).copied().unwrap_or_default();
            console::print_unlocked(format_args!("{name} {value:#018x}  "));
        }
        console::print_unlocked(format_args!("\n"));
    }
}
