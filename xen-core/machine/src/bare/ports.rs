//! The platform's ports that the kernel may touch: power, reset and the clock's memory.

use x86_64::instructions::port::Port;

use crate::Platform;

const CMOS: core::ops::RangeInclusive<u16> = 0x70..=0x71;

fn is_allowed(platform: &Platform, port: u16, size: u8) -> bool {
    let Some(last) = port.checked_add(u16::from(size).saturating_sub(1)) else {
        return false;
    };
    let inside = |first: u16, length: u16| first != 0 && first <= port && last < first.saturating_add(length);
    platform.power_control.iter().any(|&first| inside(first, 2))
        || inside(platform.power_timer, 4)
        || platform.reset.is_some_and(|(first, _)| inside(first, 1))
        || (CMOS.contains(&port) && size == 1)
}

/// Read a port; ones where there is nothing to be read.
pub fn read(platform: &Platform, port: u16, size: u8) -> u32 {
    if !is_allowed(platform, port, size) {
        return u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
    }
    // SAFETY: a port of the platform's; reading those has no effect on memory.
    unsafe {
        match size {
            1 => u32::from(Port::<u8>::new(port).read()),
            2 => u32::from(Port::<u16>::new(port).read()),
            _ => Port::new(port).read(),
        }
    }
}

/// Write a port, if it is one of the platform's.
pub fn write(platform: &Platform, port: u16, size: u8, value: u32) {
    if !is_allowed(platform, port, size) {
        return;
    }
    // SAFETY: a port of the platform's; it switches or resets the machine, and reaches no memory.
    unsafe {
        match size {
            1 => Port::new(port).write(value as u8),
            2 => Port::new(port).write(value as u16),
            _ => Port::new(port).write(value),
        }
    }
}
