//! `cargo xtask stack`: how deep the core's stacks can get, by its instructions and calls, against the stacks' sizes.
//!
//! Each function's frame and each call's depth are read off the linked ELF. What computed calls
//! reach and how long recursions get is said by rules. What cannot be followed and has no rule is a failure, not a guess.

mod calls;
mod depth;
mod frames;
mod indirect;
mod rules;

use std::collections::{BTreeMap, HashSet};
use std::fs;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::core_image;
use crate::house::House;
use crate::program::Program;
use crate::report;

use calls::Calls;
use depth::Depths;
use rules::{Root, Rules, fits};

/// What to show.
#[derive(Args)]
pub struct StackArguments {
    /// Only roots whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// The deepest way on one stack.
#[derive(Serialize)]
pub struct Deepest {
    /// What runs on it.
    pub name: String,
    /// The most bytes in use.
    pub bytes: u64,
    /// What a panic at that place takes on top.
    pub panic: u64,
    /// The stack's size.
    pub size: u64,
    /// The calls that lead there: function, and bytes in use by it.
    pub way: Vec<(String, u64)>,
}

impl Deepest {
    /// Whether the stack is large enough, with a panic at the deepest place.
    pub fn fits(&self) -> bool {
        self.bytes + self.panic <= self.size
    }
}

/// All that was found.
pub struct Found {
    /// By root.
    pub deepest: Vec<Deepest>,
    /// What could not be followed.
    pub doubts: Vec<String>,
}

/// Builds the core and shows the deepest ways; false where something could not be followed or a stack is too small.
pub fn stack(house: &House, arguments: &StackArguments) -> Result<bool> {
    core_image::build(house, core_image::Flavour::Release)?;
    let found = measure(house)?;
    let shown = |deepest: &&Deepest| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| deepest.name.contains(only))
    };
    for deepest in found.deepest.iter().filter(shown) {
        println!(
            "{}: {} bytes, and {} for a panic there, of {}",
            deepest.name, deepest.bytes, deepest.panic, deepest.size
        );
        for equal in deepest.way.chunk_by(|one, other| one == other) {
            let times = if equal.len() > 1 {
                format!(" ({} times)", equal.len())
            } else {
                String::new()
            };
            if let Some((function, bytes)) = equal.first() {
                println!("{bytes:8} {function}{times}");
            }
        }
    }
    for doubt in &found.doubts {
        println!("in doubt: {doubt}");
    }
    let fit = found.deepest.iter().all(Deepest::fits);
    if found.doubts.is_empty() && fit {
        report::note("every stack is large enough");
    }
    Ok(found.doubts.is_empty() && fit)
}

/// The deepest ways in the core as it was built last.
pub fn measure(house: &House) -> Result<Found> {
    let path = core_image::linked(house);
    let file = fs::read(&path).with_context(|| format!("cannot read {}: is it built?", path.display()))?;
    let program = Program::parse(&file)?;
    let rules = Rules::read(house)?;
    let calls = Calls::read(&program, &rules);
    let depths = Depths::find(&program, &calls, &rules);
    let mut doubts = [calls.doubts.as_slice(), depths.doubts.as_slice()].concat();
    let panic = calls::panic_handler(&program, &rules).map(|function| depths.of(function));
    if panic.is_none() {
        doubts.push("no function is what the rule calls a panic's".to_owned());
    }
    let mut deepest = Vec::new();
    for root in &rules.root {
        let Some(function) = root_function(&program, root) else {
            doubts.push(format!(
                "{}: not one function is called {}",
                root.name, root.function
            ));
            continue;
        };
        let way = depths.way(function).into_iter();
        deepest.push(Deepest {
            name: root.name.clone(),
            bytes: root.before + depths.of(function),
            panic: panic.unwrap_or(0),
            size: root.size(house)?,
            way: way
                .map(|link| (program.functions[link.function].name.clone(), link.bytes))
                .collect(),
        });
    }
    Ok(Found { deepest, doubts })
}

/// The one function that a root names.
fn root_function(program: &Program, root: &Root) -> Option<usize> {
    let pattern = [root.function.clone()];
    let mut functions =
        (0..program.functions.len()).filter(|&function| fits(&pattern, &program.functions[function].name));
    let function = functions.next()?;
    functions.next().is_none().then_some(function)
}

/// The functions that can run when boot is over.
pub fn after_boot(house: &House, program: &Program) -> Result<HashSet<usize>> {
    let rules = Rules::read(house)?;
    let calls = Calls::read(program, &rules);
    let roots = rules.root.iter().filter(|root| root.after_boot);
    let mut open: Vec<usize> = roots.filter_map(|root| root_function(program, root)).collect();
    let mut reached = HashSet::new();
    while let Some(function) = open.pop() {
        if reached.insert(function) {
            open.extend(calls.edges[function].iter().map(|edge| edge.to));
        }
    }
    Ok(reached)
}

/// Bytes by root, for the budget.
pub fn by_root(found: &Found) -> BTreeMap<String, u64> {
    let pairs = found
        .deepest
        .iter()
        .map(|deepest| (deepest.name.clone(), deepest.bytes));
    pairs.collect()
}
