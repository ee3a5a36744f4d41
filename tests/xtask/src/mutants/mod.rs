//! `cargo xtask mutants`: deliberate bugs in the core, one at a time, and whether the simulator finds them.
//!
//! The bugs are listed in `tests/mutants/`. Each is put into a copy of the checkout, the simulator is built there and
//! attacks it within a fixed budget; what survives is tried with the unit tests. The checkout itself is never touched.

mod list;
mod page;
mod trial;
mod workshop;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::house::House;
use crate::report;
use list::Mutant;
use trial::Verdict;
use workshop::Workshop;

/// Where the results of all trials so far are kept, below `target`.
const RESULTS: &str = "mutants/results.json";
/// Where they are told.
const PAGE: &str = "docs/MUTANTS.md";
/// So many in a hundred must be found by the simulation.
const WANTED: usize = 95;

/// What to try.
#[derive(Args)]
pub struct MutantsArguments {
    /// Only these; the others' last results are kept.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only those that have no result yet, or were not found by the simulation.
    #[arg(long)]
    rest: bool,
    /// Copies of the checkout that are built and attacked at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Leave the unit tests out: they take longer to build than the simulator.
    #[arg(long)]
    no_unit_tests: bool,
}

/// Results by name.
type Results = BTreeMap<String, Verdict>;

/// Tries mutants, and writes the page once each has a result.
pub fn mutants(house: &House, arguments: &MutantsArguments) -> Result<bool> {
    let all = list::read(house)?;
    list::check(house, &all)?;
    let mut results = read_results(house)?;
    results.retain(|name, _| all.iter().any(|mutant| mutant.name == *name));
    let chosen = choose(&all, arguments, &results)?;
    let queue = Mutex::new(chosen.iter().copied().collect::<VecDeque<_>>());
    let results = Mutex::new(results);
    std::thread::scope(|scope| {
        // Where nothing is to be tried nothing is built: the page is written anew.
        let jobs = arguments.jobs.max(1).min(chosen.len());
        let workers: Vec<_> = (0..jobs)
            .map(|number| {
                let (queue, results) = (&queue, &results);
                scope.spawn(move || work(house, number, queue, results, !arguments.no_unit_tests))
            })
            .collect();
        let ends = workers.into_iter().map(|worker| worker.join());
        ends.map(|end| end.expect("a worker does not panic"))
            .collect::<Result<Vec<()>>>()
    })?;
    let results = results.into_inner().expect("no worker panicked");
    conclude(house, &all, &results)
}

fn choose<'a>(all: &'a [Mutant], arguments: &MutantsArguments, results: &Results) -> Result<Vec<&'a Mutant>> {
    for name in &arguments.only {
        if !all.iter().any(|mutant| mutant.name == *name) {
            bail!("there is no mutant `{name}`");
        }
    }
    let chosen = all.iter().filter(|mutant| {
        let named = arguments.only.is_empty() || arguments.only.contains(&mutant.name);
        let found = || results.get(&mutant.name).is_some_and(Verdict::by_simulation);
        named && (!arguments.rest || !found())
    });
    Ok(chosen.collect())
}

/// One worker: a copy of the checkout, and mutants until none is left.
fn work(
    house: &House,
    number: usize,
    queue: &Mutex<VecDeque<&Mutant>>,
    results: &Mutex<Results>,
    unit_tests: bool,
) -> Result<()> {
    let workshop = Workshop::open(house, number)?;
    workshop
        .build()
        .context("the tree without a mutant does not build")?;
    if let Some(found) = trial::baseline(&workshop)? {
        bail!("the tree without a mutant fails: {}", found.message);
    }
    loop {
        let next = queue.lock().expect("no worker panicked").pop_front();
        let Some(mutant) = next else { return Ok(()) };
        let verdict = workshop.with(mutant, || trial::run(&workshop, mutant, unit_tests));
        // One that does not compile is a mistake in the list; the others are tried all the same.
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(error) => {
                println!("NOT TRIED {}: {error:#}", mutant.name);
                continue;
            }
        };
        println!("{}", page::line(mutant, &verdict));
        let mut results = results.lock().expect("no worker panicked");
        results.insert(mutant.name.clone(), verdict);
        write_results(house, &results)?;
    }
}

/// The verdict over all, and the page.
fn conclude(house: &House, all: &[Mutant], results: &Results) -> Result<bool> {
    let tried: Vec<_> = all
        .iter()
        .filter_map(|mutant| Some((mutant, results.get(&mutant.name)?)))
        .collect();
    let summary = page::summary(&tried);
    println!("{summary}");
    if tried.len() < all.len() {
        report::note(&format!(
            "{} mutants have not been tried yet",
            all.len() - tried.len()
        ));
    }
    fs::write(house.path(PAGE), page::page(&tried, all.len()))?;
    report::note(&format!("wrote {PAGE}"));
    let found = tried
        .iter()
        .filter(|(_, verdict)| verdict.by_simulation())
        .count();
    Ok(tried.len() == all.len() && found * 100 >= tried.len() * WANTED)
}

fn read_results(house: &House) -> Result<Results> {
    match fs::read(house.target(RESULTS)) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{RESULTS} is not as expected")),
        Err(_) => Ok(Results::new()),
    }
}

fn write_results(house: &House, results: &Results) -> Result<()> {
    Ok(fs::write(
        house.target(RESULTS),
        serde_json::to_vec_pretty(results)?,
    )?)
}
