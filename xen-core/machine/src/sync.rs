//! Locks of the core.
//!
//! The core never takes an interrupt while it holds a lock (interrupts are accepted at two points only: a guest's exit
//! and the idle loop), so plain spin locks suffice and no lock needs an interrupt-saving twin. On the host every
//! acquisition passes [`interleave`], where a simulator may switch to another simulated processor.

use core::ops::{Deref, DerefMut};

/// What a waiting processor does between two looks at a lock.
pub struct Interleave;

impl spin::RelaxStrategy for Interleave {
    fn relax() {
        core::hint::spin_loop();
        interleave();
    }
}

/// A point at which another processor may run: nothing on the metal, the simulator's switch on the host.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn interleave() {}

/// A point at which another processor may run: nothing on the metal, the simulator's switch on the host.
#[cfg(not(target_os = "none"))]
pub use crate::fake::interleave;

/// A mutual exclusion lock.
pub struct Lock<T: ?Sized>(spin::mutex::SpinMutex<T, Interleave>);

/// Proof of holding a [`Lock`].
pub struct LockGuard<'a, T: ?Sized>(spin::mutex::SpinMutexGuard<'a, T, Interleave>);

impl<T> Lock<T> {
    /// A lock that protects `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::SpinMutex::new(value))
    }
}

impl<T: ?Sized> Lock<T> {
    /// Wait for the lock and take it.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, T> {
        interleave();
        LockGuard(self.0.lock())
    }

    /// Take the lock if it is free.
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.0.try_lock().map(LockGuard)
    }

    /// The value, when nobody else can see the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A lock with many readers or one writer.
pub struct SharedLock<T: ?Sized>(spin::rwlock::RwLock<T, Interleave>);

/// Proof of holding a [`SharedLock`] for reading.
pub type ReadGuard<'a, T> = spin::rwlock::RwLockReadGuard<'a, T, Interleave>;
/// Proof of holding a [`SharedLock`] for writing.
pub type WriteGuard<'a, T> = spin::rwlock::RwLockWriteGuard<'a, T, Interleave>;

impl<T> SharedLock<T> {
    /// A lock that protects `value`.
    pub const fn new(value: T) -> Self {
        Self(spin::rwlock::RwLock::new(value))
    }
}

impl<T: ?Sized> SharedLock<T> {
    /// Wait until no writer holds the lock.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        interleave();
        self.0.read()
    }

    /// Wait until nobody holds the lock.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        interleave();
        self.0.write()
    }
}

pub use spin::Once;
