//! `cargo xtask test`: everything that can fail. The last line is `N passed, N failed`.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::boots;
use crate::budget;
use crate::command;
use crate::core_image::{self, Flavour};
use crate::emulator::Hypervisor;
use crate::house::House;
use crate::initramfs;
use crate::micro;
use crate::pv;
use crate::report::{Activity, coloured};
use crate::run::{self, RunArguments};
use crate::setup;
use crate::sim;
use crate::status;

/// Which parts to run.
#[derive(Args)]
pub struct TestArguments {
    /// Parts; none means all of them.
    parts: Vec<Part>,
}

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Unit tests, layouts against Xen's C headers, formatting and lints: no emulator.
    Host,
    /// The kernel on simulated processors, some thousands of scenarios: no emulator.
    Sim,
    /// Micro-guests on Xenolith, boots by GRUB, boots that must be refused.
    Micro,
    /// The scenario on Xenolith.
    Scenario,
    /// Malicious guests beside one that works: is anybody harmed?
    Attack,
    /// The same on one CPU: does anybody lose its share? Only when it is named: it takes long.
    Fairness,
    /// The scheduler: thousands of hosts in virtual time and what a decision costs on large ones, then shares, a cap and
    /// wake-ups on the emulated machine.
    Sched,
    /// Frontends of `pv-drivers` against hostile backends, and the kernels on them: on Xenolith, on Debian's Xen, on neither.
    Pv,
    /// Micro-guests and scenario on Debian's Xen: is it the tools and tests, or the core?
    Xen,
}

/// What came of one test.
pub struct Outcome {
    passed: u32,
    failed: u32,
}

impl Outcome {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// What came of something that either works or says why not; says so at once.
    pub fn of(title: &str, result: Result<()>) -> Outcome {
        match result {
            Ok(()) => Outcome::new(title, true, ""),
            Err(error) => Outcome::new(title, false, &format!("{error:#}")),
        }
    }

    /// One test; says so at once.
    pub fn new(title: &str, passed: bool, detail: &str) -> Outcome {
        let word = if passed {
            coloured(32, "ok  ")
        } else {
            coloured(31, "FAIL")
        };
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!(": {detail}")
        };
        println!("{word} {title}{detail}");
        Outcome {
            passed: u32::from(passed),
            failed: u32::from(!passed),
        }
    }
}

/// Runs the parts; true when nothing failed.
pub fn test(house: &House, arguments: &TestArguments) -> Result<bool> {
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    setup::install_missing(&[])?;
    let mut outcomes = Vec::new();
    if wanted(Part::Host) {
        outcomes.extend(host(house));
    }
    if wanted(Part::Sim) {
        for test in [sim::test, sim::test_interleavings] {
            outcomes.push(
                test(house)
                    .unwrap_or_else(|error| Outcome::new("simulated hosts", false, &format!("{error:#}"))),
            );
        }
    }
    if wanted(Part::Sched) {
        outcomes.extend(
            sim::test_scheduling(house)
                .unwrap_or_else(|error| vec![Outcome::new("scheduling", false, &format!("{error:#}"))]),
        );
    }
    let fairness = arguments.parts.contains(&Part::Fairness);
    let the_core = [Part::Micro, Part::Scenario, Part::Attack, Part::Sched]
        .into_iter()
        .any(wanted)
        || fairness;
    let on_ours = the_core || wanted(Part::Pv);
    if on_ours || wanted(Part::Xen) {
        outcomes.push(attempt("the images build", || initramfs::build(house)));
    }
    if on_ours {
        outcomes.push(attempt("the hypervisor builds", || {
            core_image::build(house, Flavour::Release)
        }));
    }
    if the_core {
        outcomes.extend(budgets(house));
    }
    if wanted(Part::Micro) {
        outcomes.extend(micro_guests(house, Hypervisor::Xenolith));
        outcomes.extend(boots::test(house));
    }
    if wanted(Part::Pv) {
        outcomes.extend(pv::host(house));
        outcomes.extend(pv::kernels(house));
        for on in [Hypervisor::Xenolith, Hypervisor::Xen] {
            let title = format!("kernels on pv-drivers on {}", on.name());
            outcomes.push(scenario(house, &title, &RunArguments::pv(on)));
        }
    }
    if wanted(Part::Xen) {
        outcomes.extend(micro_guests(house, Hypervisor::Xen));
        let title = "the scenario on xen";
        outcomes.push(scenario(house, title, &RunArguments::for_test(Hypervisor::Xen)));
    }
    let [attack, share, sched] = RunArguments::on_ours();
    let scenarios = [
        (wanted(Part::Attack), attack),
        (fairness, share),
        (wanted(Part::Sched), sched),
    ];
    for (played, arguments) in scenarios {
        if played {
            let title = format!("the scenario {} on xenolith", arguments.scenario());
            outcomes.push(scenario(house, &title, &arguments));
        }
    }
    if wanted(Part::Scenario) {
        let title = "the scenario on xenolith";
        outcomes.push(scenario(
            house,
            title,
            &RunArguments::for_test(Hypervisor::Xenolith),
        ));
    }
    if wanted(Part::Scenario) || wanted(Part::Xen) {
        run::print_figures(house);
        println!("{}", status::lines(house)?);
    }
    Ok(add_up(&outcomes))
}

/// The last line of all tests; true when nothing failed.
pub fn add_up(outcomes: &[Outcome]) -> bool {
    let passed: u32 = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: u32 = outcomes.iter().map(|outcome| outcome.failed).sum();
    println!("{passed} passed, {failed} failed");
    failed == 0
}

/// Something that either works or is one failure.
fn attempt(title: &str, work: impl FnOnce() -> Result<()>) -> Outcome {
    Outcome::of(title, work())
}

fn budgets(house: &House) -> Vec<Outcome> {
    budget::check(house)
        .unwrap_or_else(|error| vec![Outcome::new("the core's budget", false, &format!("{error:#}"))])
}

fn micro_guests(house: &House, on: Hypervisor) -> Vec<Outcome> {
    micro::test(house, on).unwrap_or_else(|error| {
        vec![Outcome::new(
            &format!("micro-guests on {}", on.name()),
            false,
            &format!("{error:#}"),
        )]
    })
}

fn scenario(house: &House, title: &str, arguments: &RunArguments) -> Outcome {
    match run::play(house, arguments) {
        Ok(figures) => {
            let passed = figures.failed == 0;
            Outcome::new(
                title,
                passed,
                &format!("{} steps passed, {} failed", figures.passed, figures.failed),
            );
            Outcome {
                passed: figures.passed,
                failed: figures.failed,
            }
        }
        Err(error) => Outcome::new(title, false, &format!("{error:#}")),
    }
}

fn host(house: &House) -> Vec<Outcome> {
    let bare = [
        "--package",
        "image",
        "--package",
        "guests",
        "--package",
        "echo",
        "--package",
        "pace",
        "--package",
        "web",
        "--target",
        "x86_64-unknown-none",
    ];
    vec![
        unit_tests(house),
        attempt("formatting", || {
            command::output(command::cargo(house.root()).args(["fmt", "--all", "--check"])).map(drop)
        }),
        attempt("lints", || {
            command::output(
                command::cargo(house.root())
                    .args(["clippy", "--all-targets", "--quiet", "--"])
                    .args(DENY),
            )
            .map(drop)
        }),
        attempt("lints of what runs on bare metal", || {
            let mut cargo = command::cargo(house.root());
            cargo
                .args(["clippy", "--release", "--quiet"])
                .args(bare)
                .arg("--")
                .args(DENY);
            command::output(&mut cargo).map(drop)
        }),
    ]
}

const DENY: [&str; 2] = ["-D", "warnings"];

/// All that runs on the host, the ABI's layouts among them, by nextest where it is installed.
fn unit_tests(house: &House) -> Outcome {
    let nextest = command::output(command::cargo(house.root()).args(["nextest", "--version"])).is_ok();
    let mut cargo = command::cargo(house.root());
    if nextest {
        cargo.args([
            "nextest",
            "run",
            "--no-fail-fast",
            "--color",
            "never",
            "--status-level",
            "fail",
        ]);
    } else {
        cargo.args(["test", "--no-fail-fast"]);
    }
    let activity = Activity::start(&format!(
        "unit tests by {}",
        if nextest { "nextest" } else { "cargo test" }
    ));
    let outcome = counted("unit tests", cargo);
    drop(activity);
    outcome
}

/// What came of a test runner.
pub fn counted(title: &str, runner: Command) -> Outcome {
    match counted_tests(runner) {
        Ok((passed, failed)) => {
            Outcome::new(title, failed == 0, &format!("{passed} passed, {failed} failed"));
            Outcome { passed, failed }
        }
        Err(error) => Outcome::new(title, false, &format!("{error:#}")),
    }
}

/// Runs a test runner and adds up its counts; shows what it said when something failed.
fn counted_tests(mut runner: Command) -> Result<(u32, u32)> {
    let output = runner.stdin(Stdio::null()).output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let (mut passed, mut failed) = (0, 0);
    let summaries = said
        .lines()
        .filter(|line| line.contains("test result:") || line.contains("Summary ["));
    for line in summaries {
        passed += number_before(line, "passed");
        failed += number_before(line, "failed") + number_before(line, "timed out");
    }
    if !output.status.success() {
        eprintln!("{said}");
        if failed == 0 {
            bail!("the test runner failed: {}", output.status);
        }
    }
    Ok((passed, failed))
}

/// The number in `12 passed`, zero where there is none.
fn number_before(line: &str, word: &str) -> u32 {
    let Some(at) = line.find(&format!(" {word}")) else {
        return 0;
    };
    let digits = line[..at]
        .rsplit(|character: char| !character.is_ascii_digit())
        .next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::number_before;

    #[test]
    fn summaries_of_both_runners_are_understood() {
        let nextest = "     Summary [   0.204s] 31 tests run: 29 passed, 2 failed, 1 skipped";
        assert_eq!(
            (number_before(nextest, "passed"), number_before(nextest, "failed")),
            (29, 2)
        );
        let plain = "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(
            (number_before(plain, "passed"), number_before(plain, "failed")),
            (7, 0)
        );
        assert_eq!(number_before(plain, "timed out"), 0);
    }
}
