//! Frontends: disk, network, console and store of a guest, for kernels in Rust.
//!
//! What a kernel provides is a [`Platform`]: pages, grants, event channels, time. On x86_64 there is one ready, in the module
//! `pvh` behind the feature of that name. What it gets:
//!
//! | | protocol, in Xen's public headers |
//! |---|---|
//! | [`store::Store`] | `io/xs_wire.h`: read, write, list, watches, transactions |
//! | [`console::Console`] | `io/console.h` |
//! | [`block::Block`] | `io/blkif.h`: several queues and ring pages, indirect segments, persistent grants, flush, discard, resize |
//! | [`net::Net`] | `io/netif.h`: several queues, split event channels, checksum offload, segmentation, multicast control |
//! | [`control::Control`] | `control/shutdown` in the store |
//! | [`xenbus`] | `io/xenbus.h`: how a device's two ends find each other, part, and meet again |
//!
//! **Polling.** Nothing here calls back, blocks for long or needs an executor. A device's `poll` looks at the other end and
//! says what changed; requests are submitted and asked for. Who has nothing else to do calls [`Platform::wait`]. Methods that
//! wait themselves say so, and take the time after which they give up. Talking to the store is a question and an answer
//! within [`store::PATIENCE`].
//!
//! **No allocator.** Everything has a fixed size. Data goes through pages that the driver owns and has granted once, never
//! through the caller's memory: a backend cannot read or change anything that it was not given, and cannot change what it
//! gave after it was looked at.
//!
//! **The other end is hostile.** Indices, numbers of requests, lengths, offsets and states are allegations. Each is read
//! once and checked; what cannot be is an [`Error`] that says what was expected and what was found, after which the device is
//! reset: requests in flight fail, none is lost silently. A backend can refuse to work, and it can lie about the data.

pub mod block;
pub mod console;
pub mod control;
mod error;
mod granted;
pub mod net;
mod platform;
pub mod store;
pub mod xenbus;

pub use error::{Error, Text};

pub use platform::{Access, Platform};
