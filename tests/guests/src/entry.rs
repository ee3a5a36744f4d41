//! From the PVH entry (32-bit, no paging, `ebx` = start information) to Rust in long mode.

core::arch::global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18              // name and descriptor sizes; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad micro_entry

    .section .text.entry, "ax"
    .code32
    .globl micro_entry
micro_entry:
    cli
    movl $micro_stack_top, %esp
    movl %cr4, %eax
    orl $0x20, %eax             // physical address extension
    movl %eax, %cr4
    movl $micro_page_map, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      // EFER: long mode
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    lgdt micro_gdt_pointer
    ljmp $8, $1f
    .code64
1:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %ebx, %edi
    xorl %ebp, %ebp
    call micro_main
2:  cli
    hlt
    jmp 2b

    .section .data.entry, "aw"
    .balign 4096
micro_page_map:                 // 4 GiB, identity, pages of 2 MiB
    .quad micro_directory_pointers + 3
    .zero 4088
micro_directory_pointers:
    .quad micro_directories + 0x0003
    .quad micro_directories + 0x1003
    .quad micro_directories + 0x2003
    .quad micro_directories + 0x3003
    .zero 4064
micro_directories:
    .set micro_index, 0
    .rept 2048
    .quad (micro_index << 21) | 0x83
    .set micro_index, micro_index + 1
    .endr
micro_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
micro_gdt_pointer:
    .word 23
    .quad micro_gdt

    .section .bss.stack, "aw", @nobits
    .balign 4096
    .zero 65536
micro_stack_top:
    "#,
    options(att_syntax)
);

/// Declares the micro-guest's main function: it gets the physical address of the PVH start information.
#[macro_export]
macro_rules! micro_guest {
    ($main:path) => {
        /// Called by the entry code, once.
        // SAFETY: the entry code is the only other mention of this name.
        #[unsafe(no_mangle)]
        extern "C" fn micro_main(start_information: u64) -> ! {
            $main(start_information)
        }
    };
}
