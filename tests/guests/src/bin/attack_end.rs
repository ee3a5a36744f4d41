//! Attacks that end the guest that makes them: `way=` on the command line says which.
//!
//! Code, page tables, descriptor tables and stacks where there is no memory, or a device; the frames of exceptions that
//! raise the next one; memory given away under one's own feet.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::attack::{Attacker, outlived, told};
use guests::{Page, halt, hypercall, interrupts};
use hypercall_abi::hypercall::number::MEMORY_OP;
use hypercall_abi::memory::{self, MemoryReservation};
use hypercall_abi::{DomainId, GuestHandle};

guests::micro_guest!(main);

/// A hole, and a device.
const HOLE: u64 = 0x8000_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;

static FRAMES: Page = Page::new();

fn main(start: u64) -> ! {
    let attacker = Attacker::begin("end");
    let place = if told(start, "device") { LOCAL_APIC } else { HOLE };
    if told(start, "way=code") {
        code(place)
    } else if told(start, "way=tables") {
        tables(place)
    } else if told(start, "way=stack") {
        stack(&attacker, place)
    } else if told(start, "way=descriptors") {
        descriptors(&attacker, place)
    } else if told(start, "way=balloon") {
        balloon(&attacker)
    } else {
        attacker.got_through(format_args!("nothing: there is no such way"));
        halt()
    }
}

fn code(place: u64) -> ! {
    // SAFETY: the end is what is wanted.
    unsafe { asm!("jmp {}", in(reg) place, options(noreturn)) }
}

fn tables(place: u64) -> ! {
    // SAFETY: as above.
    unsafe { asm!("mov cr3, {}", "ud2", in(reg) place, options(noreturn)) }
}

/// Pushing is not carried out but raises an exception, whose frame cannot be pushed either.
fn stack(attacker: &Attacker, place: u64) -> ! {
    // SAFETY: as above.
    unsafe { asm!("mov rsp, {0}", "push {0}", "call {0}", in(reg) place + 0x800) };
    outlived(attacker, "a stack without memory")
}

/// An interrupt table, a segment table and a task in a hole, each used.
fn descriptors(attacker: &Attacker, place: u64) -> ! {
    #[repr(C, packed)]
    struct Pointer(u16, u64);
    let pointer = Pointer(0xfff, place);
    // SAFETY: as above.
    unsafe {
        asm!("lidt [{0}]", "lgdt [{0}]", "mov ss, {1:x}", "int3", "ud2", in(reg) &pointer, in(reg) 16u64)
    };
    outlived(attacker, "tables of descriptors without memory")
}

/// All memory is given back, the code that does it among it.
fn balloon(attacker: &Attacker) -> ! {
    interrupts::load();
    for first in (0..0x2000u64).step_by(512) {
        for index in 0..512 {
            FRAMES.write(index as usize * 8, first + index);
        }
        let mut request = MemoryReservation {
            extent_start: GuestHandle::new(FRAMES.address()),
            number_of_extents: 512,
            domain: DomainId::SELF,
            ..MemoryReservation::default()
        };
        hypercall::with(MEMORY_OP, memory::op::DECREASE_RESERVATION, &mut request);
    }
    outlived(attacker, "a guest without memory")
}
