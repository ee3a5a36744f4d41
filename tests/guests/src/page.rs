//! Pages that are shared with the hypervisor: every access is volatile.

use core::cell::UnsafeCell;

use zerocopy::{FromBytes, IntoBytes};

/// A page of static memory, which the hypervisor may write at any time.
#[repr(align(4096))]
pub struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: every access is a volatile copy by address; no reference into the page is ever made.
unsafe impl Sync for Page {}

impl Page {
    /// Zeroes.
    pub const fn new() -> Page {
        Page(UnsafeCell::new([0; 4096]))
    }

    /// The address; physical and virtual are the same here.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// The frame number.
    pub fn frame(&self) -> u64 {
        self.address() >> 12
    }

    /// Copies out what lies at `offset`.
    pub fn read<T: FromBytes + Copy>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= 4096 && offset.is_multiple_of(align_of::<T>()));
        read(self.address() + offset as u64)
    }

    /// Writes at `offset`.
    pub fn write<T: IntoBytes + Copy>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= 4096 && offset.is_multiple_of(align_of::<T>()));
        write(self.address() + offset as u64, value);
    }

    /// Fills it.
    pub fn fill(&self, byte: u8) {
        for offset in 0..4096 {
            self.write(offset, byte);
        }
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new()
    }
}

/// Reads physical memory outside of Rust's objects: grant mappings, rings, ballooned frames.
pub fn read<T: FromBytes + Copy>(address: u64) -> T {
    // SAFETY: all of the lower 4 GiB is mapped; callers pass pages of `Page` or memory that no Rust object lives in.
    unsafe { (address as *const T).read_volatile() }
}

/// Writes physical memory outside of Rust's objects.
pub fn write<T: IntoBytes + Copy>(address: u64, value: T) {
    // SAFETY: as for `read`.
    unsafe { (address as *mut T).write_volatile(value) }
}
