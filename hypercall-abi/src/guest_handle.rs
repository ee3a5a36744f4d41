//! Guest addresses inside ABI structures (`XEN_GUEST_HANDLE` in `arch-x86/xen.h`).

use core::fmt;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A guest-virtual address of an array of `T`, as the caller wrote it: an allegation, never a pointer.
///
/// Nothing here dereferences it; whoever reads guest memory translates and checks it first. On x86_64 the plain
/// and the "64-bit aligned" handle of the toolstack interfaces have the same layout: one 64-bit word.
#[doc(alias = "XEN_GUEST_HANDLE")]
#[doc(alias = "XEN_GUEST_HANDLE_64")]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GuestHandle<T> {
    address: u64,
    points_to: PhantomData<T>,
}

impl<T> GuestHandle<T> {
    /// The handle that stands for "no buffer"; callers use it to ask for sizes.
    pub const NULL: Self = Self::new(0);

    /// Wraps a guest-virtual address.
    pub const fn new(address: u64) -> Self {
        Self {
            address,
            points_to: PhantomData,
        }
    }

    /// The guest-virtual address of the first element.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Whether no buffer was given.
    pub const fn is_null(self) -> bool {
        self.address == 0
    }

    /// The guest-virtual address of element `index`; `None` when it is past the end of the address space.
    pub fn element(self, index: u64) -> Option<u64> {
        let offset = index.checked_mul(size_of::<T>() as u64)?;
        self.address.checked_add(offset)
    }

    /// The same address seen as an array of another type.
    pub const fn cast<U>(self) -> GuestHandle<U> {
        GuestHandle::new(self.address)
    }
}

// Written out because deriving would demand the same of `T`, of which no value exists here.
impl<T> Clone for GuestHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestHandle<T> {}

impl<T> Default for GuestHandle<T> {
    fn default() -> Self {
        Self::NULL
    }
}

impl<T> PartialEq for GuestHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl<T> Eq for GuestHandle<T> {}

impl<T> fmt::Debug for GuestHandle<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GuestHandle({:#x})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_past_the_address_space_has_no_address() {
        let handle = GuestHandle::<u64>::new(u64::MAX - 7);
        assert_eq!(handle.element(0), Some(u64::MAX - 7));
        assert_eq!(handle.element(1), None);
        assert_eq!(handle.element(u64::MAX), None);
    }
}
