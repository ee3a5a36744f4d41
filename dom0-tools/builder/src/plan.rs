//! What goes where in a guest that is to be built.

use crate::acpi;
use crate::error::Error;
use crate::layout::{ACPI_TABLES, LOW_MEMORY_LIMIT, MIB, memory_map, page_align};
use crate::start_info::StartInfo;
use control::{MemoryRange, PAGE_SIZE};
use kernel_image::{Kernel, elf_file};
use std::borrow::Cow;
use std::ops::Range;

/// A guest's size.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of memory it starts with.
    pub memory: u64,
    /// Bytes of memory it may grow to.
    pub max_memory: u64,
    /// Virtual CPUs it may get.
    pub max_vcpus: u32,
}

impl Shape {
    /// What the hypervisor sets aside for the guest's nested page tables: Xen's rule of thumb.
    pub fn paging_pool(&self) -> u64 {
        PAGE_SIZE as u64 * (256 * u64::from(self.max_vcpus) + self.max_memory.div_ceil(MIB))
    }

    /// What the guest takes from the machine's free memory, approximately and rather too much.
    pub fn cost(&self) -> u64 {
        let bookkeeping = MIB + 64 * 1024 * u64::from(self.max_vcpus);
        self.memory + self.paging_pool() + bookkeeping
    }
}

/// Bytes and their guest-physical address.
pub(crate) struct Piece<'a> {
    pub(crate) address: u64,
    contents: Contents<'a>,
}

enum Contents<'a> {
    /// A part of the unpacked kernel.
    Kernel(Range<usize>),
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

/// Everything about a guest's memory, decided.
pub struct Plan<'a> {
    pub(crate) shape: Shape,
    pub(crate) entry: u64,
    pub(crate) start_info: u64,
    pub(crate) memory_map: Vec<MemoryRange>,
    pieces: Vec<Piece<'a>>,
    zeroes: Vec<(u64, usize)>,
    /// The unpacked kernel.
    kernel: Cow<'a, [u8]>,
}

impl<'a> Plan<'a> {
    /// Decides what goes where, or says what is wrong with the kernel or the memory size.
    pub fn new(
        kernel_file: &'a [u8],
        ramdisk: Option<&'a [u8]>,
        command_line: &str,
        shape: Shape,
    ) -> Result<Self, Error> {
        if command_line.contains('\0') {
            return Err(Error::CommandLine);
        }
        let low_memory = shape.memory.min(LOW_MEMORY_LIMIT);
        let elf = elf_file(kernel_file, low_memory)?;
        let kernel = Kernel::parse(&elf)?;
        let fits = |end: u64| match end <= low_memory {
            true => Ok(()),
            false => Err(Error::TooLittleGuestMemory {
                needed: end,
                memory: low_memory,
            }),
        };
        fits(kernel.end())?;
        let ramdisk_address = page_align(kernel.end());
        let ramdisk_size = ramdisk.map_or(0, |ramdisk| ramdisk.len() as u64);
        let start_info = page_align(ramdisk_address + ramdisk_size);
        let tables = acpi::tables(shape.max_vcpus);
        let memory_map = memory_map(shape.memory);
        let block = StartInfo {
            command_line,
            ramdisk: ramdisk.map(|_| (ramdisk_address, ramdisk_size)),
            rsdp: tables.root,
            memory_map: &memory_map,
        }
        .encode(start_info);
        fits(start_info + block.len() as u64)?;

        // What a segment has beyond its part of the file is zero.
        let zeroes = kernel
            .segments
            .iter()
            .map(|segment| (segment.address, segment.file.len() as u64, segment.memory_size))
            .filter(|(_, in_file, in_memory)| in_memory > in_file)
            .map(|(address, in_file, in_memory)| (address + in_file, (in_memory - in_file) as usize))
            .collect();
        let mut pieces: Vec<Piece<'_>> = kernel
            .segments
            .into_iter()
            .map(|segment| Piece {
                address: segment.address,
                contents: Contents::Kernel(segment.file),
            })
            .collect();
        if let Some(ramdisk) = ramdisk {
            pieces.push(Piece {
                address: ramdisk_address,
                contents: Contents::Borrowed(ramdisk),
            });
        }
        pieces.push(Piece {
            address: start_info,
            contents: Contents::Owned(block),
        });
        pieces.push(Piece {
            address: ACPI_TABLES,
            contents: Contents::Owned(tables.bytes),
        });
        Ok(Self {
            shape,
            entry: kernel.entry,
            start_info,
            memory_map,
            pieces,
            zeroes,
            kernel: elf,
        })
    }

    /// What is to be written into memory: addresses and bytes.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces.iter().map(|piece| {
            let bytes = match &piece.contents {
                Contents::Kernel(part) => &self.kernel[part.clone()],
                Contents::Borrowed(bytes) => bytes,
                Contents::Owned(bytes) => bytes,
            };
            (piece.address, bytes)
        })
    }

    /// Ranges that are to be zero, beside the pieces: addresses and sizes.
    pub(crate) fn zeroes(&self) -> impl Iterator<Item = (u64, usize)> {
        self.zeroes.iter().copied()
    }

    /// The guest's size.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel_image::sample::elf;

    fn shape(memory: u64) -> Shape {
        Shape {
            memory,
            max_memory: memory,
            max_vcpus: 1,
        }
    }

    #[test]
    fn pieces_follow_each_other() {
        let kernel = elf(MIB, b"code", 0x5000, Some(0x10_0000));
        let plan = Plan::new(&kernel, Some(b"initramfs"), "quiet", shape(4 * MIB)).unwrap();
        let places: Vec<u64> = plan.pieces().map(|(address, _)| address).collect();
        assert_eq!(places, [MIB, MIB + 0x5000, MIB + 0x6000, ACPI_TABLES]);
        assert_eq!(plan.start_info, MIB + 0x6000);
        assert_eq!(plan.zeroes().collect::<Vec<_>>(), [(MIB + 4, 0x5000 - 4)]);
    }

    #[test]
    fn a_kernel_larger_than_memory_is_refused() {
        let kernel = elf(MIB, b"code", 8 * MIB, Some(0x10_0000));
        let result = Plan::new(&kernel, None, "", shape(4 * MIB));
        assert!(matches!(result, Err(Error::TooLittleGuestMemory { needed, .. }) if needed == 9 * MIB));
        let kernel = elf(u64::MAX - 3, b"code", 4, Some(u32::MAX));
        assert!(Plan::new(&kernel, None, "", shape(4 * MIB)).is_err());
    }

    #[test]
    fn a_ramdisk_larger_than_memory_is_refused() {
        let kernel = elf(MIB, b"code", 4, Some(0x10_0000));
        let ramdisk = vec![1; 4 << 20];
        let result = Plan::new(&kernel, Some(&ramdisk), "", shape(4 * MIB));
        assert!(matches!(result, Err(Error::TooLittleGuestMemory { .. })));
    }

    #[test]
    fn the_pool_is_xens() {
        assert_eq!(shape(192 * MIB).paging_pool(), 0x1c_0000);
    }
}
