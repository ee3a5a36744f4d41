//! Accesses where there is no memory: holes, devices, the APICs' pages, past the address space, in each form that loads
//! and stores have.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use guests::attack::{self, Attacker};
use guests::{attempt, page, processors, window};
use hypercall_abi::start_info::{MemoryMapEntry, StartInfo};

guests::micro_guest!(main);

/// Pages where nothing is, or a device: video memory, firmware, past the memory, the I/O APIC, the event timer, the local
/// APIC, flash, above 4 GiB, the last page there is.
const HOLES: [u64; 12] = [
    0xa_0000,
    0xf_0000,
    0x0800_0000,
    0x8000_0000,
    0xb000_0000,
    0xfec0_0000,
    0xfed0_0000,
    0xfee0_0000,
    0xffff_f000,
    0x1_0000_0000,
    0x40_0000_0000,
    LAST_PAGE,
];
const LOCAL_APIC: u64 = 0xfee0_0000;
/// Forty bits of address, as the emulated processor has them: more is a page fault of the guest's own.
const LAST_PAGE: u64 = 0xff_ffff_f000;
const INVALID_OPCODE: Option<u8> = Some(6);

/// Where the memory is: start and end of each range that the start information tells of.
static MEMORY: [[AtomicU64; 2]; 16] = [const { [const { AtomicU64::new(0) }; 2] }; 16];

fn main(start: u64) -> ! {
    let information: StartInfo = page::read(start);
    let entries = information.memory_map_entries.min(16);
    for (index, range) in (0..u64::from(entries)).zip(&MEMORY) {
        let size = size_of::<MemoryMapEntry>() as u64;
        let entry: MemoryMapEntry = page::read(information.memory_map_address + index * size);
        range[0].store(entry.address, Ordering::Relaxed);
        range[1].store(entry.address + entry.size, Ordering::Relaxed);
    }
    attack::both("holes", round)
}

/// Whether something may be mapped at this page or the next one.
fn in_memory(page: u64) -> bool {
    MEMORY.iter().any(|range| {
        let [start, end] = range.each_ref().map(|bound| bound.load(Ordering::Relaxed));
        page + 8192 > start && page < end
    })
}

fn round(attacker: &mut Attacker) {
    if attacker.random.one_in(64) {
        // The registers in memory, now and then: both modes take turns.
        processors::use_apic_page();
    }
    let random = &mut attacker.random;
    let page = match random.below(4) {
        0 => random.next() & LAST_PAGE,
        _ => (random.pick(&HOLES) + random.below(2) * 4096 * random.below(16)) & LAST_PAGE,
    };
    let offset =
        random.pick(&[0, 0x20, 0x80, 0xb0, 0xf0, 0x280, 0x380, 0xff8, 0xfff, 0xffd]) | random.below(2);
    let first = attacker.vcpu * 64 + random.below(16) * 2;
    let address = window::show(first, page | offset);
    window::show(first + 1, page.wrapping_add(4096));
    if in_memory(page) {
        return;
    }
    loads(attacker, page, address);
    stores(attacker, page, address);
    unusual(attacker, address);
    attacker.done(24);
}

/// Holes read as ones, whatever the width.
fn loads(attacker: &Attacker, page: u64, address: u64) {
    let (byte, word, long, quad): (u64, u64, u64, u64);
    // SAFETY: nothing of ours is in a hole.
    let raised = unsafe {
        [
            attempt!("movzx {0:e}, byte ptr [{1}]", out(reg) byte, in(reg) address),
            attempt!("movzx {0:e}, word ptr [{1}]", out(reg) word, in(reg) address),
            attempt!("mov {0:e}, [{1}]", out(reg) long, in(reg) address),
            attempt!("mov {0}, [{1}]", out(reg) quad, in(reg) address),
        ]
    };
    let ones = [0xff, 0xffff, 0xffff_ffff, u64::MAX];
    let straddles = address & 0xfff > 0xff8;
    let device = page & !0xfff == LOCAL_APIC;
    if !device && !straddles && (raised != [None; 4] || [byte, word, long, quad] != ones) {
        attacker.got_through(format_args!(
            "the hole at {page:#x} reads as {byte:#x} {word:#x} {long:#x} {quad:#x}, raises {raised:?}"
        ));
    }
    // SAFETY: as above.
    unsafe {
        attempt!("movsx {0}, byte ptr [{1}]", out(reg) _, in(reg) address);
        attempt!("movsxd {0}, dword ptr [{1}]", out(reg) _, in(reg) address);
        attempt!("test dword ptr [{0}], 0x55aa55aa", in(reg) address);
        attempt!("mov ah, [rax]", inout("rax") address => _);
        attempt!("cmp [{0}], {0}", in(reg) address);
    }
}

fn stores(attacker: &mut Attacker, page: u64, address: u64) {
    // A command of INIT to the other vCPU would only silence it.
    let value = if page == LOCAL_APIC {
        attacker.random.below(256)
    } else {
        attacker.random.number()
    };
    // SAFETY: as above.
    unsafe {
        attempt!("mov byte ptr [{0}], {1}", in(reg) address, in(reg_byte) value as u8);
        attempt!("mov word ptr [{0}], {1:x}", in(reg) address, in(reg) value);
        attempt!("mov dword ptr [{0}], {1:e}", in(reg) address, in(reg) value);
        attempt!("mov [{0}], {1}", in(reg) address, in(reg) value);
        attempt!("or dword ptr [{0}], 1", in(reg) address);
        attempt!("and word ptr [{0}], 0x7f", in(reg) address);
        attempt!("xor [{0}], {1}", in(reg) address, in(reg) value & 0xff);
        attempt!("xchg [{0}], {1:e}", in(reg) address, inout(reg) value => _);
    }
}

/// What no driver does: not carried out, and no harm.
fn unusual(attacker: &mut Attacker, address: u64) {
    // SAFETY: as above. The stack pointer is back before anything else uses it.
    let raised = unsafe {
        [
            attempt!("add [{0}], {0}", in(reg) address),
            attempt!("lock cmpxchg [{0}], {0}", in(reg) address, inout("rax") 0u64 => _),
            attempt!("lock inc dword ptr [{0}]", in(reg) address),
            attempt!("movups xmm0, [{0}]", in(reg) address),
            attempt!("movntps [{0}], xmm0", in(reg) address),
            attempt!("cmpxchg16b [{0}]", in(reg) address, inout("rax") 0u64 => _, inout("rdx") 0u64 => _,
                inout("rcx") 0u64 => _),
            attempt!("rep stosb", inout("rcx") 4096u64 => _, inout("rdi") address => _, in("al") 0u8),
            attempt!("rep movsq", inout("rcx") 512u64 => _, inout("rdi") address => _, inout("rsi") address => _),
            attempt!("fxsave64 [{0}]", in(reg) address & !15),
            attempt!("lgdt [{0}]", in(reg) address),
            attempt!("push qword ptr [{0}]; add rsp, 8", in(reg) address),
        ]
    };
    // Some are refused for what they are (alignment, features), all for where they go.
    if raised.contains(&None) {
        attacker.got_through(format_args!(
            "unusual accesses raise {raised:?}, not all {INVALID_OPCODE:?}"
        ));
    }
}
