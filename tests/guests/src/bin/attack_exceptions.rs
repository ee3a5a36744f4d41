//! Exceptions whose delivery raises the next one, for ever, with interrupts off: a breakpoint on the place where its own
//! frame is pushed. Without the hypervisor's intercept the processor would never come back from it.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::attack::{self, Attacker};
use guests::{Page, interrupts};

guests::micro_guest!(main);

/// A task state that gives every debug exception the same stack.
static TASK: Page = Page::new();
static STACK: Page = Page::new();
static SEGMENTS: Page = Page::new();

fn main(_: u64) -> ! {
    attack::both("exceptions", round)
}

fn round(attacker: &mut Attacker) {
    if attacker.vcpu == 1 {
        // The first tells how far it is; the second is caught in the first round.
        attacker.done(1);
        endless();
    }
    for _ in 0..1000 {
        core::hint::black_box(attacker.random.next());
    }
    attacker.done(1);
}

fn endless() {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    let top = STACK.address() + 4096;
    TASK.write(0x24, top as u32); // interrupt stack 1
    TASK.write(0x28, (top >> 32) as u32);
    let base = TASK.address();
    for (index, descriptor) in [
        0u64,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x67 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56,
        base >> 32,
    ]
    .into_iter()
    .enumerate()
    {
        SEGMENTS.write(index * 8, descriptor);
    }
    interrupts::use_stack(1, 1);
    let pointer = Pointer(39, SEGMENTS.address());
    const EIGHT_BYTES_WRITTEN: u64 = 0x9_0000;
    const ENABLED: u64 = 2;
    // SAFETY: the tables are complete; from the store on this vCPU does nothing any more but deliver exceptions.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "ltr {task:x}",
            "mov dr0, {watched}",
            "mov dr7, {armed}",
            "mov [{watched}], {armed}",
            pointer = in(reg) &pointer,
            task = in(reg) 24u64,
            watched = in(reg) top - 8,
            armed = in(reg) EIGHT_BYTES_WRITTEN | ENABLED | 0x400,
        );
    }
}
