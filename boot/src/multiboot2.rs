//! Multiboot, version 2 (GRUB's `multiboot2`; also from UEFI).
//!
//! Layout: <https://www.gnu.org/software/grub/manual/multiboot2/multiboot.html>, section 3.6.

use crate::physical::{text, u32_at, u64_at};
use crate::{BootError, BootInfo, MemoryRange, Module, PhysicalMemory};

/// What eax holds at entry.
pub const MAGIC: u32 = 0x36d7_6289;

const SIZE_LIMIT: u32 = 1 << 20;

mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const ROOT_POINTER_1: u32 = 14;
    pub const ROOT_POINTER_2: u32 = 15;
}

pub fn read(memory: &impl PhysicalMemory, address: u64) -> Result<BootInfo, BootError> {
    let total = u32_at(memory.bytes(address, 8).ok_or(BootError::OutOfReach)?, 0)?;
    if !(16..=SIZE_LIMIT).contains(&total) {
        return Err(BootError::Malformed("total size"));
    }
    let all = memory
        .bytes(address, total as usize)
        .ok_or(BootError::OutOfReach)?;
    let mut info = BootInfo::default();
    let mut at = 8;
    loop {
        let kind = u32_at(all, at)?;
        let size = u32_at(all, at.saturating_add(4))? as usize;
        if size < 8 {
            return Err(BootError::Malformed("tag size"));
        }
        let content = all
            .get(at.saturating_add(8)..at.saturating_add(size))
            .ok_or(BootError::OutOfReach)?;
        if kind == tag::END {
            return Ok(info);
        }
        take(&mut info, kind, content)?;
        // Tags begin at multiples of eight; one that ends beyond all memory was out of reach.
        at = at.saturating_add(size.div_ceil(8).saturating_mul(8));
    }
}

fn take(info: &mut BootInfo, kind: u32, content: &[u8]) -> Result<(), BootError> {
    match kind {
        tag::COMMAND_LINE => info.command_line = text(content).trim().into(),
        tag::LOADER_NAME => info.loader = text(content),
        tag::MODULE => info.modules.push(module(content)?),
        tag::MEMORY_MAP => memory_map(info, content)?,
        // The newer structure replaces the older one, in whichever order they come.
        tag::ROOT_POINTER_2 => info.root_pointer = Some(content.into()),
        tag::ROOT_POINTER_1 if info.root_pointer.is_none() => info.root_pointer = Some(content.into()),
        _ => {}
    }
    Ok(())
}

fn module(content: &[u8]) -> Result<Module, BootError> {
    let (start, end) = (u64::from(u32_at(content, 0)?), u64::from(u32_at(content, 4)?));
    let length = end
        .checked_sub(start)
        .ok_or(BootError::Malformed("module's end"))?;
    Ok(Module {
        start,
        length,
        command_line: text(&content[8..]).trim().into(),
    })
}

fn memory_map(info: &mut BootInfo, content: &[u8]) -> Result<(), BootError> {
    let size = u32_at(content, 0)? as usize;
    if !(20..=256).contains(&size) {
        return Err(BootError::Malformed("memory map entry's size"));
    }
    for entry in content.get(8..).ok_or(BootError::OutOfReach)?.chunks_exact(size) {
        let range = MemoryRange {
            start: u64_at(entry, 0)?,
            length: u64_at(entry, 8)?,
            kind: u32_at(entry, 16)?,
        };
        info.memory_map.push(range);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::Handover;
    use crate::physical::tests::Fake;

    const BASE: u64 = 0x10_0000;

    fn with_tags(tags: &[(u32, Vec<u8>)]) -> Fake {
        let mut bytes = alloc::vec![0; 8];
        for (kind, content) in tags {
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&(content.len() as u32 + 8).to_le_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        Fake { base: BASE, bytes }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn sample() -> Fake {
        let module = [words(&[0x40_0000, 0x40_0010]), b"initrd words\0".to_vec()].concat();
        let map = words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0, 0x10_0000, 0, 0, 1, 1, 0]);
        with_tags(&[
            (tag::COMMAND_LINE, b"console=com1\0".to_vec()),
            (tag::LOADER_NAME, b"GRUB 2.06\0".to_vec()),
            (tag::MODULE, module),
            (tag::MEMORY_MAP, map),
            (tag::ROOT_POINTER_2, b"new".to_vec()),
            (tag::ROOT_POINTER_1, b"old".to_vec()),
            (99, b"unknown".to_vec()),
            (tag::END, Vec::new()),
        ])
    }

    fn parse(memory: &Fake) -> Result<BootInfo, BootError> {
        Handover::new(MAGIC, BASE as u32).read(memory)
    }

    #[test]
    fn everything_is_read() {
        let info = parse(&sample()).unwrap();
        assert_eq!(
            (info.loader.as_str(), info.command_line.as_str()),
            ("GRUB 2.06", "console=com1")
        );
        assert_eq!(
            info.modules,
            [Module {
                start: 0x40_0000,
                length: 16,
                command_line: "initrd words".into()
            }]
        );
        assert_eq!(info.memory_map.len(), 2);
        assert_eq!(
            info.memory_map[1],
            MemoryRange {
                start: 0x10_0000,
                length: 1 << 32,
                kind: 1
            }
        );
        assert_eq!(info.root_pointer.as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = sample();
        for length in 0..whole.bytes.len() {
            let cut = Fake {
                base: BASE,
                bytes: whole.bytes[..length].to_vec(),
            };
            assert_eq!(parse(&cut), Err(BootError::OutOfReach), "{length} bytes");
        }
    }

    #[test]
    fn a_smaller_total_size_is_an_error_at_every_length() {
        let whole = sample();
        for total in 0..whole.bytes.len() as u32 {
            let mut bytes = whole.bytes.clone();
            bytes[..4].copy_from_slice(&total.to_le_bytes());
            assert!(parse(&Fake { base: BASE, bytes }).is_err(), "{total} bytes");
        }
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let tiny = with_tags(&[(tag::MEMORY_MAP, words(&[0, 0])), (tag::END, Vec::new())]);
        assert_eq!(parse(&tiny), Err(BootError::Malformed("memory map entry's size")));
        let backwards = with_tags(&[(tag::MODULE, words(&[2, 1])), (tag::END, Vec::new())]);
        assert_eq!(parse(&backwards), Err(BootError::Malformed("module's end")));
        let mut endless = sample();
        endless.bytes[12..16].copy_from_slice(&0u32.to_le_bytes());
        assert_eq!(parse(&endless), Err(BootError::Malformed("tag size")));
        let mapless = with_tags(&[(tag::END, Vec::new())]);
        assert_eq!(parse(&mapless), Err(BootError::NoMemoryMap));
    }
}
