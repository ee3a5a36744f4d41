//! Locks of the core, and the points between which a simulator may switch processors.
//!
//! The core never takes an interrupt while it holds a lock (interrupts are accepted at two points only: a guest's exit
//! and the idle loop), so plain spin locks suffice and no lock needs an interrupt-saving twin. On the host every
//! acquisition passes [`interleave`], where a simulator may switch to another simulated processor, and is noted by
//! [`order`](crate::fake::order), which knows in which order locks may be taken.

pub mod atomic;
pub mod modelled;

use core::any::type_name;
use core::ops::{Deref, DerefMut};

/// What a waiting processor does between two looks at a lock.
pub struct Interleave;

impl spin::RelaxStrategy for Interleave {
    fn relax() {
        wait_for_another();
    }
}

/// What this processor does between two looks at something that another processor must do first.
#[inline]
pub fn wait_for_another() {
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(target_os = "none"))]
    crate::fake::wait_for_another();
}

/// Said before a wait for what another processor does in the core. That one may need any lock: none may be held here, as
/// tests on the host see to.
#[inline]
pub fn begin_waiting() {
    #[cfg(not(target_os = "none"))]
    crate::fake::order::note_wait();
}

/// A point at which another processor may run: nothing on the metal, the simulator's switch on the host.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn interleave() {}

/// A point at which another processor may run: nothing on the metal, the simulator's switch on the host.
#[cfg(not(target_os = "none"))]
pub use crate::fake::interleave;

/// A note that a lock is held, for as long as it is. Nothing on the metal.
struct Held {
    #[cfg(not(target_os = "none"))]
    _noted: crate::fake::order::Noted,
}

impl Held {
    #[inline]
    fn note(_name: &'static str) -> Held {
        Held {
            #[cfg(not(target_os = "none"))]
            _noted: crate::fake::order::note(_name, true),
        }
    }

    /// A lock that was got without waiting for it: it cannot be part of a deadlock by being taken.
    #[inline]
    fn note_tried(_name: &'static str) -> Held {
        Held {
            #[cfg(not(target_os = "none"))]
            _noted: crate::fake::order::note(_name, false),
        }
    }
}

/// A mutual exclusion lock.
pub struct Lock<T: ?Sized>(spin::mutex::SpinMutex<T, Interleave>);

/// Proof of holding a [`Lock`].
pub struct LockGuard<'a, T: ?Sized> {
    guard: spin::mutex::SpinMutexGuard<'a, T, Interleave>,
    _held: Held,
}

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
        let held = Held::note(type_name::<T>());
        LockGuard {
            guard: self.0.lock(),
            _held: held,
        }
    }

    /// Take the lock if it is free.
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        interleave();
        self.0.try_lock().map(|guard| LockGuard {
            guard,
            _held: Held::note_tried(type_name::<T>()),
        })
    }

    /// Whether somebody holds the lock at this moment.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// The value, when nobody else can see the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
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
pub struct ReadGuard<'a, T: ?Sized> {
    guard: spin::rwlock::RwLockReadGuard<'a, T, Interleave>,
    _held: Held,
}
/// Proof of holding a [`SharedLock`] for writing.
pub struct WriteGuard<'a, T: ?Sized> {
    guard: spin::rwlock::RwLockWriteGuard<'a, T, Interleave>,
    _held: Held,
}

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
        let held = Held::note(type_name::<T>());
        ReadGuard {
            guard: self.0.read(),
            _held: held,
        }
    }

    /// Wait until nobody holds the lock.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        interleave();
        let held = Held::note(type_name::<T>());
        WriteGuard {
            guard: self.0.write(),
            _held: held,
        }
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

pub use spin::Once;
