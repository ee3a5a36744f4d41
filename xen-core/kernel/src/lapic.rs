//! The local APIC that a guest sees. (Registers to come.)

use core::sync::atomic::{AtomicU64, Ordering};

/// A vCPU's local APIC.
pub struct LocalApic {
    /// Interrupts requested by anyone, a bit per vector, to be taken over by the vCPU's own processor.
    requests: [AtomicU64; 4],
}

impl LocalApic {
    /// The APIC of vCPU `index`, as after reset.
    pub fn new(_index: u32) -> Self {
        LocalApic { requests: [const { AtomicU64::new(0) }; 4] }
    }

    /// Request an interrupt. Whoever does so then makes the vCPU look: `Kernel::unblock`.
    pub fn post(&self, vector: u8) {
        self.requests[usize::from(vector >> 6)].fetch_or(1 << (vector & 63), Ordering::SeqCst);
    }
}
