//! Memory that goes and comes while it is in use: one vCPU releases and populates pages, the other one goes on using them,
//! as data, as a page table, as its `vcpu_info`, as its run state area, as a page on offer, as a place of grant frames.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::{Page, attempt, hypercall, page, shared};
use hypercall_abi::grant_table::{MapGrantRef, UnmapGrantRef, op as grant_op};
use hypercall_abi::hypercall::number::{GRANT_TABLE_OP, MEMORY_OP, VCPU_OP};
use hypercall_abi::memory::{self, AddToPhysmap, MemoryReservation, RemoveFromPhysmap, map_space};
use hypercall_abi::vcpu::{self, RegisterMemoryArea, RegisterVcpuInfo};
use hypercall_abi::{DomainId, GuestHandle};

guests::micro_guest!(main);

/// What is taken away and given back: in the image, so that large pages of the physmap are cut.
static PREY: [Page; 16] = [const { Page::new() }; 16];
static TABLE: Page = Page::new();
static LIST: [Page; 2] = [const { Page::new() }; 2];

/// Where the local APIC's page is, and another that a device claims.
const DEVICES: [u64; 2] = [0xfee00, 0xfec00];

fn main(_: u64) -> ! {
    add(map_space::GRANT_TABLE, TABLE.frame());
    register();
    attack::both("balloon", round)
}

fn add(space: u32, frame: u64) {
    let mut request = AddToPhysmap {
        domain: DomainId::SELF,
        space,
        guest_frame: frame,
        ..AddToPhysmap::default()
    };
    hypercall::with(MEMORY_OP, memory::op::ADD_TO_PHYSMAP, &mut request);
}

/// The core writes to these from now on: run state and clock of both vCPUs, and the first one's `vcpu_info`.
fn register() {
    let mut info = RegisterVcpuInfo {
        guest_frame: PREY[0].frame(),
        offset: 64,
        ..RegisterVcpuInfo::default()
    };
    // The clock stays readable in the shared page: it is the second vCPU's that moves.
    let at = core::ptr::from_mut(&mut info) as u64;
    hypercall::raw(VCPU_OP, [vcpu::op::REGISTER_VCPU_INFO.into(), 1, at, 0, 0]);
    for index in 0..2 {
        let areas = [
            (
                vcpu::op::REGISTER_RUNSTATE_MEMORY_AREA,
                PREY[1].address() + 4096 - 24,
            ),
            (vcpu::op::REGISTER_VCPU_TIME_MEMORY_AREA, PREY[3].address()),
        ];
        for (operation, address) in areas {
            let mut area = RegisterMemoryArea { address };
            let at = core::ptr::from_mut(&mut area) as u64;
            hypercall::raw(VCPU_OP, [operation.into(), index, at, 0, 0]);
        }
    }
}

fn round(attacker: &mut Attacker) {
    for _ in 0..8 {
        // Both do both, so that two changes of one page meet, too.
        if attacker.random.one_in(4) == (attacker.vcpu == 0) {
            use_it(attacker);
        } else {
            change(attacker);
        }
    }
    attacker.done(8);
}

fn frame(attacker: &mut Attacker) -> u64 {
    match attacker.random.below(8) {
        0 => attacker.random.pick(&DEVICES),
        1 => TABLE.frame(),
        2 => 0x1000 + attacker.random.below(512),
        _ => PREY[attacker.random.below(16) as usize].frame(),
    }
}

fn change(attacker: &mut Attacker) {
    let list = &LIST[attacker.vcpu as usize];
    let count = 1 + attacker.random.below(8);
    for index in 0..count {
        let frame = frame(attacker);
        list.write(index as usize * 8, frame);
    }
    let mut request = MemoryReservation {
        extent_start: GuestHandle::new(list.address()),
        number_of_extents: count,
        domain: DomainId::SELF,
        ..MemoryReservation::default()
    };
    match attacker.random.below(6) {
        0 | 1 => {
            hypercall::with(MEMORY_OP, memory::op::DECREASE_RESERVATION, &mut request);
        }
        2 | 3 => {
            hypercall::with(MEMORY_OP, memory::op::POPULATE_PHYSMAP, &mut request);
        }
        4 => {
            let mut request = RemoveFromPhysmap {
                domain: DomainId::SELF,
                guest_frame: frame(attacker),
                ..RemoveFromPhysmap::default()
            };
            hypercall::with(MEMORY_OP, memory::op::REMOVE_FROM_PHYSMAP, &mut request);
        }
        _ => {
            let space = attacker
                .random
                .pick(&[map_space::GRANT_TABLE, map_space::GRANT_TABLE, 5]);
            let frame = frame(attacker);
            add(space, frame);
        }
    }
}

fn use_it(attacker: &mut Attacker) {
    let at = frame(attacker) << 12;
    let value = attacker.random.next();
    // SAFETY: nothing of ours lives in these pages; where none is, what comes is an exception.
    unsafe {
        attempt!("mov [{0}], {1}", in(reg) at, in(reg) value);
        attempt!("mov {1}, [{0}]", in(reg) at + 8, out(reg) _);
        attempt!("lock xadd [{0}], {1}", in(reg) at, inout(reg) value => _);
    }
    shared::send(attacker.random.below(8) as u32);
    offer_and_map(attacker, at >> 12);
    if attacker.random.one_in(64) {
        // A vCPU that gives way has its run state written, wherever that is by now.
        hypercall::raw(hypercall_abi::hypercall::number::SCHED_OP, [0, 0, 0, 0, 0]);
    }
}

/// A page on offer to ourselves, mapped where another one of the prey is.
fn offer_and_map(attacker: &mut Attacker, frame: u64) {
    let entry = 16 + attacker.vcpu as u32;
    let own = core::arch::x86_64::__cpuid_count(0x4000_0004, 0).ecx as u16;
    // SAFETY: as above: the table's page may be away.
    unsafe {
        attempt!("mov [{0}], {1}", in(reg) TABLE.address() + u64::from(entry) * 8,
            in(reg) 1 | u64::from(own) << 16 | frame << 32);
    }
    let mut request = MapGrantRef {
        host_address: PREY[8 + attacker.random.below(8) as usize].address(),
        flags: 2,
        reference: entry,
        domain: DomainId(own),
        ..MapGrantRef::default()
    };
    hypercall::with_one(GRANT_TABLE_OP, grant_op::MAP_GRANT_REF, &mut request);
    page::write(LIST[attacker.vcpu as usize].address() + 2048, request.handle);
    let mut undo = UnmapGrantRef {
        host_address: request.host_address,
        handle: request.handle,
        ..UnmapGrantRef::default()
    };
    hypercall::with_one(GRANT_TABLE_OP, grant_op::UNMAP_GRANT_REF, &mut undo);
}
