//! Requests in flight, and the pages that they hold.

use hypercall_abi::io::block::{Response, op, status};

use super::SEGMENTS;
use crate::front::Error;
use crate::front::granted::MOST;

/// Most requests in flight.
const DEPTH: usize = 64;

/// Pages of a request: the data's, and one of segments.
pub type Pages = heapless::Vec<u16, { SEGMENTS + 1 }>;

/// Names a request that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u16,
    generation: u32,
}

impl Ticket {
    /// As it stands in the ring. Each use of a slot has another number, so that an answer that comes twice is found.
    pub fn id(self) -> u64 {
        u64::from(self.generation) << 16 | u64::from(self.slot)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    InFlight,
    /// Nobody asks any more.
    Abandoned,
    Done(i16),
    /// The backend went away.
    Lost,
}

struct Flight {
    generation: u32,
    state: State,
    operation: u8,
    queue: usize,
    bytes: usize,
    pages: Pages,
}

/// A request that has ended.
pub struct Done {
    pub outcome: Result<(), Error>,
    pub operation: u8,
    pub bytes: usize,
    pub pages: Pages,
}

pub struct Flights {
    flights: [Flight; DEPTH],
    /// A bit for each page in use.
    used: [u64; MOST / 64],
    answered: bool,
}

impl Flights {
    pub fn new() -> Flights {
        Flights {
            flights: core::array::from_fn(|_| Flight {
                generation: 0,
                state: State::Free,
                operation: 0,
                queue: 0,
                bytes: 0,
                pages: Pages::new(),
            }),
            used: [0; MOST / 64],
            answered: false,
        }
    }

    pub fn in_use(&self) -> usize {
        self.flights
            .iter()
            .filter(|flight| flight.state != State::Free)
            .count()
    }

    /// Whether there was an answer since this was last asked.
    pub fn took_answer(&mut self) -> bool {
        core::mem::take(&mut self.answered)
    }

    /// Takes `count` of the first `limit` pages.
    pub fn pages(&mut self, count: usize, limit: usize) -> Option<Pages> {
        let free = (0..limit.min(MOST)).filter(|page| self.used[page / 64] >> (page % 64) & 1 == 0);
        let taken: Pages = free
            .take(count.min(SEGMENTS + 1))
            .map(|page| page as u16)
            .collect();
        if taken.len() != count {
            return None;
        }
        for page in &taken {
            self.used[usize::from(*page) / 64] |= 1 << (page % 64);
        }
        Some(taken)
    }

    pub fn free(&mut self, pages: &[u16]) {
        for page in pages {
            if let Some(word) = self.used.get_mut(usize::from(*page) / 64) {
                *word &= !(1 << (page % 64));
            }
        }
    }

    pub fn begin(&mut self, operation: u8, queue: usize, pages: &[u16], bytes: usize) -> Option<Ticket> {
        let slot = self
            .flights
            .iter()
            .position(|flight| flight.state == State::Free)?;
        let flight = &mut self.flights[slot];
        flight.generation = flight.generation.wrapping_add(1);
        flight.state = State::InFlight;
        flight.operation = operation;
        flight.queue = queue;
        flight.bytes = bytes;
        flight.pages = pages.iter().copied().collect();
        Some(Ticket {
            slot: slot as u16,
            generation: flight.generation,
        })
    }

    /// Takes an answer in, if it is one to something that was asked in that queue.
    pub fn answer(&mut self, queue: usize, response: &Response) -> Result<(), Error> {
        let wrong = |what, found: u64, expected: u64| {
            Err(Error::Protocol {
                what,
                found,
                expected,
            })
        };
        let slot = (response.id & 0xffff) as usize;
        let Some(flight) = self.flights.get_mut(slot) else {
            return wrong("the number of an answer", response.id, DEPTH as u64);
        };
        let expected = u64::from(flight.generation) << 16 | slot as u64;
        let waits = matches!(flight.state, State::InFlight | State::Abandoned);
        if response.id != expected || !waits || flight.queue != queue {
            return wrong(
                "the number of an answer (nothing like it was asked)",
                response.id,
                expected,
            );
        }
        // A large transfer may be called by either name.
        let large = response.operation == op::INDIRECT && matches!(flight.operation, op::READ | op::WRITE);
        if response.operation != flight.operation && !large {
            return wrong(
                "an answer's operation",
                response.operation.into(),
                flight.operation.into(),
            );
        }
        if !matches!(
            response.status,
            status::OKAY | status::ERROR | status::NOT_SUPPORTED
        ) {
            return wrong("an answer's status", response.status as u64, 0);
        }
        self.answered = true;
        if flight.state == State::Abandoned {
            flight.state = State::Free;
            let pages = core::mem::take(&mut flight.pages);
            self.free(&pages);
        } else {
            flight.state = State::Done(response.status);
        }
        Ok(())
    }

    pub fn take(&mut self, ticket: Ticket) -> Result<Option<Done>, Error> {
        let flight = self
            .flights
            .get_mut(usize::from(ticket.slot))
            .filter(|flight| flight.generation == ticket.generation)
            .ok_or(Error::NotInUse)?;
        let outcome = match flight.state {
            State::InFlight => return Ok(None),
            State::Free | State::Abandoned => return Err(Error::NotInUse),
            State::Lost => Err(Error::Disconnected),
            State::Done(status::OKAY) => Ok(()),
            State::Done(status::NOT_SUPPORTED) => Err(Error::Unsupported {
                what: "this operation",
            }),
            State::Done(status) => Err(Error::Failed { status }),
        };
        flight.state = State::Free;
        Ok(Some(Done {
            outcome,
            operation: flight.operation,
            bytes: flight.bytes,
            pages: core::mem::take(&mut flight.pages),
        }))
    }

    pub fn abandon(&mut self, ticket: Ticket) {
        let Some(flight) = self.flights.get_mut(usize::from(ticket.slot)) else {
            return;
        };
        if flight.generation != ticket.generation {
            return;
        }
        match flight.state {
            State::InFlight => flight.state = State::Abandoned,
            State::Done(_) | State::Lost => {
                flight.state = State::Free;
                let pages = core::mem::take(&mut flight.pages);
                self.free(&pages);
            }
            State::Free | State::Abandoned => {}
        }
    }

    /// The backend is gone: who asks is told.
    pub fn fail_all(&mut self) {
        for slot in 0..DEPTH {
            let flight = &mut self.flights[slot];
            match flight.state {
                State::InFlight => flight.state = State::Lost,
                State::Abandoned => {
                    flight.state = State::Free;
                    let pages = core::mem::take(&mut flight.pages);
                    self.free(&pages);
                }
                _ => {}
            }
        }
    }
}
