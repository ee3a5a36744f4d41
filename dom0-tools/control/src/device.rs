//! The driver files and their ioctls.
//!
//! Linux's Xen drivers number all their ioctls with direction "none", whatever they copy.

use crate::error::{Result, failed};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, opcode};
use std::ffi::c_void;

/// Opens one of the driver files for reading and writing.
pub(crate) fn open(path: &'static str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed(path))
}

/// The number of a Xen driver's ioctl whose argument has `size` bytes.
pub(crate) const fn number(group: u8, index: u8, size: usize) -> Opcode {
    opcode::from_components(Direction::None, group, index, size)
}

struct Call<'a, T> {
    number: Opcode,
    argument: &'a mut T,
}

// SAFETY: the opcode and the argument's layout are matched by the caller of `call`, who promised so.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.number
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.argument).cast()
    }

    unsafe fn output_from_ptr(result: IoctlOutput, _: *mut c_void) -> io::Result<i32> {
        Ok(result)
    }
}

/// Issues an ioctl and returns its (non-negative) result.
///
/// # Safety
/// `argument` has the layout that the driver expects for `number`, and every address in it points to memory of
/// ours that the driver may read or write as that ioctl does.
pub(crate) unsafe fn call<T>(fd: impl AsFd, number: Opcode, argument: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise is the same.
    unsafe { rustix::ioctl::ioctl(fd, Call { number, argument }) }
}
