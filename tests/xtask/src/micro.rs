//! The micro-guests: built here, run as dom0 in place of Linux, one boot of a second or two each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;
use crate::emulator::{Hypervisor, Machine};
use crate::figures;
use crate::house::House;
use crate::report::{Activity, coloured};
use crate::serial::{Event, Session};
use crate::suite::Outcome;

const TARGET: &str = "x86_64-unknown-none";

/// Those that test, in the order in which a hypervisor learns to do things.
const TESTS: [&str; 7] = [
    "hello",
    "memory",
    "events",
    "timer",
    "grants",
    "bad_hypercalls",
    "processors",
];

/// Guests of the scenarios: those that misbehave, and one that is only busy.
const GUESTS: [&str; 18] = [
    "triple_fault",
    "hang",
    "ring_garbage",
    "busy",
    "latency",
    "attack_balloon",
    "attack_code",
    "attack_control",
    "attack_end",
    "attack_events",
    "attack_exceptions",
    "attack_grants",
    "attack_holes",
    "attack_hypercalls",
    "attack_interrupts",
    "attack_ports",
    "attack_registers",
    "attack_virtualisation",
];

/// A machine that has said nothing decisive by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds them all and returns those that dom0's image carries.
pub fn build_guests(house: &House) -> Result<Vec<PathBuf>> {
    let mut cargo = command::cargo(house.root());
    cargo.args(["build", "--release", "--target", TARGET, "--package", "guests"]);
    command::run(&mut cargo).context("the micro-guests do not build")?;
    Ok(GUESTS.iter().map(|name| path(house, name)).collect())
}

/// Kernels on `pv-drivers`, each a package of its own: what people would copy.
pub const UNIKERNELS: [&str; 2] = ["echo", "web"];
/// One more, that measures.
const PACE: &str = "pace";

/// Builds them and returns them.
pub fn build_unikernels(house: &House) -> Result<Vec<PathBuf>> {
    let mut cargo = command::cargo(house.root());
    cargo.args(["build", "--profile", "unikernel", "--target", TARGET]);
    let names = || UNIKERNELS.into_iter().chain([PACE]);
    for name in names() {
        cargo.args(["--package", name]);
    }
    command::run(&mut cargo).context("the guest kernels on pv-drivers do not build")?;
    Ok(names().map(|name| unikernel(house, name)).collect())
}

/// Such a kernel's file.
pub fn unikernel(house: &House, name: &str) -> PathBuf {
    house.built(TARGET, "unikernel", name)
}

/// Runs each as dom0.
pub fn test(house: &House, on: Hypervisor) -> Result<Vec<Outcome>> {
    TESTS.iter().map(|name| test_one(house, on, name)).collect()
}

fn test_one(house: &House, on: Hypervisor, name: &str) -> Result<Outcome> {
    let title = format!("micro-guest {name} on {}", on.name());
    let log = figures::folder(house, on).join(format!("micro-{name}.log"));
    run(house, &machine(house, on, name), &title, &log)
}

/// A machine with this micro-guest as dom0.
pub fn machine(house: &House, on: Hypervisor, name: &str) -> Machine {
    let mut machine = Machine::usual(on, path(house, name));
    machine.dom0_vcpus = 2;
    machine.dom0_memory = 256;
    machine
}

/// A micro-guest's file.
pub fn path(house: &House, name: &str) -> PathBuf {
    house.built(TARGET, "release", name)
}

/// Runs a machine whose dom0 is a micro-guest, to its verdict.
pub fn run(house: &House, machine: &Machine, title: &str, log: &Path) -> Result<Outcome> {
    let activity = Activity::start(title);
    let mut session = Session::start(machine.command(house)?, log)?;
    let mut failed = Vec::new();
    let verdict = loop {
        match session.next(PATIENCE)? {
            Event::Line(line) => {
                if let Some(check) = spoken(&line.text, "FAIL ") {
                    failed.push(check.to_owned());
                }
                if let Some(verdict) = spoken(&line.text, "verdict: ") {
                    break verdict.to_owned();
                }
            }
            Event::Off => break "none: the machine went off".to_owned(),
            Event::Deadline => break format!("none within {} s", PATIENCE.as_secs()),
        }
    };
    let passed = verdict.starts_with("PASS");
    for check in &failed {
        activity.line(&format!("    {} {check}", coloured(31, "FAIL")));
    }
    let detail = if passed {
        String::new()
    } else {
        format!("{verdict}; log: {}", house.shown(log))
    };
    Ok(Outcome::new(title, passed, &detail))
}

/// What a micro-guest says after `prefix`. Real Xen puts its own prefix before a line.
fn spoken<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let line = line.strip_prefix("(d0) ").unwrap_or(line);
    line.strip_prefix(prefix)
}
