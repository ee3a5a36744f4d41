//! Putting together what the machine found itself to be.

use boot::BootInfo;
use boot::ranges::Ranges;

use super::acpi::Firmware;
use super::{clock, console, io_apic, lines, real_time_clock};
use crate::address::{HostAddress, PAGE_SIZE};
use crate::{LineMode, MemoryRegion, Platform};

/// Messages that devices send as interrupts are writes to these addresses; the local APICs' registers lie there, too.
const INTERRUPT_MESSAGES: core::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;

/// Take charge of the I/O APICs: how many lines there are, and where nobody else may write.
pub fn start_interrupt_controllers(firmware: &Firmware) -> (u32, Ranges) {
    let mut registers = Ranges::new();
    registers.insert(INTERRUPT_MESSAGES);
    let mut lines = 0;
    for &(address, first_line) in &firmware.io_apics {
        registers.insert(address.0..address.0.saturating_add(PAGE_SIZE as u64));
        lines = lines.max(io_apic::add(address, first_line));
    }
    (lines, registers)
}

/// Have the console's input interrupt us.
pub fn start_console_input(firmware: &Firmware) {
    let Some(interrupt) = console::isa_interrupt() else {
        return;
    };
    const ACTIVE_LOW: u16 = 0b11;
    const LEVEL: u16 = 0b11 << 2;
    let moved = firmware.overrides.iter().find(|moved| moved.source == interrupt);
    let line = moved.map_or(u32::from(interrupt), |moved| moved.line);
    let flags = moved.map_or(0, |moved| moved.flags);
    let mode = LineMode {
        level: flags & LEVEL == LEVEL,
        active_low: flags & ACTIVE_LOW == ACTIVE_LOW,
    };
    lines::route_console(line, mode);
    console::enable_receive_interrupt();
}

/// Describe the machine.
pub fn describe(info: &BootInfo, firmware: Firmware, lines: u32) -> Platform {
    let region = |range: &boot::MemoryRange| MemoryRegion {
        start: HostAddress(range.start),
        length: range.length,
        kind: range.kind,
    };
    Platform {
        memory_map: info.memory_map.iter().map(region).collect(),
        rsdp: firmware.root_pointer,
        acpi_tables: firmware.tables,
        overrides: firmware.overrides,
        lines,
        power_control: firmware.power_control,
        power_timer: firmware.power_timer,
        power_line: firmware.power_line,
        reset: firmware.reset,
        tsc_khz: clock::tsc_khz(),
        console_port: console::port(),
        boot_seconds: real_time_clock::seconds().saturating_sub(clock::now() / 1_000_000_000),
        loader: info.loader.clone(),
    }
}
