//! Another domain's memory, and the hypervisor's pages about a domain, mapped here.
//!
//! Each page costs dom0's kernel a hypercall to map and one to unmap: map what is needed, once.

use crate::device;
use crate::error::{Error, Result, failed};
use crate::hypervisor::Hypervisor;
use crate::shared_memory::SharedMemory;
use crate::{DomainId, PAGE_SIZE};
use hypercall_abi::memory::resource;
use rustix::io::Errno;
use std::ops::Deref;

#[repr(C)]
struct MapBatch {
    count: u32,
    domain: u16,
    address: u64,
    frames: *const u64,
    errors: *mut i32,
}

#[repr(C)]
struct MapResource {
    domain: u16,
    kind: u32,
    id: u32,
    frame: u32,
    count: u64,
    address: u64,
}

/// Pages of a domain's guest-physical memory, mapped one behind the other; unmapped when dropped.
#[doc(alias = "XENMAPSPACE_gmfn_foreign")]
pub struct ForeignMapping {
    memory: SharedMemory,
}

/// Pages that the hypervisor keeps for a domain, mapped one behind the other; unmapped when dropped.
#[doc(alias = "XENMEM_acquire_resource")]
pub struct ResourceMapping {
    memory: SharedMemory,
}

/// Which of the hypervisor's pages.
#[derive(Clone, Copy, Debug)]
pub enum Resource {
    /// Frames of the domain's grant table.
    #[doc(alias = "XENMEM_resource_grant_table")]
    GrantTable,
}

impl Hypervisor {
    /// Maps the frames with these guest frame numbers.
    #[doc(alias = "IOCTL_PRIVCMD_MMAPBATCH_V2")]
    pub fn map_foreign(&self, domain: DomainId, frames: &[u64]) -> Result<ForeignMapping> {
        let operation = "map guest memory";
        let memory = SharedMemory::map(self.privcmd(), 0, frames.len() * PAGE_SIZE, operation)?;
        let mut errors = vec![0_i32; frames.len()];
        let mut request = MapBatch {
            count: u32::try_from(frames.len()).map_err(|_| Error::new(operation, Errno::INVAL))?,
            domain: domain.0,
            address: memory.address(),
            frames: frames.as_ptr(),
            errors: errors.as_mut_ptr(),
        };
        let number = device::number(b'P', 4, size_of::<MapBatch>());
        // SAFETY: the structure is the driver's; both arrays have `count` entries and outlive the call; the
        // address is a mapping of this driver with `count` pages.
        unsafe { device::call(self.privcmd(), number, &mut request) }.map_err(failed(operation))?;
        match errors.iter().find(|error| **error != 0) {
            Some(error) => Err(Error::new(operation, Errno::from_raw_os_error(-error))),
            None => Ok(ForeignMapping { memory }),
        }
    }

    /// Maps `count` of the hypervisor's pages about a domain, from number `first` on.
    #[doc(alias = "IOCTL_PRIVCMD_MMAP_RESOURCE")]
    pub fn map_resource(
        &self,
        domain: DomainId,
        which: Resource,
        first: u32,
        count: usize,
    ) -> Result<ResourceMapping> {
        let kind = match which {
            Resource::GrantTable => resource::GRANT_TABLE.into(),
        };
        let memory = SharedMemory::map(self.privcmd(), 0, count * PAGE_SIZE, "map resource")?;
        let mut request = MapResource {
            domain: domain.0,
            kind,
            id: 0,
            frame: first,
            count: count as u64,
            address: memory.address(),
        };
        let number = device::number(b'P', 7, size_of::<MapResource>());
        // SAFETY: the structure is the driver's; the address is a mapping of this driver with `count` pages.
        unsafe { device::call(self.privcmd(), number, &mut request) }.map_err(failed("acquire resource"))?;
        Ok(ResourceMapping { memory })
    }
}

impl Deref for ForeignMapping {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        &self.memory
    }
}

impl Deref for ResourceMapping {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        &self.memory
    }
}
