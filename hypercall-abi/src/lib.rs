//! Xen's public ABI for x86_64, as of Xen 4.17: numbers, structures, error codes and I/O protocols.
//!
//! One file per family, each naming the header it follows. Structures have C's layout with the padding spelled out,
//! so that they convert from and to bytes in safe code (`zerocopy`); unions are blocks of words that [`payload`]
//! reads as one of their views. Every name of ours carries Xen's as a documentation alias: searching the documentation
//! or the source for `XENMEM_populate_physmap` lands here. A test compares each size, offset and value with
//! Xen's C headers.
#![no_std]

/// Gives a structure an all-zero [`Default`] where the standard library has none for its arrays.
macro_rules! zeroed_default {
    ($structure:ty) => {
        impl Default for $structure {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}

pub mod console;
pub mod cpuid;
pub mod domain;
pub mod domctl;
pub mod elfnote;
pub mod error;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod guest_handle;
pub mod hvm;
pub mod hypercall;
pub mod io;
pub mod memory;
pub mod payload;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod start_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xen;

pub use domain::DomainId;
pub use error::Error;
pub use guest_handle::GuestHandle;

/// The frame size that all frame numbers of the ABI count in.
pub const PAGE_SIZE: usize = 4096;
