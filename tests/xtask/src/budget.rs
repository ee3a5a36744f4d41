//! `cargo xtask budget`: what the core may cost at most, in `tests/budgets/core.toml`, and whether it keeps to it.
//!
//! The figures are read from the ELF that was built last, so the check takes a second and is part of `cargo xtask test`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use clap::Args;
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection};
use serde::Deserialize;

use crate::core_image;
use crate::house::House;
use crate::panics::{self, Counts, Reasons};
use crate::report;
use crate::stack;
use crate::suite::Outcome;

/// Where it is kept.
const FILE: &str = "tests/budgets/core.toml";

/// What to do with it.
#[derive(Args)]
pub struct BudgetArguments {
    /// Makes what was measured the budget, and writes docs/PANICS.md.
    #[arg(long)]
    set: bool,
}

/// The budget; and, in the same form, what was measured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Bytes of instructions, and of all that is loaded without what is zero.
    code: BTreeMap<String, u64>,
    /// Panic sites by crate.
    panic_sites: BTreeMap<String, u64>,
    /// Those of them that are in functions that can run when boot is over.
    panic_sites_after_boot: BTreeMap<String, u64>,
    /// Bytes of stack by what runs on it.
    stack: BTreeMap<String, u64>,
}

/// All that was measured.
struct Measured {
    budget: Budget,
    sites: Vec<panics::Site>,
    stack: stack::Found,
}

impl Budget {
    fn read(house: &House) -> Result<Budget> {
        let text = fs::read_to_string(house.path(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        toml::from_str(&text).with_context(|| format!("{FILE} is not as expected"))
    }

    fn sections(&self) -> [(&'static str, &BTreeMap<String, u64>); 4] {
        [
            ("code", &self.code),
            ("panic_sites", &self.panic_sites),
            ("panic_sites_after_boot", &self.panic_sites_after_boot),
            ("stack", &self.stack),
        ]
    }

    /// With room for small changes, and for what differs between machines that build the same sources: the names of files
    /// in messages, and where addresses have more digits. A panic site more is none of these.
    fn with_room(mut self) -> Budget {
        const CODE: u64 = 16 << 10;
        const STACK: u64 = 512;
        for (figures, step) in [(&mut self.code, CODE), (&mut self.stack, STACK)] {
            for figure in figures.values_mut() {
                *figure = (*figure + step / 2).next_multiple_of(step);
            }
        }
        self
    }

    fn write(&self, house: &House) -> Result<()> {
        let mut text = String::from(
            "# What the built core may cost at most: bytes of code, panic sites by crate, bytes of stack by what runs on it.\n\
             # `cargo xtask budget` compares, as a part of `cargo xtask test`; `cargo xtask budget --set` writes this file.\n",
        );
        for (title, figures) in self.sections() {
            text.push_str(&format!("\n[{title}]\n"));
            for (name, figure) in figures {
                text.push_str(&format!("\"{name}\" = {figure}\n"));
            }
        }
        Ok(fs::write(house.path(FILE), text)?)
    }
}

/// Builds the core and compares, or sets the budget.
pub fn budget(house: &House, arguments: &BudgetArguments) -> Result<bool> {
    core_image::build(house, core_image::Flavour::Release)?;
    if !arguments.set {
        return Ok(check(house)?.iter().all(Outcome::is_good));
    }
    let measured = measure(house)?;
    measured.budget.with_room().write(house)?;
    let page = house.path("docs/PANICS.md");
    fs::write(
        &page,
        panics::page(house, &measured.sites, &Reasons::read(house)?),
    )?;
    report::note(&format!("wrote {FILE} and {}", house.shown(&page)));
    Ok(true)
}

/// Compares the core that was built last with the budget.
pub fn check(house: &House) -> Result<Vec<Outcome>> {
    let allowed = Budget::read(house)?;
    let measured = measure(house)?;
    let mut outcomes = Vec::new();
    let titles = [
        "code size",
        "panic sites",
        "panic sites after boot",
        "stack depth",
    ];
    let pairs = allowed.sections().into_iter().zip(measured.budget.sections());
    for (title, ((_, allowed), (_, measured))) in titles.into_iter().zip(pairs) {
        let mut above = Vec::new();
        for (name, figure) in measured {
            let allowed = allowed.get(name).copied().unwrap_or(0);
            if *figure > allowed {
                above.push(format!("{name}: {figure} of {allowed}"));
            }
        }
        let detail = if above.is_empty() {
            format!("{} of {}", total(title, measured), total(title, allowed))
        } else {
            above.join(", ")
        };
        outcomes.push(Outcome::new(
            &format!("{title} within its budget"),
            above.is_empty(),
            &detail,
        ));
    }
    let missing = Reasons::read(house)?.missing(house, &measured.sites);
    outcomes.push(Outcome::new(
        "assertions in the core have a reason",
        missing.is_empty(),
        &missing.join("; "),
    ));
    let small = measured.stack.deepest.iter().filter(|deepest| !deepest.fits());
    let mut doubts: Vec<String> = small
        .map(|deepest| format!("{} is too small", deepest.name))
        .collect();
    doubts.extend(measured.stack.doubts);
    outcomes.push(Outcome::new(
        "stacks are bounded, and large enough",
        doubts.is_empty(),
        &doubts.join("; "),
    ));
    Ok(outcomes)
}

/// The figure that stands for a section in a line: the sum of panic sites, the deepest stack, the loaded bytes.
fn total(title: &str, figures: &BTreeMap<String, u64>) -> u64 {
    if title.starts_with("panic sites") {
        figures.values().sum()
    } else {
        figures.values().copied().max().unwrap_or(0)
    }
}

/// The same figures as Markdown, for `docs/STATUS.md`.
pub fn table(house: &House) -> Result<String> {
    let (allowed, measured) = (Budget::read(house)?, measure(house)?.budget);
    let mut table = String::from("| of the core | measured | budget |\n|---|---|---|\n");
    let mut row = |name: &str, measured: u64, allowed: u64| {
        table.push_str(&format!("| {name} | {measured} | {allowed} |\n"));
    };
    for (name, figure) in &measured.code {
        row(
            &format!("{name}, bytes"),
            *figure,
            allowed.code.get(name).copied().unwrap_or(0),
        );
    }
    let ours = |figures: &BTreeMap<String, u64>| -> u64 {
        let ours = figures.iter().filter(|(name, _)| crate::program::is_ours(name));
        ours.map(|(_, count)| count).sum()
    };
    let all = |figures: &BTreeMap<String, u64>| -> u64 { figures.values().sum() };
    row(
        "panic sites in our crates",
        ours(&measured.panic_sites),
        ours(&allowed.panic_sites),
    );
    row(
        "panic sites",
        all(&measured.panic_sites),
        all(&allowed.panic_sites),
    );
    row(
        "panic sites after boot",
        all(&measured.panic_sites_after_boot),
        all(&allowed.panic_sites_after_boot),
    );
    for (name, figure) in &measured.stack {
        let allowed = allowed.stack.get(name).copied().unwrap_or(0);
        row(&format!("deepest stack: {name}, bytes"), *figure, allowed);
    }
    Ok(table)
}

fn measure(house: &House) -> Result<Measured> {
    let sites = panics::measure(house, &core_image::linked(house))?;
    let stack = stack::measure(house)?;
    let counts = Counts::of(&sites);
    let wide = |counts: BTreeMap<String, usize>| -> BTreeMap<String, u64> {
        counts
            .into_iter()
            .map(|(name, count)| (name, count as u64))
            .collect()
    };
    Ok(Measured {
        budget: Budget {
            code: sizes(house)?,
            panic_sites: wide(counts.crates()),
            panic_sites_after_boot: wide(counts.crates_after_boot()),
            stack: stack::by_root(&stack),
        },
        sites,
        stack,
    })
}

/// Bytes of text, and of text, constants and data.
fn sizes(house: &House) -> Result<BTreeMap<String, u64>> {
    let path = core_image::linked(house);
    let file = fs::read(&path).with_context(|| format!("cannot read {}: is it built?", path.display()))?;
    let elf = ElfFile64::<LittleEndian>::parse(file.as_slice())?;
    let size = |name: &str| elf.section_by_name(name).map_or(0, |section| section.size());
    let text = size(".text");
    Ok(BTreeMap::from([
        ("instructions".to_owned(), text),
        (
            "instructions, constants and data".to_owned(),
            text + size(".rodata") + size(".data"),
        ),
    ]))
}
