//! The store daemon's command: options, dom0's own part of the store, and going into the background.

use anyhow::{Context, bail};
use clap::Parser;
use guest_page::GuestPage;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
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
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Say on standard output when ready: how the command learns that its daemon is
    #[arg(long, hide = true)]
    announce: bool,
}

/// Where clients look for the daemon.
const DEFAULT_SOCKET: &str = "/run/xenstored/socket";

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.no_fork {
        serve(&options)
    } else {
        background::start(&["--no-fork", "--announce"], options.log_file.as_deref())
    }
}

fn serve(options: &Options) -> anyhow::Result<()> {
    let limits = limits(&options.quota)?;
    let listener = listen(&options.socket)?;
    if options.no_domain_init {
        return serve_store(Store::new(NoHypervisor, limits), listener, options);
    }
    let hypervisor = Xen::open().context("opening the hypervisor's drivers")?;
    let mut store = Store::new(hypervisor, limits);
    // What toolstacks expect to find about dom0 and the only CPU pool there is at boot; on Xen a command of the
    // toolstack (`xen-init-dom0`) writes it, and leaves alone what it finds.
    store.write_as_control("/local/domain/0/domid", "0");
    store.write_as_control("/local/domain/0/name", "Domain-0");
    store.write_as_control("/local/pool/0/name", "Pool-0");
    let (page, port) = GuestPage::local_store().context("mapping the store ring of dom0's kernel")?;
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
    background::write_pid_file(options.pid_file.as_deref())?;
    let mut daemon = Daemon::new(store, listener)?;
    if options.announce {
        background::detach()?;
    }
    daemon.run().context("waiting for requests")
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
