//! `cargo xtask coverage`: which lines and branches of the kernel crate the simulator's attackers reach.
//!
//! The simulator is built by the nightly compiler with counters for each branch, runs some scenarios, and the counts are
//! read by the compiler's own tools. What runs at boot only is listed and not counted: no guest ever gets there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::command;
use crate::house::House;
use crate::report::Activity;
use crate::setup;

/// What coverage is of.
#[derive(Args)]
pub struct CoverageArguments {
    /// Scenarios to run.
    #[arg(long, default_value_t = 4000)]
    scenarios: u64,
    /// List the lines of these files that were not reached.
    #[arg(long, value_name = "FILE")]
    missed: Vec<String>,
}

/// Files of the kernel that run before there are guests, or tell people what happened.
const NOT_GUESTS: [&str; 6] = [
    "acpi_tables.rs",
    "console.rs",
    "control_domain.rs",
    "lib.rs",
    "options.rs",
    "statistics.rs",
];
/// Files that are no part of what ships.
const NOT_SHIPPED: [&str; 4] = ["tests", "audit", "testing", "bench"];

/// One file's counts.
struct Covered {
    name: String,
    lines: (u64, u64),
    branches: (u64, u64),
}

/// Builds, runs, and shows a table.
pub fn coverage(house: &House, arguments: &CoverageArguments) -> Result<bool> {
    setup::install_nightly("llvm-tools")?;
    let folder = house.target("coverage");
    let simulator = build(house, &folder)?;
    let profile = run(&folder, &simulator, arguments.scenarios)?;
    let report = export(house, &simulator, &profile)?;
    let covered = files(house, &report)?;
    print(&covered);
    for file in &arguments.missed {
        print_missed(house, &simulator, &profile, file)?;
    }
    Ok(true)
}

fn build(house: &House, folder: &Path) -> Result<PathBuf> {
    let _activity = Activity::start("building the simulator with counters");
    let mut cargo = setup::nightly_cargo(house.root());
    cargo
        .args([
            "build",
            "--quiet",
            "--profile",
            "simulation",
            "--package",
            "simulator",
        ])
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", "-C instrument-coverage -Z coverage-options=branch");
    command::output(&mut cargo)?;
    Ok(folder.join("simulation/simulator"))
}

fn run(folder: &Path, simulator: &Path, scenarios: u64) -> Result<PathBuf> {
    let _activity = Activity::start(&format!("{scenarios} scenarios"));
    let raw = folder.join("simulator.profraw");
    let mut run = Command::new(simulator);
    run.args(["--worker", "--seed", "1", "--scenarios", &scenarios.to_string()])
        .env("LLVM_PROFILE_FILE", &raw);
    command::output(&mut run).context("the simulator failed")?;
    let profile = folder.join("simulator.profdata");
    let mut merge = Command::new(tool("llvm-profdata")?);
    merge.args(["merge", "-sparse"]).arg(&raw).arg("-o").arg(&profile);
    command::output(&mut merge)?;
    Ok(profile)
}

/// One of the compiler's tools.
fn tool(name: &str) -> Result<PathBuf> {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", "nightly", "rustc", "--print", "target-libdir"]);
    let libraries = command::output(&mut rustc)?;
    let path = Path::new(libraries.trim()).join("../bin").join(name);
    if !path.exists() {
        bail!(
            "there is no {name} beside the nightly compiler: rustup component add llvm-tools --toolchain nightly"
        );
    }
    Ok(path)
}

fn export(house: &House, simulator: &Path, profile: &Path) -> Result<Value> {
    let mut export = Command::new(tool("llvm-cov")?);
    export
        .args(["export", "--summary-only", "--format=text"])
        .arg(simulator)
        .arg(format!("--instr-profile={}", profile.display()))
        .arg(house.path("xen-core/kernel/src"));
    Ok(serde_json::from_str(&command::output(&mut export)?)?)
}

fn files(house: &House, report: &Value) -> Result<Vec<Covered>> {
    let root = house.path("xen-core/kernel/src");
    let files = report["data"][0]["files"]
        .as_array()
        .context("the coverage tool lists no files")?;
    let mut covered = Vec::new();
    for file in files {
        let path = Path::new(file["filename"].as_str().unwrap_or_default());
        let Ok(name) = path.strip_prefix(&root) else {
            continue;
        };
        let name = name.display().to_string();
        if NOT_SHIPPED.iter().any(|part| name.contains(part)) || name == "lock_order.rs" {
            continue;
        }
        let count = |kind: &str| {
            let of = |what: &str| file["summary"][kind][what].as_u64().unwrap_or(0);
            (of("covered"), of("count"))
        };
        covered.push(Covered {
            name,
            lines: count("lines"),
            branches: count("branches"),
        });
    }
    if covered.is_empty() {
        bail!("the coverage tool knows no file of the kernel");
    }
    Ok(covered)
}

fn print(covered: &[Covered]) {
    let share = |(reached, all): (u64, u64)| match all {
        0 => "-".to_owned(),
        _ => format!(
            "{:5.1} %  {reached} of {all}",
            100.0 * reached as f64 / all as f64
        ),
    };
    println!("{:<42}{:<24}branches", "file", "lines");
    let (mut lines, mut branches) = ((0, 0), (0, 0));
    for file in covered {
        let counts = !NOT_GUESTS.contains(&file.name.as_str());
        let remark = if counts {
            ""
        } else {
            "   (boot and reports: not counted)"
        };
        println!(
            "{:<42}{:<24}{}{remark}",
            file.name,
            share(file.lines),
            share(file.branches)
        );
        if counts {
            lines = (lines.0 + file.lines.0, lines.1 + file.lines.1);
            branches = (branches.0 + file.branches.0, branches.1 + file.branches.1);
        }
    }
    println!(
        "{:<42}{:<24}{}",
        "what guests reach",
        share(lines),
        share(branches)
    );
}

fn print_missed(house: &House, simulator: &Path, profile: &Path, file: &str) -> Result<()> {
    let mut show = Command::new(tool("llvm-cov")?);
    show.arg("show")
        .arg(simulator)
        .arg(format!("--instr-profile={}", profile.display()))
        .arg(house.path("xen-core/kernel/src").join(file));
    let text = command::output(&mut show)?;
    println!("{file}, lines that were not reached:");
    for line in text.lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(number), Some(count), Some(code)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if count.trim() == "0" {
            println!("{:>6} {code}", number.trim());
        }
    }
    Ok(())
}
