//! `cargo xtask test pv`: the frontends against scripted backends, and the kernels on them where they are to run.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command;
use crate::house::House;
use crate::micro;
use crate::report::Activity;
use crate::serial::{Event, Session};
use crate::suite::{Outcome, counted};

/// A kernel without Xen has said so by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a unikernel may take, in bytes: the file that a person is given.
const LARGEST: u64 = 1 << 20;

/// Everything on the host: rings, frontends, fuzzed corpora, the package.
pub fn host(house: &House) -> Vec<Outcome> {
    let _activity = Activity::start("frontends against scripted backends");
    let mut drivers = command::cargo(house.root());
    drivers.args([
        "test",
        "--package",
        "pv-drivers",
        "--all-features",
        "--no-fail-fast",
    ]);
    let mut corpora = command::cargo(house.root());
    corpora.args([
        "test",
        "--package",
        "fuzz",
        "--test",
        "corpora",
        "--",
        "front",
        "device_ring",
    ]);
    vec![
        counted("frontends against honest and hostile backends", drivers),
        counted("what fuzzing kept of backends", corpora),
        Outcome::of("pv-drivers can be published", package(house)),
    ]
}

/// The package as a registry would take it: what is missing in a manifest, or lies outside of its folder, fails. It is built from
/// the packed files, beside `hypercall-abi` packed as well.
fn package(house: &House) -> Result<()> {
    let mut cargo = command::cargo(house.root());
    // What is tried is what lies here, committed or not.
    cargo.args([
        "package",
        "--package",
        "hypercall-abi",
        "--package",
        "pv-drivers",
        "--allow-dirty",
        "--quiet",
    ]);
    command::output(&mut cargo).map(drop)
}

/// The kernels' files, and `echo` where there is no Xen.
pub fn kernels(house: &House) -> Vec<Outcome> {
    let small = micro::UNIKERNELS.iter().map(|name| {
        let title = format!("{name} is smaller than 1 MiB");
        Outcome::of(&title, is_small(house, name))
    });
    small
        .chain([Outcome::of(
            "echo says that it is not on Xen",
            echo_without_xen(house),
        )])
        .collect()
}

fn is_small(house: &House, name: &str) -> Result<()> {
    let size = std::fs::metadata(micro::unikernel(house, name))?.len();
    ensure!(size < LARGEST, "it has {size} bytes");
    Ok(())
}

/// Straight under QEMU, as a PVH kernel: one clear line, and the end.
fn echo_without_xen(house: &House) -> Result<()> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-accel",
        "tcg",
        "-m",
        "64",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]);
    qemu.args([
        "-chardev",
        "stdio,id=serial,signal=off",
        "-serial",
        "chardev:serial",
    ]);
    qemu.arg("-kernel").arg(micro::unikernel(house, "echo"));
    let mut session = Session::start(qemu, &house.target("run/pv/echo-without-xen.log"))?;
    let mut said = Vec::new();
    loop {
        match session.next(PATIENCE)? {
            Event::Line(line) => said.push(line.text),
            Event::Off => break,
            Event::Deadline => anyhow::bail!("it does not end; it said {said:?}"),
        }
    }
    ensure!(
        said.len() == 1 && said[0].contains("there is no Xen below"),
        "it said {said:?}"
    );
    Ok(())
}
