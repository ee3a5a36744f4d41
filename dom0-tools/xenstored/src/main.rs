//! The store daemon's command: options, dom0's own part of the store, and going into the background.

use anyhow::{Context, bail};
use clap::Parser;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use xenstored::client::DEFAULT_SOCKET;
use xenstored::daemon::Daemon;
use xenstored::hypervisor::{Hypervisor, NoHypervisor};
use xenstored::permission::DomainId;
use xenstored::quota::Limits;
use xenstored::store::Store;
use xenstored::xen::Xen;

/// The daemon of Xen's store.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Stay in the foreground
    #[arg(short = 'N', long)]
    no_fork: bool,
    /// Write the daemon's process number to this file
    #[arg(short = 'F', long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Serve sockets only: no hypervisor, no guests (for trying things out)
    #[arg(short = 'D', long)]
    no_domain_init: bool,
    /// Listen at this socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Append the daemon's messages to this file
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Change a limit on guests, such as nodes=2000 (`xenstore-control quota` lists them)
    #[arg(short = 'Q', long, value_name = "NAME=NUMBER")]
    quota: Vec<String>,
    /// Write every request to the log
    #[arg(short = 'V', long)]
    verbose: bool,
    /// Say on standard output when ready: how the command learns that its daemon is
    #[arg(long, hide = true)]
    announce: bool,
}

const READY: &str = "ready";

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.no_fork {
        serve(&options)
    } else {
        start_in_background(&options)
    }
}

/// Starts this program again as a daemon and waits until that is ready, so that whoever is started next finds it.
fn start_in_background(options: &Options) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("finding this program (is /proc mounted?)")?;
    let mut command = Command::new(program);
    command
        .args(std::env::args_os().skip(1))
        .args(["--no-fork", "--announce"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(path) = &options.log_file {
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

fn serve(options: &Options) -> anyhow::Result<()> {
    let limits = limits(&options.quota)?;
    let listener = listen(&options.socket)?;
    if options.no_domain_init {
        return serve_store(Store::new(NoHypervisor, limits), listener, options);
    }
    let hypervisor = Xen::open().context("opening the hypervisor's drivers")?;
    let mut store = Store::new(hypervisor, limits);
    store.write_as_control("/local/domain/0/domid", "0");
    store.write_as_control("/local/domain/0/name", "Domain-0");
    let (page, port) = Xen::local_ring().context("mapping the store ring of dom0's kernel")?;
    store
        .introduce_with(DomainId::CONTROL, page, port)
        .context("connecting to dom0's kernel")?;
    serve_store(store, listener, options)
}

fn serve_store<H: Hypervisor>(
    mut store: Store<H>,
    listener: UnixListener,
    options: &Options,
) -> anyhow::Result<()> {
    store.set_verbose(options.verbose);
    if let Some(path) = &options.pid_file {
        fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let mut daemon = Daemon::new(store, listener)?;
    if options.announce {
        detach()?;
    }
    daemon.run().context("waiting for requests")
}

/// Tells the command that started us, and lets go of its terminal and its output.
fn detach() -> anyhow::Result<()> {
    let _ = rustix::process::setsid();
    let mut output = std::io::stdout();
    writeln!(output, "{READY}")?;
    output.flush()?;
    let nowhere = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(())
}

fn limits(changes: &[String]) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    for change in changes {
        let (name, value) = change
            .split_once('=')
            .with_context(|| format!("--quota {change}: expected NAME=NUMBER"))?;
        let value = value
            .parse()
            .with_context(|| format!("--quota {change}: {value:?} is no number"))?;
        match limits.by_name(name) {
            Some(limit) => *limit = value,
            None => bail!(
                "--quota {change}: no such limit; there are:\n{}",
                Limits::default().describe()
            ),
        }
    }
    Ok(limits)
}

/// Listens at the socket, in place of a daemon that is gone but not of one that answers.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        bail!("a store daemon already listens at {}", path.display());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
