#![no_std]
#![no_main]
use guests::attack::Attacker;
use guests::{attempt, println};
guests::micro_guest!(main);
fn main(_: u64) -> ! {
    let _ = Attacker::begin("dr");
    let at: u64 = 0xffffffff8020f04b;
    unsafe {
        attempt!("mov dr0, {0}", in(reg) at);
        attempt!("mov dr7, {0}", in(reg) 0x402u64);
    }
    println!("armed");
    for _ in 0..1000 { core::arch::x86_64::__cpuid(0); }
    println!("alive");
    guests::halt()
}
