//! What attackers share: a loop on both vCPUs, a count of what they did, and a line about it now and then.
//!
//! The scenario `attack` reads the lines from the guest's console:
//!
//! | line | meaning |
//! |---|---|
//! | `guest: attacker NAME, seed N` | it begins |
//! | `guest: attacked N times in M ms` | so far, both vCPUs together |
//! | `guest: got through: WHAT` | something that must be impossible was possible: the hypervisor has failed |

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hypercall_abi::start_info::StartInfo;

use crate::{Random, halt, interrupts, page, println, processors, shared};

static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static ROUND: AtomicUsize = AtomicUsize::new(0);

/// One vCPU of an attacking guest.
pub struct Attacker {
    /// 0 or 1.
    pub vcpu: u64,
    /// Its own garbage.
    pub random: Random,
    began: u64,
    /// TSC ticks in a second, and when the next line is due by them.
    second: u64,
    next_line: u64,
}

impl Attacker {
    /// Begins on the first vCPU: handlers of exceptions, the shared page, a seed.
    pub fn begin(name: &str) -> Attacker {
        interrupts::install();
        shared::map();
        let seed = ticks();
        SEED.store(seed, Ordering::SeqCst);
        println!("guest: attacker {name}, seed {seed:#x}");
        Attacker::on(0)
    }

    fn on(vcpu: u64) -> Attacker {
        let seed = SEED.load(Ordering::SeqCst);
        // Later the time page may be garbage: that is what some attacks are about.
        let second = (1u64 << 20) * 1_000_000_000 / shared::nanoseconds_of(1 << 20).max(1);
        let began = ticks();
        Attacker {
            vcpu,
            random: Random::new(seed ^ vcpu << 32),
            began,
            second,
            next_line: began,
        }
    }

    /// Counts what was done; the first vCPU tells of it now and then.
    pub fn done(&mut self, count: u64) {
        let all = OPERATIONS.fetch_add(count, Ordering::Relaxed) + count;
        let now = ticks();
        if self.vcpu == 0 && now >= self.next_line {
            self.next_line = now + self.second / 10;
            let milliseconds = (now - self.began) / (self.second / 1000).max(1);
            println!("guest: attacked {all} times in {milliseconds} ms");
        }
    }

    /// Says that the hypervisor let something pass.
    pub fn got_through(&self, what: fmt::Arguments<'_>) {
        println!("guest: got through: {what}");
    }
}

/// The same attack on both vCPUs, until somebody ends it.
pub fn both(name: &str, round: fn(&mut Attacker)) -> ! {
    let mut attacker = Attacker::begin(name);
    ROUND.store(round as usize, Ordering::SeqCst);
    processors::enable_apic();
    processors::start(second);
    loop {
        round(&mut attacker);
    }
}

fn second() -> ! {
    processors::enable_apic();
    let mut attacker = Attacker::on(1);
    // SAFETY: `both` stored the address of a function of this type before it started this vCPU.
    let round: fn(&mut Attacker) = unsafe { core::mem::transmute(ROUND.load(Ordering::SeqCst)) };
    loop {
        round(&mut attacker);
    }
}

/// One attack and no more: the vCPU is to be gone afterwards. If it is not, it says so and waits.
pub fn outlived(attacker: &Attacker, what: &str) -> ! {
    attacker.got_through(format_args!("{what}, and lives"));
    halt()
}

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: reading it has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Whether the kernel's command line has this word.
pub fn told(start_information: u64, word: &str) -> bool {
    let information: StartInfo = page::read(start_information);
    let byte = |index: u64| page::read::<u8>(information.command_line_address + index);
    if information.command_line_address == 0 {
        return false;
    }
    let length = (0..4096).find(|&index| byte(index) == 0).unwrap_or(0);
    let wanted = word.as_bytes();
    (0..=length.saturating_sub(wanted.len() as u64)).any(|start| {
        (0..)
            .zip(wanted)
            .all(|(index, &letter)| byte(start + index) == letter)
    })
}
