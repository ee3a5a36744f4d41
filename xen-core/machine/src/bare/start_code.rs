//! What another processor runs first: from real mode, in a page of low memory, to 64-bit Rust.

use core::arch::global_asm;

use super::layout::DIRECT_MAP;
use super::processor::Processor;
use crate::address::{HostAddress, PAGE_SIZE};

/// The words that the code finds at its end.
#[repr(C)]
struct Orders {
    page_table: u32,
    jump_to: u32,
    jump_selector: u16,
    segments_limit: u16,
    segments: u32,
    entry: u64,
    stack: u64,
    processor: u64,
}

unsafe extern "C" {
    static start_code: u8;
    static start_code_64: u8;
    static start_code_segments: u8;
    static start_code_orders: u8;
    static start_code_end: u8;
}

/// Where a processor goes on: on its stack, with its data.
pub type Entry = extern "C" fn(&'static Processor) -> !;

/// Put the code into a page below 1 MiB, with orders for one processor.
pub fn write(page: HostAddress, root: HostAddress, entry: Entry, stack: u64, processor: &'static Processor) {
    let code = &raw const start_code;
    let offset = |symbol: *const u8| (symbol as usize).wrapping_sub(code as usize);
    let length = offset(&raw const start_code_end);
    let orders_at = offset(&raw const start_code_orders);
    // In the page's address no bit is set where offsets into it have theirs.
    let within = |symbol: *const u8| page.0 as u32 | offset(symbol) as u32;
    assert!(length <= PAGE_SIZE && root.0 < 1 << 32);
    let orders = Orders {
        page_table: root.0 as u32,
        jump_to: within(&raw const start_code_64),
        jump_selector: 8,
        segments_limit: 23,
        segments: within(&raw const start_code_segments),
        entry: entry as usize as u64,
        stack,
        processor: core::ptr::from_ref(processor) as u64,
    };
    let target = (DIRECT_MAP + page.0) as *mut u8;
    // SAFETY: a page of low memory that is nobody else's, and code and orders that fit into it.
    unsafe {
        core::ptr::copy_nonoverlapping(code, target, length);
        target.add(orders_at).cast::<Orders>().write_volatile(orders);
    }
}

global_asm!(
    r#"
    .section .rodata.start_code, "a"
    .balign 16
    .set ORDERS, start_code_orders - start_code
    .code16
start_code:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    // A 32-bit base: the full form of LGDT.
    lgdtl (ORDERS + 10)
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl (ORDERS), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    // Protection, paging, write protection; caches on.
    movl $0x80010031, %eax
    movl %eax, %cr0
    ljmpl *(ORDERS + 4)

    .code64
start_code_64:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movq start_code_orders + 24(%rip), %rsp
    movq start_code_orders + 32(%rip), %rdi
    movq start_code_orders + 16(%rip), %rax
    xorl %ebp, %ebp
    pushq %rbp
    jmpq *%rax

    .balign 8
start_code_segments:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
    .balign 8
start_code_orders:
    .skip 40
start_code_end:
    .text
    "#,
    options(att_syntax),
);
