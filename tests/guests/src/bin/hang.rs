//! A guest that spins with interrupts disabled and answers nobody.
#![no_std]
#![no_main]

use guests as _;

guests::micro_guest!(main);

fn main(_: u64) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
