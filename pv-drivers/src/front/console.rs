//! The console: two rings of bytes on one page (`io/console.h`), read and written by the console daemon in dom0.

use core::fmt;

use hypercall_abi::event_channel::Port;

use super::{Error, Platform};
use crate::ring::{ByteConsumer, ByteProducer, CONSOLE_INPUT, CONSOLE_OUTPUT};

/// How long [`fmt::Write`] waits for room before it drops the rest, in nanoseconds: a tenth of a second.
const PATIENCE: u64 = 100_000_000;

/// The console.
pub struct Console<P: Platform> {
    platform: P,
    port: Port,
    input: ByteConsumer<&'static P::Pages>,
    output: ByteProducer<&'static P::Pages>,
    dropped: u64,
}

impl<P: Platform> Console<P> {
    /// Takes up the rings on `page`, whose events come by `port`.
    ///
    /// # Errors
    /// [`Error::Ring`]: they cannot be rings.
    pub fn attach(platform: P, page: &'static P::Pages, port: Port) -> Result<Console<P>, Error> {
        Ok(Console {
            input: ByteConsumer::attach(CONSOLE_INPUT, page)?,
            output: ByteProducer::attach(CONSOLE_OUTPUT, page)?,
            platform,
            port,
            dropped: 0,
        })
    }

    /// The port to wait on for input and for room.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Bytes that `write!` had to drop: nobody reads.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes as much as there is room for, and says how many bytes.
    ///
    /// # Errors
    /// [`Error::Ring`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let written = self.output.write(bytes)?;
        if written > 0 {
            self.platform.notify(self.port);
        }
        Ok(written)
    }

    /// Writes everything; waits for room until `deadline` (in nanoseconds of [`Platform::now`]).
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Ring`].
    pub fn write_all(&mut self, bytes: &[u8], deadline: u64) -> Result<(), Error> {
        let mut left = bytes;
        loop {
            let written = self.write(left)?;
            left = &left[written..];
            if left.is_empty() {
                return Ok(());
            }
            if self.platform.now() >= deadline {
                self.dropped += left.len() as u64;
                return Err(Error::Timeout {
                    waiting_for: "room in the console's ring",
                });
            }
            self.platform.wait(&[self.port], deadline);
            self.platform.take_event(self.port);
        }
    }

    /// Reads what was typed: as much as there is and `buffer` holds. Zero where there is nothing.
    ///
    /// # Errors
    /// [`Error::Ring`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = self.input.read(buffer)?;
        if read > 0 {
            self.platform.notify(self.port);
        }
        Ok(read)
    }
}

/// Waits for room a little, then drops the rest: who prints must not stop because nobody listens.
impl<P: Platform> fmt::Write for Console<P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let deadline = self.platform.now().saturating_add(PATIENCE);
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                let _ = self.write_all(b"\r\n", deadline);
            }
            if !line.is_empty() {
                let _ = self.write_all(line.as_bytes(), deadline);
            }
        }
        Ok(())
    }
}
