//! A guest that loses its interrupt table: the CPU shuts down, and the domain with it.
#![no_std]
#![no_main]

use core::arch::asm;

use guests as _;

guests::micro_guest!(main);

fn main(_: u64) -> ! {
    let nothing = [0u16; 5];
    // SAFETY: the end of this domain is what is wanted: without a table every exception is a triple fault.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &nothing, options(noreturn)) }
}
