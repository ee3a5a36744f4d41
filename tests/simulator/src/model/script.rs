//! The last deeds, for people who look for the reason of a difference.

use std::fmt;

use hypercall_abi::hypercall;

use super::Caller;

/// A deed as it is kept for the script.
#[derive(Clone)]
pub enum Noted {
    /// A call: who, number, arguments, what they point at, result.
    Call(Caller, u64, [u64; 6], [u64; 8], i64),
    /// A store: domain, address, bytes.
    Store(u16, u64, Vec<u8>),
    /// Nanoseconds that pass.
    Time(u64),
}

/// Core and model differ.
#[derive(Debug)]
pub struct Disagreement {
    /// In what.
    pub what: String,
    /// The last deeds, the latest last.
    pub script: Vec<String>,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.script {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}", self.what)
    }
}

impl std::error::Error for Disagreement {}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Noted::Call(caller, number, arguments, structure, result) => {
                let name = hypercall::name(*number).unwrap_or("?");
                write!(
                    f,
                    "d{}v{} {name}({:#x?}) ",
                    caller.domain,
                    caller.vcpu,
                    Words(arguments)
                )?;
                write!(f, "-> {result:#x}, on {}", Words(structure))
            }
            Noted::Store(domain, address, bytes) => {
                write!(
                    f,
                    "d{domain} stores {} bytes at {address:#x}: {bytes:02x?}",
                    bytes.len()
                )
            }
            Noted::Time(nanoseconds) => write!(f, "{nanoseconds} ns pass"),
        }
    }
}

struct Words<'a>(&'a [u64]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            write!(f, "{}{word:x}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
