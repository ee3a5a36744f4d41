//! A guest that computes on both vCPUs, with nothing in mind: what others' share beside it is, is fair.
#![no_std]
#![no_main]

use guests::{Random, interrupts, processors};

guests::micro_guest!(main);

fn main(_: u64) -> ! {
    interrupts::install();
    processors::enable_apic();
    processors::start(compute);
    compute()
}

/// Without PAUSE: emulators take that for a request to let somebody else run.
fn compute() -> ! {
    let mut random = Random::new(1);
    loop {
        core::hint::black_box(random.next());
    }
}
