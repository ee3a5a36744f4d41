//! The command: scenes under all interleavings with few preemptions, in words.

use std::time::Instant;

use super::{Explored, SCENES, explore};
use crate::numbers::grouped;

/// Play the scenes whose names have these words in them, and print what comes of it; whether all end well.
pub fn tell(words: &str) -> bool {
    let begun = Instant::now();
    let mut sum = Explored::default();
    let mut scenes = 0;
    for scene in SCENES.iter().filter(|scene| scene.name.contains(words)) {
        let mut explored = Explored::default();
        let outcome = explore(scene, &mut explored);
        scenes += 1;
        sum.plays += explored.plays;
        sum.points += explored.points;
        if let Err(found) = outcome {
            let switches: Vec<String> = found.switches.iter().map(ToString::to_string).collect();
            println!(
                "FAIL scene \"{}\", {} plays, switches [{}]: {}",
                found.scene,
                grouped(sum.plays),
                switches.join(", "),
                found.failure
            );
            return false;
        }
        println!(
            "  {:<60}{:>8} interleavings, {:5.1} s",
            scene.name,
            grouped(explored.plays),
            begun.elapsed().as_secs_f64()
        );
    }
    println!(
        "{scenes} scenes, {} interleavings, {} points, 0 failures",
        grouped(sum.plays),
        grouped(sum.points)
    );
    true
}
