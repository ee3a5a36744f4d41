//! Why an assertion may stay: a line for each, kept beside the budget.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::sites::{Kind, Site};
use crate::house::House;
use crate::program::is_ours;

/// Where they are kept.
pub const FILE: &str = "tests/budgets/panic_reasons.toml";

/// The reasons.
#[derive(Deserialize)]
pub struct Reasons {
    reason: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    /// What the source says at the site, wherever that is.
    code: String,
    /// Why no input reaches it.
    why: String,
}

/// A place in our sources that asserts something.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    file: &'a str,
    line: u32,
}

impl Reasons {
    /// Reads them.
    pub fn read(house: &House) -> Result<Reasons> {
        let text = fs::read_to_string(house.path(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        toml::from_str(&text).with_context(|| format!("{FILE} is not as expected"))
    }

    /// The code that stands there, and the reason for it.
    fn of(&self, house: &House, place: &Place<'_>) -> (String, Option<&Reason>) {
        let code = source(house, place).unwrap_or_default();
        let reason = self.reason.iter().find(|reason| code.contains(&reason.code));
        (code, reason)
    }

    /// Places without a reason, and reasons without a place.
    pub fn missing(&self, house: &House, sites: &[Site]) -> Vec<String> {
        let places = places(sites);
        let mut missing = Vec::new();
        for place in places.keys() {
            if let (code, None) = self.of(house, place) {
                missing.push(format!("{}:{}: {code}", place.file, place.line));
            }
        }
        for reason in &self.reason {
            let used =
                |place: &Place<'_>| source(house, place).is_some_and(|code| code.contains(&reason.code));
            if !places.keys().any(used) {
                missing.push(format!("nothing says `{}` any more", reason.code));
            }
        }
        missing
    }

    /// The table for `docs/PANICS.md`.
    pub fn table(&self, house: &House, sites: &[Site]) -> String {
        let mut rows: BTreeMap<(String, String), (usize, String)> = BTreeMap::new();
        for (place, count) in places(sites) {
            let (code, reason) = self.of(house, &place);
            let (code, why) = match reason {
                Some(reason) => (reason.code.clone(), reason.why.clone()),
                None => (code, String::new()),
            };
            let row = rows.entry((place.file.to_owned(), code)).or_insert((0, why));
            row.0 += count;
        }
        let mut table = String::from("| file | what it says | sites | why it holds |\n|---|---|---|---|\n");
        for ((file, code), (count, why)) in rows {
            table.push_str(&format!("| {file} | `{code}` | {count} | {why} |\n"));
        }
        table
    }
}

/// Our places that assert or expect something, and how often each is in the ELF.
fn places(sites: &[Site]) -> BTreeMap<Place<'_>, usize> {
    let mut places = BTreeMap::new();
    for site in sites {
        let asserts = matches!(site.kind, Kind::Explicit | Kind::Unwrap);
        if asserts && site.named && is_ours(&site.crate_name) {
            let place = Place {
                file: &site.origin.file,
                line: site.origin.line,
            };
            *places.entry(place).or_default() += 1;
        }
    }
    places
}

/// The line, and the next two where an assertion goes over several.
fn source(house: &House, place: &Place<'_>) -> Option<String> {
    let text = fs::read_to_string(house.path(place.file)).ok()?;
    let first = (place.line as usize).checked_sub(1)?;
    let lines: Vec<&str> = text.lines().skip(first).take(4).map(str::trim).collect();
    let first = *lines.first()?;
    let open = first.matches('(').count() > first.matches(')').count();
    Some(if open { lines.join(" ") } else { first.to_owned() })
}
