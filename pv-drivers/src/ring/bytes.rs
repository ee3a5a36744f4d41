//! Rings of bytes, as the console and the store use them: one producer, one consumer, and two indices that count on without
//! wrapping. There is no word for "notify me": each end notifies the other after every change.

use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use hypercall_abi::io::console::{ConsoleInterface, INPUT_SIZE, OUTPUT_SIZE};
use hypercall_abi::io::xenstore::{DomainInterface, limit::RING_SIZE};

use super::{Fault, Memory};

/// Where a ring of bytes lies in its page; offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRing {
    data: usize,
    /// A power of two.
    size: u32,
    producer: usize,
    consumer: usize,
}

/// From the console daemon to the guest.
pub const CONSOLE_INPUT: ByteRing = ByteRing {
    data: offset_of!(ConsoleInterface, input),
    size: INPUT_SIZE as u32,
    producer: offset_of!(ConsoleInterface, input_producer),
    consumer: offset_of!(ConsoleInterface, input_consumer),
};

/// From the guest to the console daemon.
pub const CONSOLE_OUTPUT: ByteRing = ByteRing {
    data: offset_of!(ConsoleInterface, output),
    size: OUTPUT_SIZE as u32,
    producer: offset_of!(ConsoleInterface, output_producer),
    consumer: offset_of!(ConsoleInterface, output_consumer),
};

/// From the guest to the store daemon.
pub const STORE_REQUEST: ByteRing = ByteRing {
    data: offset_of!(DomainInterface, request),
    size: RING_SIZE as u32,
    producer: offset_of!(DomainInterface, request_producer),
    consumer: offset_of!(DomainInterface, request_consumer),
};

/// From the store daemon to the guest.
pub const STORE_RESPONSE: ByteRing = ByteRing {
    data: offset_of!(DomainInterface, response),
    size: RING_SIZE as u32,
    producer: offset_of!(DomainInterface, response_producer),
    consumer: offset_of!(DomainInterface, response_consumer),
};

const _: () = assert!(
    CONSOLE_INPUT.size.is_power_of_two()
        && CONSOLE_OUTPUT.size.is_power_of_two()
        && STORE_REQUEST.size.is_power_of_two()
);

impl ByteRing {
    fn check(self, memory: &impl Memory) -> Result<(), Fault> {
        let end = (self.data + self.size as usize)
            .max(self.producer + 4)
            .max(self.consumer + 4);
        if memory.length() < end {
            Err(Fault::TooSmall)
        } else {
            Ok(())
        }
    }

    fn offset(self, index: u32) -> usize {
        self.data + (index & (self.size - 1)) as usize
    }

    /// Bytes between the two indices, which cannot be more than the ring holds.
    fn used(self, producer: u32, consumer: u32, theirs: u32, ours: u32) -> Result<u32, Fault> {
        let used = producer.wrapping_sub(consumer);
        if used > self.size {
            Err(Fault::ImpossibleIndex { theirs, ours })
        } else {
            Ok(used)
        }
    }
}

/// The end that writes.
#[derive(Debug)]
pub struct ByteProducer<M> {
    ring: ByteRing,
    memory: M,
    produced: u32,
}

impl<M: Memory> ByteProducer<M> {
    /// Takes up a ring where it stands.
    pub fn attach(ring: ByteRing, memory: M) -> Result<Self, Fault> {
        ring.check(&memory)?;
        let produced = memory.load(ring.producer, Relaxed);
        let producer = Self {
            ring,
            memory,
            produced,
        };
        producer.free()?;
        Ok(producer)
    }

    /// How many bytes can be written.
    pub fn free(&self) -> Result<usize, Fault> {
        // Acquire: the consumer is done with what it gave back.
        let theirs = self.memory.load(self.ring.consumer, Acquire);
        let used = self.ring.used(self.produced, theirs, theirs, self.produced)?;
        Ok((self.ring.size - used) as usize)
    }

    /// Writes as much of `bytes` as there is room for, and says how much. Unless it is nothing, the other end must be
    /// notified.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let length = self.free()?.min(bytes.len());
        for &byte in &bytes[..length] {
            self.memory.store_byte(self.ring.offset(self.produced), byte);
            self.produced = self.produced.wrapping_add(1);
        }
        if length > 0 {
            // Release: whoever sees the index sees the bytes.
            self.memory.store(self.ring.producer, self.produced, Release);
        }
        Ok(length)
    }
}

/// The end that reads.
#[derive(Debug)]
pub struct ByteConsumer<M> {
    ring: ByteRing,
    memory: M,
    consumed: u32,
}

impl<M: Memory> ByteConsumer<M> {
    /// Takes up a ring where it stands.
    pub fn attach(ring: ByteRing, memory: M) -> Result<Self, Fault> {
        ring.check(&memory)?;
        let consumed = memory.load(ring.consumer, Relaxed);
        let consumer = Self {
            ring,
            memory,
            consumed,
        };
        consumer.available()?;
        Ok(consumer)
    }

    /// How many bytes can be read.
    pub fn available(&self) -> Result<usize, Fault> {
        // Acquire: what the index promises is visible.
        let theirs = self.memory.load(self.ring.producer, Acquire);
        Ok(self.ring.used(theirs, self.consumed, theirs, self.consumed)? as usize)
    }

    /// Reads as much as there is and `buffer` holds, and says how much. Unless it is nothing, the other end must be notified.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let length = self.available()?.min(buffer.len());
        for byte in &mut buffer[..length] {
            *byte = self.memory.load_byte(self.ring.offset(self.consumed));
            self.consumed = self.consumed.wrapping_add(1);
        }
        if length > 0 {
            // Release: the bytes were read before they may be overwritten.
            self.memory.store(self.ring.consumer, self.consumed, Release);
        }
        Ok(length)
    }
}
