//! What a PVH guest is handed at entry: its command line, modules, memory map and ACPI root pointer.

use control::MemoryRange;
use hypercall_abi::start_info::{self, MAGIC, MemoryMapEntry, Module, VERSION};
use zerocopy::IntoBytes;

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
            .map(|&(address, size)| Module {
                address,
                size,
                ..Module::default()
            })
            .collect();
        let entry = |range: &MemoryRange| MemoryMapEntry {
            address: range.start,
            size: range.size,
            kind: range.kind as u32,
            _reserved: 0,
        };
        let entries: Vec<MemoryMapEntry> = self.memory_map.iter().map(entry).collect();
        let modules_address = address + size_of::<start_info::StartInfo>() as u64;
        let memory_map_address = modules_address + modules.as_slice().as_bytes().len() as u64;
        let header = start_info::StartInfo {
            magic: MAGIC,
            version: VERSION,
            flags: 0,
            number_of_modules: modules.len() as u32,
            modules_address: if modules.is_empty() { 0 } else { modules_address },
            command_line_address: memory_map_address + entries.as_slice().as_bytes().len() as u64,
            rsdp_address: self.rsdp,
            memory_map_address,
            memory_map_entries: entries.len() as u32,
            _reserved: 0,
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
    }
}
