//! Switching off and starting again.

use x86_64::instructions::port::Port;

use super::acpi::Firmware;
use super::{clock, console, crash};
use crate::sync::Once;

const SLEEP_ENABLE: u16 = 1 << 13;
const ACPI_MODE: u16 = 1;

struct Ways {
    control: [u16; 2],
    soft_off: Option<[u8; 2]>,
    enable: Option<(u16, u8)>,
    reset: Option<(u16, u8)>,
}

static WAYS: Once<Ways> = Once::new();

/// Note how this machine is switched off and reset.
pub fn start(firmware: &Firmware) {
    let Firmware {
        power_control: control,
        soft_off,
        enable,
        reset,
        ..
    } = *firmware;
    WAYS.call_once(|| Ways {
        control,
        soft_off,
        enable,
        reset,
    });
}

/// Switch the machine off.
pub fn off() -> ! {
    if let Some(Ways {
        control,
        soft_off: Some(kinds),
        enable,
        ..
    }) = WAYS.get()
    {
        take_over(control[0], *enable);
        for (&port, &kind) in control.iter().zip(kinds).filter(|(port, _)| **port != 0) {
            // SAFETY: the ports that firmware names for this, and the value it names for off.
            unsafe { Port::new(port).write((u16::from(kind) << 10) | SLEEP_ENABLE) };
        }
        clock::delay(500_000_000);
    }
    console::print_unlocked(format_args!(
        "the machine does not switch itself off: it is safe to do so by hand\n"
    ));
    crash::halt()
}

/// Have firmware hand over the power registers, unless dom0 did so.
fn take_over(control: u16, enable: Option<(u16, u8)>) {
    // SAFETY: the ports and the value that firmware names for this.
    unsafe {
        let in_acpi_mode = || control != 0 && Port::<u16>::new(control).read() & ACPI_MODE != 0;
        let Some((command, value)) = enable.filter(|_| !in_acpi_mode()) else {
            return;
        };
        Port::new(command).write(value);
        for _ in 0..1000 {
            if in_acpi_mode() {
                return;
            }
            clock::delay(1_000_000);
        }
    }
}

/// Start the machine again, by ever cruder means.
pub fn reboot() -> ! {
    const CONTROLLER: u16 = 0x64;
    const PULSE_RESET: u8 = 0xfe;
    const RESET_CONTROL: u16 = 0xcf9;
    // SAFETY: each of these resets the machine, which is what is wanted; where a device is missing nothing happens.
    unsafe {
        if let Some((port, value)) = WAYS.get().and_then(|ways| ways.reset) {
            Port::new(port).write(value);
            clock::delay(50_000_000);
        }
        Port::new(RESET_CONTROL).write(0x02u8);
        Port::new(RESET_CONTROL).write(0x06u8);
        clock::delay(50_000_000);
        Port::new(CONTROLLER).write(PULSE_RESET);
        clock::delay(50_000_000);
        // A fault that nothing can handle.
        let nothing = x86_64::structures::DescriptorTablePointer {
            limit: 0,
            base: x86_64::VirtAddr::zero(),
        };
        x86_64::instructions::tables::lidt(&nothing);
        core::arch::asm!("ud2", options(noreturn))
    }
}
