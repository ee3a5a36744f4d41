//! Memory that runs out everywhere: a scenario is run once to count its allocations, and then once for each of them, which
//! fails. Nothing else changes, so that every allocation that the scenario comes by has failed once in the end.

use machine::fake::failure::{self, Source};

use crate::host::{Failure, Host};
use crate::scenario::Scenario;

/// What came of it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Exhausted {
    /// Allocations of the scenario, each of which failed in a run of its own.
    pub allocations: u64,
    /// Hypercalls made in all those runs.
    pub hypercalls: u64,
}

/// Let each allocation of a scenario fail. `progress` is told each run before it begins: it may be the last.
///
/// # Errors
/// Which allocation's failure was not survived, and how.
pub fn exhaust(
    scenario: &Scenario,
    source: Source,
    mut progress: impl FnMut(u64),
) -> Result<Exhausted, (u64, Failure)> {
    let (allocations, hypercalls) = run(scenario, source, None).map_err(|failure| (u64::MAX, failure))?;
    let mut sum = Exhausted {
        allocations,
        hypercalls,
    };
    for nth in 0..allocations {
        progress(nth);
        let (_, hypercalls) = run(scenario, source, Some(nth)).map_err(|failure| (nth, failure))?;
        sum.hypercalls += hypercalls;
    }
    Ok(sum)
}

/// One run, in which one allocation fails or none. Returns how many there were, and hypercalls.
fn run(scenario: &Scenario, source: Source, failing: Option<u64>) -> Result<(u64, u64), Failure> {
    let mut host = Host::without_chance(scenario.seed);
    let before = failure::counts(source).0;
    if let Some(nth) = failing {
        failure::arm(source, nth, false);
    }
    let outcome = crate::run::play(&mut host, scenario);
    let counted = failure::counts(source).0 - before;
    failure::disarm(source);
    let outcome = outcome.and_then(|end| host.finish(end));
    let hypercalls = host.tally().deeds.hypercalls;
    if outcome != Ok(crate::host::End::Script) {
        host.abandon();
    }
    outcome.map(|_| (counted, hypercalls))
}
