//! Hypercalls with garbage in every register: all numbers, all sub-operations, pointers to wherever it hurts.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::{Page, hypercall, page, shared};
use hypercall_abi::DomainId;
use hypercall_abi::hypercall::number::{
    CONSOLE_IO, DOMCTL, EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, MULTICALL, PHYSDEV_OP,
    PLATFORM_OP, SCHED_OP, SYSCTL, VCPU_OP, VM_ASSIST, XEN_VERSION,
};
use hypercall_abi::memory::{self, AddToPhysmap, map_space};

guests::micro_guest!(main);

/// What the calls may read and write, of each vCPU.
static SCRATCH: [[Page; 8]; 2] = [const { [const { Page::new() }; 8] }; 2];
/// The grant table.
static TABLE: Page = Page::new();

/// The families that there are.
const FAMILIES: [u64; 14] = [
    MEMORY_OP,
    XEN_VERSION,
    CONSOLE_IO,
    GRANT_TABLE_OP,
    VM_ASSIST,
    VCPU_OP,
    SCHED_OP,
    EVENT_CHANNEL_OP,
    PHYSDEV_OP,
    HVM_OP,
    SYSCTL,
    DOMCTL,
    PLATFORM_OP,
    MULTICALL,
];

/// Above the image, below the end of the smallest attacker's memory: frames that may come and go.
const FRAMES: core::ops::Range<u64> = 0x800..0x1f00;

fn main(_: u64) -> ! {
    map(map_space::GRANT_TABLE, &TABLE);
    attack::both("hypercalls", round)
}

fn map(space: u32, at: &Page) {
    let mut request = AddToPhysmap {
        domain: DomainId::SELF,
        space,
        guest_frame: at.frame(),
        ..AddToPhysmap::default()
    };
    hypercall::with(MEMORY_OP, memory::op::ADD_TO_PHYSMAP, &mut request);
}

fn round(attacker: &mut Attacker) {
    fill(attacker);
    for _ in 0..32 {
        let (number, arguments) = call(attacker);
        if !suicide(number, arguments) {
            hypercall::raw(number, arguments);
        }
    }
    attacker.done(32);
}

/// New contents for one scratch page: structures that are nearly right.
fn fill(attacker: &mut Attacker) {
    let own = attacker.vcpu as usize;
    let at = SCRATCH[own][attacker.random.below(8) as usize].address();
    for offset in (0..1024).step_by(8) {
        let value = word(attacker);
        page::write(at + offset, value);
    }
}

/// A word of a structure.
fn word(attacker: &mut Attacker) -> u64 {
    let random = &mut attacker.random;
    let word = match random.below(8) {
        0 => FRAMES.start + random.below(FRAMES.end - FRAMES.start),
        1 => random.pick(&[0x7ff0, 0x7ff1, 0x7ff2, 0x7ff4, 0, 1, 2, 3]),
        2 => random.below(4) << 32 | random.below(64),
        3 => return pointer(attacker),
        4 => 0,
        _ => random.number(),
    };
    spared(word)
}

/// Not the code that makes the attack: it would only end sooner. Others give away what they stand on.
fn spared(word: u64) -> u64 {
    const IMAGE: core::ops::Range<u64> = 0x20_0000..0x30_0000;
    let within = IMAGE.contains(&word) || IMAGE.contains(&(word << 12));
    if within { 0 } else { word }
}

/// Addresses: good ones, of others, of devices, of nothing.
fn pointer(attacker: &mut Attacker) -> u64 {
    let random = &mut attacker.random;
    let page = random.below(8) as usize;
    let offset = random.pick(&[0, 8, 1, 0xff8, 0xfff, 0x800]);
    let base = match random.below(12) {
        0..=3 => SCRATCH[attacker.vcpu as usize][page].address(),
        4 => SCRATCH[1 - attacker.vcpu as usize][page].address(),
        5 => TABLE.address(),
        6 => shared::address(),
        // Holes: video memory, the local APIC, the I/O APIC, past the memory.
        7 => random.pick(&[0xa_0000, 0xfee0_0000, 0xfec0_0000, 0xb000_0000, 0x8000_0000]),
        // What our page tables do not map.
        8 => random.pick(&[0x7f00_0000_0000, 0xffff_8000_0000_0000, 0x1_0000_0000]),
        // What no processor takes for an address.
        9 => random.pick(&[0x8000_dead_beef_0000, 1 << 47, u64::MAX - 0xfff]),
        10 => 0,
        _ => return spared(random.number()),
    };
    base.wrapping_add(offset)
}

fn call(attacker: &mut Attacker) -> (u64, [u64; 5]) {
    let number = match attacker.random.below(8) {
        0 => attacker.random.number(),
        1 => attacker.random.below(64),
        2 => attacker.random.pick(&[DOMCTL, SYSCTL, MULTICALL]),
        _ => attacker.random.pick(&FAMILIES),
    };
    let operation = match attacker.random.below(8) {
        0 => attacker.random.number(),
        // The bits above the operation are where a restart keeps its place.
        1 => attacker.random.below(40) | attacker.random.number() << 6,
        _ => attacker.random.below(40),
    };
    let mut arguments = [operation, 0, 0, 0, 0];
    let pointer_first = matches!(number, DOMCTL | SYSCTL | MULTICALL);
    for (index, argument) in arguments.iter_mut().enumerate() {
        let is_pointer = match number {
            _ if pointer_first => index == 0,
            VCPU_OP => index == 2,
            _ => index == 1,
        };
        *argument = match attacker.random.below(10) {
            0 => spared(attacker.random.number()),
            _ if is_pointer => pointer(attacker),
            _ if index == 0 => continue,
            _ => attacker.random.below(5),
        };
    }
    (number, arguments)
}

/// What would only end the attack: shutting down, taking a vCPU down. Others try that, and it still happens in multicalls.
fn suicide(number: u64, arguments: [u64; 5]) -> bool {
    const SHUTDOWN: u32 = 2;
    const SHUTDOWN_CODE: u32 = 5;
    const POLL: u32 = 3;
    const BLOCK: u32 = 1;
    const DOWN: u32 = 2;
    let operation = arguments[0] as u32;
    match number {
        SCHED_OP => matches!(operation, SHUTDOWN | SHUTDOWN_CODE | POLL | BLOCK),
        VCPU_OP => operation == DOWN,
        _ => false,
    }
}
