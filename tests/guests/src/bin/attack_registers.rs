//! Every model-specific register read and written.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::attempt;

guests::micro_guest!(main);

/// Where processors have registers, hypervisors' own among them.
const RANGES: [core::ops::Range<u32>; 6] = [
    0..0x2000,
    0xc000_0000..0xc000_2000,
    0xc001_0000..0xc001_2000,
    0x4000_0000..0x4000_0200,
    0x8000_0000..0x8000_0100,
    0xc8f_0000..0xc8f_0100,
];
const EFER: u32 = 0xc000_0080;
const EFER_SVM: u64 = 1 << 12;
/// What switches virtualisation itself, machine-wide settings, other worlds' memory: none of it is a guest's.
const MACHINES: [u32; 14] = [
    0x3a,        // feature control
    0x9b,        // SMM monitor
    0x79,        // microcode update
    0x480,       // VMX
    0xc001_0112, // SMM's memory
    0xc001_0113, // and its mask
    0xc001_0114, // VM_CR
    0xc001_0115, // IGNNE
    0xc001_0116, // SMM control
    0xc001_0117, // VM_HSAVE_PA
    0xc001_0118, // SVM's key
    0xc001_001a, // top of memory
    0xc001_0058, // configuration space in memory
    0xc001_0130, // encrypted guests' block
];

fn main(_: u64) -> ! {
    attack::both("registers", round)
}

fn round(attacker: &mut Attacker) {
    let range = attacker.random.below(RANGES.len() as u64) as usize;
    let range = &RANGES[range];
    let first = range.start + attacker.random.below(u64::from(range.end - range.start)) as u32;
    for number in (first..first + 16).chain([attacker.random.next() as u32]) {
        one(attacker, number);
    }
    for number in MACHINES {
        if write(number, 0).is_none() {
            attacker.got_through(format_args!("register {number:#x} takes a value"));
        }
    }
    virtualisation_stays_off(attacker);
    attacker.done(17 * 4 + 16);
}

fn one(attacker: &mut Attacker, number: u32) {
    let found = read(number);
    let garbage = attacker.random.number();
    if !own(number) {
        write(number, garbage);
        write(number, found ^ 1 << attacker.random.below(64));
    }
    write(number, found);
}

/// Registers whose garbage would only end this attack: the command register's INITs, the APIC's mode.
fn own(number: u32) -> bool {
    const APIC_BASE: u32 = 0x1b;
    const COMMAND: u32 = 0x830;
    matches!(number, APIC_BASE | COMMAND)
}

fn virtualisation_stays_off(attacker: &Attacker) {
    let before = read(EFER);
    write(EFER, before | EFER_SVM);
    if read(EFER) & EFER_SVM != 0 {
        attacker.got_through(format_args!("EFER has its SVM bit"));
    }
    write(EFER, before);
}

/// Its value, and 0 where there is no such register.
fn read(number: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reading a register changes nothing that this guest relies on.
    let raised = unsafe { attempt!("rdmsr", in("ecx") number, out("rax") low, out("rdx") high) };
    if raised.is_some() { 0 } else { low | high << 32 }
}

/// The exception that came of it.
fn write(number: u32, value: u64) -> Option<u8> {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: nothing here uses system calls, FS, GS or memory types; interrupts are off.
    unsafe { attempt!("wrmsr", in("ecx") number, in("eax") low, in("edx") high) }
}
