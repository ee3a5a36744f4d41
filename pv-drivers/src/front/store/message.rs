//! Messages as they are pushed through a ring that holds less than one: what of it is on its way.

use hypercall_abi::io::xenstore::{Header, limit};
use zerocopy::{FromBytes, IntoBytes};

use crate::front::Error;
use crate::ring::{ByteConsumer, ByteProducer, Memory};

/// Most bytes behind a header.
pub const PAYLOAD: usize = limit::PAYLOAD_MAX;
const HEADER: usize = size_of::<Header>();

/// Most bytes that are read at a time: a daemon that writes without end does not keep us here.
const READ_AT_ONCE: usize = 16 * limit::RING_SIZE;

/// What is to be written.
pub struct Outgoing {
    bytes: [u8; HEADER + PAYLOAD],
    length: usize,
    sent: usize,
}

impl Outgoing {
    pub fn new() -> Outgoing {
        Outgoing {
            bytes: [0; HEADER + PAYLOAD],
            length: 0,
            sent: 0,
        }
    }

    pub fn is_sent(&self) -> bool {
        self.sent == self.length
    }

    /// Puts a message together; the last one was sent.
    pub fn set(&mut self, kind: u32, request: u32, transaction: u32, parts: &[&[u8]]) -> Result<(), Error> {
        let length = parts.iter().map(|part| part.len()).sum();
        if length > PAYLOAD {
            return Err(Error::TooLong {
                length,
                limit: PAYLOAD,
            });
        }
        let header = Header {
            kind,
            request_id: request,
            transaction_id: transaction,
            length: length as u32,
        };
        let mut place = 0;
        for part in core::iter::once(header.as_bytes()).chain(parts.iter().copied()) {
            self.bytes[place..place + part.len()].copy_from_slice(part);
            place += part.len();
        }
        (self.length, self.sent) = (place, 0);
        Ok(())
    }

    /// Writes as much as there is room for; whether that was anything.
    pub fn push(&mut self, ring: &mut ByteProducer<impl Memory>) -> Result<bool, Error> {
        let written = ring.write(&self.bytes[self.sent..self.length])?;
        self.sent += written;
        Ok(written > 0)
    }
}

/// What is being read.
pub struct Incoming {
    header: [u8; HEADER],
    payload: [u8; PAYLOAD],
    /// Bytes of both that are there.
    have: usize,
}

impl Incoming {
    pub fn new() -> Incoming {
        Incoming {
            header: [0; HEADER],
            payload: [0; PAYLOAD],
            have: 0,
        }
    }

    /// The header, when it is whole.
    fn header(&self) -> Option<Header> {
        if self.have < HEADER {
            return None;
        }
        Header::read_from_bytes(&self.header).ok()
    }

    /// Reads until a message is whole, which stays until the next call, or nothing is left. `budget` is bytes that may still
    /// be read; whether anything was is told by `moved`.
    pub fn pull(
        &mut self,
        ring: &mut ByteConsumer<impl Memory>,
        budget: &mut usize,
        moved: &mut bool,
    ) -> Result<Option<Header>, Error> {
        if self.is_whole()?.is_some() {
            self.have = 0;
        }
        loop {
            if let Some(header) = self.is_whole()? {
                return Ok(Some(header));
            }
            let target = match self.header() {
                None => &mut self.header[self.have..],
                // `is_whole` has checked the length.
                Some(header) => &mut self.payload[self.have - HEADER..header.length as usize],
            };
            let wanted = target.len().min(*budget);
            let read = ring.read(&mut target[..wanted])?;
            if read == 0 {
                return Ok(None);
            }
            *moved = true;
            *budget -= read;
            self.have += read;
        }
    }

    fn is_whole(&self) -> Result<Option<Header>, Error> {
        let Some(header) = self.header() else {
            return Ok(None);
        };
        let length = header.length as usize;
        if length > PAYLOAD {
            return Err(Error::Protocol {
                what: "the length of a message of the store",
                found: length as u64,
                expected: PAYLOAD as u64,
            });
        }
        Ok((self.have == HEADER + length).then_some(header))
    }

    /// What is behind the header of a whole message.
    pub fn payload(&self) -> &[u8] {
        self.payload
            .get(..self.have.saturating_sub(HEADER))
            .unwrap_or(&[])
    }
}

/// How much may be read in one go.
pub fn budget() -> usize {
    READ_AT_ONCE
}

/// A token on the wire: two digits.
pub fn token_text(token: u8) -> [u8; 2] {
    [b'0' + token / 10 % 10, b'0' + token % 10]
}

/// The token that such a text stands for, from a watch event's `path\0token\0`.
pub fn token_of(payload: &[u8]) -> Option<u8> {
    let mut parts = payload.split(|byte| *byte == 0);
    let (_path, token) = (parts.next()?, parts.next()?);
    match token {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}
