//! Small ELF files for tests: ours and those of who loads kernels.

use alloc::vec::Vec;

use crate::elf::PHYS32_ENTRY;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

fn program_header(kind: u32, offset: usize, address: u64, file_size: usize, memory_size: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(7_u32.to_le_bytes());
    header.extend((offset as u64).to_le_bytes());
    header.extend(address.to_le_bytes());
    header.extend(address.to_le_bytes());
    header.extend((file_size as u64).to_le_bytes());
    header.extend(memory_size.to_le_bytes());
    header.extend(4_u64.to_le_bytes());
    header
}

/// An ELF file with one segment and, when asked for, the note.
pub fn elf(address: u64, contents: &[u8], memory_size: u64, entry: Option<u32>) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4, 4, PHYS32_ENTRY.0] {
        note.extend(word.to_le_bytes());
    }
    note.extend(if entry.is_some() { b"Xen\0" } else { b"Zen\0" });
    note.extend(entry.unwrap_or(0).to_le_bytes());
    let note_offset = HEADER + 2 * PROGRAM_HEADER;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([0; 8]);
    file.extend((HEADER as u64).to_le_bytes());
    file.extend([0; 12]);
    for half in [HEADER, PROGRAM_HEADER, 2, 0, 0, 0] {
        file.extend((half as u16).to_le_bytes());
    }
    file.extend(program_header(4, note_offset, 0, note.len(), 0));
    file.extend(program_header(
        1,
        note_offset + note.len(),
        address,
        contents.len(),
        memory_size,
    ));
    file.extend(note);
    file.extend(contents);
    file
}
