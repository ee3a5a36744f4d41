//! The ring of requests and responses: the frontend produces requests, the backend consumes them and answers in the same
//! slots. Layout: [`hypercall_abi::io::ring`].

use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use hypercall_abi::io::ring::{HEADER_SIZE, RingHeader, slots};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Fault, Full, Memory};

/// What fits in a slot: a request or a response.
pub trait Message: FromBytes + IntoBytes + Immutable {}

impl<T: FromBytes + IntoBytes + Immutable> Message for T {}

const REQUEST_PRODUCER: usize = offset_of!(RingHeader, request_producer);
const REQUEST_EVENT: usize = offset_of!(RingHeader, request_event);
const RESPONSE_PRODUCER: usize = offset_of!(RingHeader, response_producer);
const RESPONSE_EVENT: usize = offset_of!(RingHeader, response_event);

/// What both ends know: where the slots are, and their own view of the indices.
#[derive(Debug)]
struct Slots<M, Produced, Consumed> {
    memory: M,
    /// A power of two.
    count: u32,
    /// Our next slot to produce in; ahead of `published` by what the other end was not told yet.
    produced: u32,
    /// Our producer index as the other end may know it. Kept here because the shared word is writable for it.
    published: u32,
    /// Our next slot to consume.
    consumed: u32,
    /// A fault of the other end: from then on nothing in the ring can be trusted.
    fault: Option<Fault>,
    messages: PhantomData<(Produced, Consumed)>,
}

impl<M: Memory, Produced: Message, Consumed: Message> Slots<M, Produced, Consumed> {
    /// A slot holds the larger of the two kinds.
    const SLOT_SIZE: usize = {
        let (one, other) = (size_of::<Produced>(), size_of::<Consumed>());
        assert!(
            one.is_multiple_of(4) && other.is_multiple_of(4),
            "slots are copied as words of four bytes"
        );
        if one > other { one } else { other }
    };

    fn new(memory: M, start: u32) -> Result<Self, Fault> {
        let count = slots(memory.length(), Self::SLOT_SIZE);
        if count == 0 {
            return Err(Fault::TooSmall);
        }
        let (produced, published, consumed) = (start, start, start);
        Ok(Self {
            memory,
            count,
            produced,
            published,
            consumed,
            fault: None,
            messages: PhantomData,
        })
    }

    fn offset(&self, index: u32) -> usize {
        HEADER_SIZE + (index & (self.count - 1)) as usize * Self::SLOT_SIZE
    }

    fn write(&mut self, message: &Produced) {
        let offset = self.offset(self.produced);
        for (number, word) in message.as_bytes().as_chunks::<4>().0.iter().enumerate() {
            self.memory
                .store(offset + number * 4, u32::from_ne_bytes(*word), Relaxed);
        }
        self.produced = self.produced.wrapping_add(1);
    }

    /// Copies the next message out, once.
    fn read(&mut self) -> Consumed {
        let mut message = Consumed::new_zeroed();
        let offset = self.offset(self.consumed);
        for (number, word) in message
            .as_mut_bytes()
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .enumerate()
        {
            *word = self.memory.load(offset + number * 4, Relaxed).to_ne_bytes();
        }
        self.consumed = self.consumed.wrapping_add(1);
        message
    }

    /// Publishes what was produced; true when the other end wants to be notified. `producer` and `event` are our index and
    /// the other end's wish.
    fn publish(&mut self, producer: usize, event: usize) -> bool {
        let old = core::mem::replace(&mut self.published, self.produced);
        let new = self.published;
        // Release: whoever sees the index sees the messages.
        self.memory.store(producer, new, Release);
        // The other end stores its wish, fences and looks at our index: one of us sees the other's store.
        self.memory.full_fence();
        let wanted = self.memory.load(event, Relaxed);
        // Does the step from `old` to `new` pass the index at which it wants to hear from us?
        new.wrapping_sub(wanted) < new.wrapping_sub(old)
    }

    /// How many messages can be consumed, if the other end's index makes sense: no more than `most`.
    fn available(&mut self, producer: usize, most: u32) -> Result<u32, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // Acquire: what the index promises is visible.
        let theirs = self.memory.load(producer, Acquire);
        let available = theirs.wrapping_sub(self.consumed);
        if available > most {
            let fault = Fault::ImpossibleIndex {
                theirs,
                ours: self.consumed,
            };
            self.fault = Some(fault);
            return Err(fault);
        }
        Ok(available)
    }

    /// Asks to be notified of the next message, and looks once more; true when there is one already.
    fn announce(&mut self, producer: usize, event: usize, most: u32) -> Result<bool, Fault> {
        if self.available(producer, most)? > 0 {
            return Ok(true);
        }
        self.memory.store(event, self.consumed.wrapping_add(1), Relaxed);
        self.memory.full_fence();
        Ok(self.available(producer, most)? > 0)
    }
}

/// The frontend's end.
#[derive(Debug)]
pub struct FrontRing<Request, Response, M> {
    slots: Slots<M, Request, Response>,
}

impl<Request: Message, Response: Message, M: Memory> FrontRing<Request, Response, M> {
    /// Empties the ring; to be done before the backend is told of it.
    pub fn initialise(memory: M) -> Result<Self, Fault> {
        let slots = Slots::<M, Request, Response>::new(memory, 0)?;
        for offset in (0..HEADER_SIZE).step_by(4) {
            slots.memory.store(offset, 0, Relaxed);
        }
        slots.memory.store(REQUEST_EVENT, 1, Relaxed);
        slots.memory.store(RESPONSE_EVENT, 1, Release);
        Ok(Self { slots })
    }

    /// How many slots there are.
    pub fn capacity(&self) -> u32 {
        self.slots.count
    }

    /// How many requests can be pushed. A slot is free again when its response was popped.
    pub fn free(&self) -> u32 {
        self.slots.count - self.slots.produced.wrapping_sub(self.slots.consumed)
    }

    /// Writes a request, which the backend does not see yet.
    pub fn push(&mut self, request: &Request) -> Result<(), Full> {
        if self.free() == 0 {
            return Err(Full);
        }
        self.slots.write(request);
        Ok(())
    }

    /// Shows the backend what was pushed; true when it must be notified.
    #[must_use = "a backend that is not notified may sleep forever"]
    pub fn publish(&mut self) -> bool {
        self.slots.publish(REQUEST_PRODUCER, REQUEST_EVENT)
    }

    /// The next response, if there is one.
    pub fn pop(&mut self) -> Result<Option<Response>, Fault> {
        let most = self.outstanding();
        let available = self.slots.available(RESPONSE_PRODUCER, most)?;
        Ok((available > 0).then(|| self.slots.read()))
    }

    /// To be called when nothing is left to pop: asks for a notification; true when a response came meanwhile.
    pub fn announce(&mut self) -> Result<bool, Fault> {
        let most = self.outstanding();
        self.slots.announce(RESPONSE_PRODUCER, RESPONSE_EVENT, most)
    }

    /// Gives the memory back: the ring is not used any more.
    pub fn into_memory(self) -> M {
        self.slots.memory
    }

    /// Requests that the backend knows of and has not answered: it cannot answer more.
    fn outstanding(&self) -> u32 {
        self.slots.published.wrapping_sub(self.slots.consumed)
    }
}

/// The backend's end.
#[derive(Debug)]
pub struct BackRing<Request, Response, M> {
    slots: Slots<M, Response, Request>,
}

impl<Request: Message, Response: Message, M: Memory> BackRing<Request, Response, M> {
    /// Takes up a ring that the frontend initialised. One that was served before goes on behind its last response.
    pub fn attach(memory: M) -> Result<Self, Fault> {
        let start = memory.load(RESPONSE_PRODUCER, Acquire);
        let mut ring = Self {
            slots: Slots::new(memory, start)?,
        };
        // Refuse at once what would be refused at the first request.
        let count = ring.slots.count;
        ring.slots.available(REQUEST_PRODUCER, count)?;
        Ok(ring)
    }

    /// How many slots there are.
    pub fn capacity(&self) -> u32 {
        self.slots.count
    }

    /// Requests that were popped and not answered yet.
    pub fn unanswered(&self) -> u32 {
        self.slots.consumed.wrapping_sub(self.slots.produced)
    }

    /// The next request, if there is one.
    pub fn pop(&mut self) -> Result<Option<Request>, Fault> {
        let most = self.slots.count - self.unanswered();
        let available = self.slots.available(REQUEST_PRODUCER, most)?;
        Ok((available > 0).then(|| self.slots.read()))
    }

    /// Writes a response, which the frontend does not see yet. There is room only for answers to what was popped: more would
    /// overwrite requests.
    pub fn push(&mut self, response: &Response) -> Result<(), Full> {
        if self.unanswered() == 0 {
            return Err(Full);
        }
        self.slots.write(response);
        Ok(())
    }

    /// Shows the frontend what was pushed; true when it must be notified.
    #[must_use = "a frontend that is not notified may sleep forever"]
    pub fn publish(&mut self) -> bool {
        self.slots.publish(RESPONSE_PRODUCER, RESPONSE_EVENT)
    }

    /// To be called when nothing is left to pop: asks for a notification; true when a request came meanwhile.
    pub fn announce(&mut self) -> Result<bool, Fault> {
        let most = self.slots.count - self.unanswered();
        self.slots.announce(REQUEST_PRODUCER, REQUEST_EVENT, most)
    }
}
