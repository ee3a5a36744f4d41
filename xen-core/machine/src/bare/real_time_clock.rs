//! The battery-backed clock: what day it is.

use x86_64::instructions::port::Port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const SECONDS: u8 = 0;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;

fn register(number: u8) -> u8 {
    // SAFETY: the clock's fixed ports; reading its registers has no effect.
    unsafe {
        Port::new(INDEX).write(number);
        Port::new(DATA).read()
    }
}

/// Second, minute, hour, day, month, year, read while no update is under way.
fn registers() -> [u8; 6] {
    loop {
        let read = || {
            (0..1_000_000)
                .take_while(|_| register(STATUS_A) & UPDATING != 0)
                .for_each(drop);
            [SECONDS, 2, 4, 7, 8, 9].map(register)
        };
        let (once, again) = (read(), read());
        if once == again {
            return once;
        }
    }
}

/// Seconds since 1970.
pub fn seconds() -> u64 {
    let status = register(STATUS_B);
    let decode = |value: u8| {
        if status & BINARY != 0 {
            value
        } else {
            (value >> 4) * 10 + (value & 0xf)
        }
    };
    let [second, minute, hour, day, month, year] = registers();
    let afternoon = status & HOURS_24 == 0 && hour & AFTERNOON != 0;
    let mut hour = u64::from(decode(if status & HOURS_24 == 0 {
        hour & !AFTERNOON
    } else {
        hour
    }));
    if status & HOURS_24 == 0 {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let days = days(
        2000 + u64::from(decode(year)),
        u64::from(decode(month)),
        u64::from(decode(day)),
    );
    ((days * 24 + hour) * 60 + u64::from(decode(minute))) * 60 + u64::from(decode(second))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years are counted from March, so that the leap day is last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, (month + 9) % 12)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    (year * 365 + leap_days + (153 * month + 2) / 5 + day).saturating_sub(719_469)
}
