//! `cargo xtask bench`: figures that are no test.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::emulator::Hypervisor;
use crate::house::House;
use crate::run::{self, RunArguments};

/// What to measure.
#[derive(Args)]
pub struct BenchArguments {
    /// What.
    #[arg(value_enum)]
    what: What,
    /// On which hypervisor.
    #[arg(long, value_enum, default_value_t = Hypervisor::Xenolith)]
    on: Hypervisor,
    /// Boot what was built last, without building.
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// PV disk and network of a guest on pv-drivers, beside port accesses and beside Linux's frontends.
    Pv,
}

/// Measures, and prints the table; true when nothing failed.
pub fn bench(house: &House, arguments: &BenchArguments) -> Result<bool> {
    let What::Pv = arguments.what;
    if !arguments.no_build {
        run::build_usual(house, arguments.on)?;
    }
    let figures = run::play(house, &RunArguments::pace(arguments.on))?;
    let get = |name: &str| figures.counted.get(name).copied();
    println!(
        "\n| on {}, time by counted instructions | |\n|---|---|",
        arguments.on.name()
    );
    for (name, value) in figures.counted.iter().filter(|(name, _)| name.contains(": ")) {
        println!("| {name} | {value:.0} |");
    }
    let ours = get("pv-drivers: disk, sequential KiB/s").context("the guest measured nothing")?;
    for (name, other) in [
        (
            "programmed input",
            "pv-drivers: disk by programmed input, at best KiB/s",
        ),
        ("Linux's blkfront, sequential", "Linux: disk, sequential KiB/s"),
    ] {
        if let Some(other) = get(other) {
            println!(
                "| PV disk by pv-drivers, times that of {name} | {:.2} |",
                ours / other
            );
        }
    }
    let single =
        get("pv-drivers: disk, 4 KiB at a time KiB/s").zip(get("Linux: disk, 4 KiB at a time KiB/s"));
    if let Some((ours, linux)) = single {
        println!(
            "| 4 KiB at a time, times that of Linux's blkfront | {:.2} |",
            ours / linux
        );
    }
    Ok(figures.failed == 0)
}
