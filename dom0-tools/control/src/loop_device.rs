//! Loop devices: block devices whose contents are a file. Block backends serve devices only.
//!
//! They are made to disappear with their last user: whoever opens one after us keeps it alive, and if all users die,
//! in whatever way, nothing is left behind.

use crate::device;
use crate::error::{Error, Result, failed};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::Opcode;
use std::path::{Path, PathBuf};

const GET_FREE: Opcode = 0x4c82;
const CONFIGURE: Opcode = 0x4c0a;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
/// How often somebody else may be faster in taking the free device.
const ATTEMPTS: usize = 32;

/// A loop device that stays while this value, or any other opener, lives.
pub struct LoopDevice {
    path: PathBuf,
    _device: OwnedFd,
}

#[repr(C)]
struct Configuration {
    file: u32,
    block_size: u32,
    information: Information,
    reserved: [u64; 8],
}

#[repr(C)]
struct Information {
    device: u64,
    inode: u64,
    device_number: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    file_name: [u8; 64],
    encryption_name: [u8; 64],
    encryption_key: [u8; 32],
    initial: [u64; 2],
}

const _: () = assert!(size_of::<Configuration>() == 8 + 232 + 64);

impl LoopDevice {
    /// Makes a device of `file`.
    pub fn attach(file: &Path, writable: bool) -> Result<Self> {
        let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let opened = rustix::fs::open(file, access | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open disk image"))?;
        let control = device::open("/dev/loop-control")?;
        for _ in 0..ATTEMPTS {
            // SAFETY: this ioctl takes no argument and ignores the pointer.
            let index = unsafe { device::call(&control, GET_FREE, &mut 0_u64) }
                .map_err(failed("find a free loop device"))?;
            let path = PathBuf::from(format!("/dev/loop{index}"));
            let device = rustix::fs::open(&path, access | OFlags::CLOEXEC, Mode::empty())
                .map_err(failed("open loop device"))?;
            match configure(&device, opened.as_fd(), file, writable) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        _device: device,
                    });
                }
                // Taken by somebody else in the meantime.
                Err(error) if error.errno == Errno::BUSY => continue,
                Err(error) => return Err(error),
            }
        }
        Err(Error::new("find a free loop device", Errno::BUSY))
    }

    /// The device file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: &OwnedFd, file: impl AsFd, name: &Path, writable: bool) -> Result<()> {
    let mut file_name = [0; 64];
    let bytes = name.as_os_str().as_encoded_bytes();
    let shown = bytes.len().min(file_name.len() - 1);
    file_name[..shown].copy_from_slice(&bytes[..shown]);
    let information = Information {
        device: 0,
        inode: 0,
        device_number: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encryption: [0; 2],
        flags: AUTOCLEAR | if writable { 0 } else { READ_ONLY },
        file_name,
        encryption_name: [0; 64],
        encryption_key: [0; 32],
        initial: [0; 2],
    };
    let file = file.as_fd().as_raw_fd() as u32;
    let mut configuration = Configuration {
        file,
        block_size: 512,
        information,
        reserved: [0; 8],
    };
    // SAFETY: the structure is the driver's and holds no addresses.
    unsafe { device::call(device, CONFIGURE, &mut configuration) }
        .map_err(failed("configure loop device"))?;
    Ok(())
}
