//! The ring over which dom0's own kernel speaks to the store daemon.

use crate::device;
use crate::error::{Result, failed};
use crate::shared_memory::SharedMemory;
use crate::{PAGE_SIZE, Port};
use std::ops::Deref;

/// The kernel's store page, mapped. The kernel considers the store present once its event channel is bound.
pub struct LocalStoreRing {
    memory: SharedMemory,
    port: Port,
}

impl LocalStoreRing {
    /// Maps the page and learns the port. Only the store daemon should.
    pub fn open() -> Result<Self> {
        let device = device::open("/dev/xen/xenbus_backend")?;
        let number = device::number(b'B', 0, 0);
        // SAFETY: this ioctl takes no argument and ignores the pointer.
        let port =
            unsafe { device::call(&device, number, &mut 0_u64) }.map_err(failed("store event channel"))?;
        let memory = SharedMemory::map(&device, 0, PAGE_SIZE, "map dom0's store ring")?;
        Ok(Self {
            memory,
            port: Port(port as u32),
        })
    }

    /// The kernel's port: connect to it with [`crate::EventChannels::bind_interdomain`] and [`crate::DomainId::CONTROL`].
    pub fn remote_port(&self) -> Port {
        self.port
    }
}

impl Deref for LocalStoreRing {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        &self.memory
    }
}
