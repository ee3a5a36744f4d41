//! Steps and their outcomes, one line each.

use std::time::Instant;

use anyhow::Result;

/// What has come of the scenario so far.
pub struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// Begins.
    pub fn begin(scenario: &str) -> Report {
        println!("scenario: begin {scenario}");
        Report { passed: 0, failed: 0 }
    }

    /// Does one step; true when it worked.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        println!("scenario: step {name}");
        let started = Instant::now();
        match work() {
            Ok(()) => {
                self.passed += 1;
                println!("scenario: ok {name} ({:.2} s)", started.elapsed().as_secs_f64());
                true
            }
            Err(error) => {
                self.fail(name, &format!("{error:#}"));
                false
            }
        }
    }

    /// A failure, on one line whatever it says.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("scenario: FAIL {name}: {}", why.replace(['\n', '\r'], " | "));
    }

    /// A milestone.
    pub fn mark(&self, name: &str) {
        println!("scenario: mark {name}");
    }

    /// Something counted.
    pub fn figure(&self, name: &str, value: f64) {
        println!("scenario: figure {name} = {value:.2}");
    }

    /// The verdict, and the exit status that goes with it.
    pub fn end(self) -> i32 {
        println!("scenario: verdict {} passed, {} failed", self.passed, self.failed);
        i32::from(self.failed > 0)
    }
}
