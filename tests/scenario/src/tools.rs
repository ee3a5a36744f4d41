//! Running programs with a time limit, `xenolith` above all.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Nothing that an operator types may take longer on this slow machine.
const LIMIT: Duration = Duration::from_secs(90);

/// What a program did.
pub struct Finished {
    /// Exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Finished {
    /// Both, for error messages.
    pub fn words(&self) -> String {
        format!("{} {}", self.errors.trim(), self.output.trim())
            .trim()
            .to_owned()
    }
}

/// A program that runs, with its output in files: nobody has to read while it runs.
pub struct Running {
    child: Child,
    files: [PathBuf; 2],
    shown: String,
}

impl Running {
    /// Starts it.
    pub fn start(program: &str, arguments: &[&str]) -> Result<Running> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let files = ["out", "err"].map(|kind| PathBuf::from(format!("/tmp/scenario-{number}.{kind}")));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command
            .stdout(File::create(&files[0])?)
            .stderr(File::create(&files[1])?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(Running {
            child,
            files,
            shown: format!("{program} {}", arguments.join(" ")),
        })
    }

    /// Waits for its end; one that takes longer than `limit` is killed and is an error.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                let finished = self.kill()?;
                bail!("`{}` does not end: {}", finished.0, finished.1.words());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ok(Finished {
            status: status.code(),
            ..self.said()
        })
    }

    /// Ends it with SIGKILL; its name and what it had said by then.
    pub fn kill(mut self) -> Result<(String, Finished)> {
        self.child.kill()?;
        self.child.wait()?;
        Ok((self.shown.clone(), self.said()))
    }

    fn said(&self) -> Finished {
        let [output, errors] = self.files.each_ref().map(|file| {
            let text = fs::read(file).unwrap_or_default();
            // It only takes room from dom0 now.
            let _ = fs::remove_file(file);
            String::from_utf8_lossy(&text).into_owned()
        });
        Finished {
            status: None,
            output,
            errors,
        }
    }
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str]) -> Result<Finished> {
    Running::start(program, arguments)?.finish(LIMIT)
}

/// Runs a program that must succeed; its output.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let finished = run(program, arguments)?;
    if finished.status != Some(0) {
        bail!("`{program} {}` failed: {}", arguments.join(" "), finished.words());
    }
    Ok(finished.output)
}

/// Runs `xenolith --json` with a command that must succeed; its document.
pub fn xenolith(arguments: &[&str]) -> Result<Value> {
    let arguments = [&["--json"], arguments].concat();
    let output = output("xenolith", &arguments)?;
    serde_json::from_str(&output)
        .with_context(|| format!("`xenolith {}` printed no JSON: {output}", arguments.join(" ")))
}

/// Runs a `xenolith` command that must be refused; what it said.
pub fn refused(arguments: &[&str]) -> Result<String> {
    let finished = run("xenolith", arguments)?;
    match finished.status {
        Some(0) => bail!(
            "`xenolith {}` was not refused: {}",
            arguments.join(" "),
            finished.words()
        ),
        Some(1 | 2) if finished.errors.trim().is_empty() => {
            bail!("`xenolith {}` was refused without a word", arguments.join(" "))
        }
        Some(1 | 2) => Ok(finished.errors),
        _ => bail!("`xenolith {}` broke: {}", arguments.join(" "), finished.words()),
    }
}

/// Asks until the answer is yes, or fails with the last reason.
pub fn wait_until(limit: Duration, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let answer = holds();
        match answer {
            Ok(true) => return Ok(()),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Ok(false) => bail!("not within {} s: {what}", limit.as_secs()),
            Err(error) => return Err(error.context(format!("not within {} s: {what}", limit.as_secs()))),
        }
    }
}
