//! Exits other than hypercalls, with the registers and instructions that they find.

use kernel::lapic::register as apic;
use machine::address::GuestAddress;
use machine::virtual_cpu::{Exception, Exit, PortAccess, register};

use crate::deed::GuestExit;
use crate::knowledge::Use;
use crate::numbers::Numbers;
use crate::request::Maker;

const APIC_PAGE: u64 = 0xfee0_0000;
const IO_APIC_PAGE: u64 = 0xfec0_0000;
const MACHINE_CHECK: u8 = 18;
const INVALID: u64 = u64::MAX;

/// Make one.
pub fn make(maker: &mut Maker<'_>, exit: &mut GuestExit) {
    exit.registers.clear();
    exit.instruction.clear();
    exit.writes.clear();
    exit.interrupts = None;
    exit.rip = (maker.knowledge.scratch(maker.vcpu) << 12) + 64;
    let ends = maker.deadly != 0 && maker.numbers.chance(1, maker.deadly);
    exit.exit = if ends {
        deadly(maker)
    } else {
        match maker.numbers.below(64) {
            0..8 => cpuid(maker, exit),
            8..18 => read_msr(maker, exit),
            18..30 => write_msr(maker, exit),
            30..38 => port(maker, exit),
            38..54 => fault(maker, exit),
            54..56 => halt(maker, exit),
            56..59 => extended_control(maker, exit),
            59 => Exit::WriteBackCaches,
            60 => Exit::Forbidden,
            61 | 62 => Exit::Exception(Exception {
                vector: maker.numbers.pick(&[1, 17]),
                error_code: None,
            }),
            _ => Exit::Interrupt,
        }
    };
}

/// What ends a domain; never asked of the privileged one.
fn deadly(maker: &mut Maker<'_>) -> Exit {
    match maker.numbers.below(8) {
        0..4 => Exit::TripleFault,
        4 => Exit::Invalid { code: INVALID },
        5 => Exit::Exception(Exception {
            vector: MACHINE_CHECK,
            error_code: None,
        }),
        _ => Exit::StageTwoFault {
            address: GuestAddress(maker.frame_of(Use::Hole) << 12),
            write: false,
            fetch: true,
            present: false,
            table_walk: false,
        },
    }
}

fn set(exit: &mut GuestExit, index: usize, value: u64) {
    // Four at most are set.
    let _ = exit.registers.push((index, value));
}

fn cpuid(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    let leaf = match maker.numbers.below(4) {
        0 => maker.numbers.below(0x20),
        1 => 0x4000_0000 + maker.numbers.below(8),
        2 => 0x8000_0000 + maker.numbers.below(0x22),
        _ => maker.numbers.word(),
    };
    set(exit, register::RAX, leaf);
    let subleaf = if maker.numbers.chance(3, 4) {
        maker.numbers.below(4)
    } else {
        maker.numbers.word()
    };
    set(exit, register::RCX, subleaf);
    Exit::CpuId
}

/// MSRs that somebody decides about, and their neighbours.
fn msr(numbers: &mut Numbers) -> u32 {
    const KNOWN: [u32; 40] = [
        0x10,
        0x17,
        0x1b,
        0x8b,
        0xfe,
        0x174,
        0x175,
        0x176,
        0x179,
        0x17a,
        0x1d9,
        0x200,
        0x20f,
        0x210,
        0x250,
        0x258,
        0x26f,
        0x277,
        0x2ff,
        0x400,
        0x407,
        0x408,
        0x4000_0000,
        0xc000_0080,
        0xc000_0081,
        0xc000_0082,
        0xc000_0083,
        0xc000_0084,
        0xc000_0100,
        0xc000_0101,
        0xc000_0102,
        0xc000_0103,
        0xc001_0000,
        0xc001_0007,
        0xc001_0010,
        0xc001_0015,
        0xc001_001f,
        0xc001_0020,
        0xc001_1029,
        0xc001_0114,
    ];
    match numbers.below(8) {
        0..4 => numbers.pick(&KNOWN),
        4..7 => 0x800 + numbers.pick(&X2APIC) / 16,
        _ => numbers.word() as u32,
    }
}

const X2APIC: [u32; 24] = [
    apic::ID,
    apic::VERSION,
    apic::TASK_PRIORITY,
    apic::PROCESSOR_PRIORITY,
    apic::END_OF_INTERRUPT,
    apic::LOGICAL_DESTINATION,
    apic::DESTINATION_FORMAT,
    apic::SPURIOUS_VECTOR,
    apic::IN_SERVICE,
    apic::TRIGGER_MODE,
    apic::REQUEST,
    apic::ERROR_STATUS,
    apic::COMMAND_LOW,
    apic::COMMAND_HIGH,
    apic::TIMER_VECTOR,
    apic::ERROR_VECTOR,
    apic::TIMER_INITIAL,
    apic::TIMER_CURRENT,
    apic::TIMER_DIVIDE,
    apic::SELF_IPI,
    0x2f0,
    0x330,
    0x360,
    0x3f8,
];

fn read_msr(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    set(exit, register::RCX, u64::from(msr(maker.numbers)));
    Exit::ReadMsr
}

fn write_msr(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    let number = msr(maker.numbers);
    let value = match number {
        // Enabled, in x2APIC mode, or in impossible states.
        0x1b => {
            APIC_PAGE
                | maker
                    .numbers
                    .pick(&[0x800, 0x900, 0xc00, 0xd00, 0x400, 0, 0x1000])
        }
        0x4000_0000 => maker.frame_of(Use::Memory) << 12 | maker.numbers.pick(&[0, 0, 0, 1]),
        0xc000_0080 => maker.numbers.pick(&[0x500, 0xd01, 0x501, 0x1501, 0, 1 << 12]),
        0x800..=0x8ff => apic_value(maker, (number - 0x800) * 16),
        _ if maker.numbers.chance(1, 2) => maker.numbers.below(256),
        _ => maker.numbers.word(),
    };
    set(exit, register::RCX, u64::from(number));
    set(
        exit,
        register::RAX,
        value & 0xffff_ffff | if maker.numbers.chance(1, 8) { 1 << 40 } else { 0 },
    );
    set(exit, register::RDX, value >> 32);
    Exit::WriteMsr
}

/// Something that a driver of the local APIC would write.
fn apic_value(maker: &mut Maker<'_>, offset: u32) -> u64 {
    let vector = maker.numbers.within(16, 255);
    match offset {
        apic::TASK_PRIORITY => maker.numbers.below(256),
        apic::END_OF_INTERRUPT | apic::ERROR_STATUS => 0,
        apic::SPURIOUS_VECTOR => maker.numbers.pick(&[0x1ff, 0x1ff, 0xff, 0x11f]),
        apic::TIMER_VECTOR | apic::ERROR_VECTOR => {
            vector | maker.numbers.pick(&[0, 0, 1 << 16, 1 << 17, 1 << 18, 3 << 17])
        }
        apic::TIMER_INITIAL => maker.numbers.pick(&[0, 1, 1000, 100_000, u64::from(u32::MAX)]),
        apic::TIMER_DIVIDE => maker.numbers.pick(&[0, 1, 2, 3, 8, 9, 10, 11, 15]),
        apic::COMMAND_LOW => command(maker, vector),
        apic::COMMAND_HIGH => u64::from(maker.any_vcpu() * 2) << 24,
        _ if maker.numbers.chance(1, 2) => vector,
        _ => maker.numbers.word(),
    }
}

/// Something that a driver of the I/O APIC would write: which register, or a pin's vector, trigger and destination.
fn io_apic_value(maker: &mut Maker<'_>, offset: u32) -> u64 {
    match offset {
        0 if maker.numbers.chance(7, 8) => maker.numbers.within(0x10, 0x3f),
        0x10 if maker.numbers.chance(7, 8) => {
            let mode = maker
                .numbers
                .pick(&[0, 0, 0, 1 << 15, 1 << 15, 1 << 13, 1 << 11, 1 << 16]);
            maker.numbers.within(16, 255) | mode
        }
        _ => maker.numbers.word(),
    }
}

/// An interprocessor interrupt: fixed, lowest priority, NMI, INIT, start-up, or modes that do not exist.
fn command(maker: &mut Maker<'_>, vector: u64) -> u64 {
    let mode = maker
        .numbers
        .weighted(&[(0, 12), (1, 3), (2, 1), (3, 1), (4, 3), (5, 2), (6, 6), (7, 1)]);
    let vector = if maker.numbers.chance(1, 16) {
        maker.numbers.below(16)
    } else {
        vector
    };
    let shorthand = maker.numbers.weighted(&[(0, 6), (1, 4), (2, 1), (3, 3)]);
    let logical = maker.numbers.below(4) / 3;
    // INIT of oneself and of all would leave nobody who works on.
    let shorthand = if mode == 5 && !maker.numbers.chance(1, 8) {
        0
    } else {
        shorthand
    };
    let destination = u64::from(maker.any_vcpu() * 2);
    vector | mode << 8 | logical << 11 | 1 << 14 | shorthand << 18 | destination << 32
}

fn port(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    let harmless = [
        0x20, 0x21, 0x40, 0x42, 0x43, 0x60, 0x61, 0x70, 0x71, 0x80, 0xed, 0x3f8, 0xcf8, 0xcfc, 0xffff,
    ];
    let any = maker.numbers.next() as u16;
    let port = if maker.numbers.chance(3, 4) {
        maker.numbers.pick(&harmless)
    } else {
        any
    };
    let read = maker.numbers.chance(1, 2) || maker.knowledge.privileged && ends_the_machine(port);
    let size = maker.numbers.pick(&[1, 1, 2, 4]);
    let string = maker.numbers.chance(1, 16);
    let value = maker.numbers.word();
    set(exit, register::RAX, value);
    Exit::Port(PortAccess {
        port,
        size,
        read,
        string,
        repeat: string && maker.numbers.chance(1, 2),
    })
}

/// Ports by which the privileged domain switches the machine off: power control, resets.
fn ends_the_machine(port: u16) -> bool {
    matches!(port, 0x64 | 0x600..=0x60f | 0xcf9)
}

fn halt(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    // Without interrupts a HLT is a vCPU's end, and the last one's is the domain's.
    exit.interrupts = Some(true);
    if maker.deadly != 0 && maker.vcpu != 0 && maker.numbers.chance(1, 64) {
        exit.interrupts = Some(false);
    }
    Exit::Halt
}

fn extended_control(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    let index = if maker.numbers.chance(7, 8) {
        0
    } else {
        maker.numbers.word()
    };
    let value = maker.numbers.pick(&[1, 3, 7, 7, 5, 0, 2, 0xff, 1 << 9]);
    set(exit, register::RCX, index);
    set(exit, register::RAX, value);
    set(
        exit,
        register::RDX,
        if maker.numbers.chance(1, 8) { 1 } else { 0 },
    );
    Exit::SetExtendedControl
}

/// Instructions that touch memory at \[rbx\], with what they do: `true` stores.
const INSTRUCTIONS: [(&[u8], bool); 26] = [
    (&[0x8b, 0x03], false),
    (&[0x89, 0x03], true),
    (&[0x48, 0x8b, 0x03], false),
    (&[0x48, 0x89, 0x03], true),
    (&[0x8a, 0x03], false),
    (&[0x88, 0x23], true),
    (&[0x66, 0x89, 0x0b], true),
    (&[0x66, 0x8b, 0x0b], false),
    (&[0x0f, 0xb6, 0x0b], false),
    (&[0x0f, 0xb7, 0x0b], false),
    (&[0x48, 0x0f, 0xbe, 0x0b], false),
    (&[0x48, 0x63, 0x0b], false),
    (&[0xc7, 0x03, 0x01, 0x02, 0x03, 0x04], true),
    (&[0xc6, 0x03, 0x7f], true),
    (&[0x48, 0xc7, 0x03, 0xff, 0xff, 0xff, 0xff], true),
    (&[0x87, 0x03], true),
    (&[0xf0, 0x09, 0x03], true),
    (&[0x21, 0x03], true),
    (&[0x31, 0x03], true),
    (&[0x83, 0x0b, 0x01], true),
    (&[0xf7, 0x03, 0x01, 0x00, 0x00, 0x00], false),
    // Those that are not carried out.
    (&[0x01, 0x03], true),
    (&[0xf3, 0xa4], true),
    (&[0x0f, 0x11, 0x03], true),
    (&[0xff, 0x33], false),
    (&[0x0f, 0x0b], false),
];

fn fault(maker: &mut Maker<'_>, exit: &mut GuestExit) -> Exit {
    let (address, device) = match maker.numbers.below(8) {
        0..3 => (APIC_PAGE + u64::from(maker.numbers.pick(&X2APIC)), true),
        3 => (
            IO_APIC_PAGE + maker.numbers.pick(&[0, 0, 0, 0x10, 0x10, 0x10, 0x20, 4]),
            true,
        ),
        4 | 5 => (maker.frame_of(Use::Hole) << 12 | maker.numbers.below(4096), false),
        6 => (
            maker.frame_of(Use::Grant) << 12 | maker.numbers.below(4096),
            false,
        ),
        _ => (maker.numbers.word() & 0x000f_ffff_ffff_ffff, false),
    };
    let (code, write) = maker.numbers.pick(&INSTRUCTIONS);
    let offset = (address & 0xfff) as u32;
    let value = match address & !0xfff {
        APIC_PAGE => apic_value(maker, offset),
        IO_APIC_PAGE => io_apic_value(maker, offset),
        _ => maker.numbers.word(),
    };
    set(exit, register::RBX, address);
    set(exit, register::RAX, value);
    set(exit, register::RCX, value);
    instruction(maker, exit, code);
    let write = if device {
        write
    } else {
        write ^ maker.numbers.chance(1, 16)
    };
    Exit::StageTwoFault {
        address: GuestAddress(address),
        write,
        fetch: false,
        present: maker.numbers.chance(1, 8),
        table_walk: false,
    }
}

/// Where the core finds the bytes: saved by hardware, or in memory; some are cut off, some are noise.
fn instruction(maker: &mut Maker<'_>, exit: &mut GuestExit, code: &[u8]) {
    let mut bytes: heapless::Vec<u8, 15> = heapless::Vec::new();
    // All are shorter than that.
    let _ = bytes.extend_from_slice(code);
    match maker.numbers.below(16) {
        0 => bytes.truncate(bytes.len() - 1),
        1 => {
            let noise = maker.numbers.next().to_le_bytes();
            bytes.clear();
            let _ = bytes.extend_from_slice(&noise);
        }
        2 => {
            // Prefixes without end.
            bytes.clear();
            let _ = bytes.extend_from_slice(&[0x66; 15]);
        }
        _ => {}
    }
    if maker.numbers.chance(1, 2) {
        exit.instruction = bytes;
        return;
    }
    // At the end of a page, now and then, so that the rest is somewhere else.
    if maker.numbers.chance(1, 16) {
        exit.rip = (maker.knowledge.frames.pages() << 12) - maker.numbers.within(1, 4);
    }
    exit.writes.add(exit.rip, &bytes);
}
