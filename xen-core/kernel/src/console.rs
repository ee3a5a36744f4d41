//! The hypervisor's console: a serial line shared by our messages and the privileged domain's, a ring of past messages
//! for `dmesg`, and the line's input, which is the privileged domain's.

use core::fmt::{self, Write};

use alloc::boxed::Box;
use alloc::vec;

use hypercall_abi::xen::virq;
use machine::Machine;
use machine::sync::Lock;

use crate::Kernel;

/// Bytes of past output that are kept.
const RING: usize = 32 * 1024;
/// Input that waits for the privileged domain; more is dropped, as a UART would.
const INPUT: usize = 1024;

/// The last [`RING`] bytes of output. Positions count from the first byte ever and wrap at 2^32, as the ABI has them.
struct Ring {
    bytes: Box<[u8]>,
    end: u32,
    /// Where reading without an index begins: moved by "clear".
    start: u32,
}

impl Ring {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.end as usize % RING) {
            *place = byte;
        }
        self.end = self.end.wrapping_add(1);
        if self.end.wrapping_sub(self.start) as usize > self.bytes.len() {
            self.start = self.end.wrapping_sub(self.bytes.len() as u32);
        }
    }
}

/// The hypervisor's console.
pub struct Console {
    ring: Lock<Ring>,
    input: Lock<heapless::Deque<u8, INPUT>>,
}

impl Default for Console {
    fn default() -> Self {
        let ring = Ring {
            bytes: vec![0; RING].into_boxed_slice(),
            end: 0,
            start: 0,
        };
        Console {
            ring: Lock::new(ring),
            input: Lock::new(heapless::Deque::new()),
        }
    }
}

impl Console {
    /// Copy remembered output from position `index` on (or from where the last "clear" left it) into `into`. Returns
    /// how much there was, and the position after it.
    pub fn read_log(&self, index: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        let ring = self.ring.lock();
        let kept = ring.end.wrapping_sub(ring.start);
        let mut position = match index {
            // A position that is gone already, or not there yet, is moved to what there is.
            Some(index) if ring.end.wrapping_sub(index) <= kept => index,
            _ => ring.start,
        };
        let mut count = 0usize;
        for place in into {
            let kept = ring.bytes.get(position as usize % RING);
            let Some(byte) = kept.filter(|_| position != ring.end) else {
                break;
            };
            *place = *byte;
            position = position.wrapping_add(1);
            count = count.saturating_add(1);
        }
        (count, position)
    }

    /// Forget the output so far, for those who read without an index.
    pub fn clear_log(&self) {
        let mut ring = self.ring.lock();
        ring.start = ring.end;
    }

    /// The next byte of input.
    pub fn take_input(&self) -> Option<u8> {
        self.input.lock().pop_front()
    }
}

/// Formats into the ring and onto the line at once. The ring's lock is held meanwhile, so that lines stay whole.
struct Output<'a, M: Machine> {
    machine: &'a M,
    ring: &'a mut Ring,
}

impl<M: Machine> Write for Output<'_, M> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            self.ring.push(byte);
        }
        self.machine.console_write(text.as_bytes());
        Ok(())
    }
}

impl<M: Machine> Kernel<M> {
    /// A message of ours: to the line and to the ring, with the time.
    pub fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            _ => "",
        };
        let now = self.machine.now() / 1_000_000;
        let mut ring = self.console.ring.lock();
        let mut output = Output {
            machine: &self.machine,
            ring: &mut ring,
        };
        // Neither sink fails.
        let _ = writeln!(
            output,
            "[{:5}.{:03}] {level}{}",
            now / 1000,
            now % 1000,
            record.args()
        );
    }

    /// The line has input: keep it for the privileged domain, and tell it.
    pub(crate) fn console_input(&self) {
        let mut any = false;
        {
            let mut input = self.console.input.lock();
            while let Some(byte) = self.machine.console_read() {
                any = true;
                // Full: dropped, as a UART's overrun.
                let _ = input.push_back(byte);
            }
        }
        if any {
            self.send_global_virq(virq::CONSOLE);
        }
    }
}
