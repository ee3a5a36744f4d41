//! Running scenarios, and making those that fail short.

use std::panic::catch_unwind;

use crate::host::{End, Failure, Host, Tally, last_panic};
use crate::scenario::{Scenario, Script};

/// What came of a scenario.
#[derive(Debug)]
pub struct Report {
    /// What happened in it.
    pub tally: Tally,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
    /// With a failure, and if it was asked for: the last deeds in words.
    pub story: Vec<String>,
}

/// One seed of so many is played beside the model rather than on interleaved processors.
const MODELLED: u64 = 16;

/// Whether a seed is one of those.
pub fn is_modelled(scenario: &Scenario) -> bool {
    matches!(scenario.script, Script::Seeded(_)) && scenario.seed % MODELLED == MODELLED - 1
}

/// Run a scenario from its first step to its last, with all checks at rest in between, and take the host apart; or play a
/// seed beside the model.
pub fn run(scenario: &Scenario, with_story: bool) -> Report {
    if is_modelled(scenario) {
        return beside_the_model(scenario);
    }
    let mut host = Host::new(scenario.seed);
    host.remember_deeds(with_story);
    let outcome = play(&mut host, scenario).and_then(|end| host.finish(end));
    let story = if with_story { host.story() } else { Vec::new() };
    let tally = host.tally();
    if outcome != Ok(End::Script) {
        host.abandon();
    }
    Report {
        tally,
        failure: outcome.err(),
        story,
    }
}

/// Each deed on the kernel and on the model, whose results and memory are compared.
fn beside_the_model(scenario: &Scenario) -> Report {
    let mut tally = Tally::default();
    // A step is a deed here, where hosts need several steps for one.
    let deeds = scenario.len() / 4;
    match catch_unwind(|| crate::model::play(scenario.seed, deeds)) {
        Ok(Ok(played)) => {
            let unjudged: u64 = played.unjudged.values().sum();
            tally.deeds.hypercalls = played.calls;
            tally.modelled = played.calls - unjudged;
            Report {
                tally,
                failure: None,
                story: Vec::new(),
            }
        }
        Ok(Err(disagreement)) => Report {
            tally,
            failure: Some(Failure {
                message: format!("model: {}", disagreement.what),
                steps: deeds,
            }),
            story: disagreement.script,
        },
        Err(payload) => Report {
            tally,
            failure: Some(Failure {
                message: format!("panic beside the model: {}", last_panic(payload.as_ref())),
                steps: deeds,
            }),
            story: Vec::new(),
        },
    }
}

pub(crate) fn play(host: &mut Host, scenario: &Scenario) -> Result<End, Failure> {
    for index in 0..scenario.len() {
        if let Some(end) = host.step(scenario.step(index))? {
            return Ok(end);
        }
        if host.audit_is_due()
            && let Some(end) = host.audit()?
        {
            return Ok(end);
        }
    }
    host.audit().map(|end| end.unwrap_or(End::Script))
}

/// Make a failing scenario short: leave out steps, in ever smaller pieces, as long as it fails in the same way. `fails` runs
/// one and says how it failed. At most `tries` are run.
pub fn shrink(
    scenario: &Scenario,
    failure: &Failure,
    tries: usize,
    mut fails: impl FnMut(&Scenario) -> Option<Failure>,
) -> (Scenario, Failure) {
    let kind = kind_of(&failure.message);
    let mut best = (scenario.listed(failure.steps), failure.clone());
    let mut left = tries;
    let mut attempt = |candidate: Scenario, best: &mut (Scenario, Failure)| {
        if left == 0 {
            return false;
        }
        left -= 1;
        match fails(&candidate) {
            Some(found) if kind_of(&found.message) == kind => {
                *best = (candidate.listed(found.steps), found);
                true
            }
            _ => false,
        }
    };
    let mut piece = (best.0.len() / 2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < best.0.len() {
            let steps = (0..best.0.len())
                .filter(|index| !(at..at + piece).contains(index))
                .map(|index| best.0.step(index));
            let candidate = Scenario {
                seed: best.0.seed,
                script: Script::Listed(steps.collect()),
            };
            if attempt(candidate, &mut best) {
                shorter = true;
            } else {
                at += piece;
            }
        }
        if piece == 1 && !shorter {
            return best;
        }
        piece = (piece / 2).max(1);
    }
}

/// What makes two failures the same: their words without the numbers.
pub fn kind_of(message: &str) -> String {
    let mut kind = String::new();
    for character in message.chars() {
        if character.is_ascii_digit() {
            if !kind.ends_with('#') {
                kind.push('#');
            }
        } else {
            kind.push(character);
        }
    }
    // The first sentence names the invariant or the place; what follows are circumstances.
    kind.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str, steps: u64) -> Failure {
        Failure {
            message: message.into(),
            steps,
        }
    }

    #[test]
    fn only_the_steps_that_matter_are_left() {
        let scenario = Scenario::of(5, 200);
        let matter = [scenario.step(17), scenario.step(90), scenario.step(91)];
        let fails = |candidate: &Scenario| {
            let mut wanted = matter.iter();
            let mut next = wanted.next();
            for index in 0..candidate.len() {
                if next == Some(&candidate.step(index)) {
                    next = wanted.next();
                    if next.is_none() {
                        return Some(failure("frames: 12 references", index + 1));
                    }
                }
            }
            None
        };
        let first = fails(&scenario.listed(200)).unwrap();
        assert_eq!(first.steps, 92);
        let (short, _) = shrink(&scenario, &first, 10_000, fails);
        assert_eq!(short.script, Script::Listed(matter.to_vec()));
    }

    #[test]
    fn another_failure_is_not_taken_for_the_same() {
        assert_eq!(kind_of("frames: 12 of 0x7"), kind_of("frames: 5 of 0x123"));
        assert_ne!(kind_of("frames: 12"), kind_of("grants: 12"));
    }
}
