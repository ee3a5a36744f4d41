//! The header of a shared ring (`io/ring.h`): one page, or several, of slots that hold a request or its response.
//!
//! Indices count on without wrapping to the ring's size; the slot is the index modulo the number of slots, which
//! is a power of two. Each producer publishes its index; each consumer publishes, in the other's `event` field, the
//! index at which it wants to be notified.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What precedes the slots. The layout does not depend on the kind of ring; the layout test
/// looks at the block ring's.
#[doc(alias = "blkif_sring")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingHeader {
    /// Requests produced; written by the frontend.
    #[doc(alias = "req_prod")]
    pub request_producer: u32,
    /// The frontend notifies when its producer index passes this; written by the backend.
    #[doc(alias = "req_event")]
    pub request_event: u32,
    /// Responses produced; written by the backend.
    #[doc(alias = "rsp_prod")]
    pub response_producer: u32,
    /// The backend notifies when its producer index passes this; written by the frontend.
    #[doc(alias = "rsp_event")]
    pub response_event: u32,
    /// For the use of one kind of ring.
    #[doc(alias = "pvt")]
    pub private: [u8; 4],
    /// Padding: zero.
    #[doc(alias = "__pad")]
    pub _padding: [u8; 44],
}

zeroed_default!(RingHeader);

/// Bytes before the first slot.
pub const HEADER_SIZE: usize = size_of::<RingHeader>();

/// How many slots of `slot_size` bytes a ring in `bytes` bytes has: a power of two; zero when not even one fits.
#[doc(alias = "__RING_SIZE")]
pub const fn slots(bytes: usize, slot_size: usize) -> u32 {
    if slot_size == 0 || bytes < HEADER_SIZE + slot_size {
        return 0;
    }
    let fitting = (bytes - HEADER_SIZE) / slot_size;
    1 << fitting.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{block, net};

    #[test]
    fn a_page_holds_the_usual_numbers_of_slots() {
        assert_eq!(slots(4096, size_of::<block::Request>()), 32);
        assert_eq!(slots(4096, size_of::<net::TransmitRequest>()), 256);
        assert_eq!(slots(4096, size_of::<net::ReceiveRequest>()), 256);
    }

    #[test]
    fn nothing_fits_in_too_little() {
        assert_eq!(slots(4096, 0), 0);
        assert_eq!(slots(HEADER_SIZE + 7, 8), 0);
        assert_eq!(slots(HEADER_SIZE + 8, 8), 1);
    }
}
