//! Workers: each is a process of its own that runs one scenario after another and says what came of it, a line at a time.
//! A worker that dies (the core aborted, or ran into nowhere) is a failure of the scenario that it had begun.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::host::{Failure, Tally};
use crate::run::{self, Report};
use crate::scenario::Scenario;

/// How often a worker reports.
const INTERVAL: Duration = Duration::from_millis(250);

/// What a worker is to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Its first seed.
    pub first: u64,
    /// From one seed to its next.
    pub stride: u64,
    /// Steps of each scenario.
    pub steps: u64,
    /// How long it goes on.
    pub time: Duration,
    /// And how many scenarios at most.
    pub scenarios: u64,
    /// It goes on after a failure, too.
    pub keep_going: bool,
}

/// What a worker says.
#[derive(Serialize, Deserialize)]
enum Said {
    /// It begins this seed.
    Begin(u64),
    /// What happened since it last said so.
    Sum(Box<Sum>),
    /// This seed failed.
    Failed(u64, Failure),
}

/// What some scenarios amounted to together.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Sum {
    /// Scenarios run to their end.
    pub scenarios: u64,
    /// All that happened in them.
    pub tally: Tally,
}

impl Sum {
    /// Add what came of one scenario.
    pub fn add(&mut self, tally: &Tally) {
        self.scenarios += 1;
        self.tally.add(tally);
    }
}

/// Be a worker: run scenarios until the time is up or one fails.
pub fn work(order: Order) -> bool {
    let begun = Instant::now();
    let mut left = order.scenarios;
    let mut sum = Sum::default();
    let mut told = Instant::now();
    let mut seed = order.first;
    let mut sound = true;
    while begun.elapsed() < order.time && left != 0 {
        left -= 1;
        say(&Said::Begin(seed));
        let Report { tally, failure, .. } = run::run(&Scenario::of(seed, order.steps), false);
        sum.add(&tally);
        if told.elapsed() >= INTERVAL || failure.is_some() {
            say(&Said::Sum(Box::new(core::mem::take(&mut sum))));
            told = Instant::now();
        }
        if let Some(failure) = failure {
            say(&Said::Failed(seed, failure));
            sound = false;
            if !order.keep_going {
                return false;
            }
        }
        seed = seed.wrapping_add(order.stride);
    }
    say(&Said::Sum(Box::new(sum)));
    sound
}

fn say(said: &Said) {
    let line = serde_json::to_string(said).expect("numbers and words are JSON");
    // Whoever listens may have gone: then there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A scenario that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// How.
    pub failure: Failure,
}

/// Have several workers run for a time; `progress` is shown the sum now and then. Stops at the first failure, unless told
/// to go on.
///
/// # Errors
/// When no worker can be started.
pub fn employ(
    workers: u64,
    order: Order,
    mut progress: impl FnMut(&Sum),
) -> std::io::Result<(Sum, Vec<Failed>)> {
    let (sender, receiver) = mpsc::channel();
    let mut children = Vec::new();
    for index in 0..workers {
        let own = Order {
            first: order.first.wrapping_add(index),
            stride: workers,
            scenarios: order.scenarios / workers + u64::from(index < order.scenarios % workers),
            ..order
        };
        children.push(start(own, index, sender.clone())?);
    }
    drop(sender);
    let mut sum = Sum::default();
    let mut failed: Vec<Failed> = Vec::new();
    let mut begun = vec![None; workers as usize];
    let mut told = vec![false; workers as usize];
    while let Ok((index, said)) = receiver.recv() {
        match said {
            Some(Said::Begin(seed)) => begun[index as usize] = Some(seed),
            Some(Said::Sum(more)) => {
                sum.scenarios += more.scenarios;
                sum.tally.add(&more.tally);
                progress(&sum);
            }
            Some(Said::Failed(seed, failure)) => {
                told[index as usize] = true;
                failed.push(Failed { seed, failure });
            }
            None => {
                let ended = children[index as usize].wait()?;
                // One that fails and says so has told why.
                if !ended.success() && !told[index as usize] {
                    let message = format!("the worker died: {ended}");
                    failed.push(Failed {
                        seed: begun[index as usize].unwrap_or(order.first),
                        failure: Failure {
                            message,
                            steps: order.steps,
                        },
                    });
                }
            }
        }
        if !failed.is_empty() && !order.keep_going {
            for child in &mut children {
                // Gone already, or gone now.
                let _ = child.kill();
                let _ = child.wait();
            }
            break;
        }
    }
    Ok((sum, failed))
}

fn start(order: Order, index: u64, sender: mpsc::Sender<(u64, Option<Said>)>) -> std::io::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--worker", "--seed", &order.first.to_string()])
        .args(["--stride", &order.stride.to_string()])
        .args(["--steps", &order.steps.to_string()])
        .args(match order.scenarios {
            _ if order.time != Duration::MAX => {
                ["--seconds".to_owned(), order.time.as_secs_f64().to_string()]
            }
            count => ["--scenarios".to_owned(), count.to_string()],
        })
        .args(order.keep_going.then_some("--keep-going"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().expect("asked for just above");
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(said) = serde_json::from_str(&line) {
                let _ = sender.send((index, Some(said)));
            }
        }
        let _ = sender.send((index, None));
    });
    Ok(child)
}

/// Run a script in a process of its own, which may die of it. `None`: nothing failed.
///
/// # Errors
/// When no process can be started.
pub fn try_script(file: &std::path::Path) -> std::io::Result<Option<Failure>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--script")
        .arg(file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = told.lines().find_map(|line| match serde_json::from_str(line) {
        Ok(Said::Failed(_, failure)) => Some(failure),
        _ => None,
    });
    Ok(failed.or_else(|| {
        (!output.status.success()).then(|| Failure {
            message: format!("the process died: {}", output.status),
            steps: u64::MAX,
        })
    }))
}

/// Be the process that runs a script.
pub fn run_script(scenario: &Scenario) -> bool {
    let report = run::run(scenario, false);
    match report.failure {
        Some(failure) => {
            say(&Said::Failed(scenario.seed, failure));
            false
        }
        None => true,
    }
}
