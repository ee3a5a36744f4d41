//! Xen's PV device protocols without the standard library: any Rust kernel becomes a guest, on Xenolith and on Xen.
//!
//! | | |
//! |---|---|
//! | [`ring`] | both ends of the rings that two domains share; for frontends, and for backends and daemons |
//! | [`front`] (feature `front`) | store, console, block and network for a guest kernel that implements one small trait |
//! | `pvh` (feature `pvh`, x86_64) | that trait for PVH guests: entry, start information, hypercalls, grants, events, clock |
//! | `front::net::phy` (feature `smoltcp`) | the network as a device of `smoltcp` |
//! | `front::block::card` (feature `embedded-sdmmc`) | the disk as a block device of `embedded-sdmmc`, which reads FAT |
//!
//! To begin with: the example `echo` and its walk-through in the manual (`docs/manual/pv-drivers.md`).
//!
//! `unsafe` is in two places only: `ring/memory.rs` (access to shared memory) and `pvh/` (a processor below which is
//! a hypervisor). Everything that judges what another domain says is safe code that also runs on the host, where it is
//! tested against hostile backends.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "front")]
pub mod front;
#[cfg(all(feature = "pvh", target_arch = "x86_64"))]
pub mod pvh;
pub mod ring;
#[cfg(feature = "testing")]
pub mod testing;
