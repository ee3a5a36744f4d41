//! The room for `unsafe` of `pvh`: entry and exceptions in assembly, hypercalls, and memory by physical address.
//!
//! What holds here and nowhere else: there is one vCPU; all of the first 4 GiB is mapped where it lies, readable, writable and
//! executable; below the linked image and in what the memory map calls RAM behind it no Rust object lives.
#![allow(unsafe_code)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr::NonNull;

use hypercall_abi::cpuid;
use zerocopy::{FromBytes, IntoBytes};

use crate::ring::SharedMemory;

/// Physical memory that is mapped.
pub const MAPPED: u64 = 1 << 32;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18              // name and descriptor sizes; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

    .section .text.pvh_entry, "ax"
    .code32
    .globl pvh_entry
pvh_entry:                      // 32-bit, no paging, ebx = start information
    cli
    cld
    movl $pvh_stack_top, %esp
    movl $pvh_directories, %edi // 4 GiB, identity, pages of 2 MiB
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    movl $pvh_directory_pointers, %edi
    movl $pvh_directories + 3, %eax
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 2b
    movl $pvh_directory_pointers + 3, pvh_page_map
    movl %cr4, %eax
    orl $0x20, %eax             // physical address extension
    movl %eax, %cr4
    movl $pvh_page_map, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      // EFER: long mode
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    lgdt pvh_gdt_pointer
    ljmp $8, $3f
    .code64
3:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %ebx, %edi
    xorl %ebp, %ebp
    call pvh_main
4:  cli
    hlt
    jmp 4b

    .text
    .balign 16
    .globl pvh_stubs
pvh_stubs:                      // sixteen bytes for each exception, and one for the callback vector
    .set pvh_vector, 0
    .rept 33
    .balign 16
    // Vectors 8, 10-14, 17, 21, 29 and 30 come with an error code.
    .if pvh_vector > 31 || !((1 << pvh_vector) & 0x60227d00)
    pushq $0
    .endif
    pushq $pvh_vector
    jmp pvh_common
    .set pvh_vector, pvh_vector + 1
    .endr
pvh_common:
    cld
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movq 72(%rsp), %rdi         // vector, error code, address
    movq 80(%rsp), %rsi
    movq 88(%rsp), %rdx
    call pvh_interrupt
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .section .data.pvh_entry, "aw"
    .balign 8
pvh_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
pvh_gdt_pointer:
    .word 23
    .quad pvh_gdt

    .section .bss.pvh_entry, "aw", @nobits
    .balign 4096
pvh_page_map:
    .zero 4096
pvh_directory_pointers:
    .zero 4096
pvh_directories:
    .zero 16384
    .zero 524288
pvh_stack_top:
    "#,
    options(att_syntax)
);

#[cfg(target_os = "none")]
unsafe extern "C" {
    static pvh_stubs: u8;
    static pvh_image_end: u8;
}

/// One past the image's last byte.
pub fn image_end() -> u64 {
    #[cfg(target_os = "none")]
    return &raw const pvh_image_end as u64;
    #[cfg(not(target_os = "none"))]
    return MAPPED;
}

/// A page of the image that is shared with the hypervisor.
#[repr(align(4096))]
pub struct StaticPages<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: the bytes are reached through `SharedMemory` only, whose accesses are atomic.
unsafe impl<const BYTES: usize> Sync for StaticPages<BYTES> {}

impl<const BYTES: usize> StaticPages<BYTES> {
    pub const fn new() -> Self {
        StaticPages(UnsafeCell::new([0; BYTES]))
    }

    /// The pages as memory to share.
    pub fn memory(&'static self) -> SharedMemory {
        // SAFETY: static, aligned for pages, and private to this type: nobody makes a reference to the bytes.
        unsafe { SharedMemory::new(NonNull::from(&self.0).cast(), BYTES) }
    }
}

/// Physical memory in which no Rust object lives, as memory to share: the caller has taken it from the memory map's RAM behind
/// the image, or the hypervisor or toolstack has put it there. `None` where it is not mapped, or lies in the image.
pub fn physical(address: u64, length: usize) -> Option<SharedMemory> {
    let end = address.checked_add(length as u64)?;
    let mapped = address >= image_end() && end <= MAPPED && address.is_multiple_of(4);
    let start = NonNull::new(address as usize as *mut u8).filter(|_| mapped)?;
    // SAFETY: all of the first 4 GiB is mapped, readable and writable; behind the image no Rust object lives.
    Some(unsafe { SharedMemory::new(start, length) })
}

/// Copies a value from physical memory.
pub fn read<T: FromBytes>(address: u64) -> Option<T> {
    let end = address.checked_add(size_of::<T>() as u64)?;
    if address == 0 || end > MAPPED || !(address as usize).is_multiple_of(align_of::<T>()) {
        return None;
    }
    // SAFETY: mapped and aligned, as was just checked; what the loader left there nobody changes. Any bytes are a `T`.
    Some(unsafe { (address as usize as *const T).read_volatile() })
}

/// The hypercall page: 32 bytes of code for each call, written by the hypervisor.
static HYPERCALLS: StaticPages<4096> = StaticPages::new();

/// Asks the hypervisor to fill the hypercall page.
pub fn install_hypercall_page(msr: u32) {
    let page = HYPERCALLS.0.get() as u64;
    // SAFETY: the hypervisor named this register for this purpose; the page is ours, static and executable.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") page as u32, in("edx") (page >> 32) as u32, options(nostack))
    };
}

/// How many hypercalls were made.
pub static MADE: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// A hypercall.
///
/// # Safety
/// The page was installed. What the call writes is memory of no Rust object, or handed over exclusively.
pub unsafe fn hypercall(number: u64, arguments: [u64; 5]) -> i64 {
    MADE.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    let entry = HYPERCALLS.0.get() as u64 + number * 32;
    let result: i64;
    // SAFETY: the code at `entry` changes `rax` and its argument registers, and memory as the caller vouches for.
    unsafe {
        asm!(
            "call {entry}",
            entry = in(reg) entry,
            lateout("rax") result,
            inlateout("rdi") arguments[0] => _,
            inlateout("rsi") arguments[1] => _,
            inlateout("rdx") arguments[2] => _,
            inlateout("r10") arguments[3] => _,
            inlateout("r8") arguments[4] => _,
            out("rcx") _,
            out("r9") _,
            out("r11") _,
        );
    }
    result
}

/// An operation on one structure without pointers, which the hypervisor may write; its result.
pub fn operate<T: IntoBytes + FromBytes>(number: u64, operation: u32, argument: &mut T) -> i64 {
    let address = core::ptr::from_mut(argument) as u64;
    // SAFETY: the structure is borrowed exclusively, and any bytes are one. Callers pass structures without pointers, or with
    // pointers to what they borrow for the call.
    unsafe { hypercall(number, [operation.into(), address, 0, 0, 0]) }
}

/// An operation on a virtual CPU's structure.
pub fn operate_on_vcpu<T: IntoBytes + FromBytes>(operation: u32, vcpu: u64, argument: &mut T) -> i64 {
    let address = core::ptr::from_mut(argument) as u64;
    let number = hypercall_abi::hypercall::number::VCPU_OP;
    // SAFETY: as for `operate`.
    unsafe { hypercall(number, [operation.into(), vcpu, address, 0, 0]) }
}

/// Prints on the hypervisor's own console, which it grants to dom0 and to few others.
pub fn print_on_hypervisor(bytes: &[u8]) -> i64 {
    const WRITE: u64 = 0; // CONSOLEIO_write
    let number = hypercall_abi::hypercall::number::CONSOLE_IO;
    // SAFETY: the bytes are read only.
    unsafe { hypercall(number, [WRITE, bytes.len() as u64, bytes.as_ptr() as u64, 0, 0]) }
}

/// Where the hypervisor's CPUID leaves begin, if there is one that speaks Xen's ABI.
pub fn find_hypervisor() -> Option<u32> {
    (0..0x100)
        .map(|step| cpuid::FIRST_LEAF + step * 0x100)
        .find(|&base| {
            let leaf = core::arch::x86_64::__cpuid(base);
            (leaf.ebx, leaf.ecx, leaf.edx)
                == (cpuid::SIGNATURE_EBX, cpuid::SIGNATURE_ECX, cpuid::SIGNATURE_EDX)
        })
}

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: reading it has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

fn port_in(port: u16) -> u8 {
    let value: u8;
    // SAFETY: of the serial port and the keyboard controller, whose registers have no effect on memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

fn port_out(port: u16, value: u8) {
    // SAFETY: as for `port_in`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// Prints on the first serial port: where there is no Xen, nothing else is known to be there.
pub fn print_on_serial(text: &str) {
    const DATA: u16 = 0x3f8;
    const LINE_STATUS: u16 = DATA + 5;
    const EMPTY: u8 = 1 << 5;
    for byte in text.bytes() {
        // A port that is not there reads as ones; one that never gets empty is not waited for without end.
        let _ = (0..100_000).find(|_| port_in(LINE_STATUS) & EMPTY != 0);
        port_out(DATA, byte);
    }
}

/// Ends a machine without Xen: asks the keyboard controller for a reset, then makes a fault that cannot be handled.
pub fn reset_machine() -> ! {
    const COMMAND: u16 = 0x64;
    port_out(COMMAND, 0xfe);
    for _ in 0..100_000 {
        port_in(COMMAND);
    }
    let nothing = [0u8; 10];
    // SAFETY: nothing is to run any more.
    unsafe { asm!("lidt [{}]", "int3", in(reg) &nothing, options(noreturn)) }
}

/// The vector that events come by, where they are wanted.
pub const CALLBACK_VECTOR: u8 = 0xf3;
const CALLBACK_STUB: u64 = 32;

/// The interrupt descriptor table.
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: there is one vCPU, and `install_exceptions` runs once, before interrupts are let in.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

/// Makes exceptions say what they are.
pub fn install_exceptions() {
    const CODE: u64 = 8;
    const GATE: u64 = 0x8e00;
    let gate = |stub: u64| {
        let address = stubs() + stub * 16;
        let low = (address & 0xffff) | CODE << 16 | GATE << 32 | (address & 0xffff_0000) << 32;
        [low, address >> 32]
    };
    #[repr(C, packed)]
    struct Pointer {
        limit: u16,
        base: u64,
    }
    let pointer = Pointer {
        limit: (size_of::<[[u64; 2]; 256]>() - 1) as u16,
        base: TABLE.0.get() as u64,
    };
    // SAFETY: nobody else holds a reference to the table (see `Table`); it is filled with gates to stubs that exist, and lives
    // for ever.
    unsafe {
        let table = &mut *TABLE.0.get();
        for (stub, entry) in (0..32).zip(table.iter_mut()) {
            *entry = gate(stub);
        }
        table[usize::from(CALLBACK_VECTOR)] = gate(CALLBACK_STUB);
        asm!("lidt [{}]", in(reg) &pointer, options(nostack, readonly));
    }
}

/// The stubs: sixteen bytes of code for each exception, and for the callback vector. On a host there are none.
fn stubs() -> u64 {
    #[cfg(target_os = "none")]
    return &raw const pvh_stubs as u64;
    #[cfg(not(target_os = "none"))]
    return 0;
}

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: the callback vector and all exceptions have handlers; no other vector is ever asked for.
    unsafe { asm!("sti", options(nomem, nostack)) };
}

/// Called by the stubs.
// SAFETY: the stubs are the only other mention of this name.
#[unsafe(no_mangle)]
extern "C" fn pvh_interrupt(vector: u64, error_code: u64, address: u64) {
    if vector == CALLBACK_STUB {
        super::upcall();
    } else {
        super::exception(vector, error_code, address);
    }
}

/// Declares a kernel's main function, `fn(&'static Pvh) -> Result<(), Error>`, and its panic handler. When it returns, the
/// guest powers off, or crashes with the error as its last line; without Xen it says so on the serial port and resets.
#[macro_export]
macro_rules! pvh_main {
    ($main:path) => {
        /// Called by the entry code, once.
        // SAFETY: the entry code is the only other mention of this name.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn pvh_main(start_information: u64) -> ! {
            $crate::pvh::run(start_information, $main)
        }

        #[panic_handler]
        fn pvh_panic(information: &core::panic::PanicInfo<'_>) -> ! {
            $crate::pvh::panicked(information)
        }
    };
}
