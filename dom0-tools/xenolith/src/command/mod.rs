//! The commands: each finds its domain, does one thing, and says so.

mod cpupool;
mod create;
mod info;
mod lifecycle;
mod list;
mod sched;
mod top;
mod vcpu_list;
mod vcpu_pin;
mod vcpu_set;

use crate::arguments::{Command, Request};
use crate::console;
use crate::domain::{self, Domain};
use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::monitor;
use crate::output;
use crate::reap;
use crate::store_tree::domain_path;
use control::Hypervisor;
use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the console daemon may take to make a console.
const CONSOLE_TIME: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a command.
pub fn run(command: Command, as_json: bool) -> Result<()> {
    match command {
        Command::Monitor { uuid } => monitor::run(
            uuid.parse()
                .map_err(|()| Failure::new(format!("`{uuid}` is no UUID")))?,
        ),
        Command::Dmesg { clear } => log(clear, as_json),
        Command::Info { domain: None } => info::machine(as_json),
        Command::Create {
            paused,
            file,
            settings,
        } => create::run(&file, &settings, paused, as_json),
        Command::List { domain } => list::run(&mut open()?, domain.as_deref(), as_json),
        Command::Info { domain: Some(domain) } => info::domain(&mut open()?, &domain, as_json),
        Command::Sched(wanted) => sched::run(&mut open()?, &wanted, as_json),
        Command::VcpuList { domains } => vcpu_list::run(&mut open()?, &domains, as_json),
        Command::VcpuPin(wanted) => vcpu_pin::run(&mut open()?, &wanted, as_json),
        Command::VcpuSet(wanted) => vcpu_set::run(&mut open()?, &wanted, as_json),
        Command::Cpupool(command) => cpupool::run(&mut open()?, command, as_json),
        Command::Top(wanted) => top::run(&mut open()?, &wanted, as_json),
        Command::Console { domain } => attach(&domain, as_json),
        Command::Shutdown(request) => lifecycle::shutdown(&mut open()?, &request, as_json),
        Command::Reboot(request) => lifecycle::reboot(&mut open()?, &request, as_json),
        Command::Destroy { domain } => lifecycle::destroy(&mut open()?, &domain, as_json),
        Command::Pause { domain } => lifecycle::pause(&mut open()?, &domain, as_json),
        Command::Unpause { domain } => lifecycle::unpause(&mut open()?, &domain, as_json),
    }
}

/// Connects to everything, and cleans up behind others first.
fn open() -> Result<Machine> {
    let mut machine = Machine::open()?;
    for line in reap::reap(&mut machine)? {
        eprintln!("xenolith: {line}");
    }
    Ok(machine)
}

fn log(clear: bool, as_json: bool) -> Result<()> {
    let log = Hypervisor::open()?.read_log(clear)?;
    let log = String::from_utf8_lossy(&log);
    match as_json {
        true => output::document(&json!({ "log": log })),
        false => output::line(log.trim_end_matches(['\n', '\0'])),
    }
    Ok(())
}

fn attach(wanted: &str, as_json: bool) -> Result<()> {
    let mut machine = open()?;
    let domain = domain::find_guest(&mut machine, wanted, "attached to")?;
    let path = format!("{}/console/tty", domain_path(domain.id()));
    let deadline = Instant::now() + CONSOLE_TIME;
    let tty = loop {
        match machine.store.read(&path)?.filter(|tty| !tty.is_empty()) {
            Some(tty) => break tty,
            None if Instant::now() < deadline => sleep(POLL_INTERVAL),
            None => {
                return Err(Failure::new(format!("`{}` has no console", domain.name))
                    .advise("is consoled running? start it, or look into its log"));
            }
        }
    };
    if as_json {
        output::document(&json!({ "domain": domain.id().0, "name": domain.name, "tty": tty }));
        return Ok(());
    }
    console::attach(&tty, &domain.name)
}

/// Says that something was done to a domain.
fn done(domain: &Domain, what: &str, waited: Option<Duration>, as_json: bool) {
    let (name, id) = (&domain.name, domain.id());
    if !as_json {
        return output::line(&format!("{name} (domain {id}): {what}"));
    }
    let mut document = json!({ "domain": id.0, "name": name, "done": what });
    if let Some(waited) = waited {
        document["waited_seconds"] = json!(seconds(waited));
    }
    output::document(&document);
}

/// Seconds with two digits: enough for people, short for readers of JSON.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

impl Request {
    fn time(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
