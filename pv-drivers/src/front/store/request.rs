//! Questions and answers.

use hypercall_abi::Error as Errno;
use hypercall_abi::io::xenstore::{error_from_text, message as kind};

use super::message::{budget, token_of};
use super::{PATIENCE, Store, Transaction};
use crate::front::{Error, Platform, Text};

/// What came of a request.
enum Answer {
    /// It is in `incoming`.
    There,
    /// It is one of the errors.
    Refused(Errno),
    /// Not yet.
    Pending,
}

impl<P: Platform> Store<P> {
    /// Sends one message and waits for its answer: for what has no method of its own. `doing` and `path` are for error
    /// messages; `parts` are the bytes behind the header.
    ///
    /// # Errors
    /// [`Error::Store`]: the daemon refused. [`Error::Timeout`] after [`PATIENCE`]. [`Error::Ring`] and
    /// [`Error::Protocol`]: the ring is broken, until [`Store::reconnect`].
    pub fn call(
        &mut self,
        doing: &'static str,
        kind: u32,
        transaction: Option<Transaction>,
        path: &str,
        parts: &[&[u8]],
    ) -> Result<&[u8], Error> {
        let deadline = self.platform.now().saturating_add(PATIENCE);
        // An earlier request that nobody waits for any more must be out first: messages cannot be cut.
        while !self.outgoing.is_sent() {
            self.pump()?;
            self.sleep_or_give_up(self.outgoing.is_sent(), deadline)?;
        }
        self.last = self.last.wrapping_add(1);
        let number = transaction.map_or(0, |transaction| transaction.0);
        self.outgoing.set(kind, self.last, number, parts)?;
        loop {
            match self.advance(Some(kind))? {
                Answer::There => return Ok(self.incoming.payload()),
                Answer::Refused(error) => {
                    return Err(Error::Store {
                        doing,
                        node: Text::name_of(path),
                        error,
                    });
                }
                Answer::Pending => self.sleep_or_give_up(false, deadline)?,
            }
        }
    }

    /// Moves what can be moved, takes note of watches.
    pub(super) fn pump(&mut self) -> Result<(), Error> {
        self.advance(None).map(drop)
    }

    fn sleep_or_give_up(&self, done: bool, deadline: u64) -> Result<(), Error> {
        if done {
            return Ok(());
        }
        if self.platform.now() >= deadline {
            return Err(Error::Timeout {
                waiting_for: "the store's answer",
            });
        }
        self.platform.wait(&[self.port], deadline);
        self.platform.take_event(self.port);
        Ok(())
    }

    /// Moves bytes both ways, until there is an answer to a request of the kind `awaited` or nothing moves any more.
    fn advance(&mut self, awaited: Option<u32>) -> Result<Answer, Error> {
        let mut budget = budget();
        let mut moved = self.outgoing.push(&mut self.requests)?;
        let mut answer = Answer::Pending;
        while let Some(header) = self.incoming.pull(&mut self.responses, &mut budget, &mut moved)? {
            if header.kind == kind::WATCH_EVENT {
                let token = token_of(self.incoming.payload())
                    .filter(|&token| token < u32::BITS as u8 && self.watched >> token & 1 == 1);
                match token {
                    Some(token) => self.fired |= 1 << token,
                    None => self.dropped += 1,
                }
                continue;
            }
            if header.request_id != self.last || awaited.is_none() {
                // Late, or of somebody who guesses.
                self.dropped += 1;
                continue;
            }
            answer = match (header.kind, awaited) {
                (kind::ERROR, _) => {
                    Answer::Refused(error_from_text(self.incoming.payload()).unwrap_or(Errno::EINVAL))
                }
                (found, Some(expected)) if found == expected => Answer::There,
                (found, expected) => {
                    return Err(Error::Protocol {
                        what: "the kind of the store's answer",
                        found: found.into(),
                        expected: expected.unwrap_or(0).into(),
                    });
                }
            };
            break;
        }
        if moved {
            self.platform.notify(self.port);
        }
        Ok(answer)
    }
}
