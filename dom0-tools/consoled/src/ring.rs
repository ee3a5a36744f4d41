//! Our ends of the two rings in a guest's console page.

use guest_page::GuestPage;
use pv_drivers::ring::{ByteConsumer, ByteProducer, CONSOLE_INPUT, CONSOLE_OUTPUT, Fault};

/// The size of the larger ring: no more than that waits in it at a time.
pub const OUTPUT_SIZE: usize = 2048;

/// A guest's console, as the rings carry it.
#[derive(Debug)]
pub struct ConsoleRing {
    output: ByteConsumer<GuestPage>,
    input: ByteProducer<GuestPage>,
}

impl ConsoleRing {
    /// Takes up the rings where they stand.
    pub fn attach(page: GuestPage) -> Result<Self, Fault> {
        let output = ByteConsumer::attach(CONSOLE_OUTPUT, page.clone())?;
        Ok(ConsoleRing {
            output,
            input: ByteProducer::attach(CONSOLE_INPUT, page)?,
        })
    }

    /// What the guest printed, at most one ring full.
    pub fn read(&mut self) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; OUTPUT_SIZE];
        let length = self.output.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// How much can be typed.
    pub fn input_room(&self) -> Result<usize, Fault> {
        self.input.free()
    }

    /// Passes on what was typed, as far as there is room.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        self.input.write(bytes)
    }
}
