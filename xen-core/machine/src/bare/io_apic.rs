//! The I/O interrupt controllers: from devices' lines to processors' vectors.

use alloc::vec::Vec;

use super::address_space;
use crate::LineMode;
use crate::address::HostAddress;
use crate::sync::Lock;

const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

struct Controller {
    registers: *mut u32,
    first_line: u32,
    lines: u32,
}

// SAFETY: the registers are mapped for good and used only under the lock.
unsafe impl Send for Controller {}

static CONTROLLERS: Lock<Vec<Controller>> = Lock::new(Vec::new());

impl Controller {
    fn select(&self, index: u32) -> *mut u32 {
        // SAFETY: the mapped registers of this controller; the lock keeps the selection ours.
        unsafe {
            self.registers.write_volatile(index);
            self.registers.byte_add(0x10)
        }
    }

    fn read(&self, index: u32) -> u32 {
        // SAFETY: as above.
        unsafe { self.select(index).read_volatile() }
    }

    fn write(&self, index: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.select(index).write_volatile(value) }
    }
}

/// Take charge of a controller: all its lines are masked. Returns one past its last line.
pub fn add(address: HostAddress, first_line: u32) -> u32 {
    let registers = address_space::map_registers(address, 4096).cast();
    let mut controller = Controller {
        registers,
        first_line,
        lines: 0,
    };
    controller.lines = u32::from((controller.read(VERSION) >> 16) as u8).saturating_add(1);
    for line in 0..controller.lines {
        controller.write(redirection(line), MASKED);
    }
    let end = first_line.saturating_add(controller.lines);
    CONTROLLERS.lock().push(controller);
    end
}

fn with_line(line: u32, work: impl FnOnce(&Controller, u32)) {
    let controllers = CONTROLLERS.lock();
    let found = controllers.iter().find_map(|controller| {
        let pin = line.checked_sub(controller.first_line)?;
        (pin < controller.lines).then_some((controller, pin))
    });
    if let Some((controller, pin)) = found {
        work(controller, redirection(pin));
    }
}

/// The register of a pin's redirection entry; the entry's upper half is the next one. A controller has 240 pins at most.
fn redirection(pin: u32) -> u32 {
    REDIRECTION.wrapping_add(pin.wrapping_mul(2))
}

/// Send a line's interrupts to a processor as `vector`.
pub fn route(line: u32, mode: LineMode, vector: u8, apic_id: u32) {
    let mut low = u32::from(vector);
    low |= if mode.level { LEVEL } else { 0 };
    low |= if mode.active_low { ACTIVE_LOW } else { 0 };
    with_line(line, |controller, entry| {
        controller.write(entry, MASKED);
        // Without interrupt remapping eight bits of the target are all there is.
        controller.write(entry.wrapping_add(1), apic_id << 24);
        controller.write(entry, low);
    });
}

/// Hold a line back.
pub fn mask(line: u32) {
    with_line(line, |controller, entry| {
        controller.write(entry, controller.read(entry) | MASKED)
    });
}

/// Let a line through again.
pub fn unmask(line: u32) {
    with_line(line, |controller, entry| {
        controller.write(entry, controller.read(entry) & !MASKED)
    });
}
