//! The messages of the store's protocol, as they travel over sockets and rings.
//!
//! A message is a header of four little-endian words and at most [`PAYLOAD_MAX`] bytes. Strings in the payload end
//! in a NUL byte; a value (what a node holds) does not. Errors travel as the *name* of an error number.

use hypercall_abi::io::xenstore::message;
use std::fmt;
use zerocopy::{FromBytes, IntoBytes};

pub use hypercall_abi::io::xenstore::{Header, limit::PAYLOAD_MAX};

/// Size of a message header.
pub const HEADER_SIZE: usize = size_of::<Header>();

/// What a message asks for or answers.
#[doc(alias = "xsd_sockmsg_type")]
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MessageType {
    Control = message::CONTROL,
    Directory = message::DIRECTORY,
    Read = message::READ,
    GetPermissions = message::GET_PERMISSIONS,
    Watch = message::WATCH,
    Unwatch = message::UNWATCH,
    TransactionStart = message::TRANSACTION_START,
    TransactionEnd = message::TRANSACTION_END,
    Introduce = message::INTRODUCE,
    Release = message::RELEASE,
    GetDomainPath = message::GET_DOMAIN_PATH,
    Write = message::WRITE,
    MakeDirectory = message::MAKE_DIRECTORY,
    Remove = message::REMOVE,
    SetPermissions = message::SET_PERMISSIONS,
    WatchEvent = message::WATCH_EVENT,
    Error = message::ERROR,
    IsDomainIntroduced = message::IS_DOMAIN_INTRODUCED,
    Resume = message::RESUME,
    SetTarget = message::SET_TARGET,
    ResetWatches = message::RESET_WATCHES,
    DirectoryPart = message::DIRECTORY_PART,
}

impl MessageType {
    /// Every type the protocol knows.
    pub const ALL: [MessageType; 22] = [
        MessageType::Control,
        MessageType::Directory,
        MessageType::Read,
        MessageType::GetPermissions,
        MessageType::Watch,
        MessageType::Unwatch,
        MessageType::TransactionStart,
        MessageType::TransactionEnd,
        MessageType::Introduce,
        MessageType::Release,
        MessageType::GetDomainPath,
        MessageType::Write,
        MessageType::MakeDirectory,
        MessageType::Remove,
        MessageType::SetPermissions,
        MessageType::WatchEvent,
        MessageType::Error,
        MessageType::IsDomainIntroduced,
        MessageType::Resume,
        MessageType::SetTarget,
        MessageType::ResetWatches,
        MessageType::DirectoryPart,
    ];

    /// The type with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Why a request is refused. The protocol carries these by name.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    InvalidArgument,
    AccessDenied,
    Exists,
    NoEntry,
    NoSpace,
    InputOutput,
    NotImplemented,
    Busy,
    TryAgain,
    IsConnected,
    TooBig,
    NotPermitted,
}

impl StoreError {
    const NAMES: [(StoreError, &'static str); 12] = [
        (StoreError::InvalidArgument, "EINVAL"),
        (StoreError::AccessDenied, "EACCES"),
        (StoreError::Exists, "EEXIST"),
        (StoreError::NoEntry, "ENOENT"),
        (StoreError::NoSpace, "ENOSPC"),
        (StoreError::InputOutput, "EIO"),
        (StoreError::NotImplemented, "ENOSYS"),
        (StoreError::Busy, "EBUSY"),
        (StoreError::TryAgain, "EAGAIN"),
        (StoreError::IsConnected, "EISCONN"),
        (StoreError::TooBig, "E2BIG"),
        (StoreError::NotPermitted, "EPERM"),
    ];

    /// The name that travels in an error message.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(error, _)| *error == self)
            .map_or("EINVAL", |(_, name)| name)
    }

    /// The error of this name; names unknown to us count as an input/output error.
    pub fn from_name(name: &str) -> Self {
        Self::NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map_or(StoreError::InputOutput, |(error, _)| *error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl std::error::Error for StoreError {}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its header; `header.length` equals `payload.len()`.
    pub header: Header,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// The bytes of a message with this type and payload.
pub fn encode(kind: MessageType, request: u32, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind: kind as u32,
        request_id: request,
        transaction_id: transaction,
        length: payload.len() as u32,
    };
    let mut bytes = Vec::with_capacity(HEADER_SIZE + payload.len());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The sender broke the framing: nothing it sends from here on can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OversizedMessage {
    /// The length that its header announced.
    pub length: u32,
}

/// Puts messages together from the pieces in which they arrive. Holds at most one message of the largest size.
#[derive(Debug, Default)]
pub struct Assembler {
    buffer: Vec<u8>,
}

impl Assembler {
    const CAPACITY: usize = HEADER_SIZE + PAYLOAD_MAX;

    /// How many more bytes fit.
    pub fn space(&self) -> usize {
        Self::CAPACITY - self.buffer.len()
    }

    /// Takes bytes in, at most [`space`](Self::space) of them.
    pub fn feed(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(self.space());
        self.buffer.extend_from_slice(&bytes[..taken]);
    }

    /// The first complete message, if there is one yet.
    pub fn take(&mut self) -> Result<Option<Message>, OversizedMessage> {
        let Some(header) = self.complete()? else {
            return Ok(None);
        };
        let rest = self.buffer.split_off(HEADER_SIZE + header.length as usize);
        let mut payload = std::mem::replace(&mut self.buffer, rest);
        payload.drain(..HEADER_SIZE);
        Ok(Some(Message { header, payload }))
    }

    /// Whether [`take`](Self::take) would have something to say.
    pub fn has_message(&self) -> bool {
        !matches!(self.complete(), Ok(None))
    }

    /// The header of the first message, if all of that message is here.
    fn complete(&self) -> Result<Option<Header>, OversizedMessage> {
        let Ok((header, rest)) = Header::read_from_prefix(&self.buffer) else {
            return Ok(None);
        };
        if header.length as usize > PAYLOAD_MAX {
            return Err(OversizedMessage {
                length: header.length,
            });
        }
        Ok((rest.len() >= header.length as usize).then_some(header))
    }
}

/// Splits a payload into its NUL-terminated strings. Bytes after the last NUL are returned apart: they are a value,
/// or, where no value belongs, a malformed request.
pub fn split_strings(payload: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut pieces: Vec<&[u8]> = payload.split(|byte| *byte == 0).collect();
    let rest = pieces.pop().unwrap_or_default();
    (pieces, rest)
}

/// The payload's strings, exactly `N` of them and nothing else.
pub fn exact_strings<const N: usize>(payload: &[u8]) -> Result<[&str; N], StoreError> {
    let (pieces, rest) = split_strings(payload);
    if !rest.is_empty() {
        return Err(StoreError::InvalidArgument);
    }
    let strings: Vec<&str> = pieces
        .into_iter()
        .map(|piece| std::str::from_utf8(piece).map_err(|_| StoreError::InvalidArgument))
        .collect::<Result<_, _>>()?;
    strings.try_into().map_err(|_| StoreError::InvalidArgument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_number_and_gaps_are_not() {
        for kind in MessageType::ALL {
            assert_eq!(MessageType::from_number(kind as u32), Some(kind));
        }
        assert_eq!(MessageType::from_number(20), None);
        assert_eq!(MessageType::from_number(0xffff), None);
    }

    #[test]
    fn messages_come_out_of_any_fragmentation() {
        let bytes = [
            encode(MessageType::Read, 1, 0, b"/a\0"),
            encode(MessageType::Write, 2, 5, b"/b\0value"),
            encode(MessageType::TransactionStart, 3, 0, b""),
        ]
        .concat();
        for step in 1..bytes.len() {
            let mut assembler = Assembler::default();
            let mut messages = Vec::new();
            for piece in bytes.chunks(step) {
                assembler.feed(piece);
                while let Some(message) = assembler.take().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages.len(), 3);
            assert_eq!(messages[1].payload, b"/b\0value");
            assert_eq!(messages[1].header.transaction_id, 5);
        }
    }

    #[test]
    fn an_oversized_message_is_refused_at_its_header() {
        let mut assembler = Assembler::default();
        let header = Header {
            kind: 2,
            length: 4097,
            ..Header::default()
        };
        assembler.feed(header.as_bytes());
        assert_eq!(assembler.take(), Err(OversizedMessage { length: 4097 }));
        assert!(assembler.has_message());
    }

    #[test]
    fn the_assembler_never_holds_more_than_one_full_message() {
        let mut assembler = Assembler::default();
        assembler.feed(&vec![0xff; 100_000]);
        assert_eq!(assembler.space(), 0);
    }

    #[test]
    fn strings_are_counted_exactly() {
        assert_eq!(exact_strings::<2>(b"a\0b\0"), Ok(["a", "b"]));
        assert_eq!(exact_strings::<1>(b"a\0b\0"), Err(StoreError::InvalidArgument));
        assert_eq!(exact_strings::<1>(b"a"), Err(StoreError::InvalidArgument));
        assert_eq!(exact_strings::<1>(b"\0"), Ok([""]));
        assert_eq!(exact_strings::<1>(b"\xff\0"), Err(StoreError::InvalidArgument));
    }

    #[test]
    fn errors_are_known_by_name() {
        for (error, name) in StoreError::NAMES {
            assert_eq!(error.name(), name);
            assert_eq!(StoreError::from_name(name), error);
        }
    }
}
