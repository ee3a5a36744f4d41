//! `cargo xtask fuzz`: coverage-guided fuzzing of the targets in `tests/fuzz`, by libFuzzer.
//!
//! What is found goes to `target/fuzz`: inputs that reached new code to `corpus`, inputs that broke something to `crashes`.
//! The repository's own corpora are read and not written.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::command;
use crate::house::House;
use crate::report::{self, Activity, coloured};
use crate::setup;

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Lines of a crash that are shown.
const SHOWN_OF_A_CRASH: usize = 60;

/// What to fuzz, and for how long.
#[derive(Args)]
pub struct FuzzArguments {
    /// A target, or `all`; without one the targets are listed.
    target: Option<String>,
    /// For how long; `all` splits it.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Try one input again instead, as a crash says.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// What watches memory accesses: `address` finds more, `none` is about twice as fast.
    #[arg(long, value_enum, default_value_t = Sanitizer::Address)]
    sanitizer: Sanitizer,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sanitizer {
    Address,
    None,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Sanitizer::Address => "address",
            Sanitizer::None => "none",
        }
    }
}

/// What came of fuzzing one target.
#[derive(Default)]
struct Session {
    executions: u64,
    seconds: u64,
    /// libFuzzer's count of distinct behaviours: edges with how often they were taken, and comparisons.
    features: u64,
    corpus: u64,
    crash: Option<PathBuf>,
}

/// Lists, replays or fuzzes; true when nothing was found.
pub fn fuzz(house: &House, arguments: &FuzzArguments) -> Result<bool> {
    let known = targets(house)?;
    let Some(target) = &arguments.target else {
        list(house, &known);
        return Ok(true);
    };
    let wanted: Vec<&String> = known
        .iter()
        .filter(|name| *name == target || target == "all")
        .collect();
    if wanted.is_empty() {
        bail!("there is no target `{target}`; there are: {}", known.join(", "));
    }
    install_missing()?;
    if let Some(input) = &arguments.replay {
        let [target] = wanted[..] else {
            bail!("an input is replayed in one target: name it");
        };
        return replay(house, target, input, arguments.sanitizer);
    }
    let seconds = (arguments.seconds / wanted.len() as u64).max(1);
    let mut sessions = Vec::new();
    for target in wanted {
        let binary = build(house, target, arguments.sanitizer)?;
        sessions.push((target, run(house, target, &binary, seconds)?));
    }
    println!(
        "{:<22} {:>12} {:>9} {:>9} {:>7}  crashes",
        "target", "executions", "exec/s", "features", "corpus"
    );
    for (target, session) in &sessions {
        show(house, target, session);
    }
    Ok(sessions.iter().all(|(_, session)| session.crash.is_none()))
}

/// The targets' names: those of the files that give them to libFuzzer.
fn targets(house: &House) -> Result<Vec<String>> {
    let folder = house.path("tests/fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| {
            file.path()
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}

fn list(house: &House, targets: &[String]) {
    println!("{:<22} {:>5} {:>7}", "target", "kept", "found");
    for target in targets {
        let count = |folder: PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
        let kept = count(kept_corpus(house, target));
        let found = count(house.target("fuzz/corpus").join(target));
        println!("{target:<22} {kept:>5} {found:>7}");
    }
    println!("cargo xtask fuzz --seconds 60 TARGET, or `all`");
}

fn kept_corpus(house: &House, target: &str) -> PathBuf {
    house.path("tests/fuzz/corpus").join(target)
}

fn install_missing() -> Result<()> {
    setup::install_missing(&[("g++", "/usr/bin/c++")])?;
    // The standard library is built anew, so that it is watched as well.
    setup::install_nightly("rust-src")?;
    if !command::exists("cargo-fuzz") {
        report::note("cargo install cargo-fuzz");
        command::run(Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    Ok(())
}

/// Builds one target by the nightly compiler, away from everything else, and says where it is.
fn build(house: &House, target: &str, sanitizer: Sanitizer) -> Result<PathBuf> {
    let folder = house.target("fuzz/build").join(sanitizer.name());
    let _activity = Activity::start(&format!("building {target} by the nightly compiler"));
    let mut cargo = setup::nightly_cargo(house.root());
    cargo
        .args([
            "fuzz",
            "build",
            "--fuzz-dir",
            "tests/fuzz",
            "--features",
            "libfuzzer",
        ])
        .args(["--sanitizer", sanitizer.name(), "--target-dir"])
        .arg(&folder)
        .arg(target)
        // Whole-program optimisation would take minutes and gain little.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        // A simulated machine is switched off by a panic of its own.
        .env("CARGO_PROFILE_RELEASE_PANIC", "unwind");
    command::output(&mut cargo)?;
    Ok(folder.join(TRIPLE).join("release").join(target))
}

fn replay(house: &House, target: &str, input: &Path, sanitizer: Sanitizer) -> Result<bool> {
    let binary = build(house, target, sanitizer)?;
    let status = Command::new(&binary)
        .arg(input)
        .status()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    Ok(status.success())
}

fn run(house: &House, target: &str, binary: &Path, seconds: u64) -> Result<Session> {
    let found = house.target("fuzz/corpus").join(target);
    let crashes = house.target("fuzz/crashes").join(target);
    for folder in [&found, &crashes] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut fuzzer = Command::new(binary);
    fuzzer
        .arg(&found)
        .arg(kept_corpus(house, target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        // Arenas of simulated machines stay with the process on purpose.
        .args([
            "-print_final_stats=1",
            "-detect_leaks=0",
            "-timeout=20",
            "-rss_limit_mb=4096",
            "-max_len=4096",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let activity = Activity::start(&format!("{target} for {seconds} s"));
    let mut child = fuzzer
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let mut session = Session {
        seconds,
        ..Session::default()
    };
    let mut last = VecDeque::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if session.note(&line) {
                activity.say(&format!("{target}: {}", line.trim()));
            } else if !line.starts_with("    #") {
                // Not the fuzzer's own stack: the panic's stands above it.
                last.push_back(line);
                if last.len() > SHOWN_OF_A_CRASH {
                    last.pop_front();
                }
            }
        }
    }
    let status = child.wait()?;
    drop(activity);
    session.judge(status, last)?;
    Ok(session)
}

impl Session {
    /// Takes the figures from a line of libFuzzer's; true for those that tell how it goes on.
    fn note(&mut self, line: &str) -> bool {
        if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = number.trim().parse().unwrap_or(self.executions);
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.crash = Some(PathBuf::from(file.trim()));
        }
        let progress = line.starts_with('#') && line.contains(" ft: ");
        if progress {
            self.features = word_after(line, "ft:").unwrap_or(self.features);
            self.corpus = word_after(line, "corp:").unwrap_or(self.corpus);
            self.executions = word_after(line, "#").unwrap_or(self.executions);
        }
        progress
    }

    /// A fuzzer that ended early has found something, or could not run at all.
    fn judge(&self, status: ExitStatus, last: VecDeque<String>) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        for line in &last {
            eprintln!("{line}");
        }
        if self.crash.is_none() {
            bail!("the fuzzer ended without a finding: {status}");
        }
        Ok(())
    }
}

/// The number behind a word of a line, up to what is no digit.
fn word_after(line: &str, word: &str) -> Option<u64> {
    let (_, rest) = line.split_once(word)?;
    let digits = rest.trim_start();
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn show(house: &House, target: &str, session: &Session) {
    let verdict = match &session.crash {
        None => coloured(32, "0"),
        Some(_) => coloured(31, "1"),
    };
    println!(
        "{target:<22} {:>12} {:>9} {:>9} {:>7}  {verdict}",
        session.executions,
        session.executions / session.seconds.max(1),
        session.features,
        session.corpus
    );
    if let Some(file) = &session.crash {
        println!(
            "  replay: cargo xtask fuzz --replay {} {target}",
            house.shown(file)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_fuzzers_lines() {
        let mut session = Session::default();
        assert!(
            session.note(
                "#2097152\tpulse  cov: 812 ft: 3021 corp: 411/23Kb lim: 4096 exec/s: 699050 rss: 478Mb"
            )
        );
        assert_eq!(
            (session.executions, session.features, session.corpus),
            (2_097_152, 3021, 411)
        );
        assert!(!session.note("stat::number_of_executed_units: 2100000"));
        assert_eq!(session.executions, 2_100_000);
        assert!(session.crash.is_none());
        assert!(!session.note("artifact_prefix='x/'; Test unit written to x/crash-0123"));
        assert_eq!(session.crash.as_deref(), Some(Path::new("x/crash-0123")));
    }

    #[test]
    fn other_lines_are_not_taken_for_figures() {
        let mut session = Session::default();
        for line in [
            "",
            "#",
            "xenstored: connection 3 of domain 5 is broken",
            "INFO: seed corpus: files: 10",
        ] {
            assert!(!session.note(line));
        }
        assert_eq!((session.executions, session.features, session.corpus), (0, 0, 0));
    }
}
