//! The interrupt descriptor table, and the way from a vector to its handler.
//!
//! Every vector has a small stub that leaves one uniform frame on the stack; [`dispatch`] then says who handles it.

use core::arch::global_asm;

use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::segments::{self, ExceptionStack};
use super::{exceptions, interrupts};
use crate::sync::Once;

/// What the stubs leave on the stack.
#[repr(C)]
pub struct TrapFrame {
    /// r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax.
    pub registers: [u64; 15],
    /// Which vector.
    pub vector: u64,
    /// The exception's error code; 0 for those that have none.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// The code segment.
    pub cs: u64,
    /// The flags.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The stack segment.
    pub ss: u64,
}

/// First vector that is no exception.
pub const FIRST_INTERRUPT: u8 = 32;
const STUB_SIZE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Gate([u64; 2]);

static GATES: Once<[Gate; 256]> = Once::new();

unsafe extern "C" {
    static trap_stubs: u8;
}

fn gate(vector: u8) -> Gate {
    let handler = (&raw const trap_stubs).wrapping_add(usize::from(vector) * STUB_SIZE) as u64;
    let stack = match vector {
        2 => ExceptionStack::NonMaskable as u64,
        8 => ExceptionStack::DoubleFault as u64,
        18 => ExceptionStack::MachineCheck as u64,
        0..FIRST_INTERRUPT => ExceptionStack::Fault as u64,
        _ => 0,
    };
    // Present, interrupts off.
    const INTERRUPT_GATE: u64 = 0x8e00 << 32;
    let low = (handler & 0xffff)
        | (u64::from(segments::CODE) << 16)
        | (stack << 32)
        | INTERRUPT_GATE
        | ((handler >> 16 & 0xffff) << 48);
    Gate([low, handler >> 32])
}

/// Have the calling processor use the table.
pub fn load() {
    let gates = GATES.call_once(|| core::array::from_fn(|vector| gate(vector as u8)));
    let pointer = DescriptorTablePointer {
        limit: size_of_val(gates) as u16 - 1,
        base: VirtAddr::from_ptr(gates),
    };
    // SAFETY: the table lives forever and names valid handlers and stacks that `segments::load` has set up.
    unsafe { lidt(&pointer) };
}

extern "C" fn dispatch(frame: &mut TrapFrame) {
    match frame.vector as u8 {
        vector @ FIRST_INTERRUPT.. => interrupts::handle(vector),
        _ => exceptions::handle(frame),
    }
}

global_asm!(
    r#"
    .section .text.traps, "ax"
    .balign 16
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    // Vectors 8, 10-14, 17, 21, 29 and 30 come with an error code.
    .if vector > 31 || !((1 << vector) & 0x60227d00)
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call {dispatch}
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq
    .text
    "#,
    dispatch = sym dispatch,
    options(att_syntax),
);
