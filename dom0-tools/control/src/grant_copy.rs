//! Copying into pages that another domain grants, without mapping them.
//!
//! The hypervisor copies; one call moves several pages, where a mapping costs two calls for each.

use crate::device;
use crate::error::{Error, Result, failed};
use crate::shared_memory::SharedMemory;
use crate::{DomainId, GrantReference, PAGE_SIZE};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Pages copied in one go.
const BATCH: usize = 256;
/// The target is a grant reference; the source is memory of ours.
#[doc(alias = "GNTCOPY_dest_gref")]
const TARGET_IS_GRANT: u16 = 2;

/// Copies bytes into granted pages.
#[doc(alias = "GNTTABOP_copy")]
pub struct GrantCopier {
    device: OwnedFd,
    /// Page-aligned, so that each page is one operation for the hypervisor.
    source: SharedMemory,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    source: u64,
    reference: u32,
    offset: u16,
    domain: u16,
    length: u16,
    flags: u16,
    status: i16,
    pad: u16,
}

#[repr(C)]
struct Request {
    count: u32,
    segments: *mut Segment,
}

impl GrantCopier {
    /// Opens the driver.
    pub fn open() -> Result<Self> {
        let device = device::open("/dev/xen/gntdev")?;
        Ok(Self {
            device,
            source: SharedMemory::anonymous(BATCH * PAGE_SIZE, "copy buffer")?,
        })
    }

    /// Copies bytes, at most a page of them each, to the start of pages that `domain` grants.
    pub fn write(&self, domain: DomainId, pages: &[(GrantReference, &[u8])]) -> Result<()> {
        pages
            .chunks(BATCH)
            .try_for_each(|batch| self.write_batch(domain, batch))
    }

    fn write_batch(&self, domain: DomainId, batch: &[(GrantReference, &[u8])]) -> Result<()> {
        let operation = "copy to granted pages";
        let mut segments = Vec::with_capacity(batch.len());
        for (slot, (reference, bytes)) in batch.iter().enumerate() {
            if bytes.len() > PAGE_SIZE {
                return Err(Error::new(operation, Errno::INVAL));
            }
            let offset = slot * PAGE_SIZE;
            self.source.write_bytes(offset, bytes);
            segments.push(Segment {
                source: self.source.address() + offset as u64,
                reference: reference.0,
                offset: 0,
                domain: domain.0,
                length: bytes.len() as u16,
                flags: TARGET_IS_GRANT,
                status: 0,
                pad: 0,
            });
        }
        let mut request = Request {
            count: segments.len() as u32,
            segments: segments.as_mut_ptr(),
        };
        let number = device::number(b'G', 8, size_of::<Request>());
        // SAFETY: the structure is the driver's; the segments outlive the call, are as many as `count`, and
        // their sources lie within the buffer.
        unsafe { device::call(&self.device, number, &mut request) }.map_err(failed(operation))?;
        match segments.iter().any(|segment| segment.status != 0) {
            true => Err(Error::new(operation, Errno::FAULT)),
            false => Ok(()),
        }
    }
}
