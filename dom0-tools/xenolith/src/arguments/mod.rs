//! The command line.

mod scheduling;

pub use scheduling::{Cpupool, Sched, Top, VcpuPin, VcpuSet};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Manage the guests of a Xenolith (or Xen) host.
#[derive(Parser)]
#[command(name = "xenolith", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// Write JSON to standard output instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Make a guest from a configuration file and start it.
    Create {
        /// Leave the guest paused.
        #[arg(long)]
        paused: bool,
        /// The configuration, in xl.cfg syntax.
        file: PathBuf,
        /// Settings that override the file, in the same syntax (KEY=VALUE).
        settings: Vec<String>,
    },
    /// List domains.
    List {
        /// Only this one: a name or a number.
        domain: Option<String>,
    },
    /// Tell about the machine, or about one domain.
    Info {
        /// A name or a number.
        domain: Option<String>,
    },
    /// Attach to a guest's console; Ctrl-] detaches.
    Console {
        /// A name or a number.
        domain: String,
    },
    /// Ask a guest to power off.
    Shutdown(Request),
    /// Ask a guest to restart.
    Reboot(Request),
    /// Take a guest away at once, with all that it holds.
    Destroy {
        /// A name or a number.
        domain: String,
    },
    /// Stop a guest from running.
    Pause {
        /// A name or a number.
        domain: String,
    },
    /// Let a paused guest run.
    Unpause {
        /// A name or a number.
        domain: String,
    },
    /// Show or set domains' shares of processor time, and how schedulers give it out.
    #[command(
        after_help = "Without options it lists the domains of all CPU pools. A cap over 100 needs more than one vCPU."
    )]
    Sched(Sched),
    /// List vCPUs: where they are, what they do, where they may run.
    VcpuList {
        /// Only these: names or numbers.
        domains: Vec<String>,
    },
    /// Say where vCPUs may run.
    VcpuPin(VcpuPin),
    /// Say how many vCPUs a domain shall have online; its kernel does it.
    VcpuSet(VcpuSet),
    /// CPU pools.
    #[command(flatten)]
    Cpupool(Cpupool),
    /// Show what domains and their vCPUs use, again and again.
    #[command(after_help = TOP_HELP)]
    Top(Top),
    /// Show the hypervisor's log.
    Dmesg {
        /// Clear it after reading.
        #[arg(long)]
        clear: bool,
    },
    /// Wait for a guest to stop and do what its configuration says.
    #[command(hide = true)]
    Monitor {
        /// The guest's UUID.
        uuid: String,
    },
}

const TOP_HELP: &str = "\
CPU% is of one CPU. STEAL% is the time that vCPUs could have run and had no CPU: dom0's from its own kernel, guests' \
where the hypervisor publishes it (Xenolith; Xen does not), else `-`; so are exits. Network and disk are what dom0's \
backends moved, from the guest's view. End it with Ctrl-C.";

/// A request that the guest itself has to carry out.
#[derive(Args)]
pub struct Request {
    /// Return when it is done.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// A name or a number.
    pub domain: String,
}
