//! Printing: through the hypervisor's console, which it grants to dom0, else through the ring of a guest's own console.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering, fence};

use hypercall_abi::DomainId;
use hypercall_abi::hypercall::number::{CONSOLE_IO, HVM_OP};

use crate::{hypercall, page, shared};

const WRITE: u64 = 0; // CONSOLEIO_write

/// Collects a line, so that it reaches the console in one piece.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Line {
    fn send(&mut self) {
        let mut sent = 0;
        // What the hypervisor refuses cannot be reported anywhere.
        while sent < self.length {
            let address = self.bytes[sent..].as_ptr() as u64;
            let result = hypercall::raw(CONSOLE_IO, [WRITE, (self.length - sent) as u64, address, 0, 0]);
            match result {
                0 => break, // the specified answer: all of it
                1.. => sent += result as usize,
                _ => {
                    to_ring(&self.bytes[sent..self.length]);
                    break;
                }
            }
        }
        self.length = 0;
    }
}

const GET_PARAM: u32 = 1;
const CONSOLE_FRAME: u32 = 17;
const CONSOLE_PORT: u32 = 18;
/// Output's part of the page: 2048 bytes from here, and the two indices.
const OUTPUT: u64 = 1024;
const OUTPUT_SIZE: u32 = 2048;
const OUTPUT_CONSUMER: u64 = 3080;
const OUTPUT_PRODUCER: u64 = 3084;

/// The console's page and port, asked for once: 0 until then.
static RING: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Puts bytes into the console's ring as far as there is room. What does not fit is lost: nobody here waits for a reader.
fn to_ring(bytes: &[u8]) {
    if RING[0].load(Ordering::Relaxed) == 0 {
        RING[1].store(parameter(CONSOLE_PORT), Ordering::Relaxed);
        RING[0].store(parameter(CONSOLE_FRAME) << 12, Ordering::Relaxed);
    }
    let (ring, port) = (RING[0].load(Ordering::Relaxed), RING[1].load(Ordering::Relaxed));
    if ring == 0 {
        return;
    }
    let mut producer: u32 = page::read(ring + OUTPUT_PRODUCER);
    let consumer: u32 = page::read(ring + OUTPUT_CONSUMER);
    let room = OUTPUT_SIZE.saturating_sub(producer.wrapping_sub(consumer));
    for &byte in bytes.iter().take(room as usize) {
        page::write(ring + OUTPUT + u64::from(producer % OUTPUT_SIZE), byte);
        producer = producer.wrapping_add(1);
    }
    // The bytes are there before the index says so.
    fence(Ordering::Release);
    page::write(ring + OUTPUT_PRODUCER, producer);
    shared::send(port as u32);
}

/// A parameter of this domain's.
pub fn parameter(index: u32) -> u64 {
    let mut argument = [u64::from(DomainId::SELF.0) | u64::from(index) << 32, 0];
    hypercall::with(HVM_OP, GET_PARAM, &mut argument);
    argument[1]
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.length == self.bytes.len() {
                self.send();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Prints and ends the line.
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 256],
        length: 0,
    };
    // Writing into the buffer never fails.
    let _ = line.write_fmt(arguments).and_then(|()| line.write_char('\n'));
    line.send();
}

/// A line on the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}
