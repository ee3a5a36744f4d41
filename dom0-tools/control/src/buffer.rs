//! Memory for hypercall arguments.
//!
//! The hypervisor reads and writes arguments at our virtual addresses and cannot take a page fault there, so the
//! pages must stay present. The kernel's `/dev/xen/hypercall` gives such pages; older kernels lack it, and locked
//! anonymous memory serves (unless the kernel migrates a page at the wrong moment: hence second choice).

use crate::PAGE_SIZE;
use crate::error::{Result, failed};
use crate::shared_memory::SharedMemory;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::marker::PhantomData;
use std::ptr::NonNull;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Where argument pages come from.
pub(crate) struct BufferSource {
    device: Option<OwnedFd>,
}

impl BufferSource {
    pub(crate) fn open() -> Self {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        Self {
            device: rustix::fs::open("/dev/xen/hypercall", flags, Mode::empty()).ok(),
        }
    }

    /// Pages for at least `bytes` bytes.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<Arguments> {
        let length = bytes.max(1).next_multiple_of(PAGE_SIZE);
        let pages = match &self.device {
            Some(device) => SharedMemory::map(device.as_fd(), 0, length, "hypercall buffer")?,
            None => locked_memory(length)?,
        };
        Ok(Arguments { pages, used: 0 })
    }
}

fn locked_memory(length: usize) -> Result<SharedMemory> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::LOCKED | MapFlags::POPULATE;
    // SAFETY: the kernel chooses a fresh address, so no existing memory is affected.
    let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, flags) };
    let base = NonNull::new(base.map_err(failed("hypercall buffer"))?.cast()).expect("mmap gives no null");
    // SAFETY: the mapping was just made with this length, readable and writable.
    Ok(unsafe { SharedMemory::from_mapping(base, length) })
}

/// One hypercall's arguments, laid one behind the other.
pub(crate) struct Arguments {
    pages: SharedMemory,
    used: usize,
}

/// The place of a `T` among the arguments.
pub(crate) struct Placed<T: ?Sized> {
    offset: usize,
    /// The address that the hypervisor is told.
    pub(crate) address: u64,
    kind: PhantomData<T>,
}

impl<T: ?Sized> Clone for Placed<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Placed<T> {}

impl Arguments {
    /// Bytes that `count` values of `T` may take, with alignment.
    pub(crate) const fn room_for<T>(count: usize) -> usize {
        size_of::<T>() * count + 16
    }

    pub(crate) fn place<T: IntoBytes + Immutable + ?Sized>(&mut self, value: &T) -> Placed<T> {
        let offset = self.used.next_multiple_of(16);
        self.pages.write_bytes(offset, value.as_bytes());
        self.used = offset + value.as_bytes().len();
        Placed {
            offset,
            address: self.pages.address() + offset as u64,
            kind: PhantomData,
        }
    }

    /// Reads back what the hypervisor left there.
    pub(crate) fn get<T: FromBytes + IntoBytes>(&self, placed: Placed<T>) -> T {
        let mut value = T::new_zeroed();
        self.pages.read_bytes(placed.offset, value.as_mut_bytes());
        value
    }

    pub(crate) fn get_slice<T: FromBytes + IntoBytes>(&self, placed: Placed<[T]>, target: &mut [T]) {
        self.pages.read_bytes(placed.offset, target.as_mut_bytes());
    }

    pub(crate) fn reset(&mut self) {
        self.used = 0;
    }
}

/// Zeroed values to be filled by the hypervisor.
pub(crate) fn zeroed<T: FromZeros + Clone>(count: usize) -> Vec<T> {
    vec![T::new_zeroed(); count]
}
