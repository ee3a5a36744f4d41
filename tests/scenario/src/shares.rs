//! The scenario `sched`: do the promises of the scheduler hold on a whole machine?
//!
//! Four guests with two vCPUs each compute for ever; what each gets follows its weight, and a cap holds. Then a guest that
//! sleeps on its one-shot timer tells how late it is woken while they go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guest::{self, Guest};
use crate::machine::{self, Baseline};
use crate::report::Report;
use crate::tools;

const WEIGHTS: [u32; 4] = [256, 512, 1024, 2048];
/// A share is within so much of what its weight says, as a part of all that the guests got.
const TOLERANCE: f64 = 0.03;
const CAP: f64 = 0.25;

/// All of it; shares are measured for so long.
pub fn play(report: &mut Report, vcpus: u32, time: Duration) -> Result<()> {
    machine::check(report, vcpus);
    let baseline = Baseline::take()?;
    probe(report, "alone");
    let guests: Vec<Guest> = WEIGHTS
        .iter()
        .map(|weight| {
            Guest::new(&format!("busy{weight}"), "/boot/micro/busy", 32)
                .with("vcpus", "2")
                .with("cpu_weight", &weight.to_string())
        })
        .collect();
    report.step("four guests compute on two vCPUs each", || {
        guests.iter().try_for_each(|guest| guest.create().map(drop))
    });
    let mut measured = Vec::new();
    report.step("their shares follow their weights", || {
        let times = used(&guests, time)?;
        let all: f64 = times.iter().sum();
        let weights: u32 = WEIGHTS.iter().sum();
        for (weight, time) in WEIGHTS.iter().zip(&times) {
            measured.push((*weight, 100.0 * time / all));
        }
        for (weight, percent) in &measured {
            let ideal = 100.0 * f64::from(*weight) / f64::from(weights);
            ensure!(
                (percent - ideal).abs() <= 100.0 * TOLERANCE,
                "weight {weight} gets {percent:.2} %, and {ideal:.2} % are its share: {measured:?}"
            );
        }
        Ok(())
    });
    for (weight, percent) in measured {
        report.figure(&format!("share of weight {weight}, %"), percent);
    }
    probe(report, "beside them");
    let capped = &guests[3];
    let mut part = None;
    report.step("a cap of 25 % holds", || {
        tools::xenolith(&["sched", "-d", &capped.name, "-c", "25"])?;
        // What it had before the cap is not counted.
        std::thread::sleep(Duration::from_millis(500));
        let used = used(std::slice::from_ref(capped), time)?[0] / time.as_secs_f64();
        part = Some(used);
        ensure!((used - CAP).abs() <= TOLERANCE, "it gets {:.2} %", 100.0 * used);
        Ok(())
    });
    if let Some(part) = part {
        report.figure("a cap of 25 %: used, %", 100.0 * part);
    }
    report.step("they are destroyed", || {
        guests.iter().try_for_each(Guest::destroy)
    });
    baseline.check_restored_quickly(report);
    Ok(())
}

/// Seconds of a processor that each used over a time by dom0's clock, scaled to just that time.
fn used(guests: &[Guest], time: Duration) -> Result<Vec<f64>> {
    let seconds = || -> Result<(Instant, Vec<f64>)> {
        let at = Instant::now();
        let all = guests.iter().map(|guest| {
            let found = guest::find(&guest.name)?.with_context(|| format!("{} is gone", guest.name))?;
            found["cpu_seconds"].as_f64().context("no time is told")
        });
        Ok((at, all.collect::<Result<_>>()?))
    };
    let (begun, before) = seconds()?;
    std::thread::sleep(time);
    let (ended, after) = seconds()?;
    let scale = time.as_secs_f64() / (ended - begun).as_secs_f64();
    Ok(after
        .iter()
        .zip(before)
        .map(|(after, before)| (after - before) * scale)
        .collect())
}

/// A sleeper, alone or beside those that compute.
fn probe(report: &mut Report, place: &str) {
    let probe = Guest::new("sleeper", "/boot/micro/latency", 32);
    let mut told = None;
    report.step(&format!("a sleeper is woken {place}"), || {
        probe.create()?;
        // The first round is warm-up.
        let mut found = String::new();
        let waited = tools::wait_until(Duration::from_secs(120), "it has slept a thousand times", || {
            found = probe.line("latency ").unwrap_or_default();
            let round = found.split(' ').next().and_then(|word| word.parse::<u64>().ok());
            Ok(round >= Some(3))
        });
        let said = probe.said();
        probe.destroy()?;
        let last = said.lines().last().unwrap_or_default();
        waited.with_context(|| format!("its last line: `{last}`"))?;
        let numbers: Vec<f64> = found.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [_, median, p99, most] = numbers[..] else {
            bail!("it says `{found}`");
        };
        told = Some([median, p99, most]);
        Ok(())
    });
    if let Some(told) = told {
        for (name, value) in ["median", "p99", "max"].iter().zip(told) {
            report.figure(&format!("from timer to running {place}, {name}, us"), value);
        }
    }
}
