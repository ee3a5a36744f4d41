//! Atomics of those hand-overs that `loom` tries in every order (`presence`): usually the same as all others.

#[cfg(not(loom))]
pub use super::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
pub use trial::{AtomicU64, Ordering};

#[cfg(loom)]
mod trial {
    pub use loom::sync::atomic::Ordering;
    use loom::sync::atomic::{self, fence};

    /// Loom's atomic. Of sequential consistency loom knows fences only, so such accesses are made of them, as on the
    /// processors that we run on: a store or a read-modify-write is a full fence, a load is not.
    #[derive(Debug)]
    pub struct AtomicU64(atomic::AtomicU64);

    impl AtomicU64 {
        /// A word that threads share.
        pub fn new(value: u64) -> Self {
            AtomicU64(atomic::AtomicU64::new(value))
        }

        /// Read.
        pub fn load(&self, order: Ordering) -> u64 {
            match order {
                Ordering::SeqCst => self.0.load(Ordering::Acquire),
                weaker => self.0.load(weaker),
            }
        }

        /// Write.
        pub fn store(&self, value: u64, order: Ordering) {
            match order {
                Ordering::SeqCst => {
                    self.0.store(value, Ordering::Release);
                    fence(Ordering::SeqCst);
                }
                weaker => self.0.store(value, weaker),
            }
        }

        /// Add, and say what was there.
        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            match order {
                Ordering::SeqCst => {
                    fence(Ordering::SeqCst);
                    let before = self.0.fetch_add(value, Ordering::AcqRel);
                    fence(Ordering::SeqCst);
                    before
                }
                weaker => self.0.fetch_add(value, weaker),
            }
        }
    }
}
