//! What a run amounted to, in figures.

use kernel::audit::Audited;
use serde::{Deserialize, Serialize};

use super::Deeds;

/// What a run amounted to.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Tally {
    /// What guests did.
    pub deeds: Deeds,
    /// Steps.
    pub steps: u64,
    /// Points of interleaving that were passed.
    pub points: u64,
    /// Turns that ended between two points of one stay in the core.
    pub switches: u64,
    /// Audits made, and facts checked by them.
    pub audits: u64,
    /// Facts.
    pub facts: u64,
    /// Translations compared with the tables.
    pub translations: u64,
    /// Acquisitions of locks compared with their order.
    pub locks: u64,
    /// Allocations that were made to fail.
    pub refused: u64,
    /// The longest stay in the core, in points, and what it was for.
    pub longest: (u64, String),
    /// Domains made by the simulator itself, beside those of toolstacks.
    pub domains: u64,
    /// Hypercalls whose results and traces in memory were compared with the model's.
    pub modelled: u64,
    /// Times that nobody had anything to do, ever, and somebody knocked.
    pub knocks: u64,
}

impl Tally {
    /// Add what happened elsewhere.
    pub fn add(&mut self, other: &Tally) {
        self.deeds.add(&other.deeds);
        for (sum, more) in [
            (&mut self.steps, other.steps),
            (&mut self.points, other.points),
            (&mut self.switches, other.switches),
            (&mut self.audits, other.audits),
            (&mut self.facts, other.facts),
            (&mut self.translations, other.translations),
            (&mut self.locks, other.locks),
            (&mut self.refused, other.refused),
            (&mut self.domains, other.domains),
            (&mut self.knocks, other.knocks),
            (&mut self.modelled, other.modelled),
        ] {
            *sum += more;
        }
        if other.longest.0 > self.longest.0 {
            self.longest = other.longest.clone();
        }
    }
}

/// What an audit has looked at, in all.
pub(super) fn facts(audited: &Audited) -> u64 {
    let Audited {
        domains,
        ended: _,
        frames,
        tables,
        leaves,
        grants,
        mappings,
        ports,
        vcpus,
        timers,
    } = audited;
    domains + frames + tables + leaves + grants + mappings + ports + vcpus + timers
}
