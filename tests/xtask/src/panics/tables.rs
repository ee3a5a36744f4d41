//! Panic sites, counted.

use std::collections::{BTreeMap, BTreeSet};

use super::sites::{Kind, Site};
use crate::program::is_ours;

/// How many of each kind, and how many that can be reached when boot is over.
#[derive(Clone, Copy, Default)]
struct Row {
    kinds: [usize; Kind::ALL.len()],
    after_boot: usize,
}

impl Row {
    fn add(&mut self, site: &Site) {
        self.kinds[site.kind as usize] += 1;
        self.after_boot += usize::from(site.after_boot);
    }

    fn total(self) -> usize {
        self.kinds.iter().sum()
    }

    fn cells(self) -> String {
        let shown = |count: usize| {
            if count == 0 {
                String::new()
            } else {
                count.to_string()
            }
        };
        let kinds: String = self
            .kinds
            .iter()
            .map(|&count| format!(" {} |", shown(count)))
            .collect();
        format!(" {} | {} |{kinds}", self.total(), shown(self.after_boot))
    }
}

/// Counts of sites, by crate and file.
pub struct Counts {
    all: Row,
    crates: BTreeMap<String, Row>,
    files: BTreeMap<String, Row>,
    places: usize,
}

impl Counts {
    /// Counts them.
    pub fn of(sites: &[Site]) -> Counts {
        let mut counts = Counts {
            all: Row::default(),
            crates: BTreeMap::new(),
            files: BTreeMap::new(),
            places: sites
                .iter()
                .map(|site| (&site.origin, site.kind))
                .collect::<BTreeSet<_>>()
                .len(),
        };
        for site in sites {
            counts.all.add(site);
            counts
                .crates
                .entry(site.crate_name.clone())
                .or_default()
                .add(site);
            if is_ours(&site.crate_name) {
                counts
                    .files
                    .entry(site.origin.file.clone())
                    .or_default()
                    .add(site);
            }
        }
        counts
    }

    /// Sites.
    pub fn total(&self) -> usize {
        self.all.total()
    }

    /// Different places in the sources that they stand for.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Sites in functions that can run when boot is over.
    pub fn after_boot(&self) -> usize {
        self.all.after_boot
    }

    /// Sites by crate that can be reached when boot is over.
    pub fn crates_after_boot(&self) -> BTreeMap<String, usize> {
        let reached = self.crates.iter().filter(|(_, row)| row.after_boot != 0);
        reached
            .map(|(name, row)| (name.clone(), row.after_boot))
            .collect()
    }

    /// Sites by crate.
    pub fn crates(&self) -> BTreeMap<String, usize> {
        let total = |(name, row): (&String, &Row)| (name.clone(), row.total());
        self.crates.iter().map(total).collect()
    }

    /// Crates and kinds as Markdown: ours first.
    pub fn by_crate(&self) -> String {
        let mut text = head("crate");
        for ours in [true, false] {
            for (name, row) in self.crates.iter().filter(|(name, _)| is_ours(name) == ours) {
                text.push_str(&format!("| {name} |{}\n", row.cells()));
            }
        }
        text.push_str(&format!("| **all** |{}\n", self.all.cells()));
        text
    }

    /// Our files and kinds as Markdown.
    pub fn by_file(&self) -> String {
        let mut text = head("file");
        for (file, row) in &self.files {
            text.push_str(&format!("| {file} |{}\n", row.cells()));
        }
        text
    }
}

fn head(first: &str) -> String {
    let kinds: String = Kind::ALL
        .iter()
        .map(|kind| format!(" {} |", kind.name()))
        .collect();
    format!(
        "| {first} | sites | after boot |{kinds}\n|---|---|---|{}\n",
        "---|".repeat(Kind::ALL.len())
    )
}

/// A site in one line.
pub fn line(site: &Site) -> String {
    let from = match &site.called_from {
        Some(origin) => format!(", called from {}:{}", origin.file, origin.line),
        None => String::new(),
    };
    let origin = &site.origin;
    format!(
        "{:10} {:12} {}:{}:{} in {} at {:#x}{from}",
        site.kind.name(),
        site.crate_name,
        origin.file,
        origin.line,
        origin.column,
        site.function,
        site.address
    )
}
