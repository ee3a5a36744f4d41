//! A trial: the simulator, with its scenarios, its model and allocations that fail, and then the unit tests, until one of
//! them finds the bug.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::list::Mutant;
use super::workshop::Workshop;

/// What the simulator is told, one after the other: a few scenarios; the model; known races under all interleavings with
/// few preemptions; many more scenarios; every allocation of a few fails. The first two find most, and take seconds.
const STEPS: [(&str, &[&str]); 5] = [
    ("simulation", &["--scenarios", "64", "--jobs", "1", "--no-shrink"]),
    ("model", &["--model", "200"]),
    ("interleavings", &["--explore"]),
    (
        "simulation",
        &[
            "--scenarios",
            "1436",
            "--seed",
            "65",
            "--jobs",
            "1",
            "--no-shrink",
        ],
    ),
    ("exhaustion", &["--exhaust", "--scenarios", "3"]),
];
/// A simulator that takes longer than this is in a loop, also where others keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(900);
/// The unit tests are built, too.
const PATIENCE_WITH_TESTS: Duration = Duration::from_secs(1200);

/// What came of a trial.
#[derive(Clone, Serialize, Deserialize)]
pub struct Verdict {
    /// Who found it; nobody did otherwise.
    pub found: Option<Found>,
    /// Hypercalls made up to then.
    pub hypercalls: u64,
    /// The unit tests were tried, too.
    #[serde(default)]
    pub unit_tests: bool,
}

/// How a bug was found.
#[derive(Clone, Serialize, Deserialize)]
pub struct Found {
    /// By what: one of [`STEPS`], or `unit tests`.
    pub by: String,
    /// What was said.
    pub message: String,
}

impl Verdict {
    /// Whether the simulator found it, in whatever way.
    pub fn by_simulation(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.by != UNIT_TESTS)
    }
}

const UNIT_TESTS: &str = "unit tests";

/// What the first three steps say of the tree without a mutant: nothing.
pub fn baseline(workshop: &Workshop) -> Result<Option<Found>> {
    for (by, words) in &STEPS[..3] {
        let said = simulate(workshop, words)?;
        if let Some(message) = said.failure {
            return Ok(Some(found(by, message)));
        }
    }
    Ok(None)
}

/// Tries to find the bug that is in the workshop's tree.
pub fn run(workshop: &Workshop, mutant: &Mutant, unit_tests: bool) -> Result<Verdict> {
    let mut hypercalls = 0;
    let scene = mutant
        .scene
        .as_deref()
        .map(|scene| ["--explore", "--scene", scene]);
    let first = scene.as_ref().map(|words| ("interleavings", words.as_slice()));
    for (by, words) in first.into_iter().chain(STEPS) {
        let said = simulate(workshop, words)?;
        hypercalls += said.hypercalls;
        if let Some(message) = said.failure {
            let found = Some(found(by, message));
            return Ok(Verdict {
                found,
                hypercalls,
                unit_tests: false,
            });
        }
    }
    let found = if unit_tests {
        test(workshop)?.map(|message| found(UNIT_TESTS, message))
    } else {
        None
    };
    Ok(Verdict {
        found,
        hypercalls,
        unit_tests,
    })
}

fn found(by: &str, message: String) -> Found {
    Found {
        by: by.to_owned(),
        message,
    }
}

struct Said {
    failure: Option<String>,
    hypercalls: u64,
}

fn simulate(workshop: &Workshop, words: &[&str]) -> Result<Said> {
    let mut simulator = workshop.simulator();
    simulator.args(words);
    let (ended, output) = patiently(&mut simulator, PATIENCE)?;
    let failure = match ended {
        Some(true) => None,
        Some(false) => Some(failure_in(&output).unwrap_or_else(|| "died: the simulator ended".into())),
        None => Some("hang: no end in sight".into()),
    };
    Ok(Said {
        failure,
        hypercalls: hypercalls_in(&output).unwrap_or(0),
    })
}

/// Runs a program, with all that it starts, for so long at most; how it ended (`None`: not by itself), and what it said.
fn patiently(program: &mut Command, patience: Duration) -> Result<(Option<bool>, String)> {
    let mut child = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("the simulator does not start")?;
    let mut pipe = child.stdout.take().context("asked for just above")?;
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = pipe.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status.success());
        }
        if begun.elapsed() > patience {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if ended.is_none() {
        if let Some(group) = Pid::from_raw(child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        child.wait()?;
    }
    let said = reader.join().unwrap_or_default();
    Ok((ended, said))
}

/// What a simulator said that found something: its one line.
fn failure_in(output: &str) -> Option<String> {
    let line = output.lines().find_map(|line| line.strip_prefix("FAIL "))?;
    let (_, message) = line.split_once(": ")?;
    Some(message.to_owned())
}

/// How many hypercalls were made, by whatever line tells it.
fn hypercalls_in(output: &str) -> Option<u64> {
    let digits = |text: &str| text.replace(',', "").parse().ok();
    // The last word counts: there may be some on the way.
    output.lines().rev().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["hypercalls", count] => digits(count),
            _ => words
                .windows(2)
                .find(|pair| matches!(pair[1], "hypercalls," | "hypercalls:" | "calls" | "calls:"))
                .and_then(|pair| digits(pair[0])),
        }
    })
}

/// The first unit test that fails.
fn test(workshop: &Workshop) -> Result<Option<String>> {
    let (ended, output) = patiently(&mut workshop.unit_tests(), PATIENCE_WITH_TESTS)?;
    Ok(match ended {
        Some(true) => None,
        None => Some("no end in sight".into()),
        Some(false) => Some(failed_test(&output).unwrap_or_else(|| "they do not run".into())),
    })
}

fn failed_test(output: &str) -> Option<String> {
    let mut lines = output.lines().skip_while(|line| *line != "failures:");
    lines.next()?;
    let name = lines.find_map(|line| line.strip_prefix("---- "))?;
    Some(name.split_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_counts_are_read_from_what_simulators_say() {
        let attack = "simulating\n  hypercalls                        1,234\n\
                      FAIL seed 0x5, step 17: grants: an entry: it has one\n1 scenarios, 1 failures";
        assert_eq!(failure_in(attack).unwrap(), "grants: an entry: it has one");
        assert_eq!(hypercalls_in(attack), Some(1234));
        let model = "FAIL seed 0x1, after 15,465 calls: model: the core answers ESRCH";
        assert_eq!(failure_in(model).unwrap(), "model: the core answers ESRCH");
        assert_eq!(hypercalls_in(model), Some(15465));
        let exhausted = "FAIL seed 0x1, allocation 3 of Heap, after 12 hypercalls: end: left";
        assert_eq!(failure_in(exhausted).unwrap(), "end: left");
        assert_eq!(hypercalls_in(exhausted), Some(12));
        let sound = "3 scenarios, 1,000 allocations failed one by one, 5,000 hypercalls, 0 failures";
        assert_eq!((failure_in(sound), hypercalls_in(sound)), (None, Some(5000)));
        let agreed = "200 seeds, 171,000 calls compared, 0 failures";
        assert_eq!((failure_in(agreed), hypercalls_in(agreed)), (None, Some(171_000)));
    }

    #[test]
    fn the_first_failed_test_is_named() {
        let said = "..F\n\nfailures:\n\n---- timer::tests::one stdout ----\nthread panicked\n";
        assert_eq!(failed_test(said).unwrap(), "timer::tests::one");
    }
}
