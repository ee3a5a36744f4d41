//! What a machine holds, to be compared later: when all domains but the privileged one are gone, all of it must be back.

use machine::Machine;

use super::{Auditor, Violation, holds};
use crate::Kernel;

const BASELINE: &str = "baseline: what ended domains held is given back";

/// What a machine holds at one moment. Taken and compared while the privileged domain is in the same state: what it has
/// opened and mapped itself counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Baseline {
    /// Frames that are free.
    pub free_frames: u64,
    /// Frames that the core took.
    pub core_frames: u64,
    /// Domains that live, in the table or not.
    pub domains: u64,
    /// Domains in the table.
    pub entered: u64,
    /// Ports in use.
    pub ports: u64,
    /// Mappings of grants on record.
    pub mappings: u64,
    /// Grant entries in use.
    pub grants: u64,
    /// Entries in timer queues.
    pub timers: u64,
    /// vCPUs in run queues.
    pub queued: u64,
    /// Frames claimed.
    pub claims: u64,
}

impl Baseline {
    /// What is held now.
    ///
    /// # Errors
    /// The machine is not in order: then no figure means anything.
    pub fn take<M: Machine>(kernel: &Kernel<M>, auditor: &mut Auditor<M>) -> Result<Baseline, Violation> {
        let audited = auditor.audit(kernel)?;
        let memory = kernel.machine.memory();
        let mut queued = 0;
        for processor in &kernel.processors {
            processor.each_queued(|_| {
                queued += 1;
                Ok::<(), Violation>(())
            })?;
        }
        Ok(Baseline {
            free_frames: memory.free_frames(),
            core_frames: memory.core_frames(),
            domains: audited.domains,
            entered: kernel.domains.count() as u64,
            ports: audited.ports,
            mappings: audited.mappings,
            grants: audited.grants,
            timers: audited.timers,
            queued,
            claims: *kernel.domains.claims.lock(),
        })
    }

    /// Compare with what is held now.
    ///
    /// # Errors
    /// What was not given back (or is missing).
    pub fn compare<M: Machine>(&self, kernel: &Kernel<M>, auditor: &mut Auditor<M>) -> Result<(), Violation> {
        let now = Baseline::take(kernel, auditor)?;
        for (what, before, after) in [
            ("domains", self.domains, now.domains),
            ("domains in the table", self.entered, now.entered),
            ("free frames", self.free_frames, now.free_frames),
            ("frames of the core's", self.core_frames, now.core_frames),
            ("ports", self.ports, now.ports),
            ("mappings", self.mappings, now.mappings),
            ("grants in use", self.grants, now.grants),
            ("deadlines", self.timers, now.timers),
            ("queued vCPUs", self.queued, now.queued),
            ("claimed frames", self.claims, now.claims),
        ] {
            holds!(before == after, BASELINE, "{what}: {before} before, {after} now");
        }
        Ok(())
    }
}
