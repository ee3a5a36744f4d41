//! Pages to share: a stretch of RAM behind everything else.

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use hypercall_abi::PAGE_SIZE;
use spin::Mutex;

use super::bare;
use crate::front::Error;
use crate::ring::{Memory, SharedMemory};

/// Pages that are kept for sharing: as many as fit in half of what is free, and never more than these (8 MiB).
pub const POOL_PAGES: usize = 2048;

pub struct Pool {
    /// Its first byte.
    start: u64,
    pages: usize,
    /// A bit for each page in use.
    used: Mutex<[u64; POOL_PAGES / 64]>,
}

impl Pool {
    pub fn begin(range: &Range<u64>) -> Result<Pool, Error> {
        let pages = ((range.end - range.start) as usize / PAGE_SIZE).min(POOL_PAGES);
        if pages == 0 {
            return Err(Error::OutOfPages { wanted: 1 });
        }
        Ok(Pool {
            start: range.start,
            pages,
            used: Mutex::new([0; POOL_PAGES / 64]),
        })
    }

    pub fn allocate(&self, count: usize) -> Result<SharedMemory, Error> {
        let none = Error::OutOfPages { wanted: count };
        let first = self.take(count).ok_or(none.clone())?;
        let address = self.start + (first * PAGE_SIZE) as u64;
        let pages = bare::physical(address, count * PAGE_SIZE).ok_or(none)?;
        for word in (0..count * PAGE_SIZE).step_by(4) {
            pages.store(word, 0, Relaxed);
        }
        Ok(pages)
    }

    pub fn release(&self, pages: SharedMemory) {
        let first = (pages.address() as u64).wrapping_sub(self.start) as usize / PAGE_SIZE;
        let mut used = self.used.lock();
        for page in first..first.saturating_add(pages.length() / PAGE_SIZE).min(self.pages) {
            used[page / 64] &= !(1 << (page % 64));
        }
    }

    /// The first run of `count` free pages.
    fn take(&self, count: usize) -> Option<usize> {
        let mut used = self.used.lock();
        let mut run = 0;
        for page in 0..self.pages {
            run = if used[page / 64] >> (page % 64) & 1 == 0 {
                run + 1
            } else {
                0
            };
            if run == count && count > 0 {
                let first = page + 1 - count;
                for page in first..=page {
                    used[page / 64] |= 1 << (page % 64);
                }
                return Some(first);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_given_once() {
        let pool = Pool::begin(&(0..8 * PAGE_SIZE as u64)).unwrap();
        assert_eq!(
            (pool.take(3), pool.take(5), pool.take(1)),
            (Some(0), Some(3), None)
        );
        assert_eq!(pool.take(0), None);
        assert!(Pool::begin(&(0..100)).is_err());
    }
}
