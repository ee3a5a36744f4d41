//! Messages to and from the daemon: a header of four words and up to a page of payload.

use crate::{Error, Event, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
const KERNEL_DEVICE: &str = "/dev/xen/xenbus";
#[doc(alias = "XENSTORE_PAYLOAD_MAX")]
const PAYLOAD_MAX: usize = 4096;
const HEADER: usize = 16;
/// A daemon that is this late is no daemon.
const ANSWER_TIME: Duration = Duration::from_secs(30);
const WATCH_EVENT: u32 = 15;
const ERROR: u32 = 16;

/// The kinds of messages that clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "xsd_sockmsg_type")]
pub enum Kind {
    Directory = 1,
    Read = 2,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Introduce = 8,
    Release = 9,
    Write = 11,
    MakeDirectory = 12,
    Remove = 13,
    SetPermissions = 14,
}

struct Message {
    kind: u32,
    payload: Vec<u8>,
}

pub struct Connection {
    stream: File,
    events: VecDeque<Event>,
}

impl Connection {
    pub fn open() -> Result<Self> {
        let socket = SOCKETS.iter().find_map(|path| UnixStream::connect(path).ok());
        let stream = match socket {
            Some(socket) => File::from(OwnedFd::from(socket)),
            None => {
                let device = OpenOptions::new().read(true).write(true).open(KERNEL_DEVICE);
                device.map_err(|_| Error::NoDaemon)?
            }
        };
        Ok(Self {
            stream,
            events: VecDeque::new(),
        })
    }

    /// Sends a request and waits for its answer: a payload, or an error's name.
    pub fn request(
        &mut self,
        kind: Kind,
        transaction: u32,
        payload: &[u8],
    ) -> Result<std::result::Result<Vec<u8>, String>> {
        if payload.len() > PAYLOAD_MAX {
            return Err(Error::TooLong);
        }
        let mut message = Vec::with_capacity(HEADER + payload.len());
        for word in [kind as u32, 0, transaction, payload.len() as u32] {
            message.extend(word.to_ne_bytes());
        }
        message.extend(payload);
        self.stream.write_all(&message)?;
        let deadline = Instant::now() + ANSWER_TIME;
        loop {
            let answer = self.receive(deadline)?.ok_or(Error::Timeout)?;
            match answer.kind {
                WATCH_EVENT => self.keep(&answer.payload)?,
                ERROR => return Ok(Err(text(&answer.payload))),
                kind_answered if kind_answered == kind as u32 => return Ok(Ok(answer.payload)),
                _ => return Err(Error::Protocol("it answers another question")),
            }
        }
    }

    pub fn next_event(&mut self, deadline: Instant) -> Result<Option<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        let Some(message) = self.receive(deadline)? else {
            return Ok(None);
        };
        if message.kind != WATCH_EVENT {
            return Err(Error::Protocol("an answer without a question"));
        }
        self.keep(&message.payload)?;
        Ok(self.events.pop_front())
    }

    fn keep(&mut self, payload: &[u8]) -> Result<()> {
        let mut words = payload.split(|byte| *byte == 0);
        let (Some(path), Some(token)) = (words.next(), words.next()) else {
            return Err(Error::Protocol("an event without path and token"));
        };
        self.events.push_back(Event {
            path: text(path),
            token: text(token),
        });
        Ok(())
    }

    /// The next message; nothing when none begins before the deadline.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Message>> {
        let mut header = [0; HEADER];
        if !self.fill(&mut header, deadline)? {
            return Ok(None);
        }
        let word = |index: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| header[index * 4 + byte]));
        let length = word(3) as usize;
        if length > PAYLOAD_MAX {
            return Err(Error::Protocol("it is longer than any message may be"));
        }
        let mut payload = vec![0; length];
        if !self.fill(&mut payload, Instant::now() + ANSWER_TIME)? {
            return Err(Error::Timeout);
        }
        Ok(Some(Message {
            kind: word(0),
            payload,
        }))
    }

    /// Fills `target`; false when nothing came before the deadline. What has begun is waited for.
    fn fill(&mut self, target: &mut [u8], deadline: Instant) -> Result<bool> {
        let mut filled = 0;
        let mut deadline = deadline;
        while filled < target.len() {
            if !self.wait(deadline)? {
                return if filled == 0 {
                    Ok(false)
                } else {
                    Err(Error::Timeout)
                };
            }
            match self.stream.read(&mut target[filled..]) {
                Ok(0) => return Err(Error::Connection(ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
            deadline = deadline.max(Instant::now() + ANSWER_TIME);
        }
        Ok(true)
    }

    fn wait(&self, deadline: Instant) -> Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::Connection(errno.into())),
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}
