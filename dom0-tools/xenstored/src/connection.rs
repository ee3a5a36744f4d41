//! One client: what it sent and what waits for it, its transactions, and how it failed if it did.

use crate::permission::Caller;
use crate::transaction::Transaction;
use crate::wire::{Assembler, MessageType, OversizedMessage, encode};
use pv_drivers::ring::Fault;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Bytes that wait to be taken by a client.
#[derive(Debug, Default)]
pub struct Output {
    packets: VecDeque<Packet>,
    /// How much of the first packet is already gone.
    sent: usize,
    /// The events of which nothing has been sent yet: an equal one need not be told twice.
    waiting_events: HashSet<Arc<[u8]>>,
    replies: usize,
    event_bytes: usize,
    stalled_since: Option<Instant>,
}

#[derive(Debug)]
struct Packet {
    bytes: Arc<[u8]>,
    is_event: bool,
}

impl Output {
    /// Appends the answer to a request.
    pub fn push_reply(&mut self, bytes: Vec<u8>) {
        self.replies += 1;
        self.packets.push_back(Packet {
            bytes: bytes.into(),
            is_event: false,
        });
    }

    /// Appends a watch event, unless the same one already waits.
    pub fn push_event(&mut self, path: &str, token: &str) {
        let payload = [path.as_bytes(), b"\0", token.as_bytes(), b"\0"].concat();
        let bytes: Arc<[u8]> = encode(MessageType::WatchEvent, 0, 0, &payload).into();
        if self.waiting_events.insert(bytes.clone()) {
            self.event_bytes += bytes.len();
            self.packets.push_back(Packet {
                bytes,
                is_event: true,
            });
        }
    }

    /// The bytes to send next; empty if there are none.
    pub fn next(&self) -> &[u8] {
        self.packets
            .front()
            .map_or(&[], |packet| &packet.bytes[self.sent..])
    }

    /// Notes that so many of the [`next`](Self::next) bytes are gone.
    pub fn advance(&mut self, count: usize) {
        let Some(packet) = self.packets.front() else {
            return;
        };
        if count > 0 {
            self.stalled_since = None;
        }
        if self.sent == 0 && count > 0 && packet.is_event {
            self.waiting_events.remove(&packet.bytes);
        }
        self.sent += count;
        if self.sent < packet.bytes.len() {
            return;
        }
        if packet.is_event {
            self.event_bytes -= packet.bytes.len();
        } else {
            self.replies -= 1;
        }
        self.packets.pop_front();
        self.sent = 0;
    }

    /// How many answers wait.
    pub fn replies(&self) -> usize {
        self.replies
    }

    /// How many bytes of events wait.
    pub fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Since when the client has taken nothing, counted from the first time that somebody asks.
    pub fn stalled_since(&mut self, now: Instant) -> Instant {
        *self.stalled_since.get_or_insert(now)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// Why a client was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The indices in its ring make no sense.
    #[error(transparent)]
    Ring(#[from] Fault),
    /// It broke the framing of messages.
    #[error("announced a message of {} bytes", .0.length)]
    Framing(OversizedMessage),
    /// It lets events pile up.
    #[error("does not take its events")]
    Stuck,
}

/// The state of one client.
#[derive(Debug)]
pub struct Connection {
    /// On whose behalf it asks.
    pub caller: Caller,
    /// What it sent.
    pub input: Assembler,
    /// What waits for it.
    pub output: Output,
    /// Its open transactions.
    pub transactions: BTreeMap<u32, Transaction>,
    /// Requests wait until then: it made others' queues grow faster than they can take.
    pub resume_at: Option<Instant>,
    last_transaction: u32,
    failure: Option<Failure>,
}

impl Connection {
    /// A fresh connection.
    pub fn new(caller: Caller) -> Self {
        Connection {
            caller,
            input: Assembler::default(),
            output: Output::default(),
            transactions: BTreeMap::new(),
            resume_at: None,
            last_transaction: 0,
            failure: None,
        }
    }

    /// Registers a transaction under a number that is free and not 0.
    pub fn add_transaction(&mut self, transaction: Transaction) -> u32 {
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            if self.last_transaction != 0 && !self.transactions.contains_key(&self.last_transaction) {
                break;
            }
        }
        self.transactions.insert(self.last_transaction, transaction);
        self.last_transaction
    }

    /// Gives up on the client: nothing it sends is looked at any more and nothing is kept for it.
    pub fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            self.input = Assembler::default();
            self.output = Output::default();
            self.transactions.clear();
        }
    }

    /// Why the client was given up, if it was.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether its requests have to wait, for it to take its answers or for a while.
    pub fn must_wait(&self, outstanding: usize, now: Instant) -> bool {
        self.output.replies() >= outstanding || self.resume_at.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    fn drain(output: &mut Output, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !output.is_empty() {
            let piece = output.next()[..step.min(output.next().len())].to_vec();
            output.advance(piece.len());
            bytes.extend(piece);
        }
        bytes
    }

    #[test]
    fn bytes_leave_in_order_and_counts_return_to_zero() {
        for step in [1, 3, 100] {
            let mut output = Output::default();
            output.push_reply(b"first".to_vec());
            output.push_event("/a", "t");
            output.push_reply(b"second".to_vec());
            let bytes = drain(&mut output, step);
            assert!(bytes.starts_with(b"first") && bytes.ends_with(b"second"));
            assert_eq!((output.replies(), output.event_bytes()), (0, 0));
            assert!(output.waiting_events.is_empty());
        }
    }

    #[test]
    fn an_event_that_waits_is_not_told_twice_but_one_on_its_way_is() {
        let mut output = Output::default();
        output.push_event("/a", "t");
        let length = output.next().len();
        output.push_event("/a", "t");
        assert_eq!(output.event_bytes(), length);
        output.advance(1);
        output.push_event("/a", "t");
        assert_eq!(drain(&mut output, 7).len(), 2 * length - 1);
    }

    #[test]
    fn transaction_numbers_are_never_zero_or_taken() {
        let mut connection = Connection::new(Caller::CONTROL);
        connection.last_transaction = u32::MAX - 1;
        let tree = Tree::new();
        let numbers: Vec<u32> = (0..3)
            .map(|_| connection.add_transaction(Transaction::begin(&tree)))
            .collect();
        assert_eq!(numbers, [u32::MAX, 1, 2]);
    }
}
