//! `cargo xtask sim`: the kernel on simulated processors, attacked from a seed. What it can be told is the simulator's own
//! to say (`cargo xtask sim --help`); here it is built, with all checks on, and called.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::command;
use crate::house::House;
use crate::suite::Outcome;

const PROFILE: &str = "simulation";
/// Scenarios of the ordinary tests: the same ones each time.
const SCENARIOS: &str = "12000";

/// Hosts whose scheduling is looked at there.
const HOSTS: &str = "7000";

/// What the simulator is told.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct SimArguments {
    /// See `cargo xtask sim --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds the simulator and calls it; true when nothing failed.
pub fn sim(house: &House, arguments: &SimArguments) -> Result<bool> {
    let status = simulator(house)?
        .args(&arguments.arguments)
        .status()
        .context("the simulator does not start")?;
    Ok(status.success())
}

/// The part of the ordinary tests: certain scenarios, so that a failure is one of the change's.
pub fn test(house: &House) -> Result<Outcome> {
    attempt(house, "simulated hosts", &["--scenarios", SCENARIOS])
}

/// The other part: known races under all interleavings with few preemptions.
pub fn test_interleavings(house: &House) -> Result<Outcome> {
    attempt(house, "interleavings of known races", &["--explore"])
}

fn attempt(house: &House, name: &str, words: &[&str]) -> Result<Outcome> {
    let output = simulator(house)?.args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default().to_owned();
    let passed = output.status.success();
    if !passed {
        eprintln!("{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Outcome::new(name, passed, &last))
}

/// The scheduler in virtual time: certain hosts, and the cost of its decisions.
pub fn test_scheduling(house: &House) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (title, arguments) in [
        ("hosts in virtual time", &["--scheduling", HOSTS][..]),
        ("the cost of decisions", &["--scale"]),
    ] {
        let output = simulator(house)?.args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().unwrap_or_default().to_owned();
        println!("{said}");
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        outcomes.push(Outcome::new(title, output.status.success(), &last));
    }
    Ok(outcomes)
}

fn simulator(house: &House) -> Result<Command> {
    let mut cargo = command::cargo(house.root());
    cargo.args(["build", "--quiet", "--profile", PROFILE, "--package", "simulator"]);
    command::run(&mut cargo).context("the simulator does not build")?;
    let mut simulator = Command::new(house.built(".", PROFILE, "simulator"));
    simulator.current_dir(house.root());
    Ok(simulator)
}
