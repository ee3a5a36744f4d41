//! What micro-guests share.
//!
//! A micro-guest is an ELF with a PVH entry note. It runs as dom0 in place of Linux (`cargo xtask test micro`), or as a
//! guest that misbehaves on purpose (in the scenario). Its last line is the verdict: `verdict: PASS name` or
//! `verdict: FAIL name: why`; then it asks for a reboot, which ends the emulated machine.
//!
//! They use the same `hypercall-abi` as the hypervisor and run on real Xen, too: what both agree on is the ABI.
#![no_std]

pub mod attack;
pub mod console;
pub mod entry;
pub mod hypercall;
pub mod interrupts;
pub mod page;
pub mod processors;
pub mod random;
pub mod shared;
pub mod trial;
pub mod window;

use core::fmt;

use hypercall_abi::sched::{self, shutdown};

pub use page::Page;
pub use random::Random;

/// The checks of one micro-guest and what has become of them.
pub struct Checks {
    name: &'static str,
    failed: u32,
}

impl Checks {
    /// Begins: names the test, installs handlers for exceptions.
    pub fn begin(name: &'static str) -> Checks {
        interrupts::install();
        println!("micro: {name}");
        Checks { name, failed: 0 }
    }

    /// One statement that must hold.
    pub fn check(&mut self, what: &str, holds: bool) {
        self.note(what, holds, &"it does not hold");
    }

    /// Two values that must be equal.
    pub fn equal<T: PartialEq + fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        let holds = found == expected;
        self.note(
            what,
            holds,
            &format_args!("found {found:?}, expected {expected:?}"),
        );
    }

    fn note(&mut self, what: &str, holds: bool, why: &dyn fmt::Display) {
        if holds {
            println!("ok {what}");
        } else {
            self.failed += 1;
            println!("FAIL {what}: {why}");
        }
    }

    /// The verdict; then the machine goes off.
    pub fn end(self) -> ! {
        if self.failed == 0 {
            println!("verdict: PASS {}", self.name);
        } else {
            println!("verdict: FAIL {}: {} checks", self.name, self.failed);
        }
        leave()
    }
}

/// Ends this domain. Of dom0 a reboot is asked, not a power-off: Xen then halts the machine instead of leaving it.
pub fn leave() -> ! {
    let mut request = sched::Shutdown {
        reason: shutdown::REBOOT,
    };
    hypercall::with(
        hypercall_abi::hypercall::number::SCHED_OP,
        sched::op::SHUTDOWN,
        &mut request,
    );
    halt()
}

/// Nothing more, ever.
pub fn halt() -> ! {
    loop {
        interrupts::halt_without_interrupts();
    }
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    println!("verdict: FAIL panic: {information}");
    leave()
}
