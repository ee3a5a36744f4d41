//! Messages to and from the daemon: a header of four words and up to a page of payload.

use crate::{Error, Event, Result};
use hypercall_abi::io::xenstore::limit::PAYLOAD_MAX;
use hypercall_abi::io::xenstore::{Header, message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use zerocopy::{FromZeros, IntoBytes};

const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
const KERNEL_DEVICE: &str = "/dev/xen/xenbus";
/// A daemon that is this late is no daemon.
const ANSWER_TIME: Duration = Duration::from_secs(30);

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
        kind: u32,
        transaction: u32,
        payload: &[u8],
    ) -> Result<std::result::Result<Vec<u8>, String>> {
        if payload.len() > PAYLOAD_MAX {
            return Err(Error::TooLong);
        }
        let header = Header {
            kind,
            request_id: 0,
            transaction_id: transaction,
            length: payload.len() as u32,
        };
        let message = [header.as_bytes(), payload].concat();
        self.stream.write_all(&message)?;
        let deadline = Instant::now() + ANSWER_TIME;
        loop {
            let answer = self.receive(deadline)?.ok_or(Error::Timeout)?;
            match answer.kind {
                message::WATCH_EVENT => self.keep(&answer.payload)?,
                message::ERROR => return Ok(Err(text(&answer.payload))),
                answered if answered == kind => return Ok(Ok(answer.payload)),
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
        if message.kind != message::WATCH_EVENT {
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
        let mut header = Header::new_zeroed();
        if !self.fill(header.as_mut_bytes(), deadline)? {
            return Ok(None);
        }
        let length = header.length as usize;
        if length > PAYLOAD_MAX {
            return Err(Error::Protocol("it is longer than any message may be"));
        }
        let mut payload = vec![0; length];
        if !self.fill(&mut payload, Instant::now() + ANSWER_TIME)? {
            return Err(Error::Timeout);
        }
        Ok(Some(Message {
            kind: header.kind,
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
