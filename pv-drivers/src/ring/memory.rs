//! Access to shared memory: the only unsafe code of this crate.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Memory that another domain reads and writes at the same time, as words of 32 bits. Offsets outside read as zero and ignore
/// writes: rings never use them, and there must be no way to panic.
pub trait Memory {
    /// Its length in bytes.
    fn length(&self) -> usize;

    /// Reads the word at `offset` bytes, a multiple of four.
    fn load(&self, offset: usize, order: Ordering) -> u32;

    /// Writes the word at `offset` bytes, a multiple of four.
    fn store(&self, offset: usize, value: u32, order: Ordering);

    /// Reads one byte, unordered.
    fn load_byte(&self, offset: usize) -> u8;

    /// Writes one byte, unordered.
    fn store_byte(&self, offset: usize, value: u8);

    /// Keeps stores before it from being overtaken by loads after it.
    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }

    /// Copies bytes out, unordered; each is read once.
    fn copy_out(&self, offset: usize, buffer: &mut [u8]) {
        for (place, byte) in (offset..).zip(buffer) {
            *byte = self.load_byte(place);
        }
    }

    /// Copies bytes in, unordered.
    fn copy_in(&self, offset: usize, bytes: &[u8]) {
        for (place, byte) in (offset..).zip(bytes) {
            self.store_byte(place, *byte);
        }
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    fn length(&self) -> usize {
        (**self).length()
    }

    fn load(&self, offset: usize, order: Ordering) -> u32 {
        (**self).load(offset, order)
    }

    fn store(&self, offset: usize, value: u32, order: Ordering) {
        (**self).store(offset, value, order);
    }

    fn load_byte(&self, offset: usize) -> u8 {
        (**self).load_byte(offset)
    }

    fn store_byte(&self, offset: usize, value: u8) {
        (**self).store_byte(offset, value);
    }

    fn full_fence(&self) {
        (**self).full_fence();
    }

    fn copy_out(&self, offset: usize, buffer: &mut [u8]) {
        (**self).copy_out(offset, buffer);
    }

    fn copy_in(&self, offset: usize, bytes: &[u8]) {
        (**self).copy_in(offset, bytes);
    }
}

/// Mapped pages that are shared with another domain.
///
/// Holding one proves that the pages are mapped, readable and writable, and that nobody in this program treats them as
/// ordinary memory.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<u8>,
    length: usize,
}

impl SharedMemory {
    /// Takes over `length` bytes from `start` on.
    ///
    /// # Safety
    /// As long as the value lives, the bytes are mapped readable and writable, and this program touches them through atomic
    /// accesses only (so no reference to them exists). `start` is a multiple of four.
    #[allow(unsafe_code)]
    pub const unsafe fn new(start: NonNull<u8>, length: usize) -> Self {
        Self { start, length }
    }

    /// The address of `size` bytes at `offset`, where they lie inside and are aligned.
    #[allow(unsafe_code)]
    fn at(&self, offset: usize, size: usize) -> Option<*mut u8> {
        let inside = offset.is_multiple_of(size) && offset.checked_add(size)? <= self.length;
        // SAFETY: `offset` was just found to lie inside the mapping.
        inside.then(|| unsafe { self.start.as_ptr().add(offset) })
    }

    #[allow(unsafe_code)]
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let address = self.at(offset, size_of::<u32>())?;
        // SAFETY: mapped and aligned (`at`), and accessed atomically only (contract of `new`). The other domain's accesses are
        // outside of this program; the processor makes aligned words atomic against them.
        Some(unsafe { AtomicU32::from_ptr(address.cast()) })
    }

    #[allow(unsafe_code)]
    fn byte(&self, offset: usize) -> Option<&AtomicU8> {
        let address = self.at(offset, 1)?;
        // SAFETY: as for words.
        Some(unsafe { AtomicU8::from_ptr(address) })
    }

    /// Eight bytes at once, for copies: half as many accesses.
    #[allow(unsafe_code)]
    fn double_word(&self, offset: usize) -> Option<&AtomicU64> {
        let address = self.at(offset, size_of::<u64>())?;
        // SAFETY: as for words; that the address itself is aligned is checked here, `new` asks for four bytes only.
        (address as usize)
            .is_multiple_of(size_of::<u64>())
            .then(|| unsafe { AtomicU64::from_ptr(address.cast()) })
    }

    /// The address of its first byte.
    pub fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    /// Takes bits out of the word at `offset`, at once and with full ordering; what the word was before.
    pub fn clear_bits(&self, offset: usize, bits: u32) -> u32 {
        self.word(offset)
            .map_or(0, |word| word.fetch_and(!bits, Ordering::SeqCst))
    }

    /// Puts a word in place of one that is as expected, at once and with full ordering; else what is there instead.
    pub fn compare_exchange(&self, offset: usize, expected: u32, new: u32) -> Result<(), u32> {
        self.word(offset).map_or(Err(0), |word| {
            word.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst)
                .map(drop)
        })
    }
}

// SAFETY: the pages are accessed atomically, from whichever thread, and stay mapped as long as the value lives.
#[allow(unsafe_code)]
unsafe impl Send for SharedMemory {}

// SAFETY: as above; there is no other state.
#[allow(unsafe_code)]
unsafe impl Sync for SharedMemory {}

impl Memory for SharedMemory {
    fn length(&self) -> usize {
        self.length
    }

    fn load(&self, offset: usize, order: Ordering) -> u32 {
        self.word(offset).map_or(0, |word| word.load(order))
    }

    fn store(&self, offset: usize, value: u32, order: Ordering) {
        if let Some(word) = self.word(offset) {
            word.store(value, order);
        }
    }

    fn load_byte(&self, offset: usize) -> u8 {
        self.byte(offset).map_or(0, |byte| byte.load(Ordering::Relaxed))
    }

    fn store_byte(&self, offset: usize, value: u8) {
        if let Some(byte) = self.byte(offset) {
            byte.store(value, Ordering::Relaxed);
        }
    }

    fn copy_out(&self, offset: usize, buffer: &mut [u8]) {
        let (whole, rest) = buffer.as_chunks_mut::<8>();
        let mut place = offset;
        for chunk in whole {
            match self.double_word(place) {
                Some(word) => *chunk = word.load(Ordering::Relaxed).to_ne_bytes(),
                None => (place..)
                    .zip(chunk)
                    .for_each(|(at, byte)| *byte = self.load_byte(at)),
            }
            place += 8;
        }
        for byte in rest {
            *byte = self.load_byte(place);
            place += 1;
        }
    }

    fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut place = offset;
        for chunk in whole {
            match self.double_word(place) {
                Some(word) => word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed),
                None => (place..)
                    .zip(chunk)
                    .for_each(|(at, byte)| self.store_byte(at, *byte)),
            }
            place += 8;
        }
        for byte in rest {
            self.store_byte(place, *byte);
            place += 1;
        }
    }
}
