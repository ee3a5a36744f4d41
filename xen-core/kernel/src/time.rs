//! Time as guests see it: the clock in `vcpu_info`, the wall clock in the shared info page.

use alloc::sync::Arc;

use hypercall_abi::xen::{SharedInfo, VcpuInfo, VcpuTimeInfo};
use machine::Machine;
use machine::memory::FrameReference;
use zerocopy::IntoBytes;

use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};

const TIME_IN_INFO: usize = core::mem::offset_of!(VcpuInfo, time);
const VERSION: usize = core::mem::offset_of!(VcpuTimeInfo, version);
const TIMESTAMP: usize = core::mem::offset_of!(VcpuTimeInfo, tsc_timestamp);
const WALL_CLOCK: usize = core::mem::offset_of!(SharedInfo, wc_version);

/// The wall clock at system time 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds.
    pub nanoseconds: u32,
}

impl WallClock {
    /// As the machine's clock had it.
    pub fn at_boot(seconds: u64) -> Self {
        WallClock {
            seconds,
            nanoseconds: 0,
        }
    }

    /// The clock that shows `seconds` and `nanoseconds` at system time `system_time`.
    pub fn from_now(seconds: u64, nanoseconds: u32, system_time: u64) -> Self {
        const SECOND: u128 = 1_000_000_000;
        let now = u128::from(seconds) * SECOND + u128::from(nanoseconds);
        let zero = now.saturating_sub(u128::from(system_time));
        WallClock {
            seconds: (zero / SECOND) as u64,
            nanoseconds: (zero % SECOND) as u32,
        }
    }
}

impl<M: Machine> Kernel<M> {
    /// Write a vCPU's clock where the guest reads it.
    pub(crate) fn publish_time(&self, vcpu: &VcpuHandle<M>) {
        let clock = self.machine.clock_parameters();
        let time = VcpuTimeInfo {
            tsc_timestamp: clock.tsc_timestamp,
            system_time: clock.system_time,
            tsc_to_system_mul: clock.multiplier,
            tsc_shift: clock.shift,
            ..VcpuTimeInfo::default()
        };
        if vcpu.has_info() {
            let info = vcpu.info.lock();
            write_time(&info.page, info.offset.saturating_add(TIME_IN_INFO), &time);
        }
        if let Some(area) = &*vcpu.time_area.lock() {
            write_time(&area.page, area.offset, &time);
        }
    }

    /// Write the wall clock to a domain's shared info page.
    pub fn publish_wall_clock(&self, domain: &Arc<Domain<M>>) {
        let clock = *self.wall_clock.lock();
        let page = &domain.shared_info;
        let version = page.load_u32(WALL_CLOCK).unwrap_or(0) | 1;
        // The page is a whole one: none of these offsets can leave it.
        let _ = page.store_u32(WALL_CLOCK, version);
        let _ = page.store_u32(WALL_CLOCK + 4, clock.seconds as u32);
        let _ = page.store_u32(WALL_CLOCK + 8, clock.nanoseconds);
        let _ = page.store_u32(WALL_CLOCK + 12, (clock.seconds >> 32) as u32);
        let _ = page.store_u32(WALL_CLOCK, version.wrapping_add(1));
    }

    /// Set the wall clock, everywhere.
    pub fn set_wall_clock(&self, clock: WallClock) {
        *self.wall_clock.lock() = clock;
        let mut next = hypercall_abi::DomainId(0);
        while let Some(domain) = self.domains.at_or_after(next) {
            self.publish_wall_clock(&domain);
            next = hypercall_abi::DomainId(domain.id.0.saturating_add(1));
        }
    }
}

/// The version is odd while the rest is written.
fn write_time(page: &FrameReference, at: usize, time: &VcpuTimeInfo) {
    let version_at = at.saturating_add(VERSION);
    let version = page.load_u32(version_at).unwrap_or(0) | 1;
    let _ = page.store_u32(version_at, version);
    if let Some(rest) = time.as_bytes().get(TIMESTAMP..) {
        let _ = page.write(at.saturating_add(TIMESTAMP), rest);
    }
    let _ = page.store_u32(version_at, version.wrapping_add(1));
}
