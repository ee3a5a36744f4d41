//! Shared ownership without the promise that memory never runs out.
//!
//! The library's `Arc` has no fallible constructor in stable Rust: where memory is short it ends the program. So memory is
//! asked for first, in a way that can be refused, and given back right before it is taken. In between another processor may
//! take it; the core's heap keeps a little that guests' records never get (see the kernel's `may_map_more`), so that this
//! moment is one in which there is some.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::memory::OutOfMemory;

/// What an `Arc` needs beside its value: two counters.
const COUNTERS: usize = 2 * size_of::<usize>();

/// Share a value.
///
/// # Errors
/// [`OutOfMemory`]; the value is dropped.
pub fn arc<T>(value: T) -> Result<Arc<T>, OutOfMemory> {
    let mut probe: Vec<u8> = Vec::new();
    probe
        .try_reserve_exact(size_of::<T>() + align_of::<T>() + COUNTERS)
        .map_err(|_| OutOfMemory)?;
    drop(probe);
    #[cfg(not(target_os = "none"))]
    let shared = crate::fake::failure::exempt(|| Arc::new(value));
    #[cfg(target_os = "none")]
    let shared = Arc::new(value);
    Ok(shared)
}

/// Allocate for tests' and audits' own records: no failure that a test asks for is meant for them.
pub fn unrefused<R>(act: impl FnOnce() -> R) -> R {
    #[cfg(not(target_os = "none"))]
    return crate::fake::failure::exempt(act);
    #[cfg(target_os = "none")]
    act()
}
