//! Code that changes while the hypervisor looks at it: one vCPU accesses devices and holes, the other one rewrites the
//! instructions by which it does.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::attack::{self, Attacker};
use guests::trial::SCRATCH;
use guests::{page, window};

guests::micro_guest!(main);

/// Where the accesses go: windows onto the local APIC, the I/O APIC, a hole.
const TARGETS: [u64; 4] = [0xfee0_0020, 0xfec0_0010, 0x4000_0000, 0x8000_0ff8];
/// Instructions that load and store by rdi, and some that do not; none of them leaves the page.
const INSTRUCTIONS: [&[u8]; 16] = [
    &[0x89, 0x07],                                     // mov [rdi], eax
    &[0x8b, 0x07],                                     // mov eax, [rdi]
    &[0x48, 0x89, 0x07],                               // mov [rdi], rax
    &[0x66, 0x89, 0x07],                               // mov [rdi], ax
    &[0x88, 0x27],                                     // mov [rdi], ah
    &[0x0f, 0xb6, 0x07],                               // movzx eax, byte [rdi]
    &[0x87, 0x07],                                     // xchg [rdi], eax
    &[0x81, 0x0f, 1, 2, 3, 4],                         // or dword [rdi], imm
    &[0xf0, 0xff, 0x07],                               // lock inc dword [rdi]
    &[0x0f, 0xc7, 0x0f],                               // cmpxchg8b [rdi]
    &[0xf3, 0xa4],                                     // rep movsb
    &[0x2e, 0x3e, 0x26, 0x64, 0x65, 0x36, 0x89, 0x07], // prefixes
    &[
        0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x89, 0x07,
    ],
    &[0xc7, 0x07, 0xff, 0xff, 0xff, 0xff], // mov dword [rdi], imm
    &[0x0f, 0x01, 0xd8],                   // vmrun
    &[0xc5, 0xfc, 0x11, 0x07],             // vmovups [rdi], ymm0
];
const RETURN: u8 = 0xc3;
const NOTHING: u8 = 0x90;

fn main(_: u64) -> ! {
    attack::both("code", round)
}

fn round(attacker: &mut Attacker) {
    if attacker.vcpu == 0 {
        run(attacker);
    } else {
        rewrite(attacker);
    }
}

/// Calls the page. Whatever its code does faults, or ends at a return.
fn run(attacker: &mut Attacker) {
    for (index, target) in (0..).zip(TARGETS) {
        window::show(index * 2, target);
        window::show(index * 2 + 1, target & !0xfff);
    }
    for _ in 0..64 {
        let index = attacker.random.below(TARGETS.len() as u64);
        let at = window::show(index * 2, TARGETS[index as usize]);
        let code = SCRATCH.address() + attacker.random.pick(&[0, 16, 32, 4096 - 16]);
        // SAFETY: what is called changes rax, rdx, rcx, rsi, rdi and the windows' pages, and returns: the handler of
        // exceptions sees to that.
        unsafe {
            asm!("call {0}", in(reg) code, inout("rdi") at => _, inout("rsi") at => _, inout("rcx") 1u64 => _,
                inout("rax") 0x20u64 => _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
    }
    attacker.done(64);
}

/// New bytes, one after the other, so that the reader meets halves of two instructions.
fn rewrite(attacker: &mut Attacker) {
    let slot = SCRATCH.address() + attacker.random.pick(&[0, 16, 32, 4096 - 16]);
    let instruction = attacker.random.pick(&INSTRUCTIONS);
    for offset in 0..15 {
        let byte = instruction.get(offset).copied().unwrap_or(NOTHING);
        page::write(slot + offset as u64, byte);
    }
    page::write(slot + 15, RETURN);
}
