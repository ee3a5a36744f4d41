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
    /// On which hypervisor; `sched` always measures both.
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
    /// Shares by weight, a cap, and how late a sleeper is woken: one CPU, beside Xen's credit2.
    Sched,
}

/// Measures, and prints the table; true when nothing failed.
pub fn bench(house: &House, arguments: &BenchArguments) -> Result<bool> {
    if let What::Sched = arguments.what {
        return sched(house, arguments.no_build);
    }
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

/// Ours and Xen's, one after the other; true when nothing failed.
fn sched(house: &House, no_build: bool) -> Result<bool> {
    let both = [Hypervisor::Xenolith, Hypervisor::Xen];
    let mut measured = Vec::new();
    for on in both {
        if !no_build {
            run::build_usual(house, on)?;
        }
        measured.push(run::play(house, &RunArguments::sched_on(on))?);
    }
    let [ours, xens] = &measured[..] else {
        return Ok(false);
    };
    println!("\n| one CPU, time by counted instructions | Xenolith | Xen 4.17 | ratio |\n|---|---|---|---|");
    let names = ours.counted.keys().filter(|name| {
        ["share of weight", "from timer to running", "a cap of"]
            .iter()
            .any(|kind| name.starts_with(kind))
    });
    for name in names {
        let ours = ours.counted.get(name).copied().unwrap_or(f64::NAN);
        match xens.counted.get(name).copied() {
            Some(xens) => println!("| {name} | {ours:.2} | {xens:.2} | {:.2} |", ours / xens),
            None => println!("| {name} | {ours:.2} | - | - |"),
        }
    }
    // What Xen does not keep to is no failure of ours.
    Ok(ours.failed == 0)
}
