//! A client of the store, over the daemon's socket: for the other daemons in dom0 and for tests.

use crate::wire::{HEADER_SIZE, Header, MessageType, PAYLOAD_MAX, StoreError, encode};
use rustix::fd::{AsFd, BorrowedFd};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Where the daemon listens, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/xenstored/socket";

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The store refused it.
    #[error("the store says {0}")]
    Refused(StoreError),
    /// The daemon cannot be reached any more.
    #[error("the store daemon cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The node that changed.
    pub path: String,
    /// The token of the watch.
    pub token: String,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    events: VecDeque<WatchEvent>,
    transaction: u32,
}

type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// Connects to the daemon at this socket.
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        Ok(Client {
            stream,
            events: VecDeque::new(),
            transaction: 0,
        })
    }

    /// A node's value.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>> {
        self.request(MessageType::Read, &[path.as_bytes(), b"\0"].concat())
    }

    /// A node's value as text, or nothing if there is no such node.
    pub fn read_text(&mut self, path: &str) -> Result<Option<String>> {
        match self.read(path) {
            Ok(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            Err(ClientError::Refused(StoreError::NoEntry)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a node a value.
    pub fn write(&mut self, path: &str, value: &[u8]) -> Result<()> {
        self.request(MessageType::Write, &[path.as_bytes(), b"\0", value].concat())
            .map(drop)
    }

    /// Removes a node and all below it.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        self.request(MessageType::Remove, &[path.as_bytes(), b"\0"].concat())
            .map(drop)
    }

    /// The names of a node's children.
    pub fn directory(&mut self, path: &str) -> Result<Vec<String>> {
        let listing = self.request(MessageType::Directory, &[path.as_bytes(), b"\0"].concat())?;
        let names = listing.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// Asks for events about a node and all below it.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<()> {
        self.request(
            MessageType::Watch,
            &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"].concat(),
        )
        .map(drop)
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<()> {
        self.request(
            MessageType::Unwatch,
            &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"].concat(),
        )
        .map(drop)
    }

    /// Runs `body` in a transaction, again and again until it commits without a conflict.
    pub fn transaction<T>(&mut self, mut body: impl FnMut(&mut Client) -> Result<T>) -> Result<T> {
        loop {
            let number = self.request(MessageType::TransactionStart, b"\0")?;
            let number = String::from_utf8_lossy(&number).trim_end_matches('\0').parse();
            self.transaction = number.map_err(|_| ClientError::Refused(StoreError::InputOutput))?;
            let outcome = body(self);
            let verdict: &[u8] = if outcome.is_ok() { b"T\0" } else { b"F\0" };
            let ended = self.request(MessageType::TransactionEnd, verdict);
            self.transaction = 0;
            match (outcome, ended) {
                (Ok(_), Err(ClientError::Refused(StoreError::TryAgain))) => {}
                (Ok(value), ended) => return ended.map(|_| value),
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Sends a request and waits for its answer. Events that arrive meanwhile are kept.
    pub fn request(&mut self, kind: MessageType, payload: &[u8]) -> Result<Vec<u8>> {
        if payload.len() > PAYLOAD_MAX {
            return Err(ClientError::Refused(StoreError::TooBig));
        }
        self.stream
            .write_all(&encode(kind, 0, self.transaction, payload))?;
        loop {
            let (header, payload) = self.receive()?;
            if header.kind == MessageType::WatchEvent as u32 {
                self.keep(&payload);
            } else if header.kind == MessageType::Error as u32 {
                let name = String::from_utf8_lossy(&payload);
                return Err(ClientError::Refused(StoreError::from_name(
                    name.trim_end_matches('\0'),
                )));
            } else {
                return Ok(payload);
            }
        }
    }

    /// An event that already arrived while a request was waiting for its answer.
    pub fn kept_event(&mut self) -> Option<WatchEvent> {
        self.events.pop_front()
    }

    /// Waits for an event.
    pub fn next_event(&mut self) -> Result<WatchEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let (header, payload) = self.receive()?;
            if header.kind == MessageType::WatchEvent as u32 {
                self.keep(&payload);
            }
        }
    }

    fn keep(&mut self, payload: &[u8]) {
        let mut strings = payload
            .split(|byte| *byte == 0)
            .map(|text| String::from_utf8_lossy(text).into_owned());
        let (path, token) = (
            strings.next().unwrap_or_default(),
            strings.next().unwrap_or_default(),
        );
        self.events.push_back(WatchEvent { path, token });
    }

    fn receive(&mut self) -> Result<(Header, Vec<u8>)> {
        let mut head = [0; HEADER_SIZE];
        self.stream.read_exact(&mut head)?;
        let header = Header::decode(&head);
        if header.length as usize > PAYLOAD_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
        let mut payload = vec![0; header.length as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((header, payload))
    }
}

impl AsFd for Client {
    /// Readable when an event arrives; look at [`kept_event`](Client::kept_event) before waiting for that.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
