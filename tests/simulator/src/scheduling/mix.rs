//! What a host is made of: processors, domains with weights and caps, and what their vCPUs do.

use machine::Nanoseconds;

use crate::numbers::Numbers;

/// What a vCPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// It computes for ever.
    Compute,
    /// Each time this long after the last, work comes for it that takes so long: what it does not finish in time adds up.
    Jobs {
        /// Between two of them, on average.
        period: Nanoseconds,
        /// For each.
        length: Nanoseconds,
        /// They come when they come, rather than by the clock.
        irregular: bool,
        /// They come by another processor's doing (an event) rather than by a timer of its own.
        events: bool,
    },
}

impl Work {
    /// The part of a processor that it wants.
    pub fn demand(&self) -> f64 {
        match *self {
            Work::Compute => 1.0,
            Work::Jobs { period, length, .. } => (length as f64 / period as f64).min(1.0),
        }
    }
}

/// A domain.
#[derive(Clone, PartialEq, Debug)]
pub struct Share {
    /// Its weight.
    pub weight: u32,
    /// Its cap in percent of a processor; 0 is none.
    pub cap: u32,
    /// What each of its vCPUs does.
    pub vcpus: Vec<Work>,
}

/// A host.
#[derive(Clone, PartialEq, Debug)]
pub struct Mix {
    /// The seed that it came from, for what is left to chance while it runs.
    pub seed: u64,
    /// Processors.
    pub processors: usize,
    /// Its domains.
    pub domains: Vec<Share>,
    /// vCPUs have hard affinities; then no ideal is computed.
    pub pinned: bool,
}

const MICROSECOND: Nanoseconds = 1000;
const MILLISECOND: Nanoseconds = 1_000_000;

impl Mix {
    /// The host of a seed.
    pub fn of(seed: u64) -> Mix {
        let mut numbers = Numbers::part(seed, 0x5ced);
        let processors = numbers.pick(&[1, 1, 2, 2, 3, 4, 4, 6, 8]);
        let capped = numbers.chance(1, 4);
        let pinned = numbers.chance(1, 8);
        let most = 2 + processors as u64 * 2;
        let domains = (0..numbers.within(2, most.min(10)))
            .map(|_| {
                let weight = numbers.pick(&[64, 128, 256, 256, 256, 256, 512, 512, 1024, 2048]);
                let cap = if capped && numbers.chance(1, 2) {
                    numbers.pick(&[5, 10, 25, 50, 75, 100, 150])
                } else {
                    0
                };
                let kind = numbers.below(4);
                let vcpus = numbers.within(1, 4.min(processors as u64 + 1));
                let vcpus = (0..vcpus).map(|_| work(&mut numbers, kind)).collect();
                Share { weight, cap, vcpus }
            })
            .collect();
        Mix {
            seed,
            processors,
            domains,
            pinned,
        }
    }
}

fn work(numbers: &mut Numbers, kind: u64) -> Work {
    let irregular = numbers.chance(1, 2);
    let events = numbers.chance(1, 2);
    match if kind == 3 { numbers.below(3) } else { kind } {
        0 => Work::Compute,
        // Input and output: many short bursts.
        1 => {
            let period = numbers.within(200 * MICROSECOND, 5 * MILLISECOND);
            let length = (period * numbers.within(2, 25) / 100).max(5 * MICROSECOND);
            Work::Jobs {
                period,
                length,
                irregular,
                events,
            }
        }
        // Bursts.
        _ => {
            let period = numbers.within(10 * MILLISECOND, 100 * MILLISECOND);
            let length = period * numbers.within(5, 60) / 100;
            Work::Jobs {
                period,
                length,
                irregular,
                events,
            }
        }
    }
}
