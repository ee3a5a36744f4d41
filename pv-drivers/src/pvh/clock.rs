//! Time as the hypervisor keeps it for its guests: the time page and the TSC, the wall clock, and where the time went.

use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use hypercall_abi::vcpu::{self, RunstateInfo};
use hypercall_abi::xen::{SharedInfo, VcpuInfo, VcpuTimeInfo};

use super::{Pvh, bare, checked};
use crate::front::Error;
use crate::ring::Memory;

/// Where this vCPU's time went, in nanoseconds (`vcpu_runstate_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runstate {
    /// It ran.
    pub running: u64,
    /// It waited for a processor.
    pub runnable: u64,
    /// It waited for an event.
    pub blocked: u64,
    /// It was paused.
    pub offline: u64,
}

/// How often a version that is being changed is looked at again.
const PATIENCE: usize = 1000;

impl Pvh {
    /// Nanoseconds since the hypervisor started. Never goes back.
    pub fn system_time(&self) -> u64 {
        let at = offset_of!(SharedInfo, vcpu_info) + offset_of!(VcpuInfo, time);
        let time = (0..PATIENCE).find_map(|_| self.consistent_time(at));
        let last = self.last_time.load(Relaxed);
        let now = time.unwrap_or(last).max(last);
        self.last_time.store(now, Relaxed);
        now
    }

    fn consistent_time(&self, at: usize) -> Option<u64> {
        let version = self.shared.load(at, Acquire);
        let long = |field: usize| {
            let low = u64::from(self.shared.load(at + field, Acquire));
            low | u64::from(self.shared.load(at + field + 4, Acquire)) << 32
        };
        let then = long(offset_of!(VcpuTimeInfo, tsc_timestamp));
        let base = long(offset_of!(VcpuTimeInfo, system_time));
        let factor = self
            .shared
            .load(at + offset_of!(VcpuTimeInfo, tsc_to_system_mul), Acquire);
        let shift = self.shared.load_byte(at + offset_of!(VcpuTimeInfo, tsc_shift)) as i8;
        let ticks = bare::ticks();
        let unchanged = version & 1 == 0 && self.shared.load(at, Acquire) == version;
        unchanged.then(|| base.wrapping_add(scaled(ticks.saturating_sub(then), factor, shift)))
    }

    /// Seconds and nanoseconds since 1970, by the hypervisor's wall clock; `None` while it is being set.
    pub fn wall_clock(&self) -> Option<(u64, u32)> {
        let word = |field: usize| self.shared.load(field, Acquire);
        let version = word(offset_of!(SharedInfo, wc_version));
        let seconds = u64::from(word(offset_of!(SharedInfo, wc_sec)))
            | u64::from(word(offset_of!(SharedInfo, wc_sec_hi))) << 32;
        let nanoseconds = word(offset_of!(SharedInfo, wc_nsec));
        if version & 1 == 1 || word(offset_of!(SharedInfo, wc_version)) != version {
            return None;
        }
        // It is the time at which the system time was zero.
        let since = self.system_time().saturating_add(nanoseconds.into());
        const SECOND: u64 = 1_000_000_000;
        Some((seconds.saturating_add(since / SECOND), (since % SECOND) as u32))
    }

    /// Where the time went.
    ///
    /// # Errors
    /// [`Error::Hypervisor`].
    pub fn runstate(&self) -> Result<Runstate, Error> {
        let mut state = RunstateInfo::default();
        let result = bare::operate_on_vcpu(vcpu::op::GET_RUNSTATE_INFO, 0, &mut state);
        checked("get_runstate_info", result)?;
        let [running, runnable, blocked, offline] = state.time;
        Ok(Runstate {
            running,
            runnable,
            blocked,
            offline,
        })
    }
}

/// Ticks of the TSC in nanoseconds.
fn scaled(ticks: u64, factor: u32, shift: i8) -> u64 {
    let shifted = match shift {
        shift @ 0.. => ticks.checked_shl(shift as u32).unwrap_or(0),
        shift => ticks.checked_shr(u32::from(shift.unsigned_abs())).unwrap_or(0),
    };
    ((u128::from(shifted) * u128::from(factor)) >> 32) as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn ticks_become_nanoseconds() {
        // 1 GHz, 2 GHz, 500 MHz; and garbage is no panic.
        assert_eq!(super::scaled(1000, 1 << 31, 1), 1000);
        assert_eq!(super::scaled(1000, 1 << 31, 0), 500);
        assert_eq!(super::scaled(1000, 1 << 31, 2), 2000);
        assert_eq!(super::scaled(8000, 1 << 31, -2), 1000);
        assert_eq!(super::scaled(u64::MAX, u32::MAX, i8::MIN), 0);
    }
}
