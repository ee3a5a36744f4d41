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

/// What the machine holds: taken at the beginning, compared at the end.
pub struct Baseline {
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
