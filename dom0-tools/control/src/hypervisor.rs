//! The door to the hypervisor: one open `/dev/xen/privcmd`, one hypercall at a time.

use crate::PAGE_SIZE;
use crate::buffer::{Arguments, BufferSource};
use crate::device;
use crate::error::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

#[repr(C)]
struct PrivcmdHypercall {
    number: u64,
    arguments: [u64; 5],
}

/// Typed hypercalls. The methods are grouped by family in this crate's modules.
#[doc(alias = "privcmd")]
pub struct Hypervisor {
    privcmd: OwnedFd,
    buffers: BufferSource,
    /// A page kept for the many calls whose arguments fit one.
    page: Mutex<Option<Arguments>>,
}

impl Hypervisor {
    /// Opens the driver. Fails when this kernel does not run as the control domain.
    pub fn open() -> Result<Self> {
        let privcmd = device::open("/dev/xen/privcmd")?;
        Ok(Self {
            privcmd,
            buffers: BufferSource::open(),
            page: Mutex::new(None),
        })
    }

    pub(crate) fn privcmd(&self) -> BorrowedFd<'_> {
        self.privcmd.as_fd()
    }

    /// Runs `use_arguments` with room for `bytes` bytes of arguments.
    pub(crate) fn with_arguments<R>(
        &self,
        bytes: usize,
        use_arguments: impl FnOnce(&mut Arguments) -> Result<R>,
    ) -> Result<R> {
        if bytes > PAGE_SIZE {
            return use_arguments(&mut self.buffers.allocate(bytes)?);
        }
        let mut slot = self.page.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let arguments = match &mut *slot {
            Some(arguments) => arguments,
            empty => empty.insert(self.buffers.allocate(PAGE_SIZE)?),
        };
        arguments.reset();
        use_arguments(arguments)
    }

    /// Issues a hypercall and returns its result when that is no error.
    ///
    /// # Safety
    /// The call's arguments are as Xen's public interface defines them for `number`, and every address in them
    /// points into live [`Arguments`] with the room that the call reads or writes.
    pub(crate) unsafe fn call(&self, operation: &'static str, number: u64, arguments: &[u64]) -> Result<u32> {
        let mut hypercall = PrivcmdHypercall {
            number,
            arguments: [0; 5],
        };
        hypercall.arguments[..arguments.len()].copy_from_slice(arguments);
        let ioctl = device::number(b'P', 0, size_of::<PrivcmdHypercall>());
        // SAFETY: the structure is the driver's; the addresses in it are vouched for by our caller.
        let result = unsafe { device::call(&self.privcmd, ioctl, &mut hypercall) };
        result
            .map(|value| value as u32)
            .map_err(|errno| Error::new(operation, errno))
    }
}
