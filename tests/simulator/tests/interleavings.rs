//! Known races, each under all interleavings with one preemption. With two it takes a build with optimisations:
//! `cargo xtask sim --explore`.

use simulator::explore::{Explored, SCENES, Scene, explore};
use simulator::host::catch_panics;

#[test]
fn known_races_end_well_wherever_one_processor_is_interrupted() {
    catch_panics();
    let mut explored = Explored::default();
    for scene in SCENES {
        let scene = Scene {
            preemptions: 1,
            ..*scene
        };
        if let Err(found) = explore(&scene, &mut explored) {
            panic!(
                "{}, switches {:?}: {}",
                found.scene, found.switches, found.failure
            );
        }
    }
    assert!(
        explored.plays > 1000,
        "{} plays are too few to mean anything",
        explored.plays
    );
}
