//! Invariants of the whole core, checked between steps: by simulators and tests on the host, and at a few points on the
//! metal in builds with debug assertions. Release builds have none of it.
//!
//! An audit looks at a core at rest: each processor is in a guest or waits, no hypercall is under way, and of the core's
//! locks only the contexts of running vCPUs are held (no context is looked at here). It takes one lock at a time, copies
//! what it needs into buffers that it keeps, and compares afterwards, so that it fits into any lock order. It changes
//! nothing.
//!
//! Each check has a name, `noun: what must hold`. The names are the list of what this core promises about itself; each has
//! a test that breaks it on purpose. What lies in guests' own pages is never judged: they may write there what they like.

mod baseline;
mod domains;
mod event_channels;
mod frames;
mod grants;
mod physmap;
mod points;
mod report;
mod schedule;
mod shared;
#[cfg(test)]
mod tests;
mod timers;
mod vcpus;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{Machine, ProcessorId};

use crate::Kernel;
use crate::domain::Domain;

pub use baseline::Baseline;
pub(crate) use domains::Registry;
pub(crate) use grants::Pinned;

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was found instead, with its numbers.
    pub found: String,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.found)
    }
}

/// Leave with a [`Violation`] of the named invariant unless the condition holds.
macro_rules! holds {
    ($condition:expr, $invariant:expr, $($found:tt)+) => {
        if !$condition {
            return Err($crate::audit::Violation {
                invariant: $invariant,
                found: alloc::format!($($found)+),
            });
        }
    };
}
pub(crate) use holds;

/// What was checked, for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audited {
    /// Domains that live, ended ones that somebody still holds among them.
    pub domains: u64,
    /// Those among them that have ended.
    pub ended: u64,
    /// Frames of the machine.
    pub frames: u64,
    /// Frames of stage-two tables.
    pub tables: u64,
    /// Leaves in them.
    pub leaves: u64,
    /// Grant entries that are in use.
    pub grants: u64,
    /// Mappings of grants.
    pub mappings: u64,
    /// Ports in use.
    pub ports: u64,
    /// vCPUs.
    pub vcpus: u64,
    /// vCPUs with a deadline.
    pub timers: u64,
}

impl core::fmt::Display for Audited {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} domains, {} frames, {} tables with {} leaves, {} grants in use, {} mappings, {} ports, {} vCPUs, {} deadlines",
            self.domains,
            self.frames,
            self.tables,
            self.leaves,
            self.grants,
            self.mappings,
            self.ports,
            self.vcpus,
            self.timers
        )
    }
}

/// What an audit looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts(u8);

impl Parts {
    /// The table of domains, their lives, claims and pauses.
    pub const DOMAINS: Parts = Parts(1 << 0);
    /// Frames, physmaps and grants, which account for each other.
    pub const MEMORY: Parts = Parts(1 << 1);
    /// Event channels.
    pub const EVENTS: Parts = Parts(1 << 2);
    /// Places, run queues, what wakes vCPUs, where their time went.
    pub const SCHEDULE: Parts = Parts(1 << 3);
    /// Deadlines and timer queues.
    pub const TIMERS: Parts = Parts(1 << 4);
    /// Everything.
    pub const ALL: Parts = Parts(0x1f);
    /// All but the scheduler's part: for tests that make hypercalls by hand, for vCPUs that no processor runs.
    pub const BY_HAND: Parts = Parts(0x1f & !Self::SCHEDULE.0);

    fn has(self, part: Parts) -> bool {
        self.0 & part.0 == part.0
    }
}

/// One after the other, when only a part is audited at a time.
const TURNS: [Parts; 5] = [
    Parts::DOMAINS,
    Parts::MEMORY,
    Parts::EVENTS,
    Parts::SCHEDULE,
    Parts::TIMERS,
];

/// Audits, with buffers that are kept from one to the next.
pub struct Auditor<M: Machine> {
    /// All domains that live: a domain's index in here is how the buffers name it. Empty between audits.
    domains: Vec<Arc<Domain<M>>>,
    /// The table of domains. Empty between audits.
    table: Vec<Arc<Domain<M>>>,
    frames: frames::Ledger,
    grants: grants::Books,
    ends: Vec<event_channels::End>,
    vcpus: vcpus::Tally,
    counted: Audited,
    turn: usize,
    /// Whether something waits to interrupt a processor, where that can be known from outside.
    called: Option<fn(&M, ProcessorId) -> bool>,
}

impl<M: Machine> Default for Auditor<M> {
    fn default() -> Self {
        Auditor {
            domains: Vec::new(),
            table: Vec::new(),
            frames: frames::Ledger::default(),
            grants: grants::Books::default(),
            ends: Vec::new(),
            vcpus: vcpus::Tally::default(),
            counted: Audited::default(),
            turn: 0,
            called: None,
        }
    }
}

impl<M: Machine> Auditor<M> {
    /// One for a machine that can be asked whether something waits to interrupt a processor: more can be checked then.
    pub fn knowing(called: fn(&M, ProcessorId) -> bool) -> Self {
        Auditor {
            called: Some(called),
            ..Auditor::default()
        }
    }

    /// Check everything.
    ///
    /// # Errors
    /// The first invariant found not to hold.
    pub fn audit(&mut self, kernel: &Kernel<M>) -> Result<Audited, Violation> {
        self.audit_parts(kernel, Parts::ALL)
    }

    /// Check the next part in turn: five calls check everything once.
    ///
    /// # Errors
    /// The first invariant found not to hold.
    pub fn audit_next(&mut self, kernel: &Kernel<M>) -> Result<Audited, Violation> {
        let parts = TURNS[self.turn % TURNS.len()];
        self.turn = (self.turn + 1) % TURNS.len();
        self.audit_parts(kernel, parts)
    }

    /// Check some parts.
    ///
    /// # Errors
    /// The first invariant found not to hold.
    pub fn audit_parts(&mut self, kernel: &Kernel<M>, parts: Parts) -> Result<Audited, Violation> {
        self.counted = Audited::default();
        kernel.domains.registry.living(&mut self.domains);
        self.counted.domains = self.domains.len() as u64;
        let result = self.check(kernel, parts);
        self.domains.clear();
        self.table.clear();
        result.map(|()| self.counted)
    }

    fn check(&mut self, kernel: &Kernel<M>, parts: Parts) -> Result<(), Violation> {
        if parts.has(Parts::DOMAINS) {
            self.check_domains(kernel)?;
        }
        if parts.has(Parts::MEMORY) {
            self.check_memory(kernel)?;
        }
        if parts.has(Parts::EVENTS) {
            self.check_events()?;
        }
        if parts.has(Parts::SCHEDULE) || parts.has(Parts::TIMERS) {
            self.tally_vcpus(kernel)?;
        }
        if parts.has(Parts::SCHEDULE) {
            self.check_schedule(kernel)?;
        }
        if parts.has(Parts::TIMERS) {
            self.check_timers(kernel)?;
        }
        Ok(())
    }

    /// The holders of each frame are added up, and compared with what the frame table says.
    fn check_memory(&mut self, kernel: &Kernel<M>) -> Result<(), Violation> {
        let memory = kernel.machine.memory();
        self.frames.open(memory)?;
        self.grants.open();
        for index in 0..self.domains.len() {
            self.count_shared(index)?;
            self.count_grants(index)?;
            self.count_mappings(index)?;
        }
        // Whose a shared page is must be known before the maps are walked.
        for index in 0..self.domains.len() {
            self.check_physmap(index, memory)?;
        }
        self.check_books()?;
        self.counted.frames = memory.frame_count();
        self.frames.close(memory, &self.domains)
    }

    /// The index of a domain by its address; `None` for one that was never entered in the table.
    fn index_of(domains: &[Arc<Domain<M>>], domain: *const Domain<M>) -> Option<usize> {
        domains
            .iter()
            .position(|other| core::ptr::eq(Arc::as_ptr(other), domain))
    }
}

impl<M: Machine> Kernel<M> {
    /// Check everything once. Who does so often keeps an [`Auditor`].
    ///
    /// # Errors
    /// The first invariant found not to hold.
    pub fn audit(&self) -> Result<Audited, Violation> {
        Auditor::default().audit(self)
    }
}
