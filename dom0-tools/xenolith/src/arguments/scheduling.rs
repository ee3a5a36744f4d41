//! The command line of what concerns processors: shares, affinity, pools.

use clap::{Args, Subcommand};

/// Show or set domains' weights and caps, and how schedulers give time out.
#[derive(Args)]
pub struct Sched {
    /// This domain: a name or a number.
    #[arg(short, long)]
    pub domain: Option<String>,
    /// Its share in proportion to the others', 1 to 65535; 256 is usual.
    #[arg(short, long, requires = "domain")]
    pub weight: Option<u32>,
    /// Per cent of one CPU that it may use at most, up to 100 for each of its vCPUs; 0 for no limit.
    #[arg(short, long, requires = "domain")]
    pub cap: Option<u32>,
    /// Only this CPU pool: a name or a number.
    #[arg(short = 'p', long, conflicts_with = "domain")]
    pub cpupool: Option<String>,
    /// Show (or, with -r or -t, set) the parameters of the pools' schedulers instead of domains'.
    #[arg(short, long, conflicts_with = "domain")]
    pub schedparam: bool,
    /// Least microseconds that a vCPU runs before another may take its place, 100 to 500000; 0 for none.
    #[arg(
        short,
        long = "ratelimit",
        visible_alias = "ratelimit_us",
        value_name = "US",
        conflicts_with = "domain"
    )]
    pub rate_limit: Option<u32>,
    /// Most milliseconds that a vCPU runs while others wait, 1 to 1000; only where the scheduler has such.
    #[arg(
        short,
        long = "timeslice",
        visible_alias = "tslice_ms",
        value_name = "MS",
        conflicts_with = "domain"
    )]
    pub time_slice: Option<u32>,
}

/// What a CPU list looks like.
const CPUS_HELP: &str = "CPUs: `all`, or numbers and ranges, `^` leaving out, `node:N`: 0-3,^2";

/// Say where vCPUs may run.
#[derive(Args)]
pub struct VcpuPin {
    /// A name or a number.
    pub domain: String,
    /// A vCPU's number, or `all`.
    pub vcpu: String,
    /// Where it may run; `-` leaves that as it is.
    #[arg(help = CPUS_HELP, allow_hyphen_values = true)]
    pub hard: String,
    /// Where it should run among those; `-` leaves that as it is.
    #[arg(
        help = "the same, for where it should run; `-` for either leaves it as it is",
        allow_hyphen_values = true
    )]
    pub soft: Option<String>,
}

/// Say how many vCPUs a domain shall have online.
#[derive(Args)]
pub struct VcpuSet {
    /// A name or a number.
    pub domain: String,
    /// How many, up to its maxvcpus.
    pub count: u32,
    /// More than the machine has CPUs are meant.
    #[arg(long)]
    pub ignore_host: bool,
    /// Return when the domain has done it.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// Operations on CPU pools: processors with a scheduler of their own.
#[derive(Subcommand)]
pub enum Cpupool {
    /// List CPU pools.
    #[command(name = "cpupool-list")]
    List {
        /// Only this one: a name or a number.
        pool: Option<String>,
        /// Show the CPUs by number.
        #[arg(short, long)]
        cpus: bool,
    },
    /// Make a CPU pool of free CPUs.
    #[command(name = "cpupool-create")]
    Create {
        /// Its configuration: a file in xl.cfg syntax, and settings that override it (KEY=VALUE): name, sched (credit2, null), cpus.
        #[arg(required = true)]
        settings: Vec<String>,
    },
    /// Remove a CPU pool without domains; its CPUs become free.
    #[command(name = "cpupool-destroy")]
    Destroy {
        /// A name or a number.
        pool: String,
    },
    /// Give a CPU pool another name.
    #[command(name = "cpupool-rename")]
    Rename {
        /// A name or a number.
        pool: String,
        /// The new name.
        name: String,
    },
    /// Give free CPUs to a pool.
    #[command(name = "cpupool-cpu-add")]
    CpuAdd {
        /// A name or a number.
        pool: String,
        #[arg(help = CPUS_HELP)]
        cpus: String,
    },
    /// Take CPUs from a pool; they become free.
    #[command(name = "cpupool-cpu-remove")]
    CpuRemove {
        /// A name or a number.
        pool: String,
        #[arg(help = CPUS_HELP)]
        cpus: String,
    },
    /// Move a domain to another CPU pool.
    #[command(name = "cpupool-migrate")]
    Migrate {
        /// A name or a number.
        domain: String,
        /// A name or a number.
        pool: String,
    },
}

/// Show what domains and their vCPUs use, again and again.
#[derive(Args)]
pub struct Top {
    /// Once: two looks, and what was used between them.
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    /// So many times, then end.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Seconds between two looks.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2.0)]
    pub delay: f64,
    /// Show each vCPU, too.
    #[arg(short, long)]
    pub vcpus: bool,
    /// Show why vCPUs left their guests, too.
    #[arg(short, long)]
    pub exits: bool,
    /// Only this domain: a name or a number.
    pub domain: Option<String>,
}
