//! Reads and writes of any length, that wait.

use hypercall_abi::event_channel::Port;

use super::{Block, PAGE, QUEUES, SECTOR, Ticket};
use crate::front::{Error, Platform};

/// Requests that one transfer keeps in flight.
const AHEAD: usize = 16;

/// Requests in flight, with the part of the buffer that is theirs.
type Pending = heapless::Deque<(Ticket, usize, usize), AHEAD>;

impl<P: Platform> Block<P> {
    /// Reads whole sectors from `sector` on, and waits for them. Several requests are in flight at a time.
    ///
    /// # Errors
    /// What [`Block::submit_read`] and [`Block::finish`] say; [`Error::Timeout`] after `deadline` (in nanoseconds of
    /// [`Platform::now`]).
    pub fn read(&mut self, sector: u64, buffer: &mut [u8], deadline: u64) -> Result<(), Error> {
        self.check_length(sector, buffer.len())?;
        let most = self.geometry.ok_or(Error::Disconnected)?.most * SECTOR;
        let (mut pending, mut asked) = (Pending::new(), 0);
        let mut outcome = Ok(());
        while outcome.is_ok() && (asked < buffer.len() || !pending.is_empty()) {
            while asked < buffer.len() && !pending.is_full() {
                let length = most.min(buffer.len() - asked);
                match self.submit_read(sector + (asked / SECTOR) as u64, length / SECTOR) {
                    // There is room: it was just looked at.
                    Ok(ticket) => drop(pending.push_back((ticket, asked, length))),
                    Err(Error::Full) if !pending.is_empty() => break,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
                asked += length;
            }
            if let Some((ticket, start, length)) = pending.pop_front() {
                let part = &mut buffer[start..start + length];
                let waited = self.await_finish(ticket, part, deadline);
                outcome = outcome.and(waited);
            }
        }
        self.abandon_all(pending);
        outcome
    }

    /// Writes whole sectors from `sector` on, and waits until the backend has them. To make them durable, [`Block::flush`].
    ///
    /// # Errors
    /// As [`Block::read`], and [`Error::ReadOnly`].
    pub fn write(&mut self, sector: u64, data: &[u8], deadline: u64) -> Result<(), Error> {
        self.check_length(sector, data.len())?;
        let most = self.geometry.ok_or(Error::Disconnected)?.most * SECTOR;
        let mut pending = Pending::new();
        let (mut parts, mut at) = (data.chunks(most.max(SECTOR)).peekable(), sector);
        let mut outcome = Ok(());
        while outcome.is_ok() && (parts.peek().is_some() || !pending.is_empty()) {
            while let Some(part) = parts.peek().filter(|_| !pending.is_full()) {
                match self.submit_write(at, part) {
                    Ok(ticket) => drop(pending.push_back((ticket, 0, 0))),
                    Err(Error::Full) if !pending.is_empty() => break,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
                at += (part.len() / SECTOR) as u64;
                parts.next();
            }
            if let Some((ticket, ..)) = pending.pop_front() {
                let waited = self.await_finish(ticket, &mut [], deadline);
                outcome = outcome.and(waited);
            }
        }
        self.abandon_all(pending);
        outcome
    }

    /// Makes what was written durable, and waits for that.
    ///
    /// # Errors
    /// As [`Block::submit_flush`] and [`Block::read`].
    pub fn flush(&mut self, deadline: u64) -> Result<(), Error> {
        let ticket = self.submit_flush()?;
        self.await_finish(ticket, &mut [], deadline)
    }

    fn check_length(&self, sector: u64, bytes: usize) -> Result<(), Error> {
        if bytes.is_multiple_of(SECTOR) {
            return Ok(());
        }
        Err(Error::OutOfRange {
            start: sector,
            length: bytes as u64,
            limit: SECTOR as u64,
        })
    }

    fn await_finish(&mut self, ticket: Ticket, buffer: &mut [u8], deadline: u64) -> Result<(), Error> {
        self.await_pieces(ticket, PAGE, &mut buffer.chunks_mut(PAGE), deadline)
    }

    /// Waits for a request, and fills `buffer`, pieces of `size` bytes each, with what it read.
    pub(super) fn await_pieces(
        &mut self,
        ticket: Ticket,
        size: usize,
        buffer: &mut dyn Iterator<Item = &mut [u8]>,
        deadline: u64,
    ) -> Result<(), Error> {
        loop {
            if self.finish_pieces(ticket, size, &mut *buffer)?.is_some() {
                return Ok(());
            }
            if self.platform.now() >= deadline {
                self.abandon(ticket);
                return Err(Error::Timeout {
                    waiting_for: "the disk's answer",
                });
            }
            let ports: heapless::Vec<Port, QUEUES> = self.ports().collect();
            self.platform.wait(&ports, deadline);
        }
    }

    fn abandon_all(&mut self, mut pending: Pending) {
        while let Some((ticket, ..)) = pending.pop_front() {
            self.abandon(ticket);
        }
    }
}
