//! How a command becomes a daemon: it starts itself again and waits until that says it is ready.
//!
//! Whoever runs the command, an init script say, can go on as soon as it returns: what the daemon serves is there.
//! Starting the program anew instead of forking keeps all of this within safe Rust.

use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const READY: &str = "ready";

/// Starts this program again, with its own arguments and these, and waits until it calls [`detach`]. Messages go to
/// the log file, or to where those of the command go.
pub fn start(more_arguments: &[&str], log_file: Option<&Path>) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("finding this program (is /proc mounted?)")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).args(more_arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(path) = log_file {
        let file = File::options().create(true).append(true).open(path);
        command.stderr(file.with_context(|| format!("opening {}", path.display()))?);
    }
    let mut daemon = command.spawn().context("starting the daemon")?;
    let mut line = String::new();
    if let Some(output) = daemon.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.trim_end() != READY {
        bail!("the daemon did not start: {}", daemon.wait()?);
    }
    Ok(())
}

/// In the daemon: tells the command that started it, and lets go of its terminal and its output.
pub fn detach() -> anyhow::Result<()> {
    // Fails only for a process that already leads a session, which is as good.
    let _ = rustix::process::setsid();
    let mut output = std::io::stdout();
    writeln!(output, "{READY}")?;
    output.flush()?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(())
}

/// Writes this process's number to a file, where there is to be one.
pub fn write_pid_file(path: Option<&Path>) -> anyhow::Result<()> {
    match path {
        Some(path) => fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("writing {}", path.display())),
        None => Ok(()),
    }
}
