//! Pages that other domains granted to us.

use crate::device;
use crate::error::{Result, failed};
use crate::shared_memory::SharedMemory;
use crate::{DomainId, PAGE_SIZE};
use hypercall_abi::grant_table::reserved;
use rustix::fd::OwnedFd;
use std::ops::Deref;

/// An entry of a domain's grant table.
#[doc(alias = "grant_ref_t")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantReference(pub u32);

/// Entries that the toolstack fills in before a domain starts, so that daemons can map its first two rings.
impl GrantReference {
    /// The guest's console ring.
    #[doc(alias = "GNTTAB_RESERVED_CONSOLE")]
    pub const CONSOLE: GrantReference = GrantReference(reserved::CONSOLE);
    /// The guest's store ring.
    #[doc(alias = "GNTTAB_RESERVED_XENSTORE")]
    pub const STORE: GrantReference = GrantReference(reserved::XENSTORE);
}

/// Granted pages, mapped one behind the other. Dropping it gives them back.
///
/// It has the device open for itself: whatever happens, the kernel unmaps with it.
pub struct GrantMapping {
    memory: SharedMemory,
    _device: OwnedFd,
}

#[repr(C)]
struct MapRequest<const PAGES: usize> {
    count: u32,
    pad: u32,
    index: u64,
    references: [[u32; 2]; PAGES],
}

impl GrantMapping {
    /// Maps one granted page for reading and writing.
    #[doc(alias = "GNTTABOP_map_grant_ref")]
    pub fn map(domain: DomainId, reference: GrantReference) -> Result<Self> {
        Self::map_all([(domain, reference)])
    }

    /// Maps several granted pages.
    pub fn map_all<const PAGES: usize>(references: [(DomainId, GrantReference); PAGES]) -> Result<Self> {
        let device = device::open("/dev/xen/gntdev")?;
        let references = references.map(|(domain, reference)| [u32::from(domain.0), reference.0]);
        let mut request = MapRequest {
            count: PAGES as u32,
            pad: 0,
            index: 0,
            references,
        };
        // The driver's number is that of the structure with one reference, whatever the count.
        let number = device::number(b'G', 0, size_of::<MapRequest<1>>());
        // SAFETY: the structure is the driver's, with as many references as `count` says.
        unsafe { device::call(&device, number, &mut request) }.map_err(failed("map grant reference"))?;
        let memory = SharedMemory::map(&device, request.index, PAGES * PAGE_SIZE, "map granted page")?;
        Ok(Self {
            memory,
            _device: device,
        })
    }
}

impl Deref for GrantMapping {
    type Target = SharedMemory;

    fn deref(&self) -> &SharedMemory {
        &self.memory
    }
}
