//! What operators get wrong about processors.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{BUSY, array};
use crate::guest::Guest;
use crate::report::Report;
use crate::tools;

/// What is said, and a part of what must be answered.
type Cases = &'static [(&'static [&'static str], &'static str)];

const SHARES: Cases = &[
    (&["sched", "-d", BUSY, "-w", "0"], "1 to 65535"),
    (&["sched", "-d", BUSY, "-w", "65536"], "1 to 65535"),
    (&["sched", "-d", BUSY, "-c", "201"], "0 (no limit) to 200"),
    (&["sched", "-d", "nobody", "-w", "256"], "nobody"),
    (&["sched", "-w", "256"], "--domain"),
    (&["sched", "-p", "nowhere"], "nowhere"),
    (&["sched", "-s", "-r", "50"], "100 to 500000"),
    (&["sched", "-s", "-t", "0"], "1 to 1000"),
];

const PLACES: Cases = &[
    (&["vcpu-pin", BUSY, "0", "^0"], "names no CPU"),
    (&["vcpu-pin", BUSY, "0", "4000"], "no CPU 4000"),
    (&["vcpu-pin", BUSY, "0", "3-1"], "no list of CPUs"),
    (&["vcpu-pin", BUSY, "0", "node:77"], "no node 77"),
    (&["vcpu-pin", BUSY, "2", "0"], "no vCPU `2`"),
    (&["vcpu-pin", BUSY, "0", "-", "-"], "nothing to change"),
    (&["vcpu-pin", "nobody", "0", "0"], "nobody"),
    (&["vcpu-set", BUSY, "0"], "from 1 to 2"),
    (&["vcpu-set", BUSY, "3"], "from 1 to 2"),
    (&["vcpu-list", "nobody"], "nobody"),
];

const POOLS: Cases = &[
    (&["cpupool-create", "name=empty"], "no CPU is free"),
    (&["cpupool-create", "name=taken", "cpus=0"], "not free"),
    (&["cpupool-create", "name=Pool-0", "cpus=0"], "already"),
    (&["cpupool-destroy", "Pool-0"], "dom0 runs in it"),
    (&["cpupool-cpu-remove", "Pool-0", "all"], "no CPU left"),
    (&["cpupool-cpu-add", "Pool-0", "0"], "not free"),
    (&["cpupool-migrate", BUSY, "nowhere"], "nowhere"),
];

/// Each with words that it must say; afterwards everything is as it was.
pub fn play(report: &mut Report) {
    for (what, cases) in [("shares", SHARES), ("places", PLACES), ("pools", POOLS)] {
        report.step(
            &format!("bad input about {what} is refused, and changes nothing"),
            || {
                let before = state()?;
                for (arguments, hint) in cases {
                    let said = tools::refused(arguments)?;
                    ensure!(
                        said.contains(hint),
                        "`{}` does not mention `{hint}`: {said}",
                        arguments.join(" ")
                    );
                }
                let now = state()?;
                ensure!(before == now, "before {before}, now {now}");
                Ok(())
            },
        );
    }
    report.step("a configuration that asks for too much is refused", || {
        for (key, value, hint) in [
            ("cpus", "\"4000\"", "no CPU 4000"),
            ("pool", "\"nowhere\"", "nowhere"),
            ("cap", "300", "from 0 to 200"),
        ] {
            let wrong = Guest::new("wrong", "/boot/micro/hang", 32).with("vcpus", "2");
            let said = wrong.with(key, value).create_refused()?;
            ensure!(said.contains(hint), "{key}: it does not mention `{hint}`: {said}");
        }
        Ok(())
    });
}

/// All that the bad input could have changed.
fn state() -> Result<Value> {
    let affinities: Vec<Value> = array(&["vcpu-list"])?
        .into_iter()
        .map(|vcpu| {
            json!([
                vcpu["domain"],
                vcpu["vcpu"],
                vcpu["hard_affinity"],
                vcpu["soft_affinity"]
            ])
        })
        .collect();
    Ok(json!({
        "shares": tools::xenolith(&["sched"])?,
        "affinities": affinities,
        "pools": tools::xenolith(&["cpupool-list"])?,
    }))
}
