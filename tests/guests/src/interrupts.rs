//! Exceptions and upcalls.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{println, shared, trial};

/// Vectors that stubs exist for.
const VECTORS: usize = 256;
/// Bytes between two stubs.
const STUB: usize = 16;
/// The first vector that is no exception.
const FIRST_INTERRUPT: u64 = 32;
/// Vectors that must be acknowledged at the local APIC; the one of the callback, above, is not.
const LOCAL_APIC: core::ops::Range<u64> = 0x40..0xf0;

global_asm!(
    r#"
    .text
    .balign 16
    .globl micro_stubs
micro_stubs:
    .set micro_vector, 0
    .rept 256
    .balign 16
    // Vectors 8, 10-14, 17, 21, 29 and 30 come with an error code.
    .if micro_vector > 31 || !((1 << micro_vector) & 0x60227d00)
    pushq $0
    .endif
    pushq $micro_vector
    jmp micro_common
    .set micro_vector, micro_vector + 1
    .endr
micro_common:
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
    movq %rsp, %rdi
    call micro_interrupt
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
    "#,
    options(att_syntax)
);

/// What the stubs leave on the stack. Changes to it take effect when the handler returns.
#[repr(C)]
pub struct Frame {
    /// r11: how [`trial`] is told of an exception.
    pub r11: u64,
    /// r10, r9, r8, rdi, rsi, rdx, rcx, rax.
    pub others: [u64; 8],
    /// Which vector.
    pub vector: u64,
    /// The exception's error code; 0 for those that have none.
    pub error_code: u64,
    /// Where it struck.
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

unsafe extern "C" {
    static micro_stubs: u8;
}

/// The interrupt descriptor table.
struct Table(UnsafeCell<[[u64; 2]; VECTORS]>);

// SAFETY: there is one CPU, and `install` runs before interrupts are enabled.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; VECTORS]));
static COUNTS: [AtomicU64; VECTORS] = [const { AtomicU64::new(0) }; VECTORS];

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills and loads the table. Exceptions end the test, interrupts are counted.
pub fn install() {
    const CODE: u64 = 8;
    const GATE: u64 = 0x8e00;
    let stubs = &raw const micro_stubs as u64;
    for vector in 0..VECTORS {
        let stub = stubs + (vector * STUB) as u64;
        let low = (stub & 0xffff) | CODE << 16 | GATE << 32 | (stub & 0xffff_0000) << 32;
        // SAFETY: nobody else holds a reference to the table, see `Table`.
        unsafe { (*TABLE.0.get())[vector] = [low, stub >> 32] };
    }
    load();
}

/// Loads the table that `install` has filled; every vCPU does that for itself.
pub fn load() {
    let pointer = Pointer {
        limit: (size_of::<[u64; 2]>() * VECTORS - 1) as u16,
        base: TABLE.0.get() as u64,
    };
    // SAFETY: the table is filled with gates to stubs that exist, and lives for ever.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, readonly)) };
}

/// Gives a vector one of the task state's stacks, by its number.
pub fn use_stack(vector: u8, stack: u64) {
    // SAFETY: nobody else holds a reference to the table, see `Table`; the gate stays one.
    unsafe { (*TABLE.0.get())[usize::from(vector)][0] |= stack << 32 };
}

/// How often an interrupt has come.
pub fn count(vector: u8) -> u64 {
    COUNTS[usize::from(vector)].load(Ordering::Relaxed)
}

/// Lets interrupts in.
pub fn enable() {
    // SAFETY: `Checks::begin` has installed handlers for every vector.
    unsafe { asm!("sti", options(nostack)) };
}

/// Sleeps until the next interrupt; they must be enabled.
pub fn sleep() {
    // SAFETY: handlers exist for all of them.
    unsafe { asm!("hlt", options(nostack)) };
}

/// Stops this CPU for good.
pub fn halt_without_interrupts() {
    // SAFETY: nothing is wanted any more.
    unsafe { asm!("cli", "hlt", options(nostack)) };
}

// SAFETY: the stubs above are the only other mention of this name.
#[unsafe(no_mangle)]
extern "C" fn micro_interrupt(frame: &mut Frame) {
    let vector = frame.vector;
    COUNTS[vector as usize & 0xff].fetch_add(1, Ordering::Relaxed);
    if vector < FIRST_INTERRUPT {
        if trial::expected(frame) {
            return;
        }
        println!(
            "verdict: FAIL exception {vector} (error code {:#x}) at {:#x}",
            frame.error_code, frame.rip
        );
        crate::leave();
    }
    if LOCAL_APIC.contains(&vector) {
        // SAFETY: these vectors come through an x2APIC only, whose end-of-interrupt register this is.
        unsafe { asm!("wrmsr", in("ecx") 0x80b, in("eax") 0, in("edx") 0, options(nostack)) };
    }
    // An upcall by callback vector is repeated until the vCPU's flag is taken back.
    shared::acknowledge();
}
