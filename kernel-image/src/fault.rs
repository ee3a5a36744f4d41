//! What can be wrong with a kernel file.

use alloc::string::String;
use core::fmt;

const MIB: u64 = 1 << 20;

/// What is wrong with a kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelFault {
    /// Neither ELF nor a Linux bzImage.
    UnknownFormat,
    /// The file ends before what its headers announce.
    Truncated(&'static str),
    /// Compressed in a way we do not know.
    UnknownCompression([u8; 4]),
    /// Decompression failed.
    Corrupt {
        /// The compression format.
        format: &'static str,
        /// What the decompressor says.
        reason: String,
    },
    /// It unpacks to more than the guest's memory.
    LargerThanMemory(u64),
    /// The ELF headers are malformed.
    Elf(String),
    /// No entry point for PVH.
    NotPvh,
    /// Nothing to load.
    Empty,
    /// The entry point is in no segment.
    EntryOutside(u64),
}

impl fmt::Display for KernelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat => write!(f, "it is neither an ELF file nor a Linux bzImage"),
            Self::Truncated(what) => write!(f, "the file is truncated: {what}"),
            Self::UnknownCompression(magic) => {
                write!(
                    f,
                    "its payload is compressed in an unknown way (it starts with {magic:02x?})"
                )
            }
            Self::Corrupt { format, reason } => {
                write!(f, "its {format} payload is corrupt or truncated: {reason}")
            }
            Self::LargerThanMemory(limit) => {
                write!(
                    f,
                    "it unpacks to more than the guest's {} MiB of memory",
                    limit / MIB
                )
            }
            Self::Elf(reason) => write!(f, "malformed ELF file: {reason}"),
            Self::NotPvh => write!(f, "it has no PVH entry point (ELF note Xen/18)"),
            Self::Empty => write!(f, "it has nothing to load"),
            Self::EntryOutside(entry) => {
                write!(f, "its PVH entry point {entry:#x} lies in none of its segments")
            }
        }
    }
}

impl core::error::Error for KernelFault {}
