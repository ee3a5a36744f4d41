//! What was done, and what became of it.

use std::collections::BTreeMap;

use hypercall_abi::hypercall::name;
use machine::Exit;

/// What became of one sub-operation's calls.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub made: u64,
    pub succeeded: u64,
    pub elements: u64,
    pub elements_done: u64,
}

/// What was done, and what became of it.
#[derive(Clone, Default)]
pub struct Sum {
    pub tallies: BTreeMap<(u64, u32), Tally>,
    pub exits: BTreeMap<usize, u64>,
    pub stores: u64,
    pub restarts: u64,
    pub created: usize,
    pub deeds: usize,
}

impl Sum {
    pub fn add(&mut self, other: &Sum) {
        for (&key, tally) in &other.tallies {
            let sum = self.tallies.entry(key).or_default();
            sum.made += tally.made;
            sum.succeeded += tally.succeeded;
            sum.elements += tally.elements;
            sum.elements_done += tally.elements_done;
        }
        for (&kind, count) in &other.exits {
            *self.exits.entry(kind).or_default() += count;
        }
        self.stores += other.stores;
        self.restarts += other.restarts;
        self.created += other.created;
        self.deeds += other.deeds;
    }
}

pub fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

pub fn print(sum: &Sum) {
    for (&(number, operation), tally) in &sum.tallies {
        // Nonsense is made too, and is not worth a line each.
        if tally.made < 3 {
            continue;
        }
        let name = name(number).unwrap_or("?");
        print!(
            "{name:18} {operation:4}: {:7} made, {:6} succeeded ({:5.1} %)",
            tally.made,
            tally.succeeded,
            percent(tally.succeeded, tally.made)
        );
        if tally.elements != 0 {
            print!(
                "; {} of {} elements ({:.1} %)",
                tally.elements_done,
                tally.elements,
                percent(tally.elements_done, tally.elements)
            );
        }
        println!();
    }
    let exits: Vec<String> = sum
        .exits
        .iter()
        .map(|(&kind, count)| format!("{} {count}", Exit::kind_name(kind)))
        .collect();
    println!("exits: {}", exits.join(", "));
    println!(
        "{} stores, {} restarts, {} domains made",
        sum.stores, sum.restarts, sum.created
    );
}
