//! `cargo xtask`: the project's commands.
//!
//! | command | what it leaves behind |
//! |---|---|
//! | `cargo xtask build` | `target/xenolith.elf`, `target/dom0.cpio.gz` |
//! | `cargo xtask run` | the scenario played on the emulated machine, `target/run/serial.log` |
//! | `cargo xtask test` | everything that can fail, and one line: `N passed, N failed` |
//! | `cargo xtask bench pv` | how fast PV devices are, beside port accesses and Linux's frontends |
//! | `cargo xtask panics` | the places in the core from which a panic can be reached, counted and listed |
//! | `cargo xtask stack` | the deepest way through each of the core's stacks |
//! | `cargo xtask budget` | whether size, panic sites and stacks are within `tests/budgets/core.toml` |
//! | `cargo xtask coverage` | lines and branches of the kernel that the simulator's attackers reach |
//! | `cargo xtask sim` | the kernel on simulated processors, attacked from a seed; `target/simulator` |
//! | `cargo xtask miri` | the unit tests of what is `unsafe`, interpreted |
//! | `cargo xtask loom` | models of lock-free code, run in every order |
//! | `cargo xtask mutants` | whether deliberate bugs are found; `docs/MUTANTS.md` |
//! | `cargo xtask fuzz` | what coverage-guided fuzzing found, in `target/fuzz` |
//! | `cargo xtask status` | the figures in `docs/STATUS.md` |
//!
//! Each module is one of the words above or one of their ingredients.

mod bench;
mod boots;
mod budget;
mod careful;
mod command;
mod core_image;
mod coverage;
mod cpio;
mod emulator;
mod figures;
mod fuzz;
mod house;
mod initramfs;
mod kernel_modules;
mod micro;
mod mutants;
mod packages;
mod panics;
mod program;
mod pv;
mod report;
mod run;
mod serial;
mod setup;
mod sim;
mod stack;
mod status;
mod suite;
mod web_disk;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use core_image::Flavour;
use house::House;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run and test Xenolith", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, then build the hypervisor and dom0's image.
    Build,
    /// Boot the hypervisor and dom0 in QEMU and play a scenario.
    Run(run::RunArguments),
    /// Run every test; with names, only those parts.
    Test(suite::TestArguments),
    /// Measure what is no test.
    Bench(bench::BenchArguments),
    /// Count the places in the core from which a panic can be reached.
    Panics(panics::PanicsArguments),
    /// How deep the core's stacks can get.
    Stack(stack::StackArguments),
    /// Compare the core's size, panic sites and stacks with what they may be.
    Budget(budget::BudgetArguments),
    /// Which lines and branches of the kernel simulated attackers reach.
    Coverage(coverage::CoverageArguments),
    /// Attack the kernel on simulated processors: see `cargo xtask sim --help`.
    #[command(disable_help_flag = true)]
    Sim(sim::SimArguments),
    /// Interpret the unit tests of the crates that hold `unsafe`: no undefined behaviour.
    Miri(careful::CarefulArguments),
    /// Run the models of lock-free code in every order.
    Loom(careful::CarefulArguments),
    /// Build the simulator with deliberate bugs, one at a time, and see whether each is found.
    Mutants(mutants::MutantsArguments),
    /// Fuzz a target for a while, or list the targets.
    Fuzz(fuzz::FuzzArguments),
    /// Count lines, measure images and write docs/STATUS.md from the last runs' figures.
    Status,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; the answer is the verdict where the command has one.
fn dispatch(command: Command) -> Result<bool> {
    let house = House::find()?;
    match command {
        Command::Build => build(&house).map(|()| true),
        Command::Run(arguments) => run::run(&house, &arguments),
        Command::Test(arguments) => suite::test(&house, &arguments),
        Command::Bench(arguments) => bench::bench(&house, &arguments),
        Command::Panics(arguments) => panics::panics(&house, &arguments),
        Command::Stack(arguments) => stack::stack(&house, &arguments),
        Command::Budget(arguments) => budget::budget(&house, &arguments),
        Command::Coverage(arguments) => coverage::coverage(&house, &arguments),
        Command::Sim(arguments) => sim::sim(&house, &arguments),
        Command::Miri(arguments) => careful::miri(&house, &arguments),
        Command::Loom(arguments) => careful::loom(&house, &arguments),
        Command::Mutants(arguments) => mutants::mutants(&house, &arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&house, &arguments),
        Command::Status => status::update(&house).map(|()| true),
    }
}

fn build(house: &House) -> Result<()> {
    setup::install_missing(&[])?;
    initramfs::build(house)?;
    core_image::build(house, Flavour::Release)?;
    report::note(&format!(
        "built {} and {}",
        house.shown(&house.hypervisor_image(Flavour::Release)),
        house.shown(&house.dom0_image())
    ));
    Ok(())
}
