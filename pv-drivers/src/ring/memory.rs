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

    /// `length` bytes from `offset` on, as far as they lie inside: single bytes up to a multiple of eight, then eight at once, then
    /// the rest. One check for all of them: this is where a driver's time goes.
    #[allow(unsafe_code)]
    fn pieces(&self, offset: usize, length: usize) -> Pieces<'_> {
        let inside = self.length.saturating_sub(offset).min(length);
        if inside == 0 {
            return (&[], &[], &[]);
        }
        // SAFETY: `offset` lies inside of the mapping.
        let start = unsafe { self.start.as_ptr().add(offset) };
        let head = start.align_offset(size_of::<u64>()).min(inside);
        let words = (inside - head) / size_of::<u64>();
        let tail = inside - head - words * size_of::<u64>();
        if words == 0 {
            // SAFETY: `inside` bytes from `start` on are mapped and accessed atomically only (contract of `new`).
            return (
                unsafe { core::slice::from_raw_parts(start.cast(), inside) },
                &[],
                &[],
            );
        }
        // SAFETY: head, words and tail are `inside` bytes from `start` on, which are mapped and accessed atomically only (contract of
        // `new`); the words are aligned.
        unsafe {
            let middle = start.add(head);
            (
                core::slice::from_raw_parts(start.cast(), head),
                core::slice::from_raw_parts(middle.cast(), words),
                core::slice::from_raw_parts(middle.add(words * size_of::<u64>()).cast(), tail),
            )
        }
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
        let (head, words, tail) = self.pieces(offset, buffer.len());
        let (first, rest) = buffer.split_at_mut(head.len());
        let (middle, rest) = rest.split_at_mut(size_of_val(words));
        let (last, outside) = rest.split_at_mut(tail.len());
        for (byte, shared) in first.iter_mut().zip(head).chain(last.iter_mut().zip(tail)) {
            *byte = shared.load(Ordering::Relaxed);
        }
        let (blocks, shared, singles, others) = blocks(middle.as_chunks_mut().0, words);
        for (block, shared) in blocks.iter_mut().zip(shared) {
            *block = shared
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        }
        for (bytes, word) in singles.iter_mut().zip(others) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        outside.fill(0);
    }

    fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let (head, words, tail) = self.pieces(offset, bytes.len());
        let (first, rest) = bytes.split_at(head.len());
        let (middle, rest) = rest.split_at(size_of_val(words));
        for (byte, shared) in first.iter().zip(head).chain(rest.iter().zip(tail)) {
            shared.store(*byte, Ordering::Relaxed);
        }
        let (blocks, singles) = middle.as_chunks::<8>().0.as_chunks::<BLOCK>();
        let (shared, others) = words.as_chunks::<BLOCK>();
        for (block, shared) in blocks.iter().zip(shared) {
            for (bytes, word) in block.iter().zip(shared) {
                word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
        }
        for (bytes, word) in singles.iter().zip(others) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }
}

/// Words that are copied without a look at the length in between.
const BLOCK: usize = 8;

/// Bytes, words, bytes.
type Pieces<'a> = (&'a [AtomicU8], &'a [AtomicU64], &'a [AtomicU8]);

/// Blocks of bytes and of words, and what is left of both.
type Blocks<'a, 'b> = (
    &'a mut [[[u8; 8]; BLOCK]],
    &'b [[AtomicU64; BLOCK]],
    &'a mut [[u8; 8]],
    &'b [AtomicU64],
);

fn blocks<'a, 'b>(bytes: &'a mut [[u8; 8]], words: &'b [AtomicU64]) -> Blocks<'a, 'b> {
    let (blocks, singles) = bytes.as_chunks_mut::<BLOCK>();
    let (shared, others) = words.as_chunks::<BLOCK>();
    (blocks, shared, singles, others)
}
