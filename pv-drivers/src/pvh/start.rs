//! What the loader left: command line, memory map.

use core::ops::Range;

use hypercall_abi::PAGE_SIZE;
use hypercall_abi::start_info::{MAGIC, MemoryMapEntry, Module, StartInfo, memory_kind};

use super::{bare, pool::POOL_PAGES};
use crate::front::{Error, Text};

/// Most ranges of the map, and most modules, that are looked at.
const MOST: u64 = 128;

pub struct Start {
    pub command_line: heapless::String<1024>,
    /// Pages to share.
    pub pool: Range<u64>,
    /// What is left.
    pub free: Range<u64>,
}

impl Start {
    pub fn read(address: u64) -> Result<Start, Error> {
        let information: StartInfo = bare::read(address)
            .filter(|information: &StartInfo| information.magic == MAGIC)
            .ok_or(Error::Malformed {
                node: Text::of(b"start information"),
                expected: "PVH's magic number",
                found: Text::default(),
            })?;
        let image = bare::image_end();
        let mut taken = image.max(address.saturating_add(PAGE_SIZE as u64));
        let mut command_line = heapless::String::new();
        if information.command_line_address != 0 {
            let letters = (information.command_line_address..).map_while(bare::read::<u8>);
            for letter in letters.take_while(|letter| *letter != 0) {
                if command_line.push(letter as char).is_err() {
                    break;
                }
            }
            taken = taken.max(information.command_line_address.saturating_add(PAGE_SIZE as u64));
        }
        for index in 0..u64::from(information.number_of_modules).min(MOST) {
            let at = information
                .modules_address
                .saturating_add(index * size_of::<Module>() as u64);
            if let Some(module) = bare::read::<Module>(at) {
                taken = taken.max(module.address.saturating_add(module.size));
                taken = taken.max(at.saturating_add(PAGE_SIZE as u64));
            }
        }
        let entries = u64::from(information.memory_map_entries).min(MOST);
        let map = information.memory_map_address;
        taken = taken.max(map.saturating_add(entries * size_of::<MemoryMapEntry>() as u64));
        let ram = (0..entries)
            .filter_map(|index| {
                bare::read::<MemoryMapEntry>(map.checked_add(index * size_of::<MemoryMapEntry>() as u64)?)
            })
            .filter(|entry| entry.kind == memory_kind::RAM)
            .map(|entry| entry.address..entry.address.saturating_add(entry.size).min(bare::MAPPED))
            .find(|ram| ram.start < image && image <= ram.end)
            .ok_or(Error::Malformed {
                node: Text::of(b"memory map"),
                expected: "RAM where the image lies",
                found: Text::default(),
            })?;
        let (pool, free) = divide(taken, ram.end);
        Ok(Start {
            command_line,
            pool,
            free,
        })
    }
}

/// Half of what is free is for sharing, at the end, and the rest for the kernel; the pool has its bounds.
fn divide(taken: u64, end: u64) -> (Range<u64>, Range<u64>) {
    let page = PAGE_SIZE as u64;
    // What the loader left somewhere behind RAM, or at its very end, is no place to begin at.
    let begin = taken.next_multiple_of(page).min(end);
    let end = end / page * page;
    let pages = (end.saturating_sub(begin) / page / 2).min(POOL_PAGES as u64);
    let middle = end.saturating_sub(pages * page).max(begin);
    (middle..end.max(middle), begin..middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_for_sharing_and_no_more_than_the_pool_holds() {
        const MIB: u64 = 1 << 20;
        assert_eq!(
            divide(4 * MIB - 5, 16 * MIB),
            (10 * MIB..16 * MIB, 4 * MIB..10 * MIB)
        );
        let (pool, free) = divide(4 * MIB, 1024 * MIB);
        assert_eq!((pool.end - pool.start) as usize, POOL_PAGES * PAGE_SIZE);
        assert_eq!(free, 4 * MIB..pool.start);
        let (pool, free) = divide(20 * MIB, 16 * MIB);
        assert!(pool.is_empty() && free.is_empty());
    }
}
