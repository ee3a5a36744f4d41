//! A whole simulated host: the first eight bytes choose what kind of host it is, each eight bytes after that are one step. What
//! attackers do in a step, who runs and for how long, follows from those bytes. All that the simulator checks is checked.

use simulator::run;
use simulator::scenario::Scenario;

/// Steps that are worth an execution's time.
const MOST_STEPS: usize = 256;

/// Play a scenario.
///
/// # Panics
/// When an invariant does not hold.
pub fn run(data: &[u8]) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // A machine that is switched off is left by a panic of its own, which is no failure.
    ONCE.call_once(simulator::host::catch_panics);
    let scenario = Scenario::from_bytes(&data[..data.len().min(8 + 8 * MOST_STEPS)]);
    let report = run::run(&scenario, false);
    if let Some(failure) = report.failure {
        eprintln!("step {}: {}", failure.steps, failure.message);
        panic!("step {}: {}", failure.steps, failure.message);
    }
}

/// Some scenarios of the simulator's own.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const SEEDS: [(&str, u64); 4] = [
        ("one_processor", 3),
        ("two_processors", 5),
        ("many_guests", 8),
        ("little_memory", 13),
    ];
    let bytes = |seed: u64| {
        let scenario = Scenario::of(seed, 96);
        let words = core::iter::once(seed).chain((0..scenario.len()).map(|index| scenario.step(index)));
        words.flat_map(u64::to_be_bytes).collect()
    };
    SEEDS.map(|(name, seed)| (name, bytes(seed))).into()
}
