//! The figures of a run: kept beside its log, printed at its end, put beside Xen's.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::emulator::Hypervisor;
use crate::house::House;
use crate::serial::Line;

/// When something was reached.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Wall-clock seconds since the machine was switched on.
    pub wall: f64,
    /// CPU seconds of the emulator by then.
    pub cpu: f64,
}

/// All figures of one run.
#[derive(Default, Serialize, Deserialize)]
pub struct Figures {
    /// Who ran dom0.
    pub hypervisor: String,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Milestones by name.
    pub moments: BTreeMap<String, Moment>,
    /// What the scenario counted in dom0, by name.
    pub counted: BTreeMap<String, f64>,
    /// What the hypervisor counted: exits by reason, memory held.
    pub core: BTreeMap<String, f64>,
    /// Steps of the scenario that passed.
    pub passed: u32,
    /// Steps of the scenario that failed.
    pub failed: u32,
}

/// Rows of the table of times: what is shown, where it begins, where it ends.
pub const SPANS: [(&str, &str, &str); 5] = [
    ("loader to dom0's first line", "on", "dom0-kernel"),
    ("loader to dom0's userspace", "on", "dom0-userspace"),
    ("loader to toolstack ready", "on", "dom0-toolstack"),
    ("create until it returns", "create-begin", "create-end"),
    ("create to guest's userspace", "create-begin", "guest-userspace"),
];

impl Figures {
    /// Remembers the first time that `name` was reached.
    pub fn mark(&mut self, name: &str, line: &Line) {
        let moment = Moment {
            wall: line.at.as_secs_f64(),
            cpu: line.cpu.as_secs_f64(),
        };
        self.moments.entry(name.to_owned()).or_insert(moment);
    }

    /// What our core says when the machine goes down: memory, exits by kind, hypercalls.
    pub fn read_core(&mut self, line: &str) {
        // After the time in brackets.
        let Some((_, text)) = line.split_once("] ") else {
            return;
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut keep = |name: String, value: &str| {
            if let Ok(value) = value.trim_end_matches(',').parse() {
                self.core.insert(name, value);
            }
        };
        match words[..] {
            ["memory:", held, "KiB", "held", ..] => keep("memory held by the core, KiB".to_owned(), held),
            [
                "stacks:",
                most,
                "of",
                _,
                "bytes",
                "used",
                "at",
                "most",
                "by",
                ref who @ ..,
            ] => keep(
                format!("most of a stack in use by {}, bytes", who.join(" ")),
                most,
            ),
            ["exits:", domain, ref kind @ .., count] => {
                keep(format!("exits of {domain}: {}", kind.join(" ")), count)
            }
            ["hypercalls:", name, count, "not", "implemented", refused] => {
                keep(format!("hypercalls: {name}"), count);
                if refused != "0" {
                    keep(format!("hypercalls not implemented: {name}"), refused);
                }
            }
            _ => {}
        }
    }

    /// Wall and CPU seconds between two milestones.
    pub fn span(&self, from: &str, to: &str) -> Option<Moment> {
        let end = self.moments.get(to)?;
        let start = if from == "on" {
            Moment::default()
        } else {
            *self.moments.get(from)?
        };
        Some(Moment {
            wall: end.wall - start.wall,
            cpu: end.cpu - start.cpu,
        })
    }

    /// What neither dom0 has nor is free, of a machine with that many MiB, is held by the hypervisor.
    pub fn count_held_memory(&mut self, machine: u32) {
        let (free, dom0) = ("memory free with dom0 alone, KiB", "memory of dom0, KiB");
        if let (Some(free), Some(dom0)) = (self.counted.remove(free), self.counted.remove(dom0)) {
            let name = "memory held by the hypervisor with dom0 alone, KiB";
            let held = f64::from(machine) * 1024.0 - free - dom0;
            self.counted.insert(name.to_owned(), held);
        }
    }

    /// Keeps them for the next comparison and for `docs/STATUS.md`.
    pub fn save(&self, house: &House, hypervisor: Hypervisor) -> Result<()> {
        Ok(fs::write(
            file(house, hypervisor),
            serde_json::to_string_pretty(self)?,
        )?)
    }
}

/// The last run's figures on this hypervisor, if there was one.
pub fn load(house: &House, hypervisor: Hypervisor) -> Option<Figures> {
    serde_json::from_str(&fs::read_to_string(file(house, hypervisor)).ok()?).ok()
}

fn file(house: &House, hypervisor: Hypervisor) -> PathBuf {
    folder(house, hypervisor).join("figures.json")
}

/// Where a run on this hypervisor leaves its log and figures.
pub fn folder(house: &House, hypervisor: Hypervisor) -> PathBuf {
    match hypervisor {
        Hypervisor::Xenolith => house.target("run"),
        Hypervisor::Xen => house.target("run/xen"),
    }
}

/// The table of times as Markdown: ours, Xen's, and the ratio.
pub fn times(ours: Option<&Figures>, xens: Option<&Figures>) -> String {
    let mut table = String::from(
        "| seconds, wall / CPU | Xenolith | Xen 4.17 | ratio of CPU time |\n|---|---|---|---|\n",
    );
    let shown = |moment: Option<Moment>| match moment {
        Some(moment) => format!("{:.2} / {:.2}", moment.wall, moment.cpu),
        None => "-".to_owned(),
    };
    for (title, from, to) in SPANS {
        let our = ours.and_then(|figures| figures.span(from, to));
        let xen = xens.and_then(|figures| figures.span(from, to));
        let ratio = match (our, xen) {
            (Some(our), Some(xen)) if xen.cpu > 0.0 => format!("{:.2}", our.cpu / xen.cpu),
            _ => "-".to_owned(),
        };
        table.push_str(&format!(
            "| {title} | {} | {} | {ratio} |\n",
            shown(our),
            shown(xen)
        ));
    }
    table
}

/// What was counted, as Markdown.
pub fn counts(ours: Option<&Figures>, xens: Option<&Figures>) -> String {
    let mut table = String::from("| counted in the run | Xenolith | Xen 4.17 |\n|---|---|---|\n");
    let empty = BTreeMap::new();
    let ours = ours.map_or(&empty, |figures| &figures.counted);
    let xens = xens.map_or(&empty, |figures| &figures.counted);
    let names: std::collections::BTreeSet<_> = ours.keys().chain(xens.keys()).collect();
    let shown = |value: Option<&f64>| value.map_or("-".to_owned(), |value| number(*value));
    for name in names {
        table.push_str(&format!(
            "| {name} | {} | {} |\n",
            shown(ours.get(name)),
            shown(xens.get(name))
        ));
    }
    table
}

/// What our core counted, as Markdown; empty when it reported nothing.
pub fn core(ours: Option<&Figures>) -> String {
    let Some(figures) = ours.filter(|figures| !figures.core.is_empty()) else {
        return String::new();
    };
    let mut table = String::from("| counted by the core | |\n|---|---|\n");
    for (name, value) in &figures.core {
        table.push_str(&format!("| {name} | {} |\n", number(*value)));
    }
    table
}

/// Whole numbers without a point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_cores_last_words_are_understood() {
        let mut figures = Figures::default();
        for line in [
            "[   9.876] memory: 840 KiB held by the hypervisor, 3000 KiB free of 4000 KiB",
            "[   9.876] stacks: 11000 of 65536 bytes used at most by run loops",
            "[   9.876] exits: d0 port access 1234",
            "[   9.876] hypercalls: memory_op 55, not implemented 2",
            "[    0.123456] memory: something that Linux says",
        ] {
            figures.read_core(line);
        }
        let found: Vec<_> = figures
            .core
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let expected = [
            ("exits of d0: port access", 1234.0),
            ("hypercalls not implemented: memory_op", 2.0),
            ("hypercalls: memory_op", 55.0),
            ("memory held by the core, KiB", 840.0),
            ("most of a stack in use by run loops, bytes", 11000.0),
        ];
        assert_eq!(found, expected);
    }
}
