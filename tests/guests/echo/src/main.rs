//! The smallest example of `pv-drivers`: a kernel with a console and the store.
//!
//! It says who it is, keeps a count of what it heard in the store, says again what is typed, and ends when the toolstack asks.
#![no_std]
#![no_main]

use core::fmt::Write;

use pv_drivers::front::console::Console;
use pv_drivers::front::control::{Control, Request};
use pv_drivers::front::{Error, Platform};
use pv_drivers::pvh::{End, Pvh};

pv_drivers::pvh_main!(main);

const SECOND: u64 = 1_000_000_000;

fn main(xen: &'static Pvh) -> Result<(), Error> {
    let mut console = xen.console()?;
    let mut store = xen.store()?;
    let name = store.read(None, "name")?;
    let name = core::str::from_utf8(name).unwrap_or("somebody");
    say(&mut console, format_args!("guest: echo, and my name is {name}"));
    let mut control = Control::open(&mut store)?;
    say(&mut console, format_args!("guest: ready"));

    let (mut line, mut heard) = (Line::default(), 0);
    loop {
        let mut bytes = [0; 64];
        let length = console.read(&mut bytes)?;
        for &byte in &bytes[..length] {
            if let Some(text) = line.add(byte) {
                say(&mut console, format_args!("guest: heard {text}"));
                heard += 1;
                store.write_number(None, "data/heard", heard)?;
            }
        }
        match control.poll(&mut store)? {
            Some(Request::PowerOff) => break,
            Some(Request::Reboot) => xen.end(End::Reboot),
            _ => {}
        }
        if length == 0 {
            xen.wait(&[console.port(), store.port()], xen.now() + SECOND);
            xen.take_event(console.port());
            xen.take_event(store.port());
        }
    }
    say(&mut console, format_args!("guest: good bye after {heard} lines"));
    Ok(())
}

/// Prints a line. What nobody reads is dropped: a kernel does not stop for that.
fn say(console: &mut Console<&'static Pvh>, text: core::fmt::Arguments<'_>) {
    let _ = writeln!(console, "{text}");
}

/// A line as it is typed.
#[derive(Default)]
struct Line {
    bytes: [u8; 32],
    length: usize,
    ended: bool,
}

impl Line {
    /// Adds a byte; the line, when that ended it. What is longer than the line is cut.
    fn add(&mut self, byte: u8) -> Option<&str> {
        if core::mem::take(&mut self.ended) {
            self.length = 0;
        }
        if byte == b'\r' || byte == b'\n' {
            self.ended = true;
            let text = core::str::from_utf8(&self.bytes[..self.length]).ok();
            return text.filter(|text| !text.is_empty());
        }
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
        None
    }
}
