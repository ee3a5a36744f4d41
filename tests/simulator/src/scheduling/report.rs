//! Many hosts, and what they came to.

use std::time::{Duration, Instant};

use machine::Nanoseconds;

use super::check::{Outcome, play, watch};
use super::mix::Mix;

/// What many hosts came to.
#[derive(Default)]
pub struct Sum {
    /// Hosts.
    pub scenarios: u64,
    outcome: Outcome,
    shares: Vec<f64>,
    loose: Vec<f64>,
    /// Seeds that failed, and why.
    pub failures: Vec<(u64, String)>,
}

impl Sum {
    /// Run so many seeds.
    pub fn of(seeds: impl Iterator<Item = u64>, most_failures: usize, until: Option<Instant>) -> Sum {
        let mut sum = Sum::default();
        for seed in seeds {
            if sum.failures.len() >= most_failures || until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            sum.scenarios += 1;
            match play(&Mix::of(seed)) {
                Ok(outcome) => sum.add(outcome),
                Err(why) => sum.failures.push((seed, why)),
            }
        }
        sum
    }

    fn add(&mut self, outcome: Outcome) {
        let all = &mut self.outcome;
        all.decisions += outcome.decisions;
        all.points += outcome.points;
        all.moments += outcome.moments;
        all.longest_wait = all.longest_wait.max(outcome.longest_wait);
        all.worst_cap = all
            .worst_cap
            .into_iter()
            .chain(outcome.worst_cap)
            .reduce(f64::max);
        // Enough for a distribution.
        if all.latencies.len() < 4_000_000 {
            all.latencies.extend(outcome.latencies);
        }
        self.shares.extend(outcome.worst_share);
        self.loose.extend(outcome.worst_loose_share);
    }

    /// Print it.
    pub fn print(&mut self, time: Duration) {
        let all = &mut self.outcome;
        let percent = |part: f64| format!("{:.2} %", part * 100.0);
        let row = |name: &str, value: String| println!("  {name:<58}{value}");
        row("hosts, of 1.2 s of virtual time each", self.scenarios.to_string());
        row("entries into guests", all.decisions.to_string());
        row(
            "  per second of this machine",
            format!("{:.0}", all.decisions as f64 / time.as_secs_f64()),
        );
        row("moments looked at", all.moments.to_string());
        let kinds = [
            ("a host's worst share, off by", &mut self.shares),
            ("  where caps hold or a weight promises too much", &mut self.loose),
        ];
        for (name, shares) in kinds {
            shares.sort_by(f64::total_cmp);
            let at = |part: f64| shares[((shares.len() - 1) as f64 * part) as usize];
            if !shares.is_empty() {
                row(
                    &format!("{name} (median, p99, max of {})", shares.len()),
                    [0.5, 0.99, 1.0].map(|part| percent(at(part))).join(", "),
                );
            }
        }
        if let Some(worst) = all.worst_cap {
            row("most over a cap (of a processor)", percent(worst));
        }
        row("longest wait, as a part of its bound", percent(all.longest_wait));
        all.latencies.sort_unstable();
        if !all.latencies.is_empty() {
            let at = |part: f64| all.latencies[((all.latencies.len() - 1) as f64 * part) as usize];
            let text = |time: Nanoseconds| format!("{} us", time / 1000);
            row(
                "from waking to running: median, p99, p99.9, max",
                format!(
                    "{}, {}, {}, {}",
                    text(at(0.5)),
                    text(at(0.99)),
                    text(at(0.999)),
                    text(at(1.0))
                ),
            );
        }
        for (seed, why) in &self.failures {
            println!("FAIL seed {seed:#x}: {why}");
        }
    }
}

/// One host, told in full. Says whether all promises were kept.
pub fn tell(seed: u64) -> bool {
    let mix = Mix::of(seed);
    let mut outcome = Outcome::default();
    let result = watch(&mix, &mut outcome);
    println!(
        "{} processors{}",
        mix.processors,
        if mix.pinned { ", hard affinities" } else { "" }
    );
    for (index, domain) in mix.domains.iter().enumerate() {
        let (had, ideal) = outcome.shares.get(index).copied().unwrap_or_default();
        println!(
            "  d{:<3} weight {:<5} cap {:<4} had {:>7.2} %, ideal {:>7.2} %",
            index + 1,
            domain.weight,
            domain.cap,
            had * 100.0,
            ideal * 100.0
        );
        for work in &domain.vcpus {
            println!("       {work:?}");
        }
    }
    match result {
        Ok(()) => println!("all promises were kept"),
        Err(why) => {
            println!("FAIL seed {seed:#x}: {why}");
            return false;
        }
    }
    true
}

/// Decisions on hosts of several sizes. Says whether their cost stays flat: at most [`FLAT`] times that of the smallest.
///
/// # Errors
/// A host that does not come to rest.
pub fn scale() -> Result<bool, String> {
    println!("processors  vCPUs  decisions  points each  ns each, with the simulation");
    let mut first = None;
    let mut flat = true;
    for processors in [4, 16, 64, 256] {
        let cost = super::scale::measure(processors)?;
        println!(
            "{:>10}  {:>5}  {:>9}  {:>11.1}  {:>7.0}",
            cost.processors, cost.vcpus, cost.decisions, cost.points, cost.nanoseconds
        );
        let first = *first.get_or_insert(cost.points);
        flat &= cost.points <= FLAT * first;
    }
    println!(
        "a decision's cost {} flat",
        if flat { "stays" } else { "does not stay" }
    );
    Ok(flat)
}

/// How much more a decision may cost on the largest host than on the smallest.
const FLAT: f64 = 1.5;
