//! Addresses that know their space.
//!
//! Mixing a guest's idea of physical memory with the host's is how hypervisors leak memory between domains, so the
//! two never share a type. Conversions between spaces are look-ups with names (`Physmap::get`, a page walk), never casts.

use core::fmt;

/// Bytes in a page, in every space.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

macro_rules! address_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value `bytes` further on, or `None` past the end of the space.
            pub const fn checked_add(self, amount: u64) -> Option<Self> {
                match self.0.checked_add(amount) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The value `amount` further on; the last there is, where that is past the end. Nothing lies there.
            pub const fn saturating_add(self, amount: u64) -> Self {
                Self(self.0.saturating_add(amount))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address_type!(
    /// A byte address in the machine's physical memory.
    #[doc(alias = "maddr")]
    HostAddress,
    "host:"
);
address_type!(
    /// A page number in the machine's physical memory.
    #[doc(alias = "mfn")]
    HostFrame,
    "hfn:"
);
address_type!(
    /// A byte address in a guest's physical memory.
    #[doc(alias = "gaddr")]
    #[doc(alias = "gpa")]
    GuestAddress,
    "guest:"
);
address_type!(
    /// A page number in a guest's physical memory.
    #[doc(alias = "gfn")]
    #[doc(alias = "gpfn")]
    GuestFrame,
    "gfn:"
);
address_type!(
    /// A linear (virtual) address in a guest, to be walked through its own page tables.
    LinearAddress,
    "linear:"
);

impl HostFrame {
    /// The address of the frame's first byte.
    pub const fn address(self) -> HostAddress {
        HostAddress(self.0 << PAGE_SHIFT)
    }
}

impl HostAddress {
    /// The frame that holds this byte.
    pub const fn frame(self) -> HostFrame {
        HostFrame(self.0 >> PAGE_SHIFT)
    }

    /// The byte's offset in its frame.
    pub const fn offset(self) -> usize {
        (self.0 as usize) & (PAGE_SIZE - 1)
    }
}

impl HostFrame {
    /// The frames of the block of this order that begins here.
    pub fn block(self, order: Order) -> impl Iterator<Item = HostFrame> {
        (self.0..self.saturating_add(order.frames()).0).map(HostFrame)
    }
}

impl GuestFrame {
    /// The address of the frame's first byte.
    pub const fn address(self) -> GuestAddress {
        GuestAddress(self.0 << PAGE_SHIFT)
    }
}

impl GuestAddress {
    /// The frame that holds this byte.
    pub const fn frame(self) -> GuestFrame {
        GuestFrame(self.0 >> PAGE_SHIFT)
    }

    /// The byte's offset in its frame.
    pub const fn offset(self) -> usize {
        (self.0 as usize) & (PAGE_SIZE - 1)
    }
}

impl LinearAddress {
    /// The byte's offset in its page.
    pub const fn offset(self) -> usize {
        (self.0 as usize) & (PAGE_SIZE - 1)
    }
}

/// log2 of a number of frames: 0 is 4 KiB, 9 is 2 MiB, 18 is 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(Exponent);

/// The exponents that there are. An enumeration and no integer, so that the compiler knows the largest as well and keeps no
/// checks for others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[rustfmt::skip]
enum Exponent { E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13, E14, E15, E16, E17, E18 }

#[rustfmt::skip]
const EXPONENTS: [Exponent; 19] = {
    use Exponent::*;
    [E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13, E14, E15, E16, E17, E18]
};

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Order").field(&self.value()).finish()
    }
}

impl Order {
    /// One frame, 4 KiB.
    pub const PAGE: Order = Order(Exponent::E0);
    /// 512 frames, 2 MiB.
    pub const TWO_MIB: Order = Order(Exponent::E9);
    /// 262,144 frames, 1 GiB: the largest block there is.
    pub const ONE_GIB: Order = Order(Exponent::E18);

    /// The order `value`, or `None` past [`Order::ONE_GIB`].
    pub const fn new(value: u32) -> Option<Order> {
        if (value as usize) < EXPONENTS.len() {
            Some(Order(EXPONENTS[value as usize]))
        } else {
            None
        }
    }

    /// The largest order of which a block may begin at this frame and have no more than `most` frames, of which there is one.
    pub const fn largest(frame: u64, most: u64) -> Order {
        let aligned = frame.trailing_zeros();
        let fitting = 63u32.saturating_sub(most.leading_zeros());
        let value = if aligned < fitting { aligned } else { fitting };
        match Order::new(value) {
            Some(order) => order,
            None => Order::ONE_GIB,
        }
    }

    /// The order of half as many frames; `None` of one frame.
    pub const fn half(self) -> Option<Order> {
        match self.value().checked_sub(1) {
            Some(value) => Order::new(value),
            None => None,
        }
    }

    /// The order of twice as many frames; `None` of the largest.
    pub const fn double(self) -> Option<Order> {
        Order::new(self.value() + 1)
    }

    /// The exponent.
    pub const fn value(self) -> u32 {
        self.0 as u32
    }

    /// Frames in a block of this order.
    pub const fn frames(self) -> u64 {
        // At most 18, so that nothing wraps; where the compiler has lost sight of that, it needs no check either.
        1u64.wrapping_shl(self.value())
    }

    /// Whether a frame number is aligned to this order.
    pub const fn aligned(self, frame: u64) -> bool {
        frame & (self.frames() - 1) == 0
    }
}
