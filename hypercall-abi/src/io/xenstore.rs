//! The store's wire protocol (`io/xs_wire.h`), the same on a guest's ring and on the daemon's socket: a [`Header`],
//! then `length` bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Error;

/// Values of [`Header::kind`].
pub mod message {
    /// A command to the daemon.
    #[doc(alias = "XS_CONTROL")]
    pub const CONTROL: u32 = 0;
    /// List a node's children.
    #[doc(alias = "XS_DIRECTORY")]
    pub const DIRECTORY: u32 = 1;
    /// Read a node.
    #[doc(alias = "XS_READ")]
    pub const READ: u32 = 2;
    /// Read a node's permissions.
    #[doc(alias = "XS_GET_PERMS")]
    pub const GET_PERMISSIONS: u32 = 3;
    /// Be told of changes.
    #[doc(alias = "XS_WATCH")]
    pub const WATCH: u32 = 4;
    /// Not any more.
    #[doc(alias = "XS_UNWATCH")]
    pub const UNWATCH: u32 = 5;
    /// Begin a transaction.
    #[doc(alias = "XS_TRANSACTION_START")]
    pub const TRANSACTION_START: u32 = 6;
    /// End it: `T` commits, `F` drops.
    #[doc(alias = "XS_TRANSACTION_END")]
    pub const TRANSACTION_END: u32 = 7;
    /// A guest's ring is ready.
    #[doc(alias = "XS_INTRODUCE")]
    pub const INTRODUCE: u32 = 8;
    /// A guest is gone.
    #[doc(alias = "XS_RELEASE")]
    pub const RELEASE: u32 = 9;
    /// A guest's home.
    #[doc(alias = "XS_GET_DOMAIN_PATH")]
    pub const GET_DOMAIN_PATH: u32 = 10;
    /// Write a node.
    #[doc(alias = "XS_WRITE")]
    pub const WRITE: u32 = 11;
    /// Make an empty node.
    #[doc(alias = "XS_MKDIR")]
    pub const MAKE_DIRECTORY: u32 = 12;
    /// Remove a node and all below.
    #[doc(alias = "XS_RM")]
    pub const REMOVE: u32 = 13;
    /// Set a node's permissions.
    #[doc(alias = "XS_SET_PERMS")]
    pub const SET_PERMISSIONS: u32 = 14;
    /// From the daemon: path and token of a watch that fired.
    #[doc(alias = "XS_WATCH_EVENT")]
    pub const WATCH_EVENT: u32 = 15;
    /// From the daemon: the name of the error.
    #[doc(alias = "XS_ERROR")]
    pub const ERROR: u32 = 16;
    /// Does the daemon serve that guest?
    #[doc(alias = "XS_IS_DOMAIN_INTRODUCED")]
    pub const IS_DOMAIN_INTRODUCED: u32 = 17;
    /// A guest goes on after its shutdown.
    #[doc(alias = "XS_RESUME")]
    pub const RESUME: u32 = 18;
    /// Whom a device model domain serves.
    #[doc(alias = "XS_SET_TARGET")]
    pub const SET_TARGET: u32 = 19;
    /// Drop all own watches and transactions.
    #[doc(alias = "XS_RESET_WATCHES")]
    pub const RESET_WATCHES: u32 = 21;
    /// List a node's children, in pieces.
    #[doc(alias = "XS_DIRECTORY_PART")]
    pub const DIRECTORY_PART: u32 = 22;
    /// How many kinds there are.
    #[doc(alias = "XS_TYPE_COUNT")]
    pub const COUNT: u32 = 23;
    /// Never valid.
    #[doc(alias = "XS_INVALID")]
    pub const INVALID: u32 = 0xffff;
}

/// What precedes each message.
#[doc(alias = "xsd_sockmsg")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// See [`message`].
    #[doc(alias = "type")]
    pub kind: u32,
    /// Chosen by the client; comes back in the answer.
    #[doc(alias = "req_id")]
    pub request_id: u32,
    /// From the start of the transaction, or zero.
    #[doc(alias = "tx_id")]
    pub transaction_id: u32,
    /// Bytes that follow.
    #[doc(alias = "len")]
    pub length: u32,
}

/// Limits of the protocol.
pub mod limit {
    /// Bytes of each ring.
    #[doc(alias = "XENSTORE_RING_SIZE")]
    pub const RING_SIZE: usize = 1024;
    /// Most bytes of a message.
    #[doc(alias = "XENSTORE_PAYLOAD_MAX")]
    pub const PAYLOAD_MAX: usize = 4096;
    /// Longest absolute path.
    #[doc(alias = "XENSTORE_ABS_PATH_MAX")]
    pub const ABSOLUTE_PATH_MAX: usize = 3072;
    /// Longest relative path.
    #[doc(alias = "XENSTORE_REL_PATH_MAX")]
    pub const RELATIVE_PATH_MAX: usize = 2048;
}

/// The store page: two byte rings, seen from the guest. Indices count on without wrapping.
#[doc(alias = "xenstore_domain_interface")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInterface {
    /// To the daemon.
    #[doc(alias = "req")]
    pub request: [u8; 1024],
    /// To the guest.
    #[doc(alias = "rsp")]
    pub response: [u8; 1024],
    /// Read by the daemon up to here.
    #[doc(alias = "req_cons")]
    pub request_consumer: u32,
    /// Written by the guest up to here.
    #[doc(alias = "req_prod")]
    pub request_producer: u32,
    /// Read by the guest up to here.
    #[doc(alias = "rsp_cons")]
    pub response_consumer: u32,
    /// Written by the daemon up to here.
    #[doc(alias = "rsp_prod")]
    pub response_producer: u32,
    /// See [`server_feature`].
    pub server_features: u32,
    /// See [`connection`].
    pub connection: u32,
    /// See [`connection_error`].
    pub error: u32,
}

zeroed_default!(DomainInterface);

/// Bits of [`DomainInterface::server_features`].
pub mod server_feature {
    /// The guest may ask to start over.
    #[doc(alias = "XENSTORE_SERVER_FEATURE_RECONNECTION")]
    pub const RECONNECTION: u32 = 1;
    /// The daemon says why it gave up.
    #[doc(alias = "XENSTORE_SERVER_FEATURE_ERROR")]
    pub const ERROR: u32 = 2;
}

/// Values of [`DomainInterface::connection`].
pub mod connection {
    /// In operation.
    #[doc(alias = "XENSTORE_CONNECTED")]
    pub const CONNECTED: u32 = 0;
    /// The guest wants to start over; the daemon goes back to zero when it has.
    #[doc(alias = "XENSTORE_RECONNECT")]
    pub const RECONNECT: u32 = 1;
}

/// Values of [`DomainInterface::error`].
pub mod connection_error {
    /// None.
    #[doc(alias = "XENSTORE_ERROR_NONE")]
    pub const NONE: u32 = 0;
    /// Something else.
    #[doc(alias = "XENSTORE_ERROR_COMM")]
    pub const COMMUNICATION: u32 = 1;
    /// The indices made no sense.
    #[doc(alias = "XENSTORE_ERROR_RINGIDX")]
    pub const RING_INDEX: u32 = 2;
    /// The message made no sense.
    #[doc(alias = "XENSTORE_ERROR_PROTO")]
    pub const PROTOCOL: u32 = 3;
}

/// Special names that clients may watch.
pub mod special_watch {
    /// Fires when a guest was introduced.
    pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
    /// Fires when a guest shut down or is gone.
    pub const RELEASE_DOMAIN: &str = "@releaseDomain";
}

/// The errors that have a name on the wire; every other one is sent as `EINVAL`.
#[doc(alias = "xsd_errors")]
pub const WIRE_ERRORS: [Error; 16] = [
    Error::EINVAL,
    Error::EACCES,
    Error::EEXIST,
    Error::EISDIR,
    Error::ENOENT,
    Error::ENOMEM,
    Error::ENOSPC,
    Error::EIO,
    Error::ENOTEMPTY,
    Error::ENOSYS,
    Error::EROFS,
    Error::EBUSY,
    Error::EAGAIN,
    Error::EISCONN,
    Error::E2BIG,
    Error::EPERM,
];

/// The text that stands for an error in an [`message::ERROR`] message.
pub fn error_text(error: Error) -> &'static str {
    if WIRE_ERRORS.contains(&error) {
        error.name()
    } else {
        Error::EINVAL.name()
    }
}

/// The error that such a text stands for, with or without its terminator; `None` for an unknown one.
pub fn error_from_text(text: &[u8]) -> Option<Error> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    WIRE_ERRORS
        .into_iter()
        .find(|error| error.name().as_bytes() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_wire() {
        for error in WIRE_ERRORS {
            assert_eq!(error_from_text(error_text(error).as_bytes()), Some(error));
        }
        assert_eq!(error_text(Error::ENOEXEC), "EINVAL");
        assert_eq!(error_from_text(b"ENOENT\0"), Some(Error::ENOENT));
        assert_eq!(error_from_text(b"EBOGUS"), None);
    }
}
