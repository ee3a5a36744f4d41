//! Printing through the hypervisor's console, which it grants to dom0.

use core::fmt::{self, Write};

use hypercall_abi::hypercall::number::CONSOLE_IO;

use crate::hypercall;

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
                _ => break,
            }
        }
        self.length = 0;
    }
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

/// A line on the hypervisor's console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}
