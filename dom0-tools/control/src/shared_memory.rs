//! Mapped pages that somebody else may change at any moment.
//!
//! No reference into such a page is ever made: bytes are copied in and out by volatile accesses, and the indices
//! of rings by atomic ones. Offsets are checked against the mapping: an offset taken from a guest by mistake can
//! end this process, never reach other memory.

use crate::error::{Result, failed};
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A range of mapped, shared memory; unmapped when dropped.
#[derive(Debug)]
pub struct SharedMemory {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: all accesses are volatile or atomic, which any thread may do; the mapping belongs to the process.
unsafe impl Send for SharedMemory {}
// SAFETY: as above; there is no interior state but the shared memory itself.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps `length` bytes of a driver's file at `offset`.
    pub(crate) fn map(fd: impl AsFd, offset: u64, length: usize, operation: &'static str) -> Result<Self> {
        Self::map_with(fd, offset, length, MapFlags::SHARED, operation)
    }

    pub(crate) fn map_with(
        fd: impl AsFd,
        offset: u64,
        length: usize,
        flags: MapFlags,
        operation: &'static str,
    ) -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a fresh address, so no existing memory is affected.
        let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, fd, offset) };
        let base = NonNull::new(base.map_err(failed(operation))?.cast());
        Ok(Self {
            base: base.expect("mmap gives no null"),
            length,
        })
    }

    /// Fresh memory of this process, for drivers to read from.
    pub(crate) fn anonymous(length: usize, operation: &'static str) -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a fresh address, so no existing memory is affected.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, MapFlags::PRIVATE)
        };
        let base = NonNull::new(base.map_err(failed(operation))?.cast()).expect("mmap gives no null");
        Ok(Self { base, length })
    }

    /// Takes over a mapping made elsewhere in this crate.
    ///
    /// # Safety
    /// `base` is the start of a readable and writable mapping of `length` bytes that nobody else unmaps.
    pub(crate) unsafe fn from_mapping(base: NonNull<u8>, length: usize) -> Self {
        Self { base, length }
    }

    /// Where the mapping starts, for the driver.
    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Bytes mapped.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Reads the byte at `offset`. Panics when it lies outside.
    pub fn load_u8(&self, offset: usize, ordering: Ordering) -> u8 {
        // SAFETY: `pointer` checked the range; any byte is a valid atomic byte, and nobody has references here.
        unsafe { AtomicU8::from_ptr(self.pointer(offset, 1)) }.load(ordering)
    }

    /// Reads the aligned 32-bit word at `offset`. Panics when it lies outside or is not aligned.
    pub fn load_u32(&self, offset: usize, ordering: Ordering) -> u32 {
        self.word(offset).load(ordering)
    }

    /// Writes the aligned 32-bit word at `offset`. Panics when it lies outside or is not aligned.
    pub fn store_u32(&self, offset: usize, value: u32, ordering: Ordering) {
        self.word(offset).store(value, ordering);
    }

    /// Copies bytes out, starting at `offset`. Panics when they lie outside.
    pub fn read_bytes(&self, offset: usize, target: &mut [u8]) {
        let mut source = self.pointer(offset, target.len());
        let (head, words, tail) = split_for_words(source as usize, target);
        for byte in head {
            // SAFETY: within the range that `pointer` checked.
            *byte = unsafe { source.read_volatile() };
            source = source.wrapping_add(1);
        }
        for word in words {
            // SAFETY: within the checked range, and aligned: `split_for_words` aligned the shared side.
            *word = unsafe { source.cast::<u64>().read_volatile() }.to_ne_bytes();
            source = source.wrapping_add(8);
        }
        for byte in tail {
            // SAFETY: within the range that `pointer` checked.
            *byte = unsafe { source.read_volatile() };
            source = source.wrapping_add(1);
        }
    }

    /// Copies bytes in, starting at `offset`. Panics when they lie outside.
    pub fn write_bytes(&self, offset: usize, source: &[u8]) {
        let mut target = self.pointer(offset, source.len());
        let unaligned = (target as usize).wrapping_neg() % 8;
        let (head, rest) = source.split_at(unaligned.min(source.len()));
        let (words, tail) = rest.as_chunks::<8>();
        for byte in head {
            // SAFETY: within the range that `pointer` checked.
            unsafe { target.write_volatile(*byte) };
            target = target.wrapping_add(1);
        }
        for word in words {
            // SAFETY: within the checked range, and aligned: the head took the unaligned bytes.
            unsafe { target.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)) };
            target = target.wrapping_add(8);
        }
        for byte in tail {
            // SAFETY: within the range that `pointer` checked.
            unsafe { target.write_volatile(*byte) };
            target = target.wrapping_add(1);
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4),
            "a shared word at {offset} is not aligned"
        );
        let pointer = self.pointer(offset, 4).cast::<u32>();
        // SAFETY: in range and aligned (mappings start at a page); only atomics touch it while we look.
        unsafe { AtomicU32::from_ptr(pointer) }
    }

    fn pointer(&self, offset: usize, length: usize) -> *mut u8 {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.length),
            "{length} bytes at {offset} lie outside shared memory"
        );
        self.base.as_ptr().wrapping_add(offset)
    }
}

/// Splits `target` so that its middle corresponds to aligned 64-bit words at `address`.
fn split_for_words(address: usize, target: &mut [u8]) -> (&mut [u8], &mut [[u8; 8]], &mut [u8]) {
    let unaligned = address.wrapping_neg() % 8;
    let (head, rest) = target.split_at_mut(unaligned.min(target.len()));
    let (words, tail) = rest.as_chunks_mut::<8>();
    (head, words, tail)
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping and nobody holds references into it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(length: usize) -> SharedMemory {
        SharedMemory::anonymous(length, "test").unwrap()
    }

    #[test]
    fn bytes_survive_every_alignment() {
        let memory = anonymous(4096);
        let data: Vec<u8> = (1..=40).collect();
        for offset in 0..10 {
            for length in 0..data.len() {
                memory.write_bytes(offset, &data[..length]);
                let mut back = vec![0; length];
                memory.read_bytes(offset, &mut back);
                assert_eq!(back, data[..length]);
            }
        }
    }

    #[test]
    fn words_are_native() {
        let memory = anonymous(4096);
        memory.store_u32(4092, 0x0102_0304, Ordering::Release);
        assert_eq!(memory.load_u8(4092, Ordering::Relaxed), 4);
        assert_eq!(memory.load_u32(4092, Ordering::Acquire), 0x0102_0304);
    }

    #[test]
    #[should_panic(expected = "outside shared memory")]
    fn outside_is_refused() {
        anonymous(4096).write_bytes(4090, &[0; 7]);
    }
}
