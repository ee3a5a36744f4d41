//! The page that a domain shares with the hypervisor: events and time.

use core::mem::offset_of;

use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, MEMORY_OP};
use hypercall_abi::memory::{self, AddToPhysmap, map_space};
use hypercall_abi::xen::{SharedInfo, VcpuInfo, VcpuTimeInfo};
use hypercall_abi::{DomainId, event_channel};

use crate::{Page, hypercall};

static PAGE: Page = Page::new();

/// Puts the shared page in place of one of ours; the answer is the hypercall's.
pub fn map() -> i64 {
    let mut request = AddToPhysmap {
        domain: DomainId::SELF,
        space: map_space::SHARED_INFO,
        guest_frame: PAGE.frame(),
        ..AddToPhysmap::default()
    };
    hypercall::with(MEMORY_OP, memory::op::ADD_TO_PHYSMAP, &mut request)
}

/// Where the shared page is.
pub fn address() -> u64 {
    PAGE.address()
}

/// Is this port pending?
pub fn pending(port: u32) -> bool {
    let word: u64 = PAGE.read(offset_of!(SharedInfo, evtchn_pending) + port as usize / 64 * 8);
    word >> (port % 64) & 1 == 1
}

/// Takes note of what is pending: clears port, selector and the vCPU's flag.
pub fn clear(port: u32) {
    let offset = offset_of!(SharedInfo, evtchn_pending) + port as usize / 64 * 8;
    let word: u64 = PAGE.read(offset);
    PAGE.write(offset, word & !(1 << (port % 64)));
    acknowledge();
}

/// Takes back the vCPUs' flags and selectors, not the port's bit. No test waits on both vCPUs' flags at once.
pub fn acknowledge() {
    for vcpu in 0..2 {
        let at = vcpu * size_of::<VcpuInfo>();
        PAGE.write(at + offset_of!(VcpuInfo, evtchn_pending_sel), 0u64);
        PAGE.write(at + offset_of!(VcpuInfo, evtchn_upcall_pending), 0u8);
    }
}

/// The first vCPU's flag that something is pending.
pub fn upcall_pending() -> bool {
    PAGE.read::<u8>(offset_of!(VcpuInfo, evtchn_upcall_pending)) != 0
}

/// Masks or unmasks a port in the bitmap. New ports are masked on no hypervisor, but say so anyway.
pub fn set_masked(port: u32, masked: bool) {
    let offset = offset_of!(SharedInfo, evtchn_mask) + port as usize / 64 * 8;
    let word: u64 = PAGE.read(offset);
    let bit = 1 << (port % 64);
    PAGE.write(offset, if masked { word | bit } else { word & !bit });
}

/// Sends to a port.
pub fn send(port: u32) -> i64 {
    hypercall::with(
        EVENT_CHANNEL_OP,
        event_channel::op::SEND,
        &mut event_channel::Send { port },
    )
}

/// So many ticks of the TSC in nanoseconds, by what the time page says now. (Attackers ask once: it may not last.)
pub fn nanoseconds_of(ticks: u64) -> u64 {
    scaled(&PAGE.read(offset_of!(VcpuInfo, time)), ticks)
}

fn scaled(time: &VcpuTimeInfo, ticks: u64) -> u64 {
    let shifted = match time.tsc_shift {
        shift @ 0.. => ticks << shift,
        shift => ticks >> -shift,
    };
    ((u128::from(shifted) * u128::from(time.tsc_to_system_mul)) >> 32) as u64
}

/// Nanoseconds since the hypervisor started, as its time page and the TSC give them.
pub fn system_time() -> u64 {
    let at = offset_of!(VcpuInfo, time);
    loop {
        let time: VcpuTimeInfo = PAGE.read(at);
        // SAFETY: reading the time-stamp counter has no effect.
        let now = unsafe { core::arch::x86_64::_rdtsc() };
        if time.version & 1 == 1 || PAGE.read::<u32>(at) != time.version {
            continue; // it was being changed
        }
        return time.system_time + scaled(&time, now.wrapping_sub(time.tsc_timestamp));
    }
}
