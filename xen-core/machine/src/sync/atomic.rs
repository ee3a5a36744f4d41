//! Atomics that processors hand things over by.
//!
//! On the metal they are the language's own. On the host each access that orders others (all but relaxed ones) is a
//! point at which a simulator may let another processor run, so that hand-overs without a lock are explored as well.

#[cfg(target_os = "none")]
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

#[cfg(not(target_os = "none"))]
pub use host::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence};

pub use core::sync::atomic::Ordering;

#[cfg(not(target_os = "none"))]
mod host {
    use core::sync::atomic::{self, Ordering};

    use crate::sync::interleave;

    #[inline]
    fn point(order: Ordering) {
        if order != Ordering::Relaxed {
            interleave();
        }
    }

    /// A fence, and a point at which another processor may run.
    #[inline]
    pub fn fence(order: Ordering) {
        interleave();
        atomic::fence(order);
    }

    macro_rules! atomic {
        ($name:ident, $value:ty, { $($more:tt)* }) => {
            #[doc = concat!("[`core::sync::atomic::", stringify!($name), "`], whose ordering accesses are points of interleaving.")]
            #[derive(Default, Debug)]
            #[repr(transparent)]
            pub struct $name(atomic::$name);

            #[allow(missing_docs, reason = "as in core")]
            impl $name {
                #[inline]
                pub const fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }

                #[inline]
                pub fn load(&self, order: Ordering) -> $value {
                    point(order);
                    self.0.load(order)
                }

                #[inline]
                pub fn store(&self, value: $value, order: Ordering) {
                    point(order);
                    self.0.store(value, order);
                }

                #[inline]
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    point(order);
                    self.0.swap(value, order)
                }

                #[inline]
                pub fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    point(success);
                    self.0.compare_exchange(current, new, success, failure)
                }

                /// Never fails without a reason here, so that runs can be repeated.
                #[inline]
                pub fn compare_exchange_weak(
                    &self,
                    current: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(current, new, success, failure)
                }

                #[inline]
                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    point(order);
                    self.0.fetch_or(value, order)
                }

                #[inline]
                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    point(order);
                    self.0.fetch_and(value, order)
                }

                $($more)*
            }
        };
    }

    macro_rules! atomic_integer {
        ($name:ident, $value:ty) => {
            atomic!($name, $value, {
                #[inline]
                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    point(order);
                    self.0.fetch_add(value, order)
                }

                #[inline]
                pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    point(order);
                    self.0.fetch_sub(value, order)
                }

                #[inline]
                pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                    point(order);
                    self.0.fetch_max(value, order)
                }

                /// Between the load and the exchange another processor may run, as it may on the metal.
                #[inline]
                pub fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    mut change: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut before = self.load(fetch);
                    while let Some(after) = change(before) {
                        match self.compare_exchange(before, after, set, fetch) {
                            Ok(before) => return Ok(before),
                            Err(now) => before = now,
                        }
                    }
                    Err(before)
                }
            });
        };
    }

    atomic!(AtomicBool, bool, {});
    atomic_integer!(AtomicU8, u8);
    atomic_integer!(AtomicU16, u16);
    atomic_integer!(AtomicU32, u32);
    atomic_integer!(AtomicU64, u64);
}
