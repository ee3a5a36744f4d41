//! `cargo xtask miri` and `cargo xtask loom`: tests on machines that know the rules of the language better than ours.
//!
//! Miri interprets the unit tests of the crates that hold `unsafe`, and stops at undefined behaviour: accesses out of bounds, of
//! freed memory, without the right to it, unaligned, or racing. Loom runs models of lock-free code in every order that the
//! memory model allows.

use anyhow::{Result, bail};
use clap::Args;

use crate::command;
use crate::house::House;
use crate::report::Activity;
use crate::setup;
use crate::suite::{self, Outcome};

/// The crates that hold `unsafe` and have tests that need no hypervisor, with what of them Miri can run.
const UNSAFE: [(&str, &[&str]); 4] = [
    ("machine", &["--lib"]),
    ("pv-drivers", &["--test", "rings"]),
    ("boot", &["--lib"]),
    ("control", &["--lib"]),
];

/// No address is made of a number; clocks and files are the host's. What Miri makes of weak memory is off: it gives up where a word is
/// accessed in two sizes, one after the other, as guests' pages are. Races it finds nevertheless, and orders are loom's.
/// Arenas and shared pages stay for good, as on the metal.
const MIRI_FLAGS: &str = "-Zmiri-strict-provenance -Zmiri-disable-isolation -Zmiri-disable-weak-memory-emulation -Zmiri-ignore-leaks";

/// Models for loom, by package and kind of test.
const MODELS: [(&str, &[&str]); 2] = [
    ("machine", &["--lib", "interleavings"]),
    ("pv-drivers", &["--test", "interleavings"]),
];

/// Which packages.
#[derive(Args)]
pub struct CarefulArguments {
    /// Packages; none means all of them.
    packages: Vec<String>,
}

impl CarefulArguments {
    fn wants(&self, package: &str) -> bool {
        self.packages.is_empty() || self.packages.iter().any(|wanted| wanted == package)
    }
}

/// Interprets the tests of the crates that hold `unsafe`; true when all hold.
pub fn miri(house: &House, arguments: &CarefulArguments) -> Result<bool> {
    setup::install_missing(&[])?;
    setup::install_nightly("miri")?;
    setup::install_nightly("rust-src")?;
    let mut outcomes = Vec::new();
    for (package, tests) in UNSAFE.iter().filter(|(package, _)| arguments.wants(package)) {
        let mut cargo = setup::nightly_cargo(house.root());
        cargo
            .args(["miri", "test", "--package", package])
            .args(*tests)
            .env("CARGO_TARGET_DIR", house.target("miri"))
            .env("MIRIFLAGS", MIRI_FLAGS);
        let activity = Activity::start(&format!("{package} under Miri"));
        outcomes.push(suite::counted(&format!("{package} under Miri"), cargo));
        drop(activity);
    }
    verdict(&outcomes)
}

/// Runs the models; true when all hold.
pub fn loom(house: &House, arguments: &CarefulArguments) -> Result<bool> {
    setup::install_missing(&[])?;
    let mut outcomes = Vec::new();
    for (package, tests) in MODELS.iter().filter(|(package, _)| arguments.wants(package)) {
        let mut cargo = command::cargo(house.root());
        cargo
            .args(["test", "--release", "--package", package])
            .args(*tests)
            .env("CARGO_TARGET_DIR", house.target("loom"))
            .env("RUSTFLAGS", "--cfg loom");
        let activity = Activity::start(&format!("{package}, in every order"));
        outcomes.push(suite::counted(&format!("{package}, in every order"), cargo));
        drop(activity);
    }
    verdict(&outcomes)
}

fn verdict(outcomes: &[Outcome]) -> Result<bool> {
    if outcomes.is_empty() {
        bail!("no such package is tested here");
    }
    Ok(suite::add_up(outcomes))
}
