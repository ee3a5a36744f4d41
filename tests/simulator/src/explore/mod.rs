//! Narrow windows, looked into one by one: tiny scenes, each played under every interleaving with few preemptions.
//!
//! A scenario from a seed meets a window that is one point wide once in hundred thousands. A *scene* is a race that is known
//! beforehand: two or three processors, a few vCPUs with a fixed part each, and what must have come of it. [`search`] plays
//! it once as it goes by itself, then again with every point as the place where another processor takes over, then with every
//! pair of such points. Most mistakes of concurrency need no more than two preemptions.
//!
//! Scenes say what guests do, and see what guests see; how the core schedules is none of their business. Besides, the
//! invariants are checked whenever all processors stand before a guest or idle.

mod guest;
mod play;
mod scenes;
mod search;
mod tell;

use std::sync::Arc;

use kernel::testing::{TestDomain, TestKernel};

pub use guest::{Act, Flags, Sight};
pub use play::{Played, Switch, play};
pub use scenes::SCENES;
pub use search::{Explored, Found, explore};
pub use tell::tell;

/// The number among those that guests share which says that the race has begun: before, nothing is worth an interruption.
const BEGIN: usize = 0;

/// A race, and who takes part in it.
#[derive(Clone, Copy)]
pub struct Scene {
    /// What it is about.
    pub name: &'static str,
    /// Processors of its machine.
    pub processors: usize,
    /// Preemptions that are tried together.
    pub preemptions: u32,
    /// Makes its domains, with all that they have before the race begins.
    pub build: fn(&Arc<TestKernel>) -> Cast,
}

/// The domains of a scene, and what each of their vCPUs does.
#[derive(Default)]
pub struct Cast {
    parts: Vec<Part>,
    /// What must be true of the kernel once all parts have been played.
    pub outcome: Option<Outcome>,
}

/// Looks at what came of a scene.
pub type Outcome = fn(&TestKernel) -> Result<(), String>;

struct Part {
    domain: TestDomain,
    vcpu: u32,
    acts: Vec<Act>,
}

impl Cast {
    /// A vCPU plays these acts, one after the other, and then waits for ever.
    pub fn add(&mut self, domain: &TestDomain, vcpu: u32, acts: Vec<Act>) {
        self.parts.push(Part {
            domain: domain.clone(),
            vcpu,
            acts,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    const COUNT: usize = 1;
    const READY: usize = 2;

    /// Two guests count in the same number, each in two steps with a point of interleaving between: the guests' own mistake.
    fn counting(kernel: &Arc<TestKernel>) -> Cast {
        let domain = kernel::testing::domain(kernel, 1, 2, 4);
        let mut cast = Cast::default();
        let count = |sight: &Sight<'_>| {
            let before = sight.flags.get(COUNT);
            assert!(sight.store(0x1000, &[1]));
            sight.flags.set(COUNT, before + 1);
            sight.flags.set(READY, sight.flags.get(READY) + 1);
        };
        let begin = || Act::Do(Box::new(|sight| sight.flags.set(BEGIN, 1)));
        let both = Act::Until(Box::new(|sight| sight.flags.get(READY) == 2));
        let check = Act::Do(Box::new(|sight| assert_eq!(sight.flags.get(COUNT), 2)));
        cast.add(&domain, 0, vec![begin(), Act::Do(Box::new(count)), both, check]);
        cast.add(&domain, 1, vec![begin(), Act::Do(Box::new(count))]);
        cast
    }

    #[test]
    fn a_window_of_one_point_is_found() {
        let scene = Scene {
            name: "counting",
            processors: 2,
            preemptions: 0,
            build: counting,
        };
        assert!(
            explore(&scene, &mut Explored::default()).is_ok(),
            "as it goes by itself"
        );
        let scene = Scene {
            preemptions: 1,
            ..scene
        };
        let found = explore(&scene, &mut Explored::default()).unwrap_err();
        assert_eq!(found.switches.len(), 1);
        assert!(found.failure.contains("left == right"), "{}", found.failure);
        // The same switches do the same again.
        assert!(play(&scene, &found.switches).failure.is_some());
    }

    #[test]
    fn whoever_is_never_woken_is_missed() {
        let scene = Scene {
            name: "waiting",
            processors: 1,
            preemptions: 0,
            build: |kernel| {
                let domain = kernel::testing::domain(kernel, 1, 1, 1);
                domain.vcpus[0].stops.store(0, Ordering::SeqCst);
                let mut cast = Cast::default();
                cast.add(&domain, 0, vec![Act::HaltUntil(Box::new(|_| false))]);
                cast
            },
        };
        let found = explore(&scene, &mut Explored::default()).unwrap_err();
        assert_eq!(
            found.failure,
            "nobody has anything to do, and d1 v0 has played 0 of 1 acts"
        );
    }
}
