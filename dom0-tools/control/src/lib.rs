//! Typed access to the hypervisor from dom0: the only user of `/dev/xen`.
//!
//! Everything above this crate forbids `unsafe`. What is here is safe to use whatever a guest does to the
//! memory it shares with us:
//!
//! - [`Hypervisor`]: typed hypercalls through `/dev/xen/privcmd`;
//! - [`EventChannels`]: interdomain notifications and virtual interrupts (`/dev/xen/evtchn`);
//! - [`GrantMapping`], [`GrantCopier`]: pages another domain granted to us (`/dev/xen/gntdev`);
//! - [`ForeignMapping`] and [`ResourceMapping`]: a domain's memory, and the hypervisor's pages about a domain;
//! - [`LoopDevice`]: a file as a block device, for the block backend;
//! - [`LocalStoreRing`]: the store ring of dom0's own kernel (`/dev/xen/xenbus_backend`);
//! - [`SharedMemory`]: how mapped pages are read and written.
//!
//! Nothing here retries, caches or decides: policy belongs to the callers.

mod buffer;
mod device;
mod domain;
mod error;
mod event_channel;
mod foreign;
mod grant;
mod grant_copy;
mod hvm;
mod hypervisor;
mod loop_device;
mod physmap;
mod shared_memory;
mod store_ring;
mod system;

pub use hypercall_abi::DomainId;
pub use hypercall_abi::xen::{CpuidLeaf, MsrEntry};

pub use domain::{CpuPolicy, DomainInfo, NewDomain, ShutdownReason};
pub use error::{Error, Result};
pub use event_channel::{ChannelState, ChannelStatus, EventChannels, Port, VirtualInterrupt};
pub use foreign::{ForeignMapping, Resource, ResourceMapping};
pub use grant::{GrantMapping, GrantReference};
pub use grant_copy::GrantCopier;
pub use hvm::HvmParameter;
pub use hypervisor::Hypervisor;
pub use loop_device::LoopDevice;
pub use physmap::{MemoryKind, MemoryRange};
pub use shared_memory::SharedMemory;
pub use store_ring::LocalStoreRing;
pub use system::{PhysicalInfo, Version};

/// Bytes in a page, the unit of every mapping.
pub const PAGE_SIZE: usize = 4096;
