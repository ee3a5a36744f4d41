//! All interleavings of a scene with few preemptions.

use super::Scene;
use super::play::{Played, Switch, play};

/// How far behind the first preemption the second one is looked for, in points.
const REACH: u64 = 64;
/// How often a processor that took over comes to the entry of a guest before others get their turn: for the first
/// preemption, and for later ones.
const FIRST_STAYS: &[u32] = &[1, 2];
const LATER_STAYS: &[u32] = &[1];

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Explored {
    /// Plays.
    pub plays: u64,
    /// Points that they passed.
    pub points: u64,
}

/// An interleaving that goes wrong.
#[derive(Clone, Debug)]
pub struct Found {
    /// Of which scene.
    pub scene: &'static str,
    /// Which one.
    pub switches: Vec<Switch>,
    /// How it goes wrong.
    pub failure: String,
}

/// Play a scene under all interleavings with as many preemptions as it asks for.
///
/// # Errors
/// The first interleaving that goes wrong.
pub fn explore(scene: &Scene, explored: &mut Explored) -> Result<(), Box<Found>> {
    let all = one(scene, &[], explored)?;
    deeper(scene, &mut Vec::new(), all.begun..all.points, explored)
}

fn deeper(
    scene: &Scene,
    switches: &mut Vec<Switch>,
    range: core::ops::Range<u64>,
    explored: &mut Explored,
) -> Result<(), Box<Found>> {
    let depth = switches.len();
    if depth as u32 == scene.preemptions {
        return Ok(());
    }
    for point in range {
        for over in 1..scene.processors {
            for &stays in if depth == 0 { FIRST_STAYS } else { LATER_STAYS } {
                switches.push(Switch { point, over, stays });
                let played = one(scene, switches, explored)?;
                if played.switched {
                    let end = played.points.min(point + REACH);
                    deeper(scene, switches, point + 1..end, explored)?;
                }
                switches.pop();
                // Whoever could not take over once cannot do so twice.
                if !played.switched {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn one(scene: &Scene, switches: &[Switch], explored: &mut Explored) -> Result<Played, Box<Found>> {
    let played = play(scene, switches);
    explored.plays += 1;
    explored.points += played.points;
    match played.failure {
        None => Ok(played),
        Some(failure) => Err(Box::new(Found {
            scene: scene.name,
            switches: switches.to_vec(),
            failure,
        })),
    }
}
