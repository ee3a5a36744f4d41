//! What is promised, and whether it was kept.

use kernel::audit::Auditor;
use kernel::schedule::fair::SLICE;
use kernel::schedule::share::PATIENCE;
use machine::fake::FakeMachine;
use machine::{Machine, Nanoseconds};

use super::ideal::{self, Task};
use super::mix::{Mix, Share, Work};
use super::timeline::Timeline;

/// Before anything is measured: whoever came first has no more than the others by then.
pub const WARM_UP: Nanoseconds = 200_000_000;
/// Shares are measured over so much virtual time.
pub const WINDOW: Nanoseconds = 1_000_000_000;
/// A domain's share is within so much of the ideal one, as a part of the window: a hundredth.
pub const SHARE_TOLERANCE: f64 = 0.01;
/// The same where a weight promises more at times than its vCPUs can use, or a cap holds: what is ideal there changes with
/// everybody's every burst, and the core follows slice by slice.
pub const LOOSE_TOLERANCE: f64 = 0.10;
/// A cap is exceeded by no more than this part of the window, or of the cap if that is more.
pub const CAP_TOLERANCE: f64 = 0.01;
/// Less idleness than this is none.
const IDLE_IS_NONE: f64 = 0.001;
/// Moments of a host's 1.2 s: more are a processor that is interrupted all the time.
const MOST_MOMENTS: u64 = 1_000_000;
/// One moment of so many is audited.
const AUDITED: u64 = 512;

/// What a host's second came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Entries into guests.
    pub decisions: u64,
    /// Points that the core passed.
    pub points: u64,
    /// Moments at which the promises were looked at.
    pub moments: u64,
    /// The worst difference of a domain's share from the ideal one, as a part of the host's time; none where vCPUs are
    /// pinned or a processor idled.
    pub worst_share: Option<f64>,
    /// The same of hosts where a weight promises more at times than its vCPUs can use, or a cap holds.
    pub worst_loose_share: Option<f64>,
    /// The most that a domain had over its cap, as a part of the window.
    pub worst_cap: Option<f64>,
    /// Times from waking to running of vCPUs that want less than their domain's share.
    pub latencies: Vec<Nanoseconds>,
    /// Each domain's part of a processor: what it had, and what is ideal.
    pub shares: Vec<(f64, f64)>,
    /// The longest time that a vCPU waited, as a part of the time that it may have to.
    pub longest_wait: f64,
}

/// Run a host and check it.
///
/// # Errors
/// The promise that was not kept.
pub fn play(mix: &Mix) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    watch(mix, &mut outcome).map(|()| outcome)
}

/// Run a host and check it; what was found up to a broken promise is left in `outcome`.
///
/// # Errors
/// The promise that was not kept.
pub fn watch(mix: &Mix, outcome: &mut Outcome) -> Result<(), String> {
    let mut timeline = Timeline::new(mix);
    let mut auditor = Auditor::knowing(FakeMachine::interrupt_waits);
    let mut look = |timeline: &Timeline| look(timeline, &mut auditor);
    timeline.run_until(WARM_UP, &mut look)?;
    let before: Vec<Nanoseconds> = timeline.actors.iter().map(|actor| actor.ran).collect();
    for actor in &mut timeline.actors {
        actor.latencies.clear();
        actor.longest_wait = 0;
    }
    let idle = timeline.idle_time();
    timeline.run_until(WARM_UP + WINDOW, &mut look)?;
    let idle = (timeline.idle_time() - idle) as f64 / WINDOW as f64;
    outcome.decisions = timeline.decisions;
    outcome.points = timeline.points;
    outcome.moments = timeline.moments.get();
    let ran: Vec<f64> = (0..mix.domains.len())
        .map(|domain| {
            let actors = timeline.actors.iter().zip(&before);
            let own = actors.filter(|(actor, _)| actor.domain == domain);
            own.map(|(actor, before)| (actor.ran - *before) as f64)
                .sum::<f64>()
                / WINDOW as f64
        })
        .collect();
    let ideal = ideal_of(mix, &timeline);
    outcome.shares = ran.iter().copied().zip(ideal.iter().copied()).collect();
    check_caps(mix, &ran, outcome)?;
    if !mix.pinned {
        check_shares(mix, &ran, &ideal, idle, outcome)?;
        check_waits(mix, &timeline, outcome)?;
    }
    for actor in &timeline.actors {
        let Work::Jobs { .. } = mix.domains[actor.domain].vcpus[actor.vcpu.index as usize] else {
            continue;
        };
        let domain = &mix.domains[actor.domain];
        let wanted: f64 = domain.vcpus.iter().map(Work::demand).sum();
        let content = ideal[actor.domain] > wanted * 0.999 && domain.cap == 0;
        if content && !mix.pinned && wanted < 0.5 * fair_part(mix, actor.domain) {
            outcome.latencies.extend_from_slice(&actor.latencies);
        }
    }
    timeline.finish();
    Ok(())
}

/// What a domain would get if all wanted all.
fn fair_part(mix: &Mix, domain: usize) -> f64 {
    let all: f64 = mix.domains.iter().map(|other| f64::from(other.weight)).sum();
    mix.processors as f64 * f64::from(mix.domains[domain].weight) / all
}

fn ideal_of(mix: &Mix, timeline: &Timeline) -> Vec<f64> {
    let tasks: Vec<Task> = timeline
        .actors
        .iter()
        .map(|actor| Task {
            domain: actor.domain,
            endless: mix.domains[actor.domain].vcpus[actor.vcpu.index as usize] == Work::Compute,
            arrivals: actor.arrivals.clone(),
        })
        .collect();
    let domains: Vec<(f64, f64)> = mix
        .domains
        .iter()
        .map(|domain| {
            let cap = match domain.cap {
                0 => f64::MAX,
                cap => f64::from(cap) / 100.0,
            };
            (f64::from(domain.weight), cap)
        })
        .collect();
    let capacity = mix.processors as f64;
    let had = ideal::flow(&tasks, &domains, capacity, WARM_UP, WARM_UP + WINDOW);
    had.into_iter().map(|time| time / WINDOW as f64).collect()
}

/// Whether no domain that computes for ever is promised more than its vCPUs can use, also when all that sleep now and then
/// do.
fn weights_can_be_kept(mix: &Mix) -> bool {
    let computing = |domain: &Share| domain.vcpus.iter().filter(|&work| *work == Work::Compute).count();
    let all: f64 = mix
        .domains
        .iter()
        .filter(|domain| computing(domain) != 0)
        .map(|domain| f64::from(domain.weight))
        .sum();
    mix.domains.iter().all(|domain| {
        let promised = f64::from(domain.weight) / all * mix.processors as f64;
        domain.cap == 0 && (computing(domain) == 0 || promised <= computing(domain) as f64)
    })
}

/// Each domain has what is its share. What ideally flows side by side runs one after the other in fact: where there were
/// fewer vCPUs left than processors then, and one idled, that cannot be given back.
fn check_shares(
    mix: &Mix,
    ran: &[f64],
    ideal: &[f64],
    idle: f64,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let mut worst = 0.0f64;
    let kept = weights_can_be_kept(mix);
    let tolerance = if kept { SHARE_TOLERANCE } else { LOOSE_TOLERANCE };
    for (index, (ran, ideal)) in ran.iter().zip(ideal).enumerate() {
        let difference = (ran - ideal).abs();
        worst = worst.max(difference);
        if difference > tolerance * mix.processors as f64 + idle {
            return Err(format!(
                "share: d{} (weight {}) had {:.2} % of a processor, and {:.2} % are its share",
                index + 1,
                mix.domains[index].weight,
                ran * 100.0,
                ideal * 100.0
            ));
        }
    }
    if idle < IDLE_IS_NONE {
        let place = if kept {
            &mut outcome.worst_share
        } else {
            &mut outcome.worst_loose_share
        };
        *place = Some(worst / mix.processors as f64);
    }
    Ok(())
}

fn check_caps(mix: &Mix, ran: &[f64], outcome: &mut Outcome) -> Result<(), String> {
    for (index, (domain, ran)) in mix.domains.iter().zip(ran).enumerate() {
        let cap = domain.cap.min(100 * domain.vcpus.len() as u32);
        if cap == 0 {
            continue;
        }
        let over = ran - f64::from(cap) / 100.0;
        outcome.worst_cap = Some(outcome.worst_cap.unwrap_or(f64::MIN).max(over));
        if over > CAP_TOLERANCE * (f64::from(cap) / 100.0).max(1.0) {
            return Err(format!(
                "cap: d{} had {:.2} % of a processor, and {cap} % are its cap",
                index + 1,
                ran * 100.0
            ));
        }
    }
    Ok(())
}

/// Nobody waits for longer than it takes to serve everybody else once, and as long again; and for as long as its siblings may
/// have its domain's share.
fn check_waits(mix: &Mix, timeline: &Timeline, outcome: &mut Outcome) -> Result<(), String> {
    let parts = |domain: usize| {
        let domain = &mix.domains[domain];
        f64::from(domain.weight) / domain.vcpus.len() as f64
    };
    let all: f64 = (0..mix.domains.len())
        .map(|domain| f64::from(mix.domains[domain].weight))
        .sum();
    for actor in &timeline.actors {
        if mix.domains[actor.domain].cap != 0 {
            continue;
        }
        let turns = all / parts(actor.domain) / mix.processors as f64;
        let others = timeline.actors.len() as f64 / mix.processors as f64;
        let bound = PATIENCE as f64 + 3.0 * SLICE as f64 * (turns + others + 2.0);
        let part = actor.longest_wait as f64 / bound;
        outcome.longest_wait = outcome.longest_wait.max(part);
        if part > 1.0 {
            return Err(format!(
                "starvation: d{} v{} waited {} us for a processor, and {:.0} us are the bound",
                actor.domain + 1,
                actor.vcpu.index,
                actor.longest_wait / 1000,
                bound / 1000.0
            ));
        }
    }
    Ok(())
}

/// At a moment of rest: no processor idles while somebody waits who may run on it, and now and then everything else.
fn look(timeline: &Timeline, auditor: &mut Auditor<FakeMachine>) -> Result<(), String> {
    let kernel = &timeline.kernel;
    for idle in (0..kernel.machine.processors()).filter(|&processor| timeline.idles(processor)) {
        if let Some(actor) = timeline.actors.iter().find(|actor| {
            let place = *actor.vcpu.place.lock();
            matches!(place, kernel::vcpu::Place::Queued(_)) && actor.vcpu.hard_affinity.load().contains(idle)
        }) {
            return Err(format!(
                "work conservation: processor {idle} idles, and d{} v{} waits",
                actor.domain + 1,
                actor.vcpu.index
            ));
        }
    }
    if timeline.moments.get() > MOST_MOMENTS {
        return Err(format!(
            "rest: {MOST_MOMENTS} moments have passed by {} us",
            timeline.now() / 1000
        ));
    }
    if timeline.moments.get().is_multiple_of(AUDITED) {
        auditor.audit(kernel).map_err(|violation| violation.to_string())?;
    }
    Ok(())
}
