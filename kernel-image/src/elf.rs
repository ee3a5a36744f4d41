//! What a kernel's ELF file asks to have loaded, and where it wants to be entered.

use crate::KernelFault;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;
use object::LittleEndian;
use object::elf::{FileHeader32, FileHeader64, NoteType, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// The note that holds the address of the 32-bit entry point without paging.
#[doc(alias = "XEN_ELFNOTE_PHYS32_ENTRY")]
pub(crate) const PHYS32_ENTRY: NoteType = NoteType(18);

/// A kernel ready to be loaded.
#[derive(Debug)]
pub struct Kernel {
    /// Where the first virtual CPU starts.
    pub entry: u64,
    /// What goes where.
    pub segments: Vec<Segment>,
}

/// A part of the file and its place in guest memory.
#[derive(Debug)]
pub struct Segment {
    /// Guest-physical address.
    pub address: u64,
    /// Its bytes in the file.
    pub file: Range<usize>,
    /// Bytes in memory; those beyond the file's are zero.
    pub memory_size: u64,
}

impl Kernel {
    /// Reads the headers of an ELF file.
    pub fn parse(file: &[u8]) -> Result<Self, KernelFault> {
        // The fifth byte is the class: 1 for 32 bits, 2 for 64.
        match file.get(4) {
            Some(1) => parse::<FileHeader32<LittleEndian>>(file),
            Some(2) => parse::<FileHeader64<LittleEndian>>(file),
            _ => Err(KernelFault::Truncated("the ELF header is incomplete")),
        }
    }

    /// The first address behind everything it occupies.
    pub fn end(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.address.saturating_add(segment.memory_size))
            .max()
            .unwrap_or(0)
    }
}

fn parse<Header: FileHeader<Endian = LittleEndian>>(file: &[u8]) -> Result<Kernel, KernelFault> {
    let malformed = |error: object::Error| KernelFault::Elf(error.to_string());
    let header = Header::parse(file).map_err(malformed)?;
    let endian = header.endian().map_err(malformed)?;
    let program = header.program_headers(endian, file).map_err(malformed)?;
    let mut segments = Vec::new();
    let mut entry = None;
    for part in program {
        if let Some(notes) = part.notes(endian, file).map_err(malformed)? {
            entry = entry.or(find_entry::<Header>(notes, endian)?);
        }
        if part.p_type(endian) == PT_LOAD && part.p_memsz(endian).into() != 0 {
            segments.push(segment(part, endian, file.len())?);
        }
    }
    let entry = entry.ok_or(KernelFault::NotPvh)?;
    if segments.is_empty() {
        return Err(KernelFault::Empty);
    }
    let holds_entry = |segment: &Segment| entry.wrapping_sub(segment.address) < segment.memory_size;
    if !segments.iter().any(holds_entry) {
        return Err(KernelFault::EntryOutside(entry));
    }
    Ok(Kernel { entry, segments })
}

fn segment<Part: ProgramHeader<Endian = LittleEndian>>(
    part: &Part,
    endian: LittleEndian,
    file_size: usize,
) -> Result<Segment, KernelFault> {
    let (start, size) = part.file_range(endian);
    let memory_size = part.p_memsz(endian).into();
    let end = start.checked_add(size).filter(|end| *end <= file_size as u64);
    let end = end.ok_or(KernelFault::Truncated(
        "a segment lies behind the end of the file",
    ))?;
    if size > memory_size {
        return Err(KernelFault::Elf(
            "a segment is larger in the file than in memory".into(),
        ));
    }
    Ok(Segment {
        address: part.p_paddr(endian).into(),
        file: start as usize..end as usize,
        memory_size,
    })
}

fn find_entry<Header: FileHeader<Endian = LittleEndian>>(
    mut notes: object::read::elf::NoteIterator<'_, Header>,
    endian: LittleEndian,
) -> Result<Option<u64>, KernelFault> {
    while let Some(note) = notes
        .next()
        .map_err(|error| KernelFault::Elf(error.to_string()))?
    {
        if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
            let low = note.desc().first_chunk::<4>();
            return Ok(low.map(|bytes| u64::from(u32::from_le_bytes(*bytes))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::sample::elf;

    #[test]
    fn segments_and_entry_are_found() {
        let file = elf(0x10_0000, b"code", 0x3000, Some(0x10_0002));
        let kernel = Kernel::parse(&file).unwrap();
        assert_eq!(kernel.entry, 0x10_0002);
        assert_eq!(&file[kernel.segments[0].file.clone()], b"code");
        assert_eq!(kernel.end(), 0x10_3000);
    }

    #[test]
    fn no_note_is_no_pvh_kernel() {
        assert_eq!(
            Kernel::parse(&elf(0x10_0000, b"code", 4, None)).unwrap_err(),
            KernelFault::NotPvh
        );
    }

    #[test]
    fn the_entry_must_be_loaded() {
        let fault = Kernel::parse(&elf(0x10_0000, b"code", 4, Some(0x10_0004))).unwrap_err();
        assert_eq!(fault, KernelFault::EntryOutside(0x10_0004));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let file = elf(0x10_0000, b"code", 0x3000, Some(0x10_0000));
        for length in 4..file.len() {
            assert!(Kernel::parse(&file[..length]).is_err(), "accepted {length} bytes");
        }
    }

    #[test]
    fn every_flipped_byte_is_survived() {
        let file = elf(0x10_0000, b"code", 0x3000, Some(0x10_0000));
        for position in 4..file.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = file.clone();
                broken[position] = value;
                let _ = Kernel::parse(&broken);
            }
        }
    }
}
