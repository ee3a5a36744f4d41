//! Where things lie in a guest's physical address space.
//!
//! Memory starts at zero and has one hole below 4 GiB, for the local APIC and the pages that guest and tools
//! share. The places are Xen's: guests do not depend on them, people who read logs do.

use control::{MemoryKind, MemoryRange, PAGE_SIZE};

/// A mebibyte.
pub const MIB: u64 = 1 << 20;
/// Memory that does not fit below goes above 4 GiB.
pub const LOW_MEMORY_LIMIT: u64 = 0xf000_0000;
const HIGH_MEMORY_START: u64 = 1 << 32;
/// ACPI tables; the root pointer lies right behind.
pub const ACPI_TABLES: u64 = 0xfc00_0000;
/// Room for the tables, root pointer included.
pub const ACPI_SIZE: u64 = 8 * PAGE_SIZE as u64;
/// The range of the pages below.
const SPECIAL_PAGES: u64 = 0xfeff_8000;
const SPECIAL_SIZE: u64 = 8 * PAGE_SIZE as u64;
/// Frame of the store ring.
pub const STORE_FRAME: u64 = 0xfeffc;
/// Frame of the identity page table that Intel's older CPUs need before the guest turns on paging.
pub const IDENTITY_TABLE_FRAME: u64 = 0xfeffe;
/// Frame of the console ring.
pub const CONSOLE_FRAME: u64 = 0xfefff;

/// The ranges of ordinary memory for this many bytes of it.
pub fn memory_ranges(memory: u64) -> Vec<MemoryRange> {
    let low = memory.min(LOW_MEMORY_LIMIT);
    let mut ranges = vec![MemoryRange {
        start: 0,
        size: low,
        kind: MemoryKind::Ram,
    }];
    if memory > low {
        ranges.push(MemoryRange {
            start: HIGH_MEMORY_START,
            size: memory - low,
            kind: MemoryKind::Ram,
        });
    }
    ranges
}

/// The memory map that the guest is given.
pub fn memory_map(memory: u64) -> Vec<MemoryRange> {
    let mut map = memory_ranges(memory);
    map.insert(
        1,
        MemoryRange {
            start: ACPI_TABLES,
            size: ACPI_SIZE,
            kind: MemoryKind::Acpi,
        },
    );
    map.insert(
        2,
        MemoryRange {
            start: SPECIAL_PAGES,
            size: SPECIAL_SIZE,
            kind: MemoryKind::Reserved,
        },
    );
    map
}

/// Rounds up to a page.
pub fn page_align(address: u64) -> u64 {
    address.next_multiple_of(PAGE_SIZE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        let map = memory_map(5 << 30);
        let total: u64 = map
            .iter()
            .filter(|range| range.kind == MemoryKind::Ram)
            .map(|range| range.size)
            .sum();
        assert_eq!(total, 5 << 30);
        assert!(
            map.windows(2)
                .all(|pair| pair[0].start + pair[0].size <= pair[1].start)
        );
    }
}
