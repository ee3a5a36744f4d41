//! What can be wrong with a guest that is asked for.

use crate::layout::MIB;

/// Why a guest cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel file is not one we can start.
    #[error("the kernel is unusable: {0}")]
    Kernel(KernelFault),
    /// Kernel, initramfs and tables do not fit the memory.
    #[error(
        "the guest has {} MiB of memory, but its kernel and initramfs need {} MiB",
        .memory / MIB, .needed.div_ceil(MIB)
    )]
    TooLittleGuestMemory {
        /// Bytes needed from address zero up.
        needed: u64,
        /// Bytes of memory below 4 GiB.
        memory: u64,
    },
    /// The command line contains a zero byte.
    #[error("the kernel's command line contains a zero byte")]
    CommandLine,
    /// The machine has not enough free memory.
    #[error("the guest needs {} MiB, but only {} MiB are free", .needed.div_ceil(MIB), .free / MIB)]
    TooLittleFreeMemory {
        /// Bytes the guest costs.
        needed: u64,
        /// Bytes the hypervisor has free.
        free: u64,
    },
    /// The machine cannot run such guests.
    #[error("this machine cannot run hardware-assisted guests with nested paging")]
    NoHardwareAssistance,
    /// The hypervisor's saved state has no header.
    #[error("the hypervisor's state of the new domain makes no sense: {0}")]
    Context(&'static str),
    /// The hypervisor refused something.
    #[error(transparent)]
    Hypervisor(#[from] control::Error),
}

/// What is wrong with a kernel file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelFault {
    /// Neither ELF nor a Linux bzImage.
    #[error("it is neither an ELF file nor a Linux bzImage")]
    UnknownFormat,
    /// The file ends before what its headers announce.
    #[error("the file is truncated: {0}")]
    Truncated(&'static str),
    /// Compressed in a way we do not know.
    #[error("its payload is compressed in an unknown way (it starts with {0:02x?})")]
    UnknownCompression([u8; 4]),
    /// Decompression failed.
    #[error("its {format} payload is corrupt or truncated: {reason}")]
    Corrupt {
        /// The compression format.
        format: &'static str,
        /// What the decompressor says.
        reason: String,
    },
    /// It unpacks to more than the guest's memory.
    #[error("it unpacks to more than the guest's {} MiB of memory", .0 / MIB)]
    LargerThanMemory(u64),
    /// The ELF headers are malformed.
    #[error("malformed ELF file: {0}")]
    Elf(String),
    /// No entry point for PVH.
    #[error("it has no PVH entry point (ELF note Xen/18)")]
    NotPvh,
    /// Nothing to load.
    #[error("it has nothing to load")]
    Empty,
    /// The entry point is in no segment.
    #[error("its PVH entry point {0:#x} lies in none of its segments")]
    EntryOutside(u64),
}

impl From<KernelFault> for Error {
    fn from(fault: KernelFault) -> Self {
        Self::Kernel(fault)
    }
}
