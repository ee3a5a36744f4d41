//! The player of scenarios: runs in dom0, started by its init, and gives the verdict.
//!
//! It knows nothing of the hypervisor below: the same steps with the same tools run on Xenolith and on Xen. What it
//! prints is read by `cargo xtask run`:
//!
//! | line | meaning |
//! |---|---|
//! | `scenario: step NAME` | begins |
//! | `scenario: ok NAME (1.23 s)`, `scenario: FAIL NAME: why` | ended |
//! | `scenario: left out NAME: why` | not tried, since the hypervisor does not have it |
//! | `scenario: mark NAME` | a milestone, timed by whoever reads |
//! | `scenario: figure NAME = NUMBER` | something counted |
//! | `scenario: verdict N passed, N failed` | the end |

mod attack;
mod bad_input;
mod bystander;
mod casualties;
mod guest;
mod http;
mod machine;
mod pace;
mod report;
mod scheduling;
mod shares;
mod tools;
mod unikernel;
mod web;

use anyhow::Result;

use attack::Purpose;
use machine::Baseline;
use report::Report;
use web::Web;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "main".to_owned());
    let vcpus = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let which = arguments.next().unwrap_or_default();
    let mut report = Report::begin(&name);
    if let Err(error) = play(&name, vcpus, seconds, &which, &mut report) {
        report.fail("the scenario itself", &format!("{error:#}"));
    }
    std::process::exit(report.end());
}

fn play(name: &str, vcpus: u32, seconds: f64, which: &str, report: &mut Report) -> Result<()> {
    match name {
        "main" => main_scenario(vcpus, report),
        "quick" => quick_scenario(vcpus, report),
        "control" => control_scenario(vcpus, report),
        "attack" => attack::play(report, vcpus, Purpose::Harm, (seconds * 1000.0) as u64, which),
        "sched" => shares::play(report, vcpus, std::time::Duration::from_secs_f64(seconds)),
        "fairness" => attack::play(report, vcpus, Purpose::Share, (seconds * 1000.0) as u64, which),
        "pv" => unikernel::play(report, which),
        "pace" => pace::play(report),
        _ => anyhow::bail!(
            "there is no scenario {name}: main, attack, fairness, sched, pv, pace, quick, control or none"
        ),
    }
}

/// Everything that the project promises of dom0 and its guests.
fn main_scenario(vcpus: u32, report: &mut Report) -> Result<()> {
    machine::check(report, vcpus);
    let baseline = Baseline::take()?;
    machine::figures(report, &baseline);
    let mut web = Web::prepare(vcpus)?;
    web.create(report, &baseline);
    web.prove(report);
    web.pause(report);
    scheduling::mark(report, "web");
    web.reboot(report);
    scheduling::check_mark(report, "web");
    scheduling::play(report, vcpus);
    casualties::play(report, &web);
    bad_input::play(report, &web);
    web.shut_down(report);
    baseline.check_restored(report);
    Ok(())
}

/// What operators do about processors, alone: for those who work on that.
fn control_scenario(vcpus: u32, report: &mut Report) -> Result<()> {
    let baseline = Baseline::take()?;
    scheduling::play(report, vcpus);
    baseline.check_restored_quickly(report);
    Ok(())
}

/// One guest from creation to shutdown: for those who work on the core.
fn quick_scenario(vcpus: u32, report: &mut Report) -> Result<()> {
    machine::check(report, vcpus);
    let baseline = Baseline::take()?;
    let mut web = Web::prepare(vcpus)?;
    web.create(report, &baseline);
    web.prove(report);
    web.shut_down(report);
    baseline.check_restored(report);
    Ok(())
}
