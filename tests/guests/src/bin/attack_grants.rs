//! Floods of grants: every reference of every domain mapped, unmapped, copied; own pages offered to everybody, and taken back
//! at any moment.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::{Page, hypercall, page};
use hypercall_abi::grant_table::{
    Copy, CopyPointer, GrantStatus, MapGrantRef, QuerySize, SetupTable, UnmapGrantRef, op,
};
use hypercall_abi::hypercall::number::{GRANT_TABLE_OP, MEMORY_OP};
use hypercall_abi::memory::{self, AddToPhysmap, map_space};
use hypercall_abi::{DomainId, GuestHandle};

guests::micro_guest!(main);

const DOMAINS: [u16; 9] = [0, 1, 2, 3, 4, 5, 6, 0x7ff0, 0x7ff1];
/// Above the image: frames that mappings may take the place of.
const FRAMES: u64 = 0x1000;

static TABLE: [Page; 4] = [const { Page::new() }; 4];
static OFFERED: [Page; 8] = [const { Page::new() }; 8];
static LIST: [Page; 2] = [const { Page::new() }; 2];

fn main(_: u64) -> ! {
    for (index, at) in (0..).zip(&TABLE) {
        let mut request = AddToPhysmap {
            domain: DomainId::SELF,
            space: map_space::GRANT_TABLE,
            index,
            guest_frame: at.frame(),
            ..AddToPhysmap::default()
        };
        hypercall::with(MEMORY_OP, memory::op::ADD_TO_PHYSMAP, &mut request);
    }
    attack::both("grants", round)
}

fn round(attacker: &mut Attacker) {
    offer(attacker);
    for _ in 0..16 {
        match attacker.random.below(8) {
            0 | 1 => map(attacker),
            2 => unmap(attacker),
            3..=5 => copy(attacker),
            6 => offer(attacker),
            _ => sizes(attacker),
        }
    }
    attacker.done(16);
}

/// Any flags, any domain, frames of ours and of nobody's.
fn offer(attacker: &mut Attacker) {
    let random = &mut attacker.random;
    let table = TABLE[random.below(4) as usize].address();
    let at = table + random.below(512) * 8;
    let frame = match random.below(4) {
        0 => random.number() as u32,
        1 => random.pick(&[0u32, 0xa0, 0xfee00, TABLE[0].frame() as u32]),
        _ => OFFERED[random.below(8) as usize].frame() as u32,
    };
    let flags = match random.below(3) {
        0 => random.next() as u16,
        1 => 0,
        _ => 1,
    };
    let domain = random.pick(&DOMAINS);
    page::write(at + 4, frame);
    page::write(at, u32::from(flags) | u32::from(domain) << 16);
}

fn reference(attacker: &mut Attacker) -> u32 {
    match attacker.random.below(4) {
        0 => attacker.random.number() as u32,
        _ => attacker.random.below(2048) as u32,
    }
}

/// Where a mapping goes: high frames, own pages, devices, nowhere.
fn place(attacker: &mut Attacker) -> u64 {
    match attacker.random.below(6) {
        0 => attacker.random.number() & !0xfff,
        1 => attacker
            .random
            .pick(&[0xfee0_0000, 0xa_0000, 0x8000_0000, TABLE[3].address()]),
        _ => (FRAMES + attacker.random.below(1024)) << 12,
    }
}

fn map(attacker: &mut Attacker) {
    let request = MapGrantRef {
        host_address: place(attacker),
        flags: attacker.random.pick(&[2, 2 | 4, 2 | 4 | 8, 1, 16]) | (attacker.random.below(2) as u32 * 4),
        reference: reference(attacker),
        domain: DomainId(attacker.random.pick(&DOMAINS)),
        ..MapGrantRef::default()
    };
    // A whole list of the same: all but one are refused, or all are maps of one page.
    let count = attacker.random.pick(&[1u64, 8, 64]);
    list(attacker, op::MAP_GRANT_REF, &request, count);
}

fn unmap(attacker: &mut Attacker) {
    let request = UnmapGrantRef {
        host_address: place(attacker),
        handle: attacker.random.below(1024) as u32,
        ..UnmapGrantRef::default()
    };
    let count = attacker.random.pick(&[1u64, 8, 64]);
    list(attacker, op::UNMAP_GRANT_REF, &request, count);
}

/// Puts `count` of them into this vCPU's list, which is one page, and calls.
fn list<T: zerocopy::IntoBytes + zerocopy::FromBytes + core::marker::Copy>(
    attacker: &Attacker,
    operation: u32,
    request: &T,
    count: u64,
) {
    let at = LIST[attacker.vcpu as usize].address();
    let fits = count.min(4096 / size_of::<T>() as u64);
    for index in 0..fits {
        page::write(at + index * size_of::<T>() as u64, *request);
    }
    hypercall::raw(GRANT_TABLE_OP, [operation.into(), at, fits, 0, 0]);
}

fn copy(attacker: &mut Attacker) {
    let domain = attacker.random.pick(&DOMAINS);
    let foreign = CopyPointer {
        location: u64::from(reference(attacker)),
        domain: DomainId(domain),
        offset: attacker.random.pick(&[0, 8, 4095, 0xfff0]),
        ..CopyPointer::default()
    };
    let by_frame = CopyPointer {
        location: place(attacker) >> 12,
        domain: DomainId(attacker.random.pick(&[0x7ff0, 0x7ff0, domain])),
        offset: attacker.random.pick(&[0, 1, 4095]),
        ..CopyPointer::default()
    };
    let flags = attacker.random.below(4) as u16;
    let (source, destination) = if flags & 1 != 0 {
        (foreign, by_frame)
    } else {
        (by_frame, foreign)
    };
    let mut request = Copy {
        source,
        destination,
        length: attacker.random.pick(&[1, 64, 4096, 0xffff]),
        flags,
        ..Copy::default()
    };
    let result = hypercall::with_one(GRANT_TABLE_OP, op::COPY, &mut request);
    // By frame number only oneself is reached, never another.
    let another = ![own_domain(), DomainId::SELF.0].contains(&domain);
    if flags == 0 && another && result == 0 && request.status == GrantStatus(0) {
        attacker.got_through(format_args!("a copy by frame number of domain {domain}"));
    }
}

fn sizes(attacker: &mut Attacker) {
    let domain = DomainId(attacker.random.pick(&DOMAINS));
    let frames = attacker.random.pick(&[1u32, 64, 65, u32::MAX]);
    let mut table = SetupTable {
        domain,
        number_of_frames: frames,
        frame_list: GuestHandle::new(LIST[attacker.vcpu as usize].address()),
        ..SetupTable::default()
    };
    hypercall::with_one(GRANT_TABLE_OP, op::SETUP_TABLE, &mut table);
    let mut size = QuerySize {
        domain,
        ..QuerySize::default()
    };
    hypercall::with_one(GRANT_TABLE_OP, op::QUERY_SIZE, &mut size);
}

fn own_domain() -> u16 {
    core::arch::x86_64::__cpuid_count(0x4000_0004, 0).ecx as u16
}
