//! The instructions that make hypervisors, executed by a guest: VMRUN and its kin, other makers' as well, and all others
//! that only a machine's owner may use.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::{Page, attempt};

guests::micro_guest!(main);

/// A control block as a guest would fill it.
static BLOCK: [Page; 2] = [const { Page::new() }; 2];

const INVALID_OPCODE: Option<u8> = Some(6);
const GENERAL_PROTECTION: Option<u8> = Some(13);

fn main(_: u64) -> ! {
    attack::both("virtualisation", round)
}

fn round(attacker: &mut Attacker) {
    let own = BLOCK[attacker.vcpu as usize].address();
    for offset in (0..4096).step_by(8) {
        guests::page::write(own + offset, attacker.random.number());
    }
    let random = &mut attacker.random;
    let block = match random.below(4) {
        0 => random.number(),
        1 => random.next() & !0xfff,
        2 => random.pick(&[0, 0x10_0000, 0xfee0_0000, 0x8000_0000]),
        _ => own,
    };
    amd(attacker, block);
    intel(attacker, block);
    others(attacker, block);
    attacker.done(13 + 12 + 16);
}

fn refuse(attacker: &Attacker, name: &str, raised: Option<u8>) {
    if raised != INVALID_OPCODE && raised != GENERAL_PROTECTION {
        attacker.got_through(format_args!("{name} raises {raised:?}"));
    }
}

/// None of them may do anything but fault.
macro_rules! refused {
    ($attacker:expr, $block:expr, $($name:literal: $code:literal),* $(,)?) => {
        $(
            // SAFETY: if it did not fault, the hypervisor would have failed, and this guest may end as it likes.
            let raised = unsafe {
                attempt!($code, inout("rax") $block => _, inout("rcx") $block => _, inout("rdx") $block => _)
            };
            refuse($attacker, $name, raised);
        )*
    };
}

fn amd(attacker: &Attacker, block: u64) {
    refused!(attacker, block,
        "VMRUN": ".byte 0x0f, 0x01, 0xd8",
        "VMLOAD": ".byte 0x0f, 0x01, 0xda",
        "VMSAVE": ".byte 0x0f, 0x01, 0xdb",
        "STGI": ".byte 0x0f, 0x01, 0xdc",
        "CLGI": ".byte 0x0f, 0x01, 0xdd",
        "SKINIT": ".byte 0x0f, 0x01, 0xde",
        "INVLPGA": ".byte 0x0f, 0x01, 0xdf",
        "INVLPGB": ".byte 0x0f, 0x01, 0xfe",
        "TLBSYNC": ".byte 0x0f, 0x01, 0xff",
        "PSMASH": ".byte 0xf3, 0x0f, 0x01, 0xff",
        "RMPADJUST": ".byte 0xf3, 0x0f, 0x01, 0xfe",
        "RMPUPDATE": ".byte 0xf2, 0x0f, 0x01, 0xfe",
        "RDPRU": ".byte 0x0f, 0x01, 0xfd",
    );
}

fn intel(attacker: &Attacker, block: u64) {
    refused!(attacker, block,
        "VMXOFF": ".byte 0x0f, 0x01, 0xc4",
        "VMLAUNCH": ".byte 0x0f, 0x01, 0xc2",
        "VMRESUME": ".byte 0x0f, 0x01, 0xc3",
        "VMXON": ".byte 0xf3, 0x0f, 0xc7, 0x30",
        "VMPTRLD": ".byte 0x0f, 0xc7, 0x30",
        "VMCLEAR": ".byte 0x66, 0x0f, 0xc7, 0x30",
        "VMREAD": ".byte 0x0f, 0x78, 0xc8",
        "VMWRITE": ".byte 0x0f, 0x79, 0xc8",
        "INVEPT": ".byte 0x66, 0x0f, 0x38, 0x80, 0x08",
        "INVVPID": ".byte 0x66, 0x0f, 0x38, 0x81, 0x08",
        "ENCLS": ".byte 0x0f, 0x01, 0xcf",
        "GETSEC": ".byte 0x0f, 0x37",
    );
}

/// Machine-wide: system management, the monitor, performance counters. Caches may be written back: that is no harm.
fn others(attacker: &Attacker, block: u64) {
    refused!(attacker, block,
        "RSM": ".byte 0x0f, 0xaa",
        "MONITOR": ".byte 0x0f, 0x01, 0xc8",
        "MWAIT": ".byte 0x0f, 0x01, 0xc9",
        "MONITORX": ".byte 0x0f, 0x01, 0xfa",
        "MWAITX": ".byte 0x0f, 0x01, 0xfb",
        "RDPMC": "rdpmc",
    );
    // SAFETY: caches are coherent: these change nothing that anybody could see.
    unsafe {
        attempt!("wbinvd");
        attempt!("invd");
    }
    // With prefixes the same instructions have other lengths, and must not have other meanings.
    refused!(attacker, block,
        "VMRUN with prefixes": ".byte 0x66, 0x48, 0x0f, 0x01, 0xd8",
        "VMLOAD with prefixes": ".byte 0x2e, 0x2e, 0x48, 0x0f, 0x01, 0xda",
        "CLGI with prefixes": ".byte 0xf2, 0x4f, 0x0f, 0x01, 0xdd",
        "SKINIT with 32 bits": ".byte 0x67, 0x0f, 0x01, 0xde",
        "INVLPGA with 32 bits": ".byte 0x67, 0x0f, 0x01, 0xdf",
        "RDPMC with prefixes": ".byte 0x48, 0x0f, 0x33",
    );
}
