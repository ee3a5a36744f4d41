//! A client of the store, on the guest's own page (`io/xs_wire.h`): one request at a time, watches, transactions.
//!
//! The daemon at the other end is part of the toolstack and decides about this guest anyhow. Still nothing that it sends
//! can do more than make a request fail: lengths and kinds are checked, an answer to something that was not asked is
//! dropped, and how much is read at a time is bounded.

mod message;
mod request;

use core::fmt::Write;

use hypercall_abi::Error as Errno;
use hypercall_abi::event_channel::Port;
use hypercall_abi::io::xenstore::{DomainInterface, connection, limit, message as kind, server_feature};

use self::message::{Incoming, Outgoing};
use super::{Error, Platform, Text};
use crate::ring::{ByteConsumer, ByteProducer, Memory, STORE_REQUEST, STORE_RESPONSE};

/// How long an answer may take, in nanoseconds: five seconds.
pub const PATIENCE: u64 = 5_000_000_000;

/// How many watches there can be.
pub const WATCHES: usize = 32;

/// A path in the store, of at most 127 bytes.
pub type Path = heapless::String<127>;

/// Puts a path together.
///
/// # Errors
/// [`Error::TooLong`].
pub fn path(parts: core::fmt::Arguments<'_>) -> Result<Path, Error> {
    let mut path = Path::new();
    path.write_fmt(parts).map_err(|_| Error::TooLong {
        length: path.capacity() + 1,
        limit: path.capacity(),
    })?;
    Ok(path)
}

/// A watch: names it when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u8);

/// A transaction that was begun. What is read and written with it happens at its end, all or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(u32);

/// The store.
pub struct Store<P: Platform> {
    platform: P,
    port: Port,
    page: &'static P::Pages,
    requests: ByteProducer<&'static P::Pages>,
    responses: ByteConsumer<&'static P::Pages>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The number of the last request.
    last: u32,
    /// Watches that are set, and those that fired: a bit each.
    watched: u32,
    fired: u32,
    /// Messages that were no answer and no watch.
    dropped: u64,
}

impl<P: Platform> Store<P> {
    /// Takes up the ring on `page`, whose events come by `port`.
    ///
    /// # Errors
    /// [`Error::Ring`]: it cannot be a ring.
    pub fn attach(platform: P, page: &'static P::Pages, port: Port) -> Result<Store<P>, Error> {
        Ok(Store {
            requests: ByteProducer::attach(STORE_REQUEST, page)?,
            responses: ByteConsumer::attach(STORE_RESPONSE, page)?,
            platform,
            port,
            page,
            outgoing: Outgoing::new(),
            incoming: Incoming::new(),
            last: 0,
            watched: 0,
            fired: 0,
            dropped: 0,
        })
    }

    /// The port to wait on for watches.
    pub fn port(&self) -> Port {
        self.port
    }

    /// How many messages were neither an answer to what was asked nor a watch of ours. A healthy daemon sends none.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Asks the daemon to start over after the ring broke; watches and transactions are gone then. Waits.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by a daemon that does not offer it (`XENSTORE_SERVER_FEATURE_RECONNECTION`),
    /// [`Error::Timeout`].
    pub fn reconnect(&mut self) -> Result<(), Error> {
        use core::sync::atomic::Ordering::{Acquire, Release};
        const FEATURES: usize = core::mem::offset_of!(DomainInterface, server_features);
        const CONNECTION: usize = core::mem::offset_of!(DomainInterface, connection);
        if self.page.load(FEATURES, Acquire) & server_feature::RECONNECTION == 0 {
            return Err(Error::Unsupported {
                what: "to start the store's ring over",
            });
        }
        self.page.store(CONNECTION, connection::RECONNECT, Release);
        self.platform.notify(self.port);
        let deadline = self.platform.now().saturating_add(PATIENCE);
        while self.page.load(CONNECTION, Acquire) != connection::CONNECTED {
            if self.platform.now() >= deadline {
                return Err(Error::Timeout {
                    waiting_for: "the store to start over",
                });
            }
            self.platform.wait(&[self.port], deadline);
            self.platform.take_event(self.port);
        }
        *self = Store::attach(self.platform.clone(), self.page, self.port)?;
        Ok(())
    }

    /// Reads a node. Paths that do not begin with `/` are relative to this domain's home.
    ///
    /// # Errors
    /// [`Error::Store`] with `ENOENT` where there is none; what [`Store::call`] says.
    pub fn read(&mut self, transaction: Option<Transaction>, path: &str) -> Result<&[u8], Error> {
        self.call("read", kind::READ, transaction, path, &[path.as_bytes(), b"\0"])
    }

    /// Reads a node that may be missing, as a number in decimal.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is no number.
    pub fn read_number(&mut self, path: &str) -> Result<Option<u64>, Error> {
        let text = match self.read(None, path) {
            Ok(text) => text,
            Err(Error::Store {
                error: Errno::ENOENT, ..
            }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = core::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim_end_matches('\0').trim().parse().ok());
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(Error::Malformed {
                node: Text::name_of(path),
                expected: "a decimal number",
                found: Text::of(text),
            }),
        }
    }

    /// Lists a node's children: their names, each ended by a zero byte.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn directory(&mut self, path: &str) -> Result<impl Iterator<Item = &[u8]>, Error> {
        let names = self.call("list", kind::DIRECTORY, None, path, &[path.as_bytes(), b"\0"])?;
        Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()))
    }

    /// Writes a node, and makes it where it is missing.
    ///
    /// # Errors
    /// [`Error::Store`], as with `EACCES`; what [`Store::call`] says.
    pub fn write(&mut self, transaction: Option<Transaction>, path: &str, value: &[u8]) -> Result<(), Error> {
        self.call(
            "write",
            kind::WRITE,
            transaction,
            path,
            &[path.as_bytes(), b"\0", value],
        )
        .map(drop)
    }

    /// Writes a number in decimal.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_number(
        &mut self,
        transaction: Option<Transaction>,
        path: &str,
        number: u64,
    ) -> Result<(), Error> {
        let mut text = heapless::String::<20>::new();
        // The longest number has twenty digits.
        let _ = write!(text, "{number}");
        self.write(transaction, path, text.as_bytes())
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn remove(&mut self, transaction: Option<Transaction>, path: &str) -> Result<(), Error> {
        self.call(
            "remove",
            kind::REMOVE,
            transaction,
            path,
            &[path.as_bytes(), b"\0"],
        )
        .map(drop)
    }

    /// Watches a node and all below it; fires once at the beginning.
    ///
    /// # Errors
    /// [`Error::Full`] where [`WATCHES`] are in use.
    pub fn watch(&mut self, path: &str) -> Result<Token, Error> {
        let number = self.watched.trailing_ones();
        if number as usize >= WATCHES {
            return Err(Error::Full);
        }
        self.watched |= 1 << number;
        self.fired &= !(1 << number);
        let text = message::token_text(number as u8);
        match self.call(
            "watch",
            kind::WATCH,
            None,
            path,
            &[path.as_bytes(), b"\0", &text, b"\0"],
        ) {
            Ok(_) => Ok(Token(number as u8)),
            Err(error) => {
                self.watched &= !(1 << number);
                Err(error)
            }
        }
    }

    /// Ends a watch on `path`, the same as it was set with.
    ///
    /// # Errors
    /// [`Error::Store`]; the token is free all the same.
    pub fn unwatch(&mut self, path: &str, token: Token) -> Result<(), Error> {
        let text = message::token_text(token.0);
        let answer = self.call(
            "unwatch",
            kind::UNWATCH,
            None,
            path,
            &[path.as_bytes(), b"\0", &text, b"\0"],
        );
        let answer = answer.map(drop);
        self.watched &= !(1 << token.0);
        self.fired &= !(1 << token.0);
        answer
    }

    /// Has this watch fired since this was last asked? Takes it. How often it fired and for which node below is not kept:
    /// read again what matters. Looks at the ring first.
    ///
    /// # Errors
    /// [`Error::Ring`], [`Error::Protocol`]: the ring is broken.
    pub fn has_fired(&mut self, token: Token) -> Result<bool, Error> {
        self.pump()?;
        let fired = self.fired >> token.0 & 1 == 1;
        self.fired &= !(1 << token.0);
        Ok(fired)
    }

    /// Does all of `work` or nothing, and does it again where somebody else came in between. Sixteen times at most.
    ///
    /// # Errors
    /// What `work` says; [`Error::Store`] with `EAGAIN` after the last attempt.
    pub fn transaction(
        &mut self,
        mut work: impl FnMut(&mut Self, Transaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        const ATTEMPTS: usize = 16;
        let mut last = Error::NotInUse;
        for _ in 0..ATTEMPTS {
            let transaction = self.begin_transaction()?;
            if let Err(error) = work(self, transaction) {
                // It failed already, for a reason that says more than a failure to say so.
                let _ = self.end_transaction(transaction, false);
                return Err(error);
            }
            match self.end_transaction(transaction, true) {
                Err(
                    again @ Error::Store {
                        error: Errno::EAGAIN, ..
                    },
                ) => last = again,
                other => return other,
            }
        }
        Err(last)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Malformed`] where the answer is no number.
    pub fn begin_transaction(&mut self) -> Result<Transaction, Error> {
        let answer = self.call("begin", kind::TRANSACTION_START, None, "transaction", &[b"\0"])?;
        let number = core::str::from_utf8(answer)
            .ok()
            .and_then(|text| text.trim_end_matches('\0').parse().ok());
        match number {
            Some(number @ 1..) => Ok(Transaction(number)),
            _ => Err(Error::Malformed {
                node: Text::of(b"transaction"),
                expected: "a number above zero",
                found: Text::of(answer),
            }),
        }
    }

    /// Ends a transaction: done, or dropped.
    ///
    /// # Errors
    /// [`Error::Store`] with `EAGAIN` where somebody else came in between: nothing was done.
    pub fn end_transaction(&mut self, transaction: Transaction, commit: bool) -> Result<(), Error> {
        let word: &[u8] = if commit { b"T\0" } else { b"F\0" };
        self.call(
            "end",
            kind::TRANSACTION_END,
            Some(transaction),
            "transaction",
            &[word],
        )
        .map(drop)
    }
}

const _: () = assert!(limit::PAYLOAD_MAX == message::PAYLOAD);
