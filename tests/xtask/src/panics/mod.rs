//! `cargo xtask panics`: the places left in the core from which a panic can be reached, counted and listed.
//!
//! They are read from the linked ELF: each call or jump to one of the few functions that panic, with the place in the
//! sources that the panic would name. What the optimiser proved to be impossible is not there; what it inlined at ten
//! places is there ten times.

mod reasons;
mod sites;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::core_image;
use crate::house::House;
use crate::program::{Origins, Program};
use crate::report;
use crate::stack;

pub use reasons::Reasons;
pub use sites::Site;
pub use tables::Counts;

/// What to show of them.
#[derive(Args)]
pub struct PanicsArguments {
    /// Every site, not only the counts.
    #[arg(long)]
    list: bool,
    /// Only the sites of this crate, or of files whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Another build's ELF, as it was linked, in place of a new one: to compare.
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// Only the sites in functions that can run when boot is over.
    #[arg(long)]
    after_boot: bool,
    /// Writes every site to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds the core and shows its panic sites; false where one has no reason to be there.
pub fn panics(house: &House, arguments: &PanicsArguments) -> Result<bool> {
    let elf = match &arguments.elf {
        Some(elf) => elf.clone(),
        None => {
            core_image::build(house, core_image::Flavour::Release)?;
            core_image::linked(house)
        }
    };
    let mut sites = measure(house, &elf)?;
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_string_pretty(&sites)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let unexplained = match arguments.elf {
        // Its sources are not those here.
        Some(_) => Vec::new(),
        None => Reasons::read(house)?.missing(house, &sites),
    };
    if let Some(name) = &arguments.only {
        sites.retain(|site| site.crate_name == *name || site.origin.file.contains(name.as_str()));
    }
    if arguments.after_boot {
        sites.retain(|site| site.after_boot);
    }
    if arguments.list {
        for site in &sites {
            println!("{}", tables::line(site));
        }
    }
    let counts = Counts::of(&sites);
    println!("{}", counts.by_crate());
    println!("{}", counts.by_file());
    for site in &unexplained {
        println!("without a reason in {}: {site}", reasons::FILE);
    }
    report::note(&format!(
        "{} sites at {} places in the sources, {} of them in functions that can run when boot is over",
        counts.total(),
        counts.places(),
        counts.after_boot()
    ));
    Ok(unexplained.is_empty())
}

/// The panic sites in an ELF.
pub fn measure(house: &House, elf: &Path) -> Result<Vec<Site>> {
    let file = fs::read(elf).with_context(|| format!("cannot read {}: is it built?", elf.display()))?;
    let program = Program::parse(&file)?;
    let after_boot = stack::after_boot(house, &program)?;
    Ok(sites::find(&program, &Origins::parse(&file)?, &after_boot))
}

/// `docs/PANICS.md`.
pub fn page(house: &House, sites: &[Site], reasons: &Reasons) -> String {
    let counts = Counts::of(sites);
    format!(
        "# Panic sites\n\n\
         Written by `cargo xtask budget --set` from the core's ELF; `cargo xtask panics --list` shows every one. A site is \
         a call of code that panics, at one\nplace in the sources; inlining makes several of one. In the core a panic stops \
         the machine: no input may reach one. What each kind is left for is in\n[SAFETY](SAFETY.md).\n\n\
         {} sites at {} places in the sources; {} are in functions that can run when boot is over.\n\n## By crate\n\n{}\n## Ours, by file\n\n{}\n\
         ## Assertions and expectations\n\nEach `assert!`, `panic!`, `unwrap` and `expect` of ours that is left in the ELF, \
         and why no input reaches it.\n\n{}",
        counts.total(),
        counts.places(),
        counts.after_boot(),
        counts.by_crate(),
        counts.by_file(),
        reasons.table(house, sites),
    )
}
