//! Random deeds of a control domain, a backend and guests: the core and the model never differ.

mod edges;

use super::play::{Played, play_and_compare};

/// A number that the environment may set: for longer runs by hand.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn core_and_model_agree_on_every_result_and_on_memory() {
    let seeds = setting("MODEL_SEEDS").unwrap_or(100);
    let first = setting("MODEL_FIRST").unwrap_or(1);
    let deeds = setting("MODEL_DEEDS").unwrap_or(1000);
    let mut sum = Played::default();
    for seed in first..first + seeds {
        match play_and_compare(seed, deeds, setting("MODEL_BETWEEN")) {
            Ok(played) => sum.add(played),
            Err(disagreement) => panic!("seed {seed}:\n{disagreement}"),
        }
    }
    println!("{} calls compared; not judged: {:?}", sum.calls, sum.unjudged);
    assert!(sum.calls > seeds * deeds / 2, "most deeds are calls");
    let unjudged: u64 = sum.unjudged.values().sum();
    assert!(unjudged * 50 < sum.calls, "few calls are left unjudged");
}
