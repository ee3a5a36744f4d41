//! What a decision costs as hosts grow: 256 processors with 4096 vCPUs beside 4 with 64.

use std::time::Instant;

use super::mix::{Mix, Share, Work};
use super::timeline::Timeline;

/// Virtual time before and while decisions are counted.
const SPAN: u64 = 40_000_000;

/// What a decision came to on a host of a size.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processors.
    pub processors: usize,
    /// vCPUs.
    pub vcpus: usize,
    /// Entries into guests.
    pub decisions: u64,
    /// Points that the core passed for each: locks, ordering atomics, kicks. Exact, the same in each run.
    pub points: f64,
    /// Nanoseconds of this machine for each, the simulation included.
    pub nanoseconds: f64,
}

/// A host of `processors` processors with 16 vCPUs for each, of 32 domains: half of them compute, half wake often.
pub fn measure(processors: usize) -> Result<Cost, String> {
    let vcpus = processors * 16;
    let domains = vcpus.div_ceil(128).max(32);
    let each = vcpus / domains;
    let domain = |number: usize| Share {
        weight: [128, 256, 512, 1024][number % 4],
        cap: 0,
        vcpus: (0..each)
            .map(|vcpu| match vcpu % 2 {
                0 => Work::Compute,
                _ => Work::Jobs {
                    period: 20_000_000 + 1_000_000 * (vcpu as u64 % 7),
                    length: 200_000,
                    irregular: true,
                    events: true,
                },
            })
            .collect(),
    };
    let mix = Mix {
        seed: processors as u64,
        processors,
        domains: (0..domains).map(domain).collect(),
        pinned: false,
    };
    let mut timeline = Timeline::new(&mix);
    timeline.run_until(SPAN, &mut |_| Ok(()))?;
    let (decisions, points) = (timeline.decisions, timeline.points);
    let begun = Instant::now();
    timeline.run_until(2 * SPAN, &mut |_| Ok(()))?;
    let time = begun.elapsed();
    let decisions = timeline.decisions - decisions;
    let points = timeline.points - points;
    timeline.finish();
    Ok(Cost {
        processors,
        vcpus: each * domains,
        decisions,
        points: points as f64 / decisions as f64,
        nanoseconds: time.as_nanos() as f64 / decisions as f64,
    })
}
