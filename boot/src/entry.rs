//! The first instructions: from a loader's 32-bit protected mode to 64-bit Rust in the higher half.
//!
//! The loader has put the image at its physical address (see `image.ld`). The page tables made here are crude and
//! short-lived: the first four gigabytes, readable, writable and executable, at three places: where they are (for the
//! switch itself), in the direct map, and (two of them) where the image is linked. `machine` replaces them.

use core::arch::global_asm;

/// Where the image's physical addresses appear: it is linked here plus its load address.
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the first gigabytes of physical memory appear, from the first Rust instruction on.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Bytes of physical memory that the first page tables map.
pub const FIRST_MAPPED: u64 = 4 << 30;

/// The stack that the entry code leaves behind.
pub const FIRST_STACK_SIZE: usize = 64 << 10;

/// Name the function that runs first: `fn(Handover) -> !`.
#[macro_export]
macro_rules! start_at {
    ($main:path) => {
        // SAFETY: the one symbol of this name; the entry code below calls it once, with the loader's registers.
        #[unsafe(no_mangle)]
        extern "C" fn boot_start(magic: u32, information: u32) -> ! {
            let main: fn($crate::Handover) -> ! = $main;
            main($crate::Handover::new(magic, information))
        }
    };
}

global_asm!(
    r#"
    .section .boot.header, "a"
    .balign 8
    // Multiboot 1: page-aligned modules, memory information.
    .set MB1_FLAGS, 0x3
    .long 0x1badb002, MB1_FLAGS, -(0x1badb002 + MB1_FLAGS)

    .balign 8
mb2_header:
    .long 0xe85250d6, 0, mb2_end - mb2_header, -(0xe85250d6 + (mb2_end - mb2_header))
    // Page-aligned modules.
    .short 6, 0
    .long 8
    // End.
    .short 0, 0
    .long 8
mb2_end:

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4: .skip 4096
boot_low:  .skip 4096
boot_high: .skip 4096
boot_pages: .skip 4096 * 4
    .balign 16
boot_stack: .skip {stack_size}
boot_stack_end:

    .section .boot.text, "ax"
    .code32
    .globl boot_entry
boot_entry:
    cli
    cld
    mov esp, offset boot_stack_end - {base}
    push eax
    push ebx

    // 64-bit mode and no-execute pages are required.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb 9f
    mov eax, 0x80000001
    cpuid
    and edx, (1 << 29) | (1 << 20)
    cmp edx, (1 << 29) | (1 << 20)
    jne 9f

    // 2048 pages of 2 MiB.
    mov edi, offset boot_pages - {base}
    mov eax, 0x83
2:
    mov [edi], eax
    add eax, 0x200000
    add edi, 8
    cmp edi, offset boot_pages - {base} + 4096 * 4
    jne 2b

    mov edi, offset boot_low - {base}
    mov eax, offset boot_pages - {base} + 3
    mov ecx, 4
3:
    mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 3b
    mov edi, offset boot_high - {base}
    mov eax, offset boot_pages - {base} + 3
    mov [edi + 510 * 8], eax
    add eax, 4096
    mov [edi + 511 * 8], eax
    mov edi, offset boot_pml4 - {base}
    mov eax, offset boot_low - {base} + 3
    mov [edi], eax
    mov [edi + 256 * 8], eax
    mov eax, offset boot_high - {base} + 3
    mov [edi + 511 * 8], eax

    mov cr3, edi
    mov eax, cr4
    or eax, 1 << 5
    mov cr4, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, (1 << 8) | (1 << 11)
    wrmsr
    mov eax, cr0
    or eax, 0x80010001
    mov cr0, eax
    pop esi
    pop edi
    lgdt [boot_gdt_pointer - {base}]
    push 8
    mov eax, offset boot_long_mode - {base}
    push eax
    retf

    // Too old: say so on the first serial port, and stop.
9:
    mov esi, offset boot_too_old - {base}
4:
    mov dx, 0x3fd
5:
    in al, dx
    test al, 0x20
    jz 5b
    lodsb
    test al, al
    jz 6f
    mov dx, 0x3f8
    out dx, al
    jmp 4b
6:
    cli
    hlt
    jmp 6b

    .code64
boot_long_mode:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    lea rsp, [boot_stack_end]
    xor ebp, ebp
    lea rax, [boot_start]
    push rbp
    jmp rax

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
boot_gdt_pointer:
    .short 23
    .quad boot_gdt - {base}
boot_too_old:
    .asciz "Xenolith needs a 64-bit processor with no-execute pages: use a newer machine, or another -cpu in QEMU\r\n"
    "#,
    base = const IMAGE_BASE,
    stack_size = const FIRST_STACK_SIZE,
);
