//! What a PVH guest is handed at entry: its command line, modules, memory map and ACPI root pointer.

use control::MemoryRange;
use zerocopy::{Immutable, IntoBytes};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// What goes into the block.
pub struct StartInfo<'a> {
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Address and size of the initramfs.
    pub ramdisk: Option<(u64, u64)>,
    /// Address of the ACPI root pointer.
    pub rsdp: u64,
    /// The memory map.
    pub memory_map: &'a [MemoryRange],
}

impl StartInfo<'_> {
    /// The block with everything it points to, for loading at `address`.
    #[doc(alias = "hvm_start_info")]
    pub fn encode(&self, address: u64) -> Vec<u8> {
        let modules: Vec<Module> = self
            .ramdisk
            .iter()
            .map(|(address, size)| Module {
                address: *address,
                size: *size,
                command_line: 0,
                reserved: 0,
            })
            .collect();
        let entries: Vec<MapEntry> = self
            .memory_map
            .iter()
            .map(|range| MapEntry {
                address: range.start,
                size: range.size,
                kind: range.kind as u32,
                reserved: 0,
            })
            .collect();
        let module_list = address + size_of::<Header>() as u64;
        let memory_map = module_list + modules.as_slice().as_bytes().len() as u64;
        let command_line = memory_map + entries.as_slice().as_bytes().len() as u64;
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            flags: 0,
            modules: modules.len() as u32,
            module_list: if modules.is_empty() { 0 } else { module_list },
            command_line,
            rsdp: self.rsdp,
            memory_map,
            memory_map_entries: entries.len() as u32,
            reserved: 0,
        };
        let mut block = header.as_bytes().to_vec();
        block.extend(modules.as_slice().as_bytes());
        block.extend(entries.as_slice().as_bytes());
        block.extend(self.command_line.as_bytes());
        block.push(0);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::MemoryKind;

    #[test]
    fn pointers_point_to_their_things() {
        let map = [MemoryRange {
            start: 0,
            size: 0x1000,
            kind: MemoryKind::Ram,
        }];
        let info = StartInfo {
            command_line: "quiet",
            ramdisk: Some((0x5000, 7)),
            rsdp: 9,
            memory_map: &map,
        };
        let block = info.encode(0x8000);
        let word = |offset: usize| u64::from_le_bytes(block[offset..offset + 8].try_into().unwrap());
        let command_line = (word(24) - 0x8000) as usize;
        assert_eq!(&block[command_line..], b"quiet\0");
        assert_eq!(word((word(16) - 0x8000) as usize), 0x5000);
        assert_eq!(word((word(40) - 0x8000) as usize + 8), 0x1000);
        assert_eq!(size_of::<Header>(), 56);
    }
}
