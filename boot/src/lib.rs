//! From a boot loader to [`BootInfo`].
//!
//! On the metal, [`mod@entry`] takes the processor from the loader's 32-bit mode into 64-bit Rust in the higher half. What the
//! loader left in memory is then read by [`Handover::read`]: whatever the protocol, one owned [`BootInfo`] comes out, so
//! that nothing of the loader's memory needs to be kept. The readers are safe code over a [`PhysicalMemory`] and are
//! tested on the host; information that is cut short or makes no sense is an error, never a wild access.
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

#[cfg(target_os = "none")]
pub mod entry;
mod multiboot1;
mod multiboot2;
mod physical;
pub mod ranges;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use physical::PhysicalMemory;

/// What the entry code got from the loader: a magic number in eax and an address in ebx.
#[derive(Clone, Copy, Debug)]
pub struct Handover {
    magic: u32,
    information: u32,
}

/// A stretch of the firmware's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// E820 type: 1 is usable memory.
    pub kind: u32,
}

/// A file that the loader put into memory beside us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// The words given with it, without the file's name where the loader repeats it first.
    pub command_line: String,
}

/// What the loader told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BootInfo {
    /// The loader's name and version, as it calls itself.
    pub loader: String,
    /// Our own command line.
    pub command_line: String,
    /// The firmware's memory map, sorted by address; entries of length zero are left out.
    pub memory_map: Vec<MemoryRange>,
    /// Modules in the order given.
    pub modules: Vec<Module>,
    /// A copy of ACPI's root pointer structure, from loaders that pass one.
    pub root_pointer: Option<Vec<u8>>,
}

const PAGE: u64 = 4096;
const USABLE: u32 = 1;

/// The whole pages that hold a stretch of bytes; those at the very end of all addresses lack their last one.
fn pages(start: u64, length: u64) -> core::ops::Range<u64> {
    let end = start.saturating_add(length).checked_next_multiple_of(PAGE);
    start & !(PAGE - 1)..end.unwrap_or(u64::MAX)
}

impl Module {
    /// The whole pages that it lies in.
    pub fn pages(&self) -> core::ops::Range<u64> {
        pages(self.start, self.length)
    }
}

impl BootInfo {
    /// Whole pages of usable memory.
    pub fn usable_memory(&self) -> ranges::Ranges {
        let mut usable = ranges::Ranges::new();
        for range in self.memory_map.iter().filter(|range| range.kind == USABLE) {
            let end = range.start.saturating_add(range.length) & !(PAGE - 1);
            if let Some(start) = range.start.checked_next_multiple_of(PAGE) {
                usable.insert(start..end);
            }
        }
        // Where two entries contradict each other, the less hopeful one is right.
        for range in self.memory_map.iter().filter(|range| range.kind != USABLE) {
            usable.remove(&pages(range.start, range.length));
        }
        usable
    }
}

/// Why the loader's information cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootError {
    /// The magic number is no protocol's that we know.
    UnknownLoader(u32),
    /// The information, or something it points to, lies outside memory or is cut short.
    OutOfReach,
    /// A size or a count in it makes no sense.
    Malformed(&'static str),
    /// There is no memory map in it.
    NoMemoryMap,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::UnknownLoader(magic) => write!(
                f,
                "the boot loader's magic number {magic:#x} is not multiboot's: load Xenolith with the loader's \
                 multiboot or multiboot2 command"
            ),
            BootError::OutOfReach => {
                write!(
                    f,
                    "the boot loader's information is cut short or points outside memory: use another loader"
                )
            }
            BootError::Malformed(what) => {
                write!(
                    f,
                    "the boot loader's information has a bad {what}: use another loader"
                )
            }
            BootError::NoMemoryMap => {
                write!(
                    f,
                    "the boot loader passed no memory map: use a loader that does, such as GRUB or QEMU"
                )
            }
        }
    }
}

impl Handover {
    /// The registers as the entry code found them.
    pub const fn new(magic: u32, information: u32) -> Handover {
        Handover { magic, information }
    }

    /// Read everything that the loader left in memory.
    ///
    /// # Errors
    /// [`BootError`] when it cannot be understood.
    pub fn read(self, memory: &impl PhysicalMemory) -> Result<BootInfo, BootError> {
        let mut info = match self.magic {
            multiboot1::MAGIC => multiboot1::read(memory, u64::from(self.information))?,
            multiboot2::MAGIC => multiboot2::read(memory, u64::from(self.information))?,
            other => return Err(BootError::UnknownLoader(other)),
        };
        info.memory_map
            .retain(|range| range.length != 0 && range.start.checked_add(range.length).is_some());
        if info.memory_map.is_empty() {
            return Err(BootError::NoMemoryMap);
        }
        info.memory_map.sort_by_key(|range| range.start);
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u64, u64, u32)]) -> BootInfo {
        let memory_map = ranges
            .iter()
            .map(|&(start, length, kind)| MemoryRange { start, length, kind });
        BootInfo {
            memory_map: memory_map.collect(),
            ..BootInfo::default()
        }
    }

    #[test]
    fn usable_memory_is_whole_pages_that_nobody_else_claims() {
        let info = map(&[
            (0x800, 0x9_f000, 1),
            (0x10_0000, 0x10_0000, 1),
            (0x10_1800, 0x10, 2),
        ]);
        let usable: Vec<_> = info.usable_memory().iter().cloned().collect();
        assert_eq!(
            usable,
            [0x1000..0x9_f000, 0x10_0000..0x10_1000, 0x10_2000..0x20_0000]
        );
    }

    #[test]
    fn a_map_up_to_the_end_of_all_addresses_is_no_overflow() {
        let end = u64::MAX - 5;
        let info = map(&[(0, u64::MAX, 1), (end, 3, 2), (end, 5, 1)]);
        let usable: Vec<_> = info.usable_memory().iter().cloned().collect();
        assert_eq!(
            usable,
            [core::ops::Range {
                start: 0,
                end: !0xfff
            }]
        );
        let module = Module {
            start: end,
            length: 5,
            command_line: String::new(),
        };
        assert!(!module.pages().is_empty());
    }
}
