//! Multiboot, version 1 (QEMU's `-kernel`, GRUB's `multiboot`, Bochs).
//!
//! Layout: <https://www.gnu.org/software/grub/manual/multiboot/multiboot.html>, section 3.3.

use alloc::string::String;
use alloc::vec::Vec;

use crate::physical::{string, u32_at, u64_at};
use crate::{BootError, BootInfo, MemoryRange, Module, PhysicalMemory};

/// What eax holds at entry.
pub const MAGIC: u32 = 0x2bad_b002;

const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

const INFORMATION_SIZE: usize = 0x48;
const MODULE_SIZE: usize = 16;
/// Far more than any loader passes.
const MODULE_LIMIT: u32 = 256;
const MAP_LIMIT: usize = 64 << 10;

pub fn read(memory: &impl PhysicalMemory, address: u64) -> Result<BootInfo, BootError> {
    let information = memory
        .bytes(address, INFORMATION_SIZE)
        .ok_or(BootError::OutOfReach)?;
    let flags = u32_at(information, 0)?;
    let field = |offset| u32_at(information, offset).map(u64::from);
    let mut info = BootInfo::default();
    if flags & HAS_LOADER_NAME != 0 {
        info.loader = string(memory, field(0x40)?)?;
    }
    if flags & HAS_COMMAND_LINE != 0 {
        info.command_line = words(&info.loader, &string(memory, field(0x10)?)?).into();
    }
    if flags & HAS_MODULES != 0 {
        info.modules = modules(memory, &info.loader, field(0x18)?, u32_at(information, 0x14)?)?;
    }
    if flags & HAS_MEMORY_MAP == 0 {
        return Err(BootError::NoMemoryMap);
    }
    info.memory_map = memory_map(memory, field(0x30)?, u32_at(information, 0x2c)? as usize)?;
    Ok(info)
}

/// Most loaders of version 1 begin a command line with the file's name; GRUB 2 leaves it out.
fn words<'a>(loader: &str, line: &'a str) -> &'a str {
    let line = line.trim();
    let bare = loader
        .strip_prefix("GRUB ")
        .is_some_and(|version| !version.starts_with("0."));
    let name = if bare {
        0
    } else {
        line.find(char::is_whitespace).unwrap_or(line.len())
    };
    line.get(name..).unwrap_or_default().trim_start()
}

fn modules(
    memory: &impl PhysicalMemory,
    loader: &str,
    address: u64,
    count: u32,
) -> Result<Vec<Module>, BootError> {
    if count > MODULE_LIMIT {
        return Err(BootError::Malformed("number of modules"));
    }
    let list = memory
        .bytes(address, count as usize * MODULE_SIZE)
        .ok_or(BootError::OutOfReach)?;
    let mut modules = Vec::new();
    for entry in list.chunks_exact(MODULE_SIZE) {
        let (start, end) = (u64::from(u32_at(entry, 0)?), u64::from(u32_at(entry, 4)?));
        let length = end
            .checked_sub(start)
            .ok_or(BootError::Malformed("module's end"))?;
        let line = match u32_at(entry, 8)? {
            0 => String::new(),
            address => string(memory, u64::from(address))?,
        };
        modules.push(Module {
            start,
            length,
            command_line: words(loader, &line).into(),
        });
    }
    Ok(modules)
}

fn memory_map(
    memory: &impl PhysicalMemory,
    address: u64,
    length: usize,
) -> Result<Vec<MemoryRange>, BootError> {
    if length > MAP_LIMIT {
        return Err(BootError::Malformed("memory map's length"));
    }
    let map = memory.bytes(address, length).ok_or(BootError::OutOfReach)?;
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < map.len() {
        let size = u32_at(map, at)? as usize;
        if size < 20 {
            return Err(BootError::Malformed("memory map entry's size"));
        }
        let range = MemoryRange {
            start: u64_at(map, at + 4)?,
            length: u64_at(map, at + 12)?,
            kind: u32_at(map, at + 20)?,
        };
        ranges.push(range);
        at = at.saturating_add(size).saturating_add(4);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Handover;
    use crate::physical::tests::Fake;

    const BASE: u64 = 0x9000;

    /// Information with one module, a map of two ranges out of order, and all strings.
    fn sample() -> Fake {
        let mut bytes = alloc::vec![0; 0x48];
        let append = |field: usize, data: &[u8], bytes: &mut Vec<u8>| {
            let address = BASE as u32 + bytes.len() as u32;
            bytes[field..field + 4].copy_from_slice(&address.to_le_bytes());
            bytes.extend_from_slice(data);
        };
        append(0x40, b"qemu\0", &mut bytes);
        append(
            0x10,
            b"target/xenolith.elf console=com1 dom0_mem=512M\0",
            &mut bytes,
        );
        let words = BASE as u32 + bytes.len() as u32;
        bytes.extend_from_slice(b"vmlinuz console=hvc0\0");
        let module: Vec<u8> = [0x40_0000u32, 0x40_1234, words, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        append(0x18, &module, &mut bytes);
        let mut map = Vec::new();
        for (start, length, kind) in [(0x10_0000u64, 0x1000_0000u64, 1u32), (0, 0x9fc00, 1)] {
            map.extend_from_slice(&20u32.to_le_bytes());
            map.extend_from_slice(&start.to_le_bytes());
            map.extend_from_slice(&length.to_le_bytes());
            map.extend_from_slice(&kind.to_le_bytes());
        }
        append(0x30, &map, &mut bytes);
        bytes[0x2c..0x30].copy_from_slice(&(map.len() as u32).to_le_bytes());
        bytes[0x14..0x18].copy_from_slice(&1u32.to_le_bytes());
        let flags = HAS_COMMAND_LINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME;
        bytes[0..4].copy_from_slice(&flags.to_le_bytes());
        Fake { base: BASE, bytes }
    }

    fn parse(memory: &Fake) -> Result<BootInfo, BootError> {
        Handover::new(MAGIC, BASE as u32).read(memory)
    }

    #[test]
    fn everything_is_read() {
        let info = parse(&sample()).unwrap();
        assert_eq!(info.loader, "qemu");
        assert_eq!(info.command_line, "console=com1 dom0_mem=512M");
        let module = Module {
            start: 0x40_0000,
            length: 0x1234,
            command_line: "console=hvc0".into(),
        };
        assert_eq!(info.modules, [module]);
        let starts: Vec<u64> = info.memory_map.iter().map(|range| range.start).collect();
        assert_eq!(starts, [0, 0x10_0000], "sorted");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = sample();
        for length in 0..whole.bytes.len() {
            let cut = Fake {
                base: BASE,
                bytes: whole.bytes[..length].to_vec(),
            };
            assert!(parse(&cut).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn hostile_counts_and_sizes_are_refused() {
        let mut many = sample();
        many.bytes[0x14..0x18].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&many), Err(BootError::Malformed("number of modules")));
        let mut long = sample();
        long.bytes[0x2c..0x30].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&long), Err(BootError::Malformed("memory map's length")));
        let mut mapless = sample();
        mapless.bytes[0] = 0;
        assert_eq!(parse(&mapless), Err(BootError::NoMemoryMap));
        let mut zero = sample();
        let map = u32_at(&zero.bytes, 0x30).unwrap() as usize - BASE as usize;
        zero.bytes[map] = 0;
        assert_eq!(parse(&zero), Err(BootError::Malformed("memory map entry's size")));
    }

    #[test]
    fn options_are_told_from_the_file_name() {
        assert_eq!(words("qemu", "/boot/xenolith.elf a=b c"), "a=b c");
        assert_eq!(words("GNU GRUB 0.97", "  xenolith"), "");
        assert_eq!(words("GRUB 0.97", "xenolith a"), "a");
        assert_eq!(words("GRUB 2.06-13", " dom0_mem=1G x"), "dom0_mem=1G x");
        assert_eq!(words("", ""), "");
    }

    #[test]
    fn a_foreign_magic_is_named() {
        assert_eq!(
            Handover::new(7, 0).read(&sample()),
            Err(BootError::UnknownLoader(7))
        );
    }
}
