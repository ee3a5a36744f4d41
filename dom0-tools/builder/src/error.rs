//! What can be wrong with a guest that is asked for.

use crate::layout::MIB;
use kernel_image::KernelFault;

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

impl From<KernelFault> for Error {
    fn from(fault: KernelFault) -> Self {
        Self::Kernel(fault)
    }
}
