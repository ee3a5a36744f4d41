//! Control registers, debug registers, EFER, XCR0, flags: every value that the processor takes, and those it does not.
#![no_std]
#![no_main]

use core::arch::asm;

use guests::attack::{self, Attacker};
use guests::{Page, attempt};

guests::micro_guest!(main);

/// For XSAVE and FXSAVE, of each vCPU: aligned, and longer than any of them.
static AREA: [[Page; 3]; 2] = [const { [const { Page::new() }; 3] }; 2];

/// Protected mode and paging: without them nothing here would run on.
const CR0_KEPT: u64 = 1 << 0 | 1 << 31;
const CR4_KEPT: u64 = 1 << 5;
const EFER: u32 = 0xc000_0080;
const EFER_KEPT: u64 = 1 << 8 | 1 << 10;

/// Where the hypervisor's own code, data and direct map are: breakpoints there must never strike.
const CORES: [u64; 4] = [
    0xffff_ffff_8020_0000,
    0xffff_8000_0010_0000,
    0xffff_f000_0000_0000,
    0x10_0000,
];

fn main(_: u64) -> ! {
    attack::both("control", round)
}

fn round(attacker: &mut Attacker) {
    control_registers(attacker);
    extended_control(attacker);
    debug_registers(attacker);
    floating_point(attacker);
    flags(attacker);
    attacker.done(40);
}

fn control_registers(attacker: &mut Attacker) {
    let random = &mut attacker.random;
    let (cr0, cr4) = (control(random.number()), random.number() & cr4_bits() | CR4_KEPT);
    let (cr2, cr8) = (random.number(), random.number());
    let cr3 = read_cr3();
    let garbage = random.number();
    // SAFETY: what this code needs (paging, long mode, its own tables) is in each value that can pass, or comes back at once.
    unsafe {
        attempt!("mov cr0, {0}", in(reg) cr0);
        attempt!("mov cr4, {0}", in(reg) cr4);
        attempt!("mov cr2, {0}", in(reg) cr2);
        attempt!("mov cr3, {0}", in(reg) cr3 | cr2 & 0xfff);
        attempt!("mov cr8, {0}", in(reg) cr8);
        attempt!("mov cr8, {0}", in(reg) cr8 & 15);
        attempt!("lmsw {0:x}", in(reg) garbage | 1);
        attempt!("clts");
        for value in [garbage, garbage & 0xd01 | EFER_KEPT, 0] {
            attempt!("wrmsr", in("ecx") EFER, in("eax") value as u32, in("edx") (value >> 32) as u32);
        }
        attempt!("mov cr8, {0}", in(reg) 0u64);
        attempt!("mov cr3, {0}", in(reg) cr3);
        attempt!("mov cr4, {0}", in(reg) CR4_KEPT | 1 << 9 | 1 << 10 | 1 << 18);
        attempt!("mov cr0, {0}", in(reg) CR0_KEPT);
    }
}

/// Bits of CR4 that exist. (Protections of the supervisor are no matter: all pages here are its own.) For others the emulator
/// refuses to run the guest, where processors raise an exception: that would end this guest, and with it the attack.
fn cr4_bits() -> u64 {
    let leaf = core::arch::x86_64::__cpuid_count(7, 0);
    let has = |present: bool, bit: u32| u64::from(present) << bit;
    0x7ff
        | has(leaf.ebx & 1 << 0 != 0, 16)
        | has(leaf.ebx & 1 << 7 != 0, 20)
        | has(leaf.ebx & 1 << 20 != 0, 21)
        | has(leaf.ecx & 1 << 2 != 0, 11)
        | 1 << 18
}

/// Bits of CR0 that exist, in a combination that exists; for the same reason.
fn control(garbage: u64) -> u64 {
    const EXIST: u64 = 0xe005_003f;
    const NOT_WRITE_THROUGH: u64 = 1 << 29;
    const CACHE_DISABLE: u64 = 1 << 30;
    let value = garbage & EXIST | CR0_KEPT;
    if value & NOT_WRITE_THROUGH != 0 {
        value | CACHE_DISABLE
    } else {
        value
    }
}

fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack)) };
    value
}

fn extended_control(attacker: &mut Attacker) {
    let value = attacker.random.number() | attacker.random.below(2);
    let index = attacker.random.pick(&[0u32, 0, 0, 1, 2, u32::MAX]);
    let area = AREA[attacker.vcpu as usize][0].address();
    // SAFETY: the area is longer than any state; nothing here keeps anything in these registers.
    unsafe {
        attempt!("xsetbv", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32);
        attempt!("xgetbv", in("ecx") index, out("eax") _, out("edx") _);
        attempt!("xsave64 [{0}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX);
        guests::page::write(area + 512, value); // claims components that may not be there
        guests::page::write(area + 24, attacker.random.number());
        attempt!("xrstor64 [{0}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX);
        attempt!("fxrstor64 [{0}]", in(reg) area);
        attempt!("fninit");
        attempt!("xsetbv", in("ecx") 0, in("eax") 7, in("edx") 0);
    }
}

/// Breakpoints on the hypervisor's addresses, on our own stack and code, on ports; single steps; in every order.
fn debug_registers(attacker: &mut Attacker) {
    let random = &mut attacker.random;
    let here = debug_registers as *const () as u64;
    let mut address = || match random.below(4) {
        0 => random.pick(&CORES) + random.below(1 << 19),
        1 => here + random.below(256),
        2 => random.below(1 << 16),
        _ => random.number(),
    };
    let addresses = [address(), address(), address(), address()];
    let (dr6, dr7) = (random.number() & 0xffff_ffff, random.next() & 0xffff_2fff | 0x400);
    // SAFETY: what strikes is passed over by the handler, and all of it is off at the end.
    unsafe {
        attempt!("mov dr0, {0}", in(reg) addresses[0]);
        attempt!("mov dr1, {0}", in(reg) addresses[1]);
        attempt!("mov dr2, {0}", in(reg) addresses[2]);
        attempt!("mov dr3, {0}", in(reg) addresses[3]);
        attempt!("mov dr6, {0}", in(reg) dr6);
        attempt!("mov dr7, {0}", in(reg) dr7);
        attempt!("mov dr4, {0}", in(reg) dr7);
        // Exits while they are armed: the core's turn.
        core::arch::x86_64::__cpuid(0);
        guests::hypercall::raw(17, [0; 5]);
        attempt!("in al, dx", in("dx") 0x60u16, out("al") _);
        attempt!(".byte 0xf1"); // ICEBP
        attempt!("int3");
        attempt!("mov dr7, {0}", in(reg) 0x400u64);
    }
}

fn floating_point(attacker: &mut Attacker) {
    let control = attacker.random.next() as u16 & 0xf3f;
    let own = AREA[attacker.vcpu as usize][1].address();
    guests::page::write(own, control);
    guests::page::write(own + 4, attacker.random.next() as u32);
    // SAFETY: nothing here uses these registers.
    unsafe {
        // An x87 error that is told by a wire to the machine's interrupt controller, as CR0.NE is clear.
        attempt!("fninit");
        attempt!("fldcw [{0}]", in(reg) own);
        attempt!("fldz");
        attempt!("fld1");
        attempt!("fdivrp st(1), st");
        attempt!("fwait");
        attempt!("fninit");
        attempt!("ldmxcsr [{0}]", in(reg) own + 4);
    }
}

/// Flags that change what interrupts and faults do: IOPL, NT, RF, AC, TF, VM, with STI's and SS's shadows.
fn flags(attacker: &mut Attacker) {
    const INTERRUPTS: u64 = 1 << 9;
    let value = attacker.random.number() & !INTERRUPTS;
    // SAFETY: the flags are those of before again at the end. Single steps are passed over.
    unsafe {
        asm!("push rbx", "pushfq", "push {0}", "popfq", "nop", "cpuid", "nop", "popfq", "pop rbx", in(reg) value,
            inout("eax") 0 => _, inout("ecx") 0 => _, out("edx") _);
        // The shadow of a stack segment's load, over instructions that exit.
        attempt!("mov ss, {0:x}", in(reg) 16u64);
        asm!("mov ss, {0:x}", "in al, dx", in(reg) 16u64, in("dx") 0x61u16, out("al") _);
        asm!("push rbx", "sti", "cli", "sti", "cpuid", "cli", "pop rbx",
            inout("eax") 0 => _, inout("ecx") 0 => _, out("edx") _);
    }
}
