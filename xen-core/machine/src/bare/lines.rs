//! Devices' interrupt lines, routed for the kernel.
//!
//! An edge is noted and that is all. A level stays until its device is served, which takes a guest and time: the line is
//! masked when it fires and let through again by [`complete`].

use core::sync::atomic::{AtomicU64, Ordering};

use super::interrupts::vector;
use super::processor::{MAX_LINES, Processor};
use super::{io_apic, processor};
use crate::{LineMode, ProcessorId};

/// Lines that are routed as level-triggered: known without a look at the controller.
static LEVEL: [AtomicU64; (MAX_LINES / 64) as usize] =
    [const { AtomicU64::new(0) }; (MAX_LINES / 64) as usize];
/// The console's own line, plus one: not for anybody else.
static CONSOLE_LINE: AtomicU64 = AtomicU64::new(0);

fn set_level(line: u32, level: bool) {
    let (word, bit) = (&LEVEL[(line / 64) as usize], 1 << (line % 64));
    if level {
        word.fetch_or(bit, Ordering::Relaxed)
    } else {
        word.fetch_and(!bit, Ordering::Relaxed)
    };
}

fn is_level(line: u32) -> bool {
    LEVEL[(line / 64) as usize].load(Ordering::Relaxed) & (1 << (line % 64)) != 0
}

/// Send the console's line to the boot processor.
pub fn route_console(line: u32, mode: LineMode) {
    CONSOLE_LINE.store(u64::from(line) + 1, Ordering::Relaxed);
    if let Some(target) = processor::get(0) {
        io_apic::route(line, mode, vector::CONSOLE, target.apic_id);
    }
}

/// Deliver a line to a processor, or to none.
pub fn route(line: u32, route: Option<(LineMode, ProcessorId)>) {
    if line >= MAX_LINES || u64::from(line) + 1 == CONSOLE_LINE.load(Ordering::Relaxed) {
        return;
    }
    match route.and_then(|(mode, id)| Some((mode, processor::get(id)?))) {
        Some((mode, target)) => {
            set_level(line, mode.level);
            io_apic::route(line, mode, vector::LINES + line as u8, target.apic_id);
        }
        None => io_apic::mask(line),
    }
}

/// A line fired on this processor.
pub fn fired(current: &Processor, line: u32) {
    if is_level(line) {
        io_apic::mask(line);
    }
    current.note_line(line);
}

/// The line's device has been served.
pub fn complete(line: u32) {
    if line < MAX_LINES && is_level(line) {
        io_apic::unmask(line);
    }
}
