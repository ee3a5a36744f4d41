//! One play of a scene, under one interleaving.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::audit::Auditor;
use kernel::lifecycle::Destruction;
use kernel::lock_order::lock_order;
use kernel::testing::{self, TestKernel};
use kernel::vcpu::stop;
use machine::Machine;
use machine::fake::{Configuration, FakeMachine, Stop, Turns, order};

use super::guest::{self, Flags, Progress};
use super::{BEGIN, Cast, Part, Scene};
use crate::host::{self, last_panic};

/// Nanoseconds that pass with each point.
const POINT_TIME: u64 = 500;
/// Points of one stay in the core: more than a stretch of a long operation, after which it is cut, and what is done between
/// two looks at the time.
const LONGEST_STAY: u64 = 1_600;
/// Turns of a play: far more than any takes that comes to its end.
const MOST_TURNS: u32 = 2_000;
/// Turns in a row that only waited for somebody else.
const STUCK: u32 = 100;
/// Deadlines that a play waits for.
const PATIENCE: u32 = 20;
/// MiB of the machine.
const MEMORY: usize = 3;

/// Here another processor takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch {
    /// After so many points from the start of the play.
    pub point: u64,
    /// It is so many further, in the order of their numbers.
    pub over: usize,
    /// It goes on until it has come so often to the entry of a guest, or can do no more.
    pub stays: u32,
}

impl std::fmt::Display for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}x{}", self.point, self.over, self.stays)
    }
}

/// What came of a play.
pub struct Played {
    /// Points from the start to the turn in which the race began.
    pub begun: u64,
    /// Points from the start to the end.
    pub points: u64,
    /// Whether each switch had somebody to switch to.
    pub switched: bool,
    /// What went wrong.
    pub failure: Option<String>,
}

struct Theatre {
    kernel: Arc<TestKernel>,
    turns: Turns,
    on: Arc<AtomicBool>,
    stops: Vec<Stop>,
    /// Points of each processor's stay in the core so far.
    stays: Vec<u64>,
    parts: Vec<Progress>,
    flags: Flags,
    begun: Option<u64>,
    points: u64,
    auditor: Auditor<FakeMachine>,
    frames_before: u64,
}

/// Play a scene with these switches, in the order of their points.
pub fn play(scene: &Scene, switches: &[Switch]) -> Played {
    let kernel = Arc::new(testing::kernel_on(&Configuration {
        processors: scene.processors,
        memory_mib: MEMORY,
        ..Configuration::default()
    }));
    let frames_before = kernel.machine.memory().free_frames();
    machine::fake::set_processor(0);
    let flags = Flags::default();
    let Cast { parts, outcome } = (scene.build)(&kernel);
    // Who has no part never starts.
    for domain in host::domains(&kernel) {
        for vcpu in &domain.vcpus {
            let plays = |part: &Part| part.domain.id == domain.id && part.vcpu == vcpu.index;
            if !parts.iter().any(plays) {
                vcpu.stops.fetch_or(stop::DOWN, Ordering::SeqCst);
            }
        }
    }
    order::watch(lock_order(), scene.processors);
    let mut progress = Vec::new();
    for part in parts {
        let vcpu = testing::vcpu(&part.domain, part.vcpu);
        vcpu.initialised.store(true, Ordering::SeqCst);
        progress.push(guest::install(&kernel, &vcpu, part, &flags));
        kernel.reconsider(&vcpu);
    }
    let on = Arc::new(AtomicBool::new(true));
    let (processors, still_on) = (kernel.clone(), on.clone());
    let turns = Turns::new(scene.processors, move |_| {
        while still_on.load(Ordering::SeqCst) {
            processors.step();
        }
    });
    let mut theatre = Theatre {
        kernel,
        turns,
        on,
        // Nobody has begun; that is no wait for an interrupt.
        stops: vec![Stop::Entry; scene.processors],
        stays: vec![0; scene.processors],
        parts: progress,
        flags,
        begun: None,
        points: 0,
        auditor: Auditor::knowing(FakeMachine::interrupt_waits),
        frames_before,
    };
    let acted = catch_unwind(AssertUnwindSafe(|| {
        let switched = theatre.act(switches)?;
        if switched && let Some(outcome) = outcome {
            outcome(&theatre.kernel)?;
        }
        theatre.close()?;
        Ok(switched)
    }));
    let (_, violation) = order::unwatch();
    let result: Result<bool, String> = acted
        .unwrap_or_else(|payload| Err(format!("panic: {}", last_panic(payload.as_ref()))))
        .and_then(|switched| violation.map_or(Ok(switched), Err));
    let points = theatre.points;
    let begun = theatre.begun.unwrap_or(points);
    if result.is_err() {
        // What its stacks hold stays held, and whatever they refer to must stay.
        core::mem::forget(theatre.kernel.clone());
        theatre.turns.abandon();
    }
    Played {
        begun,
        points,
        switched: *result.as_ref().unwrap_or(&true),
        failure: result.err(),
    }
}

impl Theatre {
    /// Everybody plays on until all parts are over. Says whether each switch had somebody to switch to.
    fn act(&mut self, switches: &[Switch]) -> Result<bool, String> {
        let mut switches = switches.iter().copied().peekable();
        let (mut current, mut stays, mut stuck, mut waits) = (0, 1, 0, 0);
        for _ in 0..MOST_TURNS {
            let until = switches.peek().map(|switch| switch.point);
            let stop = self.turn(current, until)?;
            match stop {
                Stop::Point => {
                    let Some(switch) = switches.next() else {
                        return Err(format!("processor {current} does not leave the core"));
                    };
                    let to = (current + switch.over) % self.stops.len();
                    if !self.can_go_on(to) {
                        return Ok(false);
                    }
                    (current, stays, stuck) = (to, switch.stays, 0);
                    continue;
                }
                Stop::Entry => {
                    stuck = 0;
                    stays -= 1;
                    if stays != 0 {
                        continue;
                    }
                }
                Stop::Contended => {
                    stuck += 1;
                    if stuck == STUCK {
                        return Err(format!("deadlock: {:?}", self.stops));
                    }
                }
                Stop::Idle | Stop::Ended => stuck = 0,
            }
            stays = 1;
            if self.at_rest() {
                self.audit()?;
                if self.parts.iter().all(Progress::done) {
                    // A switch after the end changes nothing.
                    return Ok(switches.peek().is_none());
                }
            }
            let count = self.stops.len();
            match (1..=count)
                .map(|over| (current + over) % count)
                .find(|&next| self.can_go_on(next))
            {
                Some(next) => current = next,
                None => {
                    waits += 1;
                    if waits > PATIENCE || !self.kernel.machine.advance_to_deadline() {
                        return Err(self.unfinished("nobody has anything to do"));
                    }
                }
            }
        }
        Err(self.unfinished("no end"))
    }

    fn unfinished(&self, what: &str) -> String {
        let late: Vec<String> = self
            .parts
            .iter()
            .filter(|part| !part.done())
            .map(ToString::to_string)
            .collect();
        format!("{what}, and {}", late.join(", "))
    }

    fn can_go_on(&self, processor: usize) -> bool {
        self.stops[processor] != Stop::Idle || self.kernel.machine.interrupt_waits(processor)
    }

    fn at_rest(&self) -> bool {
        self.stops
            .iter()
            .all(|stop| matches!(stop, Stop::Entry | Stop::Idle))
    }

    /// Give a processor its turn, up to a point of the play.
    fn turn(&mut self, processor: usize, until: Option<u64>) -> Result<Stop, String> {
        let machine = &self.kernel.machine;
        machine.set_point_time(POINT_TIME);
        let most = LONGEST_STAY - self.stays[processor];
        let points = match until {
            Some(point) => point.saturating_sub(self.points).min(most),
            None => most,
        };
        let before = self.points;
        let (stop, passed) = self.turns.resume(processor, points);
        machine.advance(passed * POINT_TIME);
        self.points += passed;
        self.stays[processor] = match stop {
            Stop::Point => self.stays[processor] + passed,
            // Waiting is not work.
            Stop::Contended => self.stays[processor],
            Stop::Entry | Stop::Idle | Stop::Ended => 0,
        };
        if stop == Stop::Point {
            if self.stays[processor] == LONGEST_STAY {
                return Err(format!("bound: processor {processor} stays in the core"));
            }
            // The point at which it stands is behind it when it goes on.
            self.points += 1;
        }
        if self.begun.is_none() && self.flags.get(BEGIN) != 0 {
            self.begun = Some(before);
        }
        self.stops[processor] = stop;
        Ok(stop)
    }

    fn audit(&mut self) -> Result<(), String> {
        self.auditor
            .audit(&self.kernel)
            .map_err(|violation| violation.to_string())?;
        order::violation().map_or(Ok(()), Err)
    }

    /// Stop all vCPUs, let the processors leave, and take all domains apart: each frame must come back.
    fn close(&mut self) -> Result<(), String> {
        let kernel = self.kernel.clone();
        let domains = host::domains(&kernel);
        for domain in &domains {
            domain.pauses.fetch_add(1, Ordering::SeqCst);
        }
        self.on.store(false, Ordering::SeqCst);
        self.leave()?;
        for domain in domains.into_iter().rev() {
            while kernel.destroy_domain(&domain) == Destruction::More {}
            // Nobody works on it who could have come too late.
            if let Some(at) = domain.physmap.highest() {
                return Err(format!(
                    "end: d{} is gone, and maps guest frame {:#x}",
                    domain.id.0, at.0
                ));
            }
        }
        let free = kernel.machine.memory().free_frames();
        if free != self.frames_before {
            return Err(format!(
                "end: {free} frames are free, before there were {}",
                self.frames_before
            ));
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), String> {
        let kernel = self.kernel.clone();
        for _ in 0..STUCK {
            for processor in 0..self.stops.len() {
                kernel.machine.kick(processor);
                self.turn(processor, None)?;
            }
            if self.stops.iter().all(|&stop| stop == Stop::Ended) {
                return Ok(());
            }
        }
        Err(format!("end: paused domains still run ({:?})", self.stops))
    }
}
