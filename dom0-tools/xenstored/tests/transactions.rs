//! Transactions against a model: whatever interleaves, the outcome is that of the committed ones in order.

mod common;

use common::House;
use proptest::prelude::*;
use std::collections::BTreeMap;
use xenstored::wire::MessageType;

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    /// Reads a node and writes a value derived from it to another.
    Derive(usize, usize, usize),
    Remove(usize, usize),
    Commit(usize),
    /// A change outside of any transaction.
    Set(usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_usize..3).prop_map(Step::Begin),
        (0_usize..3, 0_usize..4, 0_usize..4).prop_map(|(slot, from, to)| Step::Derive(slot, from, to)),
        (0_usize..3, 0_usize..4).prop_map(|(slot, node)| Step::Remove(slot, node)),
        (0_usize..3).prop_map(Step::Commit),
        (0_usize..4, any::<u8>()).prop_map(|(node, value)| Step::Set(node, value)),
    ];
    proptest::collection::vec(step, 0..60)
}

type Model = BTreeMap<usize, String>;

fn derive(model: &mut Model, from: usize, to: usize) {
    let value = format!("{}+", model.get(&from).map_or("", String::as_str));
    // Values grow by one character per step; the length keeps them apart.
    model.insert(to, value);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn committed_transactions_are_as_if_they_ran_one_after_the_other(steps in steps()) {
        let mut house = House::new();
        let mut model = Model::new();
        let mut open: [Option<(u32, Vec<Step>)>; 3] = [None, None, None];
        let path = |node: usize| format!("/test/{node}|");
        for step in steps {
            match step.clone() {
                Step::Begin(slot) if open[slot].is_none() => {
                    let number = house.ask(MessageType::TransactionStart, 0, "|").unwrap();
                    open[slot] = Some((number.trim_end_matches('|').parse().unwrap(), Vec::new()));
                }
                Step::Derive(slot, from, to) => if let Some((number, done)) = &mut open[slot] {
                    let read = house.ask(MessageType::Read, *number, &path(from)).unwrap_or_default();
                    house.ask(MessageType::Write, *number, &format!("{}{read}+", path(to))).unwrap();
                    done.push(step);
                },
                Step::Remove(slot, node) => if let Some((number, done)) = &mut open[slot] {
                    let _ = house.ask(MessageType::Remove, *number, &path(node));
                    done.push(step);
                },
                Step::Commit(slot) => if let Some((number, done)) = open[slot].take() {
                    match house.ask(MessageType::TransactionEnd, number, "T|") {
                        Ok(_) => for step in done {
                            match step {
                                Step::Derive(_, from, to) => derive(&mut model, from, to),
                                Step::Remove(_, node) => { model.remove(&node); }
                                _ => {}
                            }
                        },
                        Err(error) => prop_assert_eq!(error, "EAGAIN"),
                    }
                },
                Step::Set(node, value) => {
                    house.ask(MessageType::Write, 0, &format!("{}{value}", path(node))).unwrap();
                    model.insert(node, value.to_string());
                }
                Step::Begin(_) => {}
            }
        }
        for node in 0..4 {
            let stored = house.ask(MessageType::Read, 0, &path(node)).ok();
            prop_assert_eq!(stored.as_ref(), model.get(&node));
        }
        prop_assert_eq!(house.ask(MessageType::Control, 0, "check|"), Ok("OK|".into()));
    }
}
