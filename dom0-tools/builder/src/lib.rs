//! Builds PVH guests.
//!
//! The work has two halves. [`Plan::new`] is arithmetic on bytes: it unpacks the kernel image, finds its entry
//! point, and decides what lies where in the guest's memory; everything that can be wrong with a kernel, an
//! initramfs or a memory size is found there, before the hypervisor hears of the guest. [`build`] then makes
//! the domain: memory, contents, first rings, processor state. It leaves the domain paused.

mod acpi;
mod build;
mod cpu_policy;
mod cpu_state;
mod error;
mod guest_memory;
mod layout;
mod plan;
mod start_info;

pub use build::{Built, Step, build, check_machine};
pub use error::Error;
pub use kernel_image::KernelFault;
pub use plan::{Plan, Shape};
