//! What a request costs must not grow with the size of the tree.

mod common;

use common::House;
use std::time::{Duration, Instant};
use xenstored::wire::MessageType::*;

/// The time of a thousand rounds of reading, writing and a transaction in a directory with so many children.
fn time_with(children: usize) -> Duration {
    let mut house = House::new();
    for index in 0..children {
        house.ask(Write, 0, &format!("/many/{index}|value")).unwrap();
    }
    let start = Instant::now();
    for index in 0..1000 {
        let node = index * 7919 % children;
        house.ask(Read, 0, &format!("/many/{node}|")).unwrap();
        house.ask(Write, 0, &format!("/many/{node}|{index}")).unwrap();
        let transaction = house.ask(TransactionStart, 0, "|").unwrap();
        let transaction = transaction.trim_end_matches('|').parse().unwrap();
        house
            .ask(Write, transaction, &format!("/many/{node}|{index}"))
            .unwrap();
        house
            .ask(Remove, transaction, &format!("/many/new-{index}|"))
            .unwrap();
        house.ask(TransactionEnd, transaction, "T|").unwrap();
    }
    start.elapsed()
}

#[test]
fn a_hundred_thousand_siblings_cost_little_more_than_a_hundred() {
    let (few, many) = (time_with(100), time_with(100_000));
    println!("6000 requests: {few:?} among 100, {many:?} among 100000");
    // Linear cost would be a thousand times as much.
    assert!(many < few * 20, "{few:?} among 100, {many:?} among 100000");
}
