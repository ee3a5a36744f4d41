//! Every port read and written, in every width, one by one and by string instructions.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::{Page, attempt};

guests::micro_guest!(main);

static SCRATCH: [Page; 2] = [const { Page::new() }; 2];

const GENERAL_PROTECTION: Option<u8> = Some(13);
/// A guest drives these two itself: writing them only takes time.
const DELAYS: [u16; 2] = [0x80, 0xed];
/// Reads as zero: Linux would wait for an interval timer that is not there.
const INTERVAL_TIMER: u16 = 0x42;

fn main(_: u64) -> ! {
    attack::both("ports", round)
}

/// Sixteen ports in a row, from anywhere; over time that is each of them many times.
fn round(attacker: &mut Attacker) {
    let first = attacker.random.next() as u16;
    for port in (0..16).map(|step| first.wrapping_add(step)) {
        read(attacker, port);
        write(attacker, port);
        strings(attacker, port);
    }
    attacker.done(16 * 10);
}

fn read(attacker: &Attacker, port: u16) {
    let found = [read_byte(port), read_word(port), read_long(port)];
    let ones = [0xff, 0xffff, u64::from(u32::MAX)];
    // A wider access from the port before reaches it, too.
    let excepted = |width: u16| {
        (0..width).any(|step| {
            let reached = port.wrapping_add(step);
            DELAYS.contains(&reached) || reached == INTERVAL_TIMER
        })
    };
    for (index, (found, ones)) in found.into_iter().zip(ones).enumerate() {
        if found != ones && !excepted(1 << index) {
            attacker.got_through(format_args!("port {port:#x} reads as {found:#x}"));
        }
    }
}

fn read_byte(port: u16) -> u64 {
    let value: u8;
    // SAFETY: a port changes nothing of ours.
    unsafe { core::arch::asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) };
    value.into()
}

fn read_word(port: u16) -> u64 {
    let value: u16;
    // SAFETY: as above.
    unsafe { core::arch::asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack)) };
    value.into()
}

fn read_long(port: u16) -> u64 {
    let value: u32;
    // SAFETY: as above.
    unsafe { core::arch::asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
    value.into()
}

fn write(attacker: &mut Attacker, port: u16) {
    let value = attacker.random.number() as u32;
    // SAFETY: as above. Where there were a reset or power control, the guest would be gone: that is the attack.
    unsafe {
        core::arch::asm!("out dx, al", "out dx, ax", "out dx, eax", in("dx") port, in("eax") value, options(nostack));
    }
}

/// To and from memory, which would need an emulator's help: refused, wherever the memory is.
fn strings(attacker: &mut Attacker, port: u16) {
    let own = SCRATCH[attacker.vcpu as usize].address();
    let at = attacker.random.pick(&[own, 0xfee0_0000, 0xa_0000, 0x8000_0000]);
    let count = attacker.random.pick(&[1u64, 16, u64::MAX]);
    // SAFETY: at most the scratch page and holes are touched: the count is used only where the port lets it, in no case.
    let raised = unsafe {
        [
            attempt!("rep insb", inout("rcx") count => _, inout("rdi") at => _, in("dx") port),
            attempt!("rep outsd", inout("rcx") count => _, inout("rsi") at => _, in("dx") port),
            attempt!("insw", inout("rdi") at => _, in("dx") port),
            attempt!("outsb", inout("rsi") at => _, in("dx") port),
        ]
    };
    if raised != [GENERAL_PROTECTION; 4] && !DELAYS.contains(&port) && !DELAYS.contains(&port.wrapping_add(1))
    {
        attacker.got_through(format_args!("strings to port {port:#x} raise {raised:?}"));
    }
}
