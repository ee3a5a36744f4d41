//! System time from the time stamp counter, measured once against a timer whose rate is known.

use core::arch::x86_64::{_mm_lfence, _rdtsc};

use x86_64::instructions::port::Port;

use super::local_apic;
use crate::sync::Once;
use crate::{ClockParameters, Nanoseconds};

const SECOND: u64 = 1_000_000_000;
/// How long is measured: 20 ms.
const MEASURED: u64 = SECOND / 50;

const POWER_TIMER_RATE: u64 = 3_579_545;
const INTERVAL_TIMER_RATE: u64 = 1_193_182;

struct Clock {
    parameters: ClockParameters,
    tsc_khz: u32,
    /// Rates as 32.32 fixed point: a division at start saves one per deadline.
    tsc_per_nanosecond: u64,
    apic_timer_per_nanosecond: u64,
}

static CLOCK: Once<Clock> = Once::new();

/// The time stamp counter, not read ahead of what precedes it.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: plain instructions of every 64-bit processor.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// The time stamp counter, perhaps read a little early.
#[inline]
pub fn tsc_unordered() -> u64 {
    // SAFETY: a plain instruction of every 64-bit processor.
    unsafe { _rdtsc() }
}

/// Nanoseconds since the clock was started; 0 before.
pub fn now() -> Nanoseconds {
    CLOCK.get().map_or(0, |clock| time_at(&clock.parameters, tsc()))
}

fn time_at(parameters: &ClockParameters, tsc: u64) -> Nanoseconds {
    let ticks = u128::from(tsc.saturating_sub(parameters.tsc_timestamp));
    let distance = u32::from(parameters.shift.unsigned_abs());
    let scaled = if parameters.shift < 0 {
        ticks.wrapping_shr(distance)
    } else {
        ticks.wrapping_shl(distance)
    };
    // 64 bits of ticks, shifted by a few, times 32 bits: no product overflows.
    let passed = scaled.wrapping_mul(u128::from(parameters.multiplier)) >> 32;
    parameters.system_time.saturating_add(passed as u64)
}

/// How ticks become system time.
pub fn parameters() -> ClockParameters {
    clock().parameters
}

fn clock() -> &'static Clock {
    CLOCK.get().expect("the clock is started before anybody asks")
}

/// TSC ticks per millisecond.
pub fn tsc_khz() -> u32 {
    clock().tsc_khz
}

/// The TSC now, and the system time that it stands for.
pub fn moment() -> (u64, Nanoseconds) {
    let tsc = tsc();
    (tsc, time_at(&clock().parameters, tsc))
}

/// TSC ticks in a stretch of time, rounded up.
pub fn tsc_ticks(time: Nanoseconds) -> u64 {
    ticks(time, clock().tsc_per_nanosecond)
}

/// The local APIC timer's ticks in a stretch of time, rounded up.
pub fn apic_timer_ticks(time: Nanoseconds) -> u64 {
    ticks(time, clock().apic_timer_per_nanosecond)
}

fn ticks(time: Nanoseconds, per_nanosecond: u64) -> u64 {
    let ticks = (u128::from(time) * u128::from(per_nanosecond)) >> 32;
    u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
}

/// Do nothing for a while.
pub fn delay(time: Nanoseconds) {
    let start = now();
    while now().saturating_sub(start) < time {
        core::hint::spin_loop();
    }
}

/// Measure the time stamp counter and the APIC's timer, and begin to count system time.
pub fn start(power_timer: u16) {
    let (tsc_rate, apic_rate, reference) = match power_timer {
        0 => measure(
            INTERVAL_TIMER_RATE,
            read_interval_timer,
            0xffff,
            start_interval_timer,
            "the interval timer",
        ),
        port => {
            // SAFETY: the port that firmware names for the timer; reading has no effect.
            let read = move || u64::from(unsafe { Port::<u32>::new(port).read() });
            measure(POWER_TIMER_RATE, read, 0xff_ffff, || {}, "the ACPI timer")
        }
    };
    let (multiplier, shift) = scale(tsc_rate);
    let parameters = ClockParameters {
        tsc_timestamp: tsc(),
        system_time: 0,
        multiplier,
        shift,
    };
    let per_nanosecond = |rate: u64| ((u128::from(rate) << 32) / u128::from(SECOND)) as u64;
    let clock = CLOCK.call_once(|| Clock {
        parameters,
        tsc_khz: u32::try_from(tsc_rate / 1000).unwrap_or(u32::MAX),
        tsc_per_nanosecond: per_nanosecond(tsc_rate),
        apic_timer_per_nanosecond: per_nanosecond(apic_rate),
    });
    log::info!(
        "clock: TSC at {}.{:03} MHz, measured with {reference}",
        clock.tsc_khz / 1000,
        clock.tsc_khz % 1000
    );
}

/// The three counters at one moment.
#[derive(Clone, Copy)]
struct Sample {
    reference: u64,
    tsc: u64,
    apic: u32,
    /// TSC ticks between the reference's old value and its new one: how sure the moment is.
    spread: u64,
}

/// A moment at which the reference counted on, the surest of several.
fn sample(read: &impl Fn() -> u64) -> Sample {
    const TRIES: usize = 16;
    let one = || {
        let mut earlier = tsc();
        let old = read();
        loop {
            let (reference, apic, later) = (read(), local_apic::counted(), tsc());
            let spread = later.saturating_sub(earlier);
            if reference != old {
                return Sample {
                    reference,
                    tsc: earlier.midpoint(later),
                    apic,
                    spread,
                };
            }
            earlier = tsc();
        }
    };
    (1..TRIES).map(|_| one()).fold(
        one(),
        |best, next| if next.spread < best.spread { next } else { best },
    )
}

/// Rates of the TSC and of the APIC's timer in hertz, by a reference of known rate that counts up modulo `mask` + 1.
fn measure(
    rate: u64,
    read: impl Fn() -> u64,
    mask: u64,
    start: impl FnOnce(),
    name: &'static str,
) -> (u64, u64, &'static str) {
    start();
    local_apic::start_counting();
    let first = sample(&read);
    while read().wrapping_sub(first.reference) & mask < rate * MEASURED / SECOND {
        core::hint::spin_loop();
    }
    let last = sample(&read);
    local_apic::set_timer(0);
    let elapsed = (last.reference.wrapping_sub(first.reference) & mask).max(1);
    let per_second = |ticks: u64| (u128::from(ticks) * u128::from(rate) / u128::from(elapsed)) as u64;
    (
        per_second(last.tsc.saturating_sub(first.tsc)),
        per_second(u64::from(last.apic.wrapping_sub(first.apic))),
        name,
    )
}

const GATE: u16 = 0x61;
const INTERVAL_COMMAND: u16 = 0x43;
const INTERVAL_CHANNEL_2: u16 = 0x42;

/// Channel 2 counts down from 65535 once, without sounding the speaker: 55 ms.
fn start_interval_timer() {
    // SAFETY: the interval timer's fixed ports.
    unsafe {
        let gate = Port::<u8>::new(GATE).read() & !3;
        Port::new(GATE).write(gate | 1);
        Port::new(INTERVAL_COMMAND).write(0xb0u8);
        Port::new(INTERVAL_CHANNEL_2).write(0xffu8);
        Port::new(INTERVAL_CHANNEL_2).write(0xffu8);
    }
}

fn read_interval_timer() -> u64 {
    // SAFETY: as above: latch, then low and high byte.
    let (low, high) = unsafe {
        Port::new(INTERVAL_COMMAND).write(0x80u8);
        let mut channel = Port::<u8>::new(INTERVAL_CHANNEL_2);
        (channel.read(), channel.read())
    };
    0xffff - u64::from(u16::from_le_bytes([low, high]))
}

/// Multiplier and shift for a rate: the finest multiplier that fits into 32 bits.
fn scale(rate: u64) -> (u32, i8) {
    let mut rate = rate.max(1);
    let mut shift = 0;
    while rate > 2 * SECOND {
        rate >>= 1;
        shift = i8::saturating_sub(shift, 1);
    }
    while rate <= SECOND {
        rate <<= 1;
        shift = i8::saturating_add(shift, 1);
    }
    (((SECOND << 32) / rate) as u32, shift)
}
