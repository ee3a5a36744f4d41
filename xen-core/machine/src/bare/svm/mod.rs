//! AMD-V (SVM) with nested paging.
//!
//! A guest runs with as few exits as its isolation allows: it owns its control registers, its page tables, its system
//! call registers and its TSC; ports, other model-specific registers, HLT, CPUID and hypercalls exit. External
//! interrupts enter as virtual interrupts (V_IRQ), never by event injection: the processor then waits by itself for the
//! guest to be ready, and nothing has to be redone. `docs/decisions/0010-svm-interrupts-and-tlb.md` says why.
//!
//! The pure parts (events, tags, states, decoding) are tested on the host.

mod asid;
mod bitmap;
mod exit;
mod features;
mod fpu;
mod inject;
mod instructions;
mod msr;
mod processor_state;
#[cfg(target_os = "none")]
mod run;
mod state;
#[cfg(all(test, not(target_os = "none")))]
mod tests;
mod vcpu;
mod vmcb;

pub use bitmap::PortMap;
pub use features::{Features, Unsupported};
pub use processor_state::ProcessorState;
pub use vcpu::Vcpu;

use crate::DirectPorts;
use crate::address::HostFrame;
use crate::memory::{Memory, OutOfMemory};

/// SVM as the machine uses it: what the processors can do, and the maps that all guests share.
pub struct Svm {
    memory: &'static Memory,
    features: Features,
    msr_bitmap: HostFrame,
    closed_ports: HostFrame,
}

impl Svm {
    /// Look at the processor that calls, and make the shared maps. Once per machine.
    ///
    /// # Errors
    /// Why no guest can run here.
    pub fn new(memory: &'static Memory) -> Result<Svm, Unsupported> {
        let features = Features::detect()?;
        let msr_bitmap = bitmap::msr_bitmap(memory)?;
        let closed_ports = bitmap::closed_ports(memory)?;
        Ok(Svm {
            memory,
            features,
            msr_bitmap,
            closed_ports,
        })
    }

    /// What the processors can do.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Switch SVM on, on the processor that calls; `state` is its own. Its GDT, TSS and GS base must be final.
    ///
    /// # Errors
    /// Why no guest can run on this processor.
    pub fn enable_on_this_processor(&self, state: &ProcessorState) -> Result<(), Unsupported> {
        state.enable(self.memory, &self.features)
    }

    /// A vCPU in the state after INIT.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is none for its control block.
    pub fn new_vcpu(&self) -> Result<Vcpu, OutOfMemory> {
        Vcpu::new(self.memory, &self.features, self.msr_bitmap)
    }

    /// A set of directly driven ports.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is none for the bitmap.
    pub fn port_map(&self, ports: DirectPorts<'_>) -> Result<PortMap, OutOfMemory> {
        PortMap::new(self.memory, self.closed_ports, ports)
    }
}
