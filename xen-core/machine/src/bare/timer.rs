//! One deadline per processor, by its local APIC's timer.

use core::sync::atomic::Ordering;

use super::processor::{NO_DEADLINE, Processor};
use super::{clock, local_apic};
use crate::Nanoseconds;

fn has_tsc_deadline() -> bool {
    static OFFERED: crate::sync::Once<bool> = crate::sync::Once::new();
    *OFFERED.call_once(|| {
        raw_cpuid::CpuId::new()
            .get_feature_info()
            .is_some_and(|info| info.has_tsc_deadline())
    })
}

/// Prepare the calling processor's timer.
pub fn start_on_this_processor() {
    if has_tsc_deadline() {
        local_apic::use_tsc_deadline();
    }
}

/// Have the timer fire at `deadline`, or never. A past one has fired already.
pub fn set(current: &Processor, deadline: Option<Nanoseconds>) {
    current
        .deadline
        .store(deadline.unwrap_or(NO_DEADLINE), Ordering::Relaxed);
    match deadline {
        None => stop(current),
        Some(deadline) => arm(current, deadline),
    }
}

fn stop(current: &Processor) {
    current.deadline_tsc.store(NO_DEADLINE, Ordering::Relaxed);
    if has_tsc_deadline() {
        local_apic::set_tsc_deadline(0)
    } else {
        local_apic::set_timer(0)
    }
}

fn arm(current: &Processor, deadline: Nanoseconds) {
    let (tsc, now) = clock::moment();
    let Some(left) = deadline.checked_sub(now).filter(|left| *left != 0) else {
        current.note_timer();
        return;
    };
    let deadline_tsc = tsc.saturating_add(clock::tsc_ticks(left));
    current.deadline_tsc.store(deadline_tsc, Ordering::Relaxed);
    if has_tsc_deadline() {
        local_apic::set_tsc_deadline(deadline_tsc);
    } else {
        // A deadline further away than the counter reaches is armed again when it has run out.
        let ticks = clock::apic_timer_ticks(left);
        local_apic::set_timer(u32::try_from(ticks).unwrap_or(u32::MAX));
    }
}

/// Notice a deadline that has passed without waiting for its interrupt.
///
/// A look at the TSC before each entry of a guest spares the exit that is due the moment it is entered. And it keeps time
/// moving where an interrupt is lost: emulators are known to lose one that arrives just as a guest is left.
#[inline]
pub fn notice(current: &Processor) {
    if clock::tsc_unordered() >= current.deadline_tsc.load(Ordering::Relaxed) {
        current.deadline_tsc.store(NO_DEADLINE, Ordering::Relaxed);
        current.note_timer();
    }
}

/// The timer and the TSC run on rates that were measured: this much sooner than meant it is cheaper to wait than to be
/// interrupted a second time.
const NEARLY: Nanoseconds = 2_000;

/// Whether the deadline has passed: the timer fired. If not (it was moved meanwhile, or the counter ran out first), it
/// is armed again.
pub fn is_due(current: &Processor) -> bool {
    let deadline = current.deadline.load(Ordering::Relaxed);
    if deadline == NO_DEADLINE {
        return false;
    }
    if clock::now().saturating_add(NEARLY) < deadline {
        arm(current, deadline);
        return false;
    }
    while clock::now() < deadline {
        core::hint::spin_loop();
    }
    current.deadline.store(NO_DEADLINE, Ordering::Relaxed);
    current.deadline_tsc.store(NO_DEADLINE, Ordering::Relaxed);
    true
}
