//! The serial console.

use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::port::Port;

use crate::sync::Lock;

const COM1: u16 = 0x3f8;
const COM2: u16 = 0x2f8;

static CONSOLE: Lock<Option<Uart16550<PioBackend>>> = Lock::new(None);
/// The UART's first port, 0 when there is none.
static PORT: AtomicU16 = AtomicU16::new(0);

/// Begin on the first serial port, before any command line is known.
pub fn start() {
    open(COM1);
}

/// Move to where `console=com1|com2|none` says. Other words are for others.
pub fn choose(command_line: &str) {
    let mut wanted = command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("console="));
    match wanted.next_back() {
        Some("com2") => open(COM2),
        Some("none") => close(),
        _ => {}
    }
}

fn open(port: u16) {
    // SAFETY: the standard port of a serial interface; nobody else drives it.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(port) }) else {
        return;
    };
    let config = Config {
        baud_rate: BaudRate::Baud115200,
        ..Config::DEFAULT
    };
    if uart.init(config).is_err() {
        return;
    }
    *CONSOLE.lock() = Some(uart);
    PORT.store(port, Ordering::Release);
}

fn close() {
    PORT.store(0, Ordering::Release);
    *CONSOLE.lock() = None;
}

/// The UART's first port, 0 when there is none.
pub fn port() -> u16 {
    PORT.load(Ordering::Acquire)
}

/// The ISA interrupt of the UART.
pub fn isa_interrupt() -> Option<u8> {
    match port() {
        COM1 => Some(4),
        COM2 => Some(3),
        _ => None,
    }
}

/// Have the UART interrupt when input arrives.
pub fn enable_receive_interrupt() {
    if let Some(uart) = CONSOLE.lock().as_mut() {
        uart.enable_interrupts(IER::DATA_READY);
    }
}

/// Bytes to the console, as they are.
pub fn write(bytes: &[u8]) {
    if let Some(uart) = CONSOLE.lock().as_mut() {
        uart.send_bytes_exact(bytes);
    }
}

/// A byte that has arrived.
pub fn read() -> Option<u8> {
    CONSOLE.lock().as_mut()?.try_receive_byte().ok()
}

/// Text to the console, each line ended as terminals want it. One call is one undivided output.
pub fn print(arguments: fmt::Arguments<'_>) {
    if let Some(uart) = CONSOLE.lock().as_mut() {
        let mut lines = Lines(|bytes: &[u8]| uart.send_bytes_exact(bytes));
        // The writer never fails.
        let _ = fmt::write(&mut lines, arguments);
    }
}

/// Text to the console when everything else is lost: takes no lock, so it may cut into another processor's line.
pub fn print_unlocked(arguments: fmt::Arguments<'_>) {
    let port = port();
    if port != 0 {
        let _ = fmt::write(&mut Lines(|bytes: &[u8]| send_unlocked(port, bytes)), arguments);
    }
}

fn send_unlocked(port: u16, bytes: &[u8]) {
    const READY: u8 = 1 << 5;
    let (mut data, mut status) = (Port::<u8>::new(port), Port::<u8>::new(port.wrapping_add(5)));
    for &byte in bytes {
        // SAFETY: the console's own ports. Bounded: a dead UART must not hang a crash.
        unsafe {
            (0..1_000_000)
                .take_while(|_| status.read() & READY == 0)
                .for_each(drop);
            data.write(byte);
        }
    }
}

/// Turns `\n` into `\r\n`, in as few writes as there are lines.
struct Lines<F: FnMut(&[u8])>(F);

impl<F: FnMut(&[u8])> fmt::Write for Lines<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index != 0 {
                (self.0)(b"\r\n");
            }
            (self.0)(line.as_bytes());
        }
        Ok(())
    }
}
