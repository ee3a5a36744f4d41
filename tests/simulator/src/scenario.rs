//! A scenario: a seed from which a host and all that happens on it follow.
//!
//! A step is one number. From it follow which processor gets the next turn, for how many points, how much time passes
//! and what the guest does that the processor comes to. So a script, a list of such numbers, is a whole run; it can be
//! repeated, cut short, and fed by a fuzzer.

use crate::numbers::Numbers;

/// How finely processors are interleaved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Each deed runs to its end before another processor gets its turn.
    Serial,
    /// Turns end now and then in the middle of a deed.
    Coarse,
    /// Turns end after a few points.
    Fine,
}

/// What kind of host a seed stands for.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Physical processors.
    pub processors: usize,
    /// Memory of the machine in MiB, of which the first is firmware's.
    pub memory_mib: usize,
    /// vCPUs of the privileged domain, and then of each guest that is there from the start.
    pub vcpus: Vec<u32>,
    /// Pages of each guest.
    pub pages: u64,
    /// Pages that each guest may have beyond these.
    pub more_pages: u64,
    /// The highest port of each guest.
    pub max_port: u32,
    /// How finely processors are interleaved.
    pub style: Style,
    /// Nanoseconds that pass with each point.
    pub point_time: u64,
    /// Steps between two full audits.
    pub audit_every: u64,
    /// The order of locks is watched.
    pub watch_locks: bool,
    /// One step of so many makes an allocation fail soon; 0 for none.
    pub failures: u64,
}

impl Shape {
    /// The host of a seed.
    pub fn of(seed: u64) -> Shape {
        let mut numbers = Numbers::part(seed, 0x5ba9e);
        // One host in 64 is a large one.
        let large = numbers.chance(1, 64);
        let (processors, guests) = match large {
            true => (numbers.pick(&[6, 8, 16]), numbers.within(5, 9) as usize),
            false => (numbers.pick(&[1, 2, 2, 2, 3, 4]), numbers.within(1, 4) as usize),
        };
        let mut vcpus = vec![numbers.within(1, 3) as u32];
        vcpus.extend((0..guests).map(|_| match large {
            true => numbers.pick(&[1, 2, 4, 8, 16]),
            false => numbers.pick(&[1, 1, 2, 2, 4]),
        }));
        Shape {
            processors,
            memory_mib: match large {
                true => 16,
                false => numbers.pick(&[3, 4, 8, 8]),
            },
            vcpus,
            pages: numbers.pick(&[32, 48, 64]),
            // Room for superpages, or hardly any room.
            more_pages: numbers.pick(&[0, 4, 64, 64, 64, 600]),
            max_port: numbers.pick(&[7, 23, 1023, 1023, 1023]),
            // A single processor has nobody to be interleaved with.
            style: match processors {
                1 => Style::Serial,
                _ => numbers.pick(&[Style::Serial, Style::Coarse, Style::Coarse, Style::Fine]),
            },
            point_time: numbers.pick(&[50, 100, 100, 500, 2_000]),
            // One host in 128 is audited after every step, the others now and then.
            audit_every: match numbers.chance(1, 128) {
                true => 1,
                false => numbers.pick(&[256, 1024, 2048, 4000]),
            },
            watch_locks: numbers.chance(1, 8),
            failures: numbers.pick(&[0, 0, 0, 200, 20]),
        }
    }
}

/// A host and its script.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where all comes from.
    pub seed: u64,
    /// The steps, or how many of the seed's own.
    pub script: Script,
}

/// The steps of a scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Script {
    /// So many, as the seed has them.
    Seeded(u64),
    /// These.
    Listed(Vec<u64>),
}

impl Scenario {
    /// A seed's own, of so many steps.
    pub fn of(seed: u64, steps: u64) -> Scenario {
        Scenario {
            seed,
            script: Script::Seeded(steps),
        }
    }

    /// From bytes that a fuzzer made: eight for the seed, eight for each step.
    pub fn from_bytes(bytes: &[u8]) -> Scenario {
        let mut words = bytes.chunks_exact(8).map(|chunk| {
            chunk
                .iter()
                .fold(0u64, |word, &byte| (word << 8) | u64::from(byte))
        });
        Scenario {
            seed: words.next().unwrap_or(0),
            script: Script::Listed(words.collect()),
        }
    }

    /// How many steps it has.
    pub fn len(&self) -> u64 {
        match &self.script {
            Script::Seeded(count) => *count,
            Script::Listed(steps) => steps.len() as u64,
        }
    }

    /// Whether it has no steps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Step `index`.
    pub fn step(&self, index: u64) -> u64 {
        match &self.script {
            Script::Seeded(_) => Numbers::part(self.seed, index.wrapping_add(1)).next(),
            Script::Listed(steps) => steps.get(index as usize).copied().unwrap_or(0),
        }
    }

    /// The same scenario with its steps listed one by one, the first `count` of them.
    pub fn listed(&self, count: u64) -> Scenario {
        Scenario {
            seed: self.seed,
            script: Script::Listed((0..count.min(self.len())).map(|index| self.step(index)).collect()),
        }
    }
}

/// A scenario as a file: a line with its seed, then a line for each step. What follows `#` is for people.
pub fn to_text(scenario: &Scenario, remarks: &[String]) -> String {
    let mut text = format!("seed {:#x}\n", scenario.seed);
    for index in 0..scenario.len() {
        text.push_str(&format!("step {:#x}\n", scenario.step(index)));
    }
    for remark in remarks {
        text.push_str(&format!("# {remark}\n"));
    }
    text
}

/// A scenario from such a file.
///
/// # Errors
/// The line that is none of both kinds.
pub fn from_text(text: &str) -> Result<Scenario, String> {
    let (mut seed, mut steps) = (None, Vec::new());
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        let number = parse_number(value).ok_or_else(|| format!("not a number: {line}"))?;
        match word {
            "seed" => seed = Some(number),
            "step" => steps.push(number),
            _ => return Err(format!("neither a seed nor a step: {line}")),
        }
    }
    Ok(Scenario {
        seed: seed.ok_or("no line with a seed")?,
        script: Script::Listed(steps),
    })
}

/// A number as people write it: decimal, or hexadecimal behind 0x.
pub fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_being_written_down() {
        let scenario = Scenario::of(42, 7).listed(5);
        let again = from_text(&to_text(&scenario, &["five steps".into()])).unwrap();
        assert_eq!((again.seed, &again.script), (42, &scenario.script));
        assert_eq!(again.step(4), Scenario::of(42, 7).step(4));
        assert!(from_text("seed x").is_err());
        assert!(from_text("step 1").is_err());
        assert!(from_text("seed 1\nstop 2").is_err());
    }

    #[test]
    fn bytes_are_a_seed_and_steps() {
        let scenario = Scenario::from_bytes(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 0, 9]);
        assert_eq!((scenario.seed, scenario.len(), scenario.step(0)), (7, 1, 256));
    }
}
