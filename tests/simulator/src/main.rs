//! The simulator's command: many seeds for a time, one seed again, or a script.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use machine::fake::failure::Source;
use simulator::exhaust::exhaust;
use simulator::explore;
use simulator::host::{Failure, Tally, catch_panics, last_panic};
use simulator::model;
use simulator::numbers::grouped;
use simulator::run::{self, Report};
use simulator::scenario::{self, Scenario};
use simulator::scheduling::report;
use simulator::worker::{self, Failed, Order, Sum};

/// Steps of a scenario unless told otherwise.
const STEPS: u64 = 4000;
/// Deeds for each seed that is compared with the model.
const MODEL_DEEDS: u64 = 1000;
/// Runs that are spent on making a failing scenario short.
const TRIES: usize = 2000;

/// The core's allocations fail when a scenario says so.
#[global_allocator]
static HEAP: machine::fake::failure::FailingHeap = machine::fake::failure::FailingHeap;

/// Attack the kernel on simulated processors, with random but structured guests, from a seed.
#[derive(Parser)]
#[command(name = "simulator", version)]
struct Arguments {
    /// Seconds to go on.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The first seed; the others follow it.
    #[arg(long, value_parser = number, default_value = "1")]
    seed: u64,
    /// Processes at work at a time [default: one for each processor of this machine].
    #[arg(long)]
    jobs: Option<u64>,
    /// Run so many scenarios, however long that takes.
    #[arg(long, conflicts_with = "seconds")]
    scenarios: Option<u64>,
    /// Steps of each scenario.
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// Run one scenario again and tell its story: a seed, or a file with a script.
    #[arg(long, value_name = "SEED|FILE")]
    replay: Option<String>,
    /// Let every allocation of a few scenarios fail, each in a run of its own.
    #[arg(long)]
    exhaust: bool,
    /// Compare the core with the model after every call, from so many seeds; not on simulated processors.
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["exhaust", "replay"])]
    model: Option<u64>,
    /// The scheduler in virtual time, from so many seeds: shares, caps, waits.
    #[arg(long, value_name = "HOSTS", conflicts_with_all = ["exhaust", "model"])]
    scheduling: Option<u64>,
    /// What a decision of the scheduler's costs on small and large hosts.
    #[arg(long)]
    scale: bool,
    /// Play known races under all interleavings with few preemptions.
    #[arg(long, conflicts_with_all = ["exhaust", "replay", "model"])]
    explore: bool,
    /// Of these, the ones whose names have these words in them.
    #[arg(long, value_name = "WORDS", requires = "explore")]
    scene: Option<String>,
    /// Leave a failing scenario as long as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Where scripts of failures are written.
    #[arg(long, default_value = "target/simulator")]
    folder: PathBuf,
    /// Go on after a failure: at the end, the kinds of failures are listed.
    #[arg(long)]
    keep_going: bool,
    /// Write the figures as JSON, too.
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long, hide = true)]
    worker: bool,
    #[arg(long, hide = true, default_value_t = 1)]
    stride: u64,
    #[arg(long, hide = true)]
    script: Option<PathBuf>,
}

fn number(text: &str) -> Result<u64, String> {
    scenario::parse_number(text).ok_or_else(|| "not a number".into())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    catch_panics();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<bool, String> {
    let order = Order {
        first: arguments.seed,
        stride: arguments.stride,
        steps: arguments.steps,
        time: match arguments.scenarios {
            Some(_) => Duration::MAX,
            None => Duration::try_from_secs_f64(arguments.seconds).map_err(|error| error.to_string())?,
        },
        scenarios: arguments.scenarios.unwrap_or(u64::MAX),
        keep_going: arguments.keep_going,
    };
    if arguments.worker {
        return Ok(worker::work(order));
    }
    if let Some(file) = &arguments.script {
        return Ok(worker::run_script(&read_script(file)?));
    }
    if arguments.exhaust {
        return exhaust_some(arguments);
    }
    if let Some(seeds) = arguments.model {
        return Ok(agree(arguments.seed, seeds));
    }
    if arguments.scale {
        return report::scale();
    }
    if let Some(hosts) = arguments.scheduling {
        return Ok(schedule(arguments, hosts));
    }
    if arguments.explore {
        return Ok(explore::tell(arguments.scene.as_deref().unwrap_or("")));
    }
    match &arguments.replay {
        Some(what) => replay(what, arguments.steps),
        None => attack(arguments, order),
    }
}

fn read_script(file: &Path) -> Result<Scenario, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    scenario::from_text(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Hosts in virtual time.
fn schedule(arguments: &Arguments, hosts: u64) -> bool {
    if let Some(seed) = arguments.replay.as_deref().and_then(scenario::parse_number) {
        return report::tell(seed);
    }
    let most_failures = if arguments.keep_going { usize::MAX } else { 1 };
    let begun = Instant::now();
    let first = arguments.seed;
    let mut sum = report::Sum::of((first..).take(hosts as usize), most_failures, None);
    sum.print(begun.elapsed());
    println!("{} hosts, {} failures", sum.scenarios, sum.failures.len());
    sum.failures.is_empty()
}

/// Each allocation of some scenarios fails once.
fn exhaust_some(arguments: &Arguments) -> Result<bool, String> {
    let begun = Instant::now();
    let (mut scenarios, mut allocations, mut hypercalls) = (0, 0, 0);
    let enough = |scenarios: u64| match arguments.scenarios {
        Some(count) => scenarios >= count,
        None => begun.elapsed().as_secs_f64() >= arguments.seconds,
    };
    while !enough(scenarios) {
        let seed = arguments.seed.wrapping_add(scenarios);
        let scenario = Scenario::of(seed, arguments.steps.min(300));
        for source in [Source::Frames, Source::Heap] {
            match exhaust(&scenario, source, |_| ()) {
                Ok(sum) => {
                    allocations += sum.allocations;
                    hypercalls += sum.hypercalls;
                }
                Err((nth, failure)) => {
                    println!(
                        "FAIL seed {seed:#x}, allocation {nth} of {source:?}, after {} hypercalls: {}",
                        grouped(hypercalls),
                        failure.message
                    );
                    return Ok(false);
                }
            }
        }
        scenarios += 1;
    }
    println!(
        "{} scenarios, {} allocations failed one by one, {} hypercalls, 0 failures",
        grouped(scenarios),
        grouped(allocations),
        grouped(hypercalls)
    );
    Ok(true)
}

/// The model agrees with the core on every call of some seeds.
fn agree(first: u64, seeds: u64) -> bool {
    let mut calls = 0;
    for seed in first..first.saturating_add(seeds) {
        let played = catch_unwind(|| model::play(seed, MODEL_DEEDS));
        let failure = match played {
            Ok(Ok(played)) => {
                calls += played.calls;
                continue;
            }
            Ok(Err(disagreement)) => {
                for line in &disagreement.script {
                    println!("{line}");
                }
                format!("model: {}", disagreement.what)
            }
            Err(payload) => format!("panic: {}", last_panic(payload.as_ref())),
        };
        println!("FAIL seed {seed:#x}, after {} calls: {failure}", grouped(calls));
        return false;
    }
    println!(
        "{} seeds, {} calls compared, 0 failures",
        grouped(seeds),
        grouped(calls)
    );
    true
}

/// Run many scenarios for a time.
fn attack(arguments: &Arguments, order: Order) -> Result<bool, String> {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let jobs = arguments.jobs.unwrap_or(processors).max(1);
    let how_long = match arguments.scenarios {
        Some(count) => format!("{} scenarios", grouped(count)),
        None => format!("for {} s", arguments.seconds),
    };
    println!(
        "simulating {how_long} on {jobs} processes, from seed {}",
        arguments.seed
    );
    let begun = Instant::now();
    let mut shown = Instant::now();
    let (sum, failed) = worker::employ(jobs, order, |sum| {
        if shown.elapsed() >= Duration::from_secs(10) {
            shown = Instant::now();
            println!(
                "  {:5.0} s: {} scenarios, {} hypercalls, 0 failures",
                begun.elapsed().as_secs_f64(),
                grouped(sum.scenarios),
                grouped(sum.tally.deeds.hypercalls)
            );
        }
    })
    .map_err(|error| error.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    print_sum(&sum, seconds, jobs);
    if let Some(path) = &arguments.json {
        let json =
            serde_json::json!({ "seconds": seconds, "jobs": jobs, "sum": sum, "failures": failed.len() });
        std::fs::write(path, json.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if arguments.keep_going {
        list_kinds(&failed);
    } else if let Some(failed) = failed.first() {
        tell(failed, arguments)?;
    }
    println!("{} scenarios, {} failures", grouped(sum.scenarios), failed.len());
    Ok(failed.is_empty())
}

/// Each kind of failure once: how often, and the first of them.
fn list_kinds(failed: &[Failed]) {
    let mut kinds: Vec<(String, u64, &Failed)> = Vec::new();
    for one in failed {
        let kind = run::kind_of(&one.failure.message);
        match kinds.iter_mut().find(|(other, ..)| *other == kind) {
            Some((_, count, _)) => *count += 1,
            None => kinds.push((kind, 1, one)),
        }
    }
    for (_, count, Failed { seed, failure }) in kinds {
        println!(
            "FAIL {count} times, first seed {seed:#x}, step {}: {}",
            failure.steps, failure.message
        );
    }
}

fn print_sum(sum: &Sum, seconds: f64, jobs: u64) {
    let tally = &sum.tally;
    let rate = tally.deeds.hypercalls as f64 / seconds;
    let row = |name: &str, value: String| println!("  {name:<34}{value}");
    row("hypercalls", grouped(tally.deeds.hypercalls));
    row(
        "hypercalls per second",
        format!(
            "{} ({} for each process)",
            grouped(rate as u64),
            grouped((rate / jobs as f64) as u64)
        ),
    );
    row("  of these restarted", grouped(tally.deeds.restarts));
    row("steps", grouped(tally.steps));
    row("other exits", grouped(tally.deeds.exits));
    row("stores by guests", grouped(tally.deeds.stores));
    row("domains made", grouped(tally.domains));
    row("knocks where all had come to rest", grouped(tally.knocks));
    row("points of interleaving", grouped(tally.points));
    row("switches inside of the core", grouped(tally.switches));
    row("allocations made to fail", grouped(tally.refused));
    row("results compared with the model", grouped(tally.modelled));
    row("audits", grouped(tally.audits));
    row("facts checked by them", grouped(tally.facts));
    row("translations compared", grouped(tally.translations));
    row("lock acquisitions compared", grouped(tally.locks));
    row(
        "operation and result, distinct",
        grouped(tally.deeds.outcomes.len() as u64),
    );
    row(
        "longest stay in the core",
        format!("{} points, {}", grouped(tally.longest.0), tally.longest.1),
    );
}

/// A failure: make it short, write it down, and say how to see it again.
fn tell(failed: &Failed, arguments: &Arguments) -> Result<(), String> {
    let Failed { seed, failure } = failed;
    println!("FAIL seed {seed:#x}, step {}: {}", failure.steps, failure.message);
    if arguments.no_shrink {
        return Ok(());
    }
    println!(
        "  again: cargo xtask sim --replay {seed:#x} --steps {}",
        arguments.steps
    );
    std::fs::create_dir_all(&arguments.folder).map_err(|error| error.to_string())?;
    let file = arguments.folder.join(format!("seed-{seed:#x}.script"));
    let attempt = arguments.folder.join(format!("attempt-{seed:#x}.script"));
    let whole = Scenario::of(*seed, arguments.steps);
    let first = Failure {
        steps: failure.steps.min(arguments.steps),
        ..failure.clone()
    };
    if run::is_modelled(&whole) {
        return Ok(());
    }
    let (short, last) = run::shrink(&whole, &first, TRIES, |candidate| {
        std::fs::write(&attempt, scenario::to_text(candidate, &[])).ok()?;
        let found = worker::try_script(&attempt).ok()??;
        Some(Failure {
            steps: found.steps.min(candidate.len()),
            ..found
        })
    });
    // The attempts were only on the way to the script.
    let _ = std::fs::remove_file(&attempt);
    let text = scenario::to_text(&short, std::slice::from_ref(&last.message));
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    println!(
        "  shrunk from {} steps to {}: cargo xtask sim --replay {}",
        first.steps,
        short.len(),
        file.display()
    );
    Ok(())
}

/// Run one scenario again, and tell its story.
fn replay(what: &str, steps: u64) -> Result<bool, String> {
    let scenario = match scenario::parse_number(what) {
        Some(seed) => Scenario::of(seed, steps),
        None => read_script(Path::new(what))?,
    };
    let Report {
        tally,
        failure,
        story,
    } = run::run(&scenario, true);
    for line in &story {
        println!("  {line}");
    }
    let Tally { deeds, steps, .. } = &tally;
    println!(
        "{steps} steps, {} hypercalls, {} other exits",
        deeds.hypercalls, deeds.exits
    );
    match failure {
        None => {
            println!("seed {:#x}: 0 failures", scenario.seed);
            Ok(true)
        }
        Some(failure) => {
            println!(
                "FAIL seed {:#x}, step {}: {}",
                scenario.seed, failure.steps, failure.message
            );
            Ok(false)
        }
    }
}
