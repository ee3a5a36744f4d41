//! The I/O APIC that the privileged domain sees. (Registers to come.)

/// The I/O APIC.
pub struct IoApic {
    lines: u32,
}

impl IoApic {
    /// One with this many lines.
    pub fn new(lines: u32) -> Self {
        IoApic { lines }
    }

    /// How many lines it has.
    pub fn lines(&self) -> u32 {
        self.lines
    }
}
