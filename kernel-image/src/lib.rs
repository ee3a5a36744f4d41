//! Kernel files as distributions ship them: what to load where, and where to enter.
//!
//! Used by both who build domains: the hypervisor for the first one, the toolstack for all others. A Linux bzImage is
//! unpacked, whatever it is compressed with; an ELF file is taken as it is. Either must carry the PVH entry note. Files
//! come from outside: every header is checked, and nothing unpacks to more than the memory it is meant for.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod elf;
mod fault;
pub mod sample;
mod unpack;

pub use elf::{Kernel, Segment};
pub use fault::KernelFault;
pub use unpack::elf_file;
