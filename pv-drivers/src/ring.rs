//! Rings in memory that two domains share.
//!
//! The other end is another domain, and may be hostile: it can write anything anywhere in the shared pages at any time. So
//! every index it publishes is checked when it is read, what an end decides by is kept in private variables, and each slot is
//! copied out once, into memory that the other end cannot reach, before anyone looks at it. No reference into the
//! shared memory exists; [`Memory`] offers loads and stores of whole words only. An impossible index is a
//! [`Fault`] of the other end, after which the ring refuses further work.
//!
//! Ordering, for both kinds of ring: a producer writes slots, then publishes its index with release; a consumer reads the
//! index with acquire, then the slots. A consumer is done with a slot before it lets the producer know (release again).
//! Where one end goes to sleep and the other decides whether to wake it, both do "store, full fence, load": the sleeper
//! announces itself, then looks once more; the producer publishes, then looks for the announcement. One of the two sees the
//! other's store, so that no wake-up is lost. Release and acquire alone would let both loads overtake both stores.

mod bytes;
mod memory;
mod slots;

pub use bytes::{
    ByteConsumer, ByteProducer, ByteRing, CONSOLE_INPUT, CONSOLE_OUTPUT, STORE_REQUEST, STORE_RESPONSE,
};
pub use memory::{Memory, SharedMemory};
pub use slots::{BackRing, FrontRing, Message};

use core::fmt;

/// The other end broke the protocol, or the ring cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The memory holds not even one slot, or not the whole byte ring.
    TooSmall,
    /// The other end's index says that there is more in the ring than fits or than was asked for.
    ImpossibleIndex {
        /// What it published.
        theirs: u32,
        /// Our index that it does not fit to.
        ours: u32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::TooSmall => formatter.write_str("the shared memory is too small for a ring"),
            Fault::ImpossibleIndex { theirs, ours } => {
                write!(
                    formatter,
                    "the other end's ring index {theirs} is impossible: ours is {ours}"
                )
            }
        }
    }
}

impl core::error::Error for Fault {}

/// There is no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the ring is full")
    }
}

impl core::error::Error for Full {}
