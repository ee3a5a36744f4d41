//! Every allocation fails once: some scenarios of domains being made, used and destroyed, with frames and with heap.

use machine::fake::failure::{FailingHeap, Source};
use simulator::exhaust::exhaust;
use simulator::host::catch_panics;
use simulator::scenario::Scenario;

#[global_allocator]
static HEAP: FailingHeap = FailingHeap;

fn every_allocation(source: Source, seeds: core::ops::Range<u64>) {
    catch_panics();
    let mut allocations = 0;
    for seed in seeds {
        let scenario = Scenario::of(seed, 150);
        match exhaust(&scenario, source, |_| ()) {
            Ok(sum) => allocations += sum.allocations,
            Err((nth, failure)) => {
                let message = failure.message;
                panic!("seed {seed}: allocation {nth} of {source:?} fails, and then: {message}");
            }
        }
    }
    assert!(allocations > 100, "{allocations} are too few to mean anything");
}

#[test]
fn every_frame_that_is_refused_is_survived() {
    every_allocation(Source::Frames, 1..9);
}

#[test]
fn every_refusal_of_the_heap_is_survived() {
    every_allocation(Source::Heap, 1..5);
}
