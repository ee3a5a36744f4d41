//! The machine below dom0: what it must be like, what it holds, and whether it holds the same afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guest::{self, Guest};
use crate::report::Report;
use crate::tools;

/// Before the first guest.
pub fn check(report: &mut Report, vcpus: u32) {
    report.step(&format!("dom0 has its {vcpus} vCPUs"), || {
        let online = std::thread::available_parallelism()?.get();
        ensure!(online == vcpus as usize, "it has {online}");
        Ok(())
    });
    report.step("the store answers Debian's clients", store_clients);
    report.step("list shows dom0 alone", || {
        let domains = guest::list()?;
        ensure!(
            domains.len() == 1 && domains[0]["domain"] == 0,
            "it shows {domains:?}"
        );
        Ok(())
    });
    report.step("info and dmesg answer", || {
        let information = tools::xenolith(&["info"])?;
        let version = information["hypervisor"]["version"]
            .as_str()
            .context("info tells no version")?;
        ensure!(version.starts_with("4."), "the version is {version}");
        let log = tools::xenolith(&["dmesg"])?;
        ensure!(
            log["log"].as_str().is_some_and(|log| !log.is_empty()),
            "the hypervisor's log is empty"
        );
        Ok(())
    });
}

/// A value written, read, listed and removed by programs that know nothing of us.
fn store_clients() -> Result<()> {
    tools::output("xenstore-write", &["/tool/scenario/key", "a value"])?;
    let read = tools::output("xenstore-read", &["/tool/scenario/key"])?;
    ensure!(read.trim() == "a value", "xenstore-read says {read}");
    let listed = tools::output("xenstore-ls", &["/tool/scenario"])?;
    ensure!(listed.contains("key = \"a value\""), "xenstore-ls says {listed}");
    tools::output("xenstore-rm", &["/tool/scenario"])?;
    let gone = tools::run("xenstore-read", &["/tool/scenario/key"])?;
    ensure!(gone.status != Some(0), "what was removed is still there");
    Ok(())
}

/// How long what is being taken away may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the machine holds: taken at the beginning, compared at the end.
pub struct Baseline {
    /// Free memory of the machine.
    pub free_kib: u64,
    store: BTreeSet<String>,
    loops: usize,
}

impl Baseline {
    /// What it holds now.
    pub fn take() -> Result<Baseline> {
        Ok(Baseline {
            free_kib: free_kib()?,
            store: store_paths()?,
            loops: loop_devices()?,
        })
    }

    /// All guests are gone: everything must be as it was.
    pub fn check_restored(&self, report: &mut Report) {
        self.check_memory(report);
        report.step(
            "ten more guests come and go and keep nothing",
            guests_keep_nothing,
        );
        self.check_the_rest(report);
    }

    /// The same after a scenario of which that takes too long.
    pub fn check_restored_quickly(&self, report: &mut Report) {
        self.check_memory(report);
        self.check_the_rest(report);
    }

    fn check_memory(&self, report: &mut Report) {
        report.step("the machine's memory is back", || {
            let enough = self.free_kib.saturating_sub(KEPT_KIB);
            let waited =
                tools::wait_until(PATIENCE, "free memory is as before", || Ok(free_kib()? >= enough));
            let free = free_kib()?;
            waited.with_context(|| format!("{} KiB free before, {free} KiB now", self.free_kib))
        });
        if let Ok(free) = free_kib() {
            report.figure(
                "memory kept after the scenario, KiB",
                self.free_kib as f64 - free as f64,
            );
        }
    }

    fn check_the_rest(&self, report: &mut Report) {
        report.step("the store is as it was", || {
            let mut left = Vec::new();
            let waited = tools::wait_until(PATIENCE, "the store is as before", || {
                let now = store_paths()?;
                left = now.symmetric_difference(&self.store).cloned().collect();
                Ok(left.is_empty())
            });
            waited.with_context(|| {
                format!(
                    "it differs in {} paths: {:?}",
                    left.len(),
                    &left[..left.len().min(6)]
                )
            })
        });
        report.step("no loop device is left", || {
            tools::wait_until(PATIENCE, "loop devices are free", || {
                Ok(loop_devices()? == self.loops)
            })
        });
        report.step("list shows dom0 alone again", || {
            let names = guest::names()?;
            ensure!(names.len() == 1, "it shows {names:?}");
            Ok(())
        });
    }
}

/// The first guests make dom0 map memory in places that it has not used before, and the tables for that stay: dom0's,
/// not the guests'. That more guests do not make more of them is a step of its own.
pub const KEPT_KIB: u64 = 64;

/// To the byte.
fn guests_keep_nothing() -> Result<()> {
    let guest = Guest::new("passing", "/boot/micro/hang", 32);
    let before = free_kib()?;
    for _ in 0..10 {
        guest.create()?;
        guest.destroy()?;
    }
    let waited = tools::wait_until(Duration::from_secs(20), "free memory is as before", || {
        Ok(free_kib()? >= before)
    });
    waited.with_context(|| format!("{before} KiB free before, {:?} KiB now", free_kib()))
}

/// Figures of the machine without guests. What the hypervisor holds is the rest of the machine's memory, which only
/// who made the machine knows: hypervisors differ in what they count as the total.
pub fn figures(report: &Report, baseline: &Baseline) {
    let dom0 = guest::list()
        .ok()
        .and_then(|domains| domains.first()?["pages"].as_u64());
    report.figure("memory free with dom0 alone, KiB", baseline.free_kib as f64);
    report.figure("memory of dom0, KiB", dom0.unwrap_or(0) as f64 * 4.0);
}

/// Free memory of the machine.
pub fn free_kib() -> Result<u64> {
    let information = tools::xenolith(&["info"])?;
    information["memory"]["free_kib"]
        .as_u64()
        .with_context(|| format!("info tells no free memory: {information}"))
}

/// Every path of the store, by Debian's client. Folders that the first device ever makes in dom0's part may stay.
fn store_paths() -> Result<BTreeSet<String>> {
    const MAY_STAY: [&str; 5] = [
        "/local/domain/0/backend",
        "/vm",
        "/libxl",
        "/tool/xenolith",
        "/local/domain/0/device",
    ];
    let listed = tools::output("xenstore-ls", &["-f", "/"])?;
    if listed.trim().is_empty() {
        bail!("the store is empty");
    }
    let paths = listed
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(path, _)| path.to_owned()));
    Ok(paths
        .filter(|path| !MAY_STAY.contains(&path.as_str()) && !is_device_folder(path))
        .collect())
}

/// `/local/domain/0/backend/vbd` and its like: empty folders that stay.
fn is_device_folder(path: &str) -> bool {
    path.strip_prefix("/local/domain/0/backend/")
        .is_some_and(|rest| !rest.contains('/'))
}

/// Loop devices in use.
fn loop_devices() -> Result<usize> {
    let devices = fs::read_dir("/sys/block")?.flatten();
    Ok(devices
        .filter(|device| device.path().join("loop/backing_file").exists())
        .count())
}
