//! A client of Xen's store: a tree of small values with watches and transactions, kept by a daemon in dom0.
//!
//! Requests go over the daemon's socket, or through the kernel's `/dev/xen/xenbus` where the daemon lives elsewhere.
//! One request is under way at a time; watch events that arrive in between are kept for [`Store::next_event`].

mod connection;
mod error;

use connection::Connection;
pub use error::{Error, Result};
use hypercall_abi::io::xenstore::message;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A change below a watched path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What changed, or one of the special paths (`@releaseDomain`).
    pub path: String,
    /// The token given to [`Store::watch`].
    pub token: String,
}

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Write it and make children.
    Write,
    /// Both.
    Both,
}

/// A domain and its access. The first in a node's list is the owner; its access is everybody else's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Whose.
    pub domain: u16,
    /// What.
    pub access: Access,
}

/// A connection to the store.
pub struct Store {
    connection: Connection,
    transaction: u32,
}

/// Readable when an event arrives; those that came with an answer are kept, so look for them before waiting.
impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl Store {
    /// Connects to the daemon.
    pub fn connect() -> Result<Self> {
        Ok(Self {
            connection: Connection::open()?,
            transaction: 0,
        })
    }

    /// The value at `path`, if there is such a node.
    pub fn read(&mut self, path: &str) -> Result<Option<String>> {
        let value = missing_is_none(self.request("read", message::READ, path, &[path, "\0"]))?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Sets the value at `path`, making the node and its parents if need be.
    pub fn write(&mut self, path: &str, value: &str) -> Result<()> {
        self.request("write", message::WRITE, path, &[path, "\0", value])
            .map(drop)
    }

    /// Makes an empty node unless there is one.
    pub fn make_directory(&mut self, path: &str) -> Result<()> {
        self.request("make", message::MAKE_DIRECTORY, path, &[path, "\0"])
            .map(drop)
    }

    /// Removes a node and everything below it; nothing to do when there is none.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        missing_is_none(self.request("remove", message::REMOVE, path, &[path, "\0"])).map(drop)
    }

    /// Removes a node, and the nodes above it that have nothing else below them, up to but not including `top`.
    pub fn remove_branch(&mut self, path: &str, top: &str) -> Result<()> {
        self.transaction(|store| {
            store.remove(path)?;
            let mut path = path;
            while let Some((parent, _)) = path
                .rsplit_once('/')
                .filter(|(parent, _)| parent.len() > top.len())
            {
                if !store.children(parent)?.is_empty() {
                    break;
                }
                store.remove(parent)?;
                path = parent;
            }
            Ok(())
        })
    }

    /// The names of a node's children; none when there is no such node.
    pub fn children(&mut self, path: &str) -> Result<Vec<String>> {
        let list = missing_is_none(self.request("list", message::DIRECTORY, path, &[path, "\0"]))?;
        let list = list.unwrap_or_default();
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect())
    }

    /// Sets who may do what with a node.
    pub fn set_permissions(&mut self, path: &str, permissions: &[Permission]) -> Result<()> {
        let mut words = format!("{path}\0");
        for Permission { domain, access } in permissions {
            let letter = match access {
                Access::None => 'n',
                Access::Read => 'r',
                Access::Write => 'w',
                Access::Both => 'b',
            };
            words.push_str(&format!("{letter}{domain}\0"));
        }
        self.request(
            "set the permissions of",
            message::SET_PERMISSIONS,
            path,
            &[&words],
        )
        .map(drop)
    }

    /// Asks for events about `path` and everything below it. One comes at once.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<()> {
        self.request("watch", message::WATCH, path, &[path, "\0", token, "\0"])
            .map(drop)
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<()> {
        self.request(
            "stop watching",
            message::UNWATCH,
            path,
            &[path, "\0", token, "\0"],
        )
        .map(drop)
    }

    /// The next event; nothing when none comes in time.
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<Event>> {
        self.connection.next_event(Instant::now() + timeout)
    }

    /// Tells the daemon about a new domain: the frame of its ring and its port.
    pub fn introduce(&mut self, domain: u16, frame: u64, port: u32) -> Result<()> {
        let words = format!("{domain}\0{frame}\0{port}\0");
        self.request(
            "introduce domain",
            message::INTRODUCE,
            &domain.to_string(),
            &[&words],
        )
        .map(drop)
    }

    /// Tells the daemon to forget about a domain; fine when it has already.
    pub fn release(&mut self, domain: u16) -> Result<()> {
        let words = format!("{domain}\0");
        missing_is_none(self.request("release domain", message::RELEASE, &domain.to_string(), &[&words]))
            .map(drop)
    }

    /// Runs `change` so that others see all of it or nothing. It may run several times: when somebody else changed
    /// what it looked at, it starts over.
    pub fn transaction<R>(&mut self, mut change: impl FnMut(&mut Self) -> Result<R>) -> Result<R> {
        loop {
            let id = self.request("start", message::TRANSACTION_START, "a transaction", &["\0"])?;
            let id = String::from_utf8_lossy(&id).trim_end_matches('\0').parse();
            self.transaction = id.map_err(|_| Error::Protocol("the transaction has no number"))?;
            let result = change(self);
            let verdict = if result.is_ok() { "T\0" } else { "F\0" };
            let ended = self.request("end", message::TRANSACTION_END, "a transaction", &[verdict]);
            self.transaction = 0;
            match (result, ended) {
                (Ok(value), Ok(_)) => return Ok(value),
                (Ok(_), Err(Error::Refused { code, .. })) if code == "EAGAIN" => continue,
                (Ok(_), Err(error)) | (Err(error), _) => return Err(error),
            }
        }
    }

    fn request(&mut self, action: &'static str, kind: u32, subject: &str, words: &[&str]) -> Result<Vec<u8>> {
        let transaction = match kind {
            message::TRANSACTION_START
            | message::WATCH
            | message::UNWATCH
            | message::INTRODUCE
            | message::RELEASE => 0,
            _ => self.transaction,
        };
        match self
            .connection
            .request(kind, transaction, words.concat().as_bytes())?
        {
            Ok(answer) => Ok(answer),
            Err(code) => Err(Error::Refused {
                action,
                subject: subject.to_owned(),
                code,
            }),
        }
    }
}

fn missing_is_none(answer: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}
