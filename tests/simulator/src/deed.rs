//! What a vCPU does next: a hypercall, a store to memory, or another exit.

use core::fmt;

use machine::virtual_cpu::Exit;

use crate::request::{Request, Writes};

/// An exit other than a hypercall, and the state that it is to find.
#[derive(Clone, Debug)]
pub struct GuestExit {
    /// Why the guest stops.
    pub exit: Exit,
    /// General registers that matter, by their index.
    pub registers: heapless::Vec<(usize, u64), 4>,
    /// Where the instruction is.
    pub rip: u64,
    /// The instruction's bytes, as hardware would save them; empty where it saves none, and then they are fetched from
    /// `rip`, where `writes` has put them.
    pub instruction: heapless::Vec<u8, 15>,
    /// Whether interrupts are enabled; `None` leaves it.
    pub interrupts: Option<bool>,
    /// What is written to memory first.
    pub writes: Writes,
}

impl Default for GuestExit {
    fn default() -> Self {
        GuestExit {
            exit: Exit::Interrupt,
            registers: heapless::Vec::new(),
            rip: 0,
            instruction: heapless::Vec::new(),
            interrupts: None,
            writes: Writes::default(),
        }
    }
}

/// What a vCPU does next.
#[derive(Clone, Copy, Debug)]
pub enum Deed<'a> {
    /// Write a request down and make the call.
    Hypercall(&'a Request),
    /// Write these bytes to one's own memory, if it can be written there.
    Store {
        /// Where: a guest-physical address.
        address: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// Exit otherwise.
    Exit(&'a GuestExit),
}

impl fmt::Display for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Hypercall(request) => write!(f, "{request}"),
            Deed::Store { address, bytes } => {
                write!(f, "store {address:#x} <-")?;
                bytes
                    .iter()
                    .take(32)
                    .try_for_each(|byte| write!(f, " {byte:02x}"))?;
                if bytes.len() > 32 {
                    write!(f, " ... ({} bytes)", bytes.len())?;
                }
                Ok(())
            }
            Deed::Exit(exit) => {
                write!(f, "exit {:?}", exit.exit)?;
                for (index, value) in &exit.registers {
                    write!(f, " r{index}={value:#x}")?;
                }
                if let Some(enabled) = exit.interrupts {
                    write!(f, " if={}", u8::from(enabled))?;
                }
                if !exit.instruction.is_empty() {
                    write!(f, " code={:02x?}", exit.instruction.as_slice())?;
                }
                Ok(())
            }
        }
    }
}
