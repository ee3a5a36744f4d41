//! What can go wrong, with what was expected and what was found.

use core::fmt;

use hypercall_abi::Error as Errno;

use crate::ring::Fault;

/// A short text of fixed capacity (48 bytes). What does not fit is cut; what cannot be printed shows as `?`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(heapless::String<48, u8>);

impl Text {
    /// A text of bytes that somebody else wrote.
    pub fn of(bytes: &[u8]) -> Text {
        let mut text = Text::default();
        for &byte in bytes {
            let shown = if (b' '..=b'~').contains(&byte) {
                byte as char
            } else {
                '?'
            };
            if text.0.push(shown).is_err() {
                break;
            }
        }
        text
    }

    /// The last part of a store path: the node's name.
    pub fn name_of(path: &str) -> Text {
        Text::of(path.rsplit('/').next().unwrap_or(path).as_bytes())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// Why a frontend could not do what it was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The processor does not say that Xen, or what speaks its ABI, is below.
    NotOnXen,
    /// The hypervisor refused a call.
    Hypervisor {
        /// Which.
        call: &'static str,
        /// Its answer.
        error: Errno,
    },
    /// There are no more pages to share.
    OutOfPages {
        /// How many were wanted, in pages of 4096 bytes.
        wanted: usize,
    },
    /// The grant table is full.
    OutOfGrants,
    /// The store refused a request.
    Store {
        /// What was asked, as `read`.
        doing: &'static str,
        /// The node's name, without its path.
        node: Text,
        /// Its answer.
        error: Errno,
    },
    /// A node of the store does not hold what it should.
    Malformed {
        /// The node's name, without its path.
        node: Text,
        /// What was expected.
        expected: &'static str,
        /// What was found, cut short.
        found: Text,
    },
    /// The other end broke its ring's indices.
    Ring(Fault),
    /// The other end broke the protocol in another way.
    Protocol {
        /// What of it.
        what: &'static str,
        /// What was found.
        found: u64,
        /// What it must not exceed, or be.
        expected: u64,
    },
    /// The backend does not offer what is needed.
    Unsupported {
        /// The node that would say so, or the operation.
        what: &'static str,
    },
    /// Something did not happen in time.
    Timeout {
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// There is no backend: it never came, went away, or was given up after it broke the protocol.
    Disconnected,
    /// The backend tried and failed.
    Failed {
        /// Its answer: a negative number of the protocol's.
        status: i16,
    },
    /// Everything is in use: ask for what is done, then try again.
    Full,
    /// The media is read-only.
    ReadOnly,
    /// It does not lie within the device, or is not aligned to it.
    OutOfRange {
        /// First 512-byte sector, or bytes where it is about a packet.
        start: u64,
        /// How many.
        length: u64,
        /// What there is.
        limit: u64,
    },
    /// A path or message is longer than can be sent.
    TooLong {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// What was asked about is not known: a ticket that was used, a token that is free.
    NotInUse,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotOnXen => formatter.write_str(
                "this processor does not say `XenVMMXenVMM`: there is no Xen below, nor what speaks its ABI",
            ),
            Error::Hypervisor { call, error } => {
                write!(
                    formatter,
                    "the hypervisor refused {call}: {}",
                    error.description()
                )
            }
            Error::OutOfPages { wanted } => write!(formatter, "no {wanted} pages are left to share"),
            Error::OutOfGrants => formatter.write_str("the grant table is full"),
            Error::Store { doing, node, error } => {
                write!(
                    formatter,
                    "the store refused to {doing} `{node}`: {}",
                    error.description()
                )
            }
            Error::Malformed {
                node,
                expected,
                found,
            } => {
                write!(
                    formatter,
                    "`{node}` in the store should be {expected}, and is `{found}`"
                )
            }
            Error::Ring(fault) => write!(formatter, "the ring is broken: {fault}"),
            Error::Protocol {
                what,
                found,
                expected,
            } => write!(
                formatter,
                "the other end broke the protocol: {what} is {found}, expected {expected}"
            ),
            Error::Unsupported { what } => write!(formatter, "the backend does not offer {what}"),
            Error::Timeout { waiting_for } => write!(formatter, "waited in vain for {waiting_for}"),
            Error::Disconnected => formatter.write_str("the backend is gone, or not there yet"),
            Error::Failed { status } => write!(formatter, "the backend failed with status {status}"),
            Error::Full => formatter.write_str("everything is in use"),
            Error::ReadOnly => formatter.write_str("the media is read-only"),
            Error::OutOfRange { start, length, limit } => {
                write!(
                    formatter,
                    "{length} from {start} on are not within {limit}, or not aligned"
                )
            }
            Error::TooLong { length, limit } => write!(formatter, "{length} bytes are more than {limit}"),
            Error::NotInUse => formatter.write_str("it is not in use"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Ring(fault)
    }
}
