//! The console daemon's command.

use clap::Parser;
use consoled::daemon::{Daemon, Places};
use std::path::PathBuf;

/// The daemon of the guests' consoles: a log and a terminal for each.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Stay in the foreground
    #[arg(short = 'N', long)]
    no_fork: bool,
    /// Write the daemon's process number to this file
    #[arg(short = 'F', long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Append the daemon's own messages to this file
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Write the guests' logs to this directory, as NAME.log
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/log/xenolith/console")]
    log_dir: PathBuf,
    /// Put a guest's log aside, as NAME.log.1, when it has this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    log_limit: u64,
    /// Make links to the guests' terminals in this directory, by their names
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/xenolith/console")]
    link_dir: PathBuf,
    /// Say on standard output when ready: how the command learns that its daemon is
    #[arg(long, hide = true)]
    announce: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if !options.no_fork {
        return background::start(&["--no-fork", "--announce"], options.log_file.as_deref());
    }
    let places = Places {
        logs: options.log_dir,
        log_limit: options.log_limit,
        links: options.link_dir,
    };
    let mut daemon = Daemon::start(places)?;
    background::write_pid_file(options.pid_file.as_deref())?;
    if options.announce {
        background::detach()?;
    }
    daemon.run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_well_formed() {
        Options::command().debug_assert();
    }
}
