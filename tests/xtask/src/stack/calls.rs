//! Who calls whom, with how much stack in use.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Mnemonic};

use super::frames::{self, Depth};
use super::indirect::{self, Source};
use super::rules::{Rules, fits};
use crate::program::{Function, Program, Step};

/// A call, or a jump from one function to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The function that is called.
    pub to: usize,
    /// How much of the stack the caller and the call itself use.
    pub depth: Depth,
}

/// The calls of all functions.
pub struct Calls {
    /// The most that each function uses by itself.
    pub frames: Vec<Depth>,
    /// What each calls: one edge for each callee, the deepest.
    pub edges: Vec<Vec<Edge>>,
    /// What could not be read or resolved.
    pub doubts: Vec<String>,
}

/// What an interrupt leaves on the stack that it comes on: five words, and what aligns them.
const INTERRUPT: Depth = 5 * 8 + 8;

impl Calls {
    /// Reads them off the program.
    pub fn read(program: &Program, rules: &Rules) -> Calls {
        let taken = program.address_taken();
        let handler = program
            .functions
            .iter()
            .position(|function| function.name == "trap_stubs");
        let panic = panic_handler(program, rules);
        let mut calls = Calls {
            frames: Vec::new(),
            edges: Vec::new(),
            doubts: Vec::new(),
        };
        for function in &program.functions {
            let frame = frames::frame(program, function);
            let named = |doubt: &String| format!("{}: {doubt}", function.name);
            calls.doubts.extend(frame.doubts.iter().map(named));
            let mut edges = Vec::new();
            for step in function.steps() {
                // What runs on another stack is another root's.
                let Some(&depth) = frame.at.get(&step.index) else {
                    continue;
                };
                let depth = depth + if step.is_call() { 8 } else { 0 };
                let mut add = |to| edges.push(Edge { to, depth });
                direct(program, function, step).into_iter().for_each(&mut add);
                if indirect::is_computed(program, function, step) {
                    match computed(program, rules, &taken, function, step) {
                        Ok(found) => found.into_iter().for_each(&mut add),
                        Err(doubt) => calls.doubts.push(format!("{}: {doubt}", function.name)),
                    }
                }
                // Interrupts come where they are let in, on the stack in use; exceptions have stacks of their own.
                if step.instruction.mnemonic() == Mnemonic::Sti
                    && let Some(to) = handler
                {
                    edges.push(Edge {
                        to,
                        depth: depth + INTERRUPT,
                    });
                }
            }
            edges.retain(|edge| Some(edge.to) != panic);
            calls.frames.push(frame.deepest);
            calls.edges.push(deepest_of_each(edges));
        }
        calls
    }
}

/// What every panic calls in the end.
pub fn panic_handler(program: &Program, rules: &Rules) -> Option<usize> {
    let pattern = [rules.panic.function.clone()];
    program
        .functions
        .iter()
        .position(|function| fits(&pattern, &function.name))
}

fn deepest_of_each(mut edges: Vec<Edge>) -> Vec<Edge> {
    edges.sort_by_key(|edge| (edge.to, std::cmp::Reverse(edge.depth)));
    edges.dedup_by_key(|edge| edge.to);
    edges
}

/// The callee of a direct call, or of a direct jump that leaves the function.
fn direct(program: &Program, function: &Function, step: Step<'_>) -> Option<usize> {
    let target = step.target().or_else(|| program.constant_target(step))?;
    if !step.is_call() && function.contains(target) {
        return None;
    }
    match step.instruction.flow_control() {
        FlowControl::Next | FlowControl::Return | FlowControl::Exception => None,
        _ => program.around(target),
    }
}

/// What a computed call can reach, by the rules.
fn computed(
    program: &Program,
    rules: &Rules,
    taken: &BTreeSet<usize>,
    function: &Function,
    step: Step<'_>,
) -> Result<BTreeSet<usize>, String> {
    let mut found = BTreeSet::new();
    for source in indirect::sources(program, function, step) {
        if let Source::Constant(address) = source
            && let Some(callee) = program.constant(address).and_then(|target| program.at(target))
        {
            found.insert(callee);
            continue;
        }
        let rule = rules.call.iter().find(|rule| {
            let source_fits = rule.source.is_empty() || rule.source.contains(&source.to_string());
            source_fits && fits(&rule.from, &function.name)
        });
        match rule {
            Some(rule) => {
                let named = |callee: &usize| fits(&rule.to, &program.functions[*callee].name);
                let mut named = taken.iter().copied().filter(named).peekable();
                if named.peek().is_none() {
                    return Err(format!("a rule for its calls names nobody: {:?}", rule.to));
                }
                found.extend(named);
            }
            None => {
                return Err(format!(
                    "no rule says what the call at {:#x} reaches ({source})",
                    step.address()
                ));
            }
        }
    }
    Ok(found)
}
