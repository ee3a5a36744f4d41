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
mod cpu_pool;
mod cpu_set;
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
mod processors;
mod scheduling;
mod shared_memory;
mod store_ring;
mod system;
mod virtual_cpu;

pub use hypercall_abi::DomainId;
pub use hypercall_abi::xen::{CpuidLeaf, MsrEntry};

pub use cpu_pool::{FIRST_POOL, Pool};
pub use cpu_set::{CPU_MAX, CpuSet};
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
pub use processors::{Counter, CpuPlace};
pub use scheduling::{PoolParameters, Scheduler, Share};
pub use shared_memory::SharedMemory;
pub use store_ring::LocalStoreRing;
pub use system::{PhysicalInfo, Version};
pub use virtual_cpu::{Affinity, VcpuInfo};

/// Bytes in a page, the unit of every mapping.
pub const PAGE_SIZE: usize = 4096;
