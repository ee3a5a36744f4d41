//! A simulated host: a machine, the kernel on its processors, and the domains that attack it.
//!
//! One thread, one run: whatever happens follows from the scenario's numbers. [`Host::step`] gives one processor a turn;
//! between steps, once every processor stands before a guest or idles ([`Host::settle`]), the invariants are checked.

mod actors;
mod finish;
mod guest;
pub mod paging;
mod panics;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::Kernel;
use kernel::audit::{Auditor, Parts};
use kernel::lock_order::lock_order;
use kernel::testing::TestKernel;
use kernel::vcpu::Place;
use machine::Machine;
use machine::fake::failure::{self, Source};
use machine::fake::{Configuration, Ended, FakeMachine, Stop, Turns, order};

pub use actors::Deeds;
pub(crate) use actors::domains;
pub use panics::{catch_panics, last_panic};
use serde::{Deserialize, Serialize};
pub use tally::Tally;
use tally::facts;

use crate::numbers::Numbers;
use crate::scenario::{Shape, Style};

/// Points that one stay in the core may take beyond [`STRETCH`]: above what any operation needs between two looks at the
/// time, and below what anybody would notice. A longer stay is a failure.
pub const LONGEST_STAY: u64 = 50_000;
/// Nanoseconds after which the core cuts a long operation.
const STRETCH: u64 = 500_000;
/// Nanoseconds that a host waits for a deadline when nothing else happens: guests set timers to the end of time.
const LONGEST_WAIT: u64 = 10_000_000_000;
/// Deadlines that a host waits for one after the other: some guests' timers tick for nobody.
const PATIENCE: u32 = 4;
/// Interrupt lines of the machine.
const LINES: u32 = 24;
/// Turns in a row in which every processor only waited for another: nobody will ever go on.
const STUCK: u32 = 256;
/// Steps between two looks at the schedule, where they find everything at rest.
const LOOK_EVERY: u64 = 8;
/// Turns within which all processors reach a place where nothing is under way.
const SETTLING: u32 = 1_000_000;

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// In words.
    pub message: String,
    /// How many steps had been begun.
    pub steps: u64,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// After its last step.
    Script,
    /// The privileged domain switched the machine off.
    MachineOff,
}

/// A simulated host.
pub struct Host {
    kernel: Arc<TestKernel>,
    /// Gone once the machine failed.
    turns: Option<Turns>,
    /// Processors run until this is over.
    on: Arc<AtomicBool>,
    shape: Shape,
    numbers: Numbers,
    /// How each processor's last turn ended.
    stops: Vec<Stop>,
    /// Points of each processor's stay in the core so far.
    stays: Vec<u64>,
    tally: Tally,
    auditor: Auditor<FakeMachine>,
    /// Deadlines waited for since somebody knocked.
    quiet: u32,
    frames_before: u64,
}

impl Host {
    /// The host of a seed.
    pub fn new(seed: u64) -> Host {
        Host::of_shape(seed, Shape::of(seed))
    }

    /// The host of a seed on which no allocation fails by chance, and whose locks are watched.
    pub fn without_chance(seed: u64) -> Host {
        let shape = Shape {
            failures: 0,
            watch_locks: true,
            ..Shape::of(seed)
        };
        Host::of_shape(seed, shape)
    }

    fn of_shape(seed: u64, shape: Shape) -> Host {
        let machine = FakeMachine::new(&Configuration {
            processors: shape.processors,
            memory_mib: shape.memory_mib,
            ..Configuration::default()
        });
        let frames_before = machine.memory().free_frames();
        let kernel = Arc::new(Kernel::new(machine, ""));
        machine::fake::set_processor(0);
        actors::begin(&kernel, &shape);
        if shape.watch_locks {
            order::watch(lock_order(), shape.processors);
        }
        let on = Arc::new(AtomicBool::new(true));
        let (on_processors, still_on) = (kernel.clone(), on.clone());
        let turns = Turns::new(shape.processors, move |_| {
            while still_on.load(Ordering::SeqCst) {
                on_processors.step();
            }
        });
        let mut host = Host {
            stops: vec![Stop::Idle; shape.processors],
            stays: vec![0; shape.processors],
            turns: Some(turns),
            on,
            numbers: Numbers::part(seed, 0xc10c),
            kernel,
            shape,
            tally: Tally::default(),
            auditor: Auditor::knowing(FakeMachine::interrupt_waits),
            quiet: 0,
            frames_before,
        };
        host.reinforce();
        host
    }

    /// The kernel.
    pub fn kernel(&self) -> &Arc<TestKernel> {
        &self.kernel
    }

    /// What this host was made of.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        if let Some(deeds) = actors::deeds() {
            tally.deeds = deeds;
        }
        tally.refused = failure::counts(Source::Frames).1 + failure::counts(Source::Heap).1;
        tally
    }

    /// Whether it is time for an audit.
    pub fn audit_is_due(&self) -> bool {
        self.tally.steps.is_multiple_of(self.shape.audit_every)
    }

    /// Remember the last deeds in words, for whoever reads about a failure.
    pub fn remember_deeds(&self, remember: bool) {
        actors::remember(remember);
    }

    /// One step.
    ///
    /// # Errors
    /// What went wrong. The host can do no more then.
    pub fn step(&mut self, step: u64) -> Result<Option<End>, Failure> {
        let end = self.take_step(step)?;
        let at_rest = |stop: &Stop| matches!(stop, Stop::Entry | Stop::Idle);
        if end.is_none() && self.tally.steps.is_multiple_of(LOOK_EVERY) && self.stops.iter().all(at_rest) {
            self.look()?;
        }
        Ok(end)
    }

    /// A look at what is right again with the next turn, and would be missed by audits that are far apart: who waits, and who
    /// runs.
    fn look(&mut self) -> Result<(), Failure> {
        let kernel = self.kernel.clone();
        if let Err(violation) = self.auditor.audit_parts(&kernel, Parts::SCHEDULE) {
            return Err(self.failed(violation.to_string()));
        }
        for domain in actors::domains(&kernel) {
            for vcpu in &domain.vcpus {
                let Place::Queued(queue) = *vcpu.place.lock() else {
                    continue;
                };
                if self.stops[queue] == Stop::Idle && !kernel.machine.interrupt_waits(queue) {
                    return Err(self.failed(format!(
                        "schedule: d{} v{} waits in the queue of processor {queue}, which sleeps",
                        domain.id.0, vcpu.index
                    )));
                }
            }
        }
        Ok(())
    }

    fn take_step(&mut self, step: u64) -> Result<Option<End>, Failure> {
        self.tally.steps += 1;
        let mut numbers = Numbers::new(step);
        let first = numbers.below(self.shape.processors as u64) as usize;
        let points = match self.shape.style {
            Style::Serial => u64::MAX,
            Style::Coarse if numbers.chance(1, 2) => u64::MAX,
            Style::Coarse => numbers.within(1, 400),
            Style::Fine => numbers.pick(&[1, 2, 4, 8, 16, 64]) + numbers.below(4),
        };
        if numbers.chance(1, 4) {
            let most = numbers.pick(&[100, 10_000, 1_000_000, 20_000_000]);
            self.kernel.machine.advance(numbers.below(most));
        }
        if self.shape.failures != 0 && numbers.chance(1, self.shape.failures) {
            let source = if numbers.chance(1, 2) {
                Source::Frames
            } else {
                Source::Heap
            };
            failure::arm(source, numbers.below(12), numbers.chance(1, 4));
        } else if self.shape.failures != 0 && numbers.chance(1, 16) {
            failure::disarm(Source::Frames);
            failure::disarm(Source::Heap);
        }
        if numbers.chance(1, 256) {
            self.something_outside(&mut numbers);
        }
        actors::choose_by(numbers);
        // The chosen processor, or the next one that has something to do.
        for turn in 0..self.shape.processors {
            let processor = (first + turn) % self.shape.processors;
            if self.stops[processor] == Stop::Idle && !self.kernel.machine.interrupt_waits(processor) {
                continue;
            }
            let end = self.turn(processor, points)?;
            if end.is_some() || self.stops[processor] != Stop::Contended {
                return Ok(end);
            }
        }
        self.rouse();
        self.see_that_somebody_goes_on()
    }

    /// Devices: a key is pressed, a line is raised; and what they were told is forgotten before it fills the memory.
    fn something_outside(&mut self, numbers: &mut Numbers) {
        let machine = &self.kernel.machine;
        machine.take_console();
        machine.take_port_writes();
        machine.take_completed_lines();
        match numbers.below(4) {
            0 => machine.type_console(b"x"),
            _ => {
                // One that somebody listens to, if there is any.
                let first = numbers.below(u64::from(LINES)) as u32;
                (first..first + LINES).any(|line| machine.raise_line(line % LINES));
            }
        }
    }

    /// Give a processor a turn.
    fn turn(&mut self, processor: usize, points: u64) -> Result<Option<End>, Failure> {
        let machine = &self.kernel.machine;
        machine.set_point_time(self.shape.point_time);
        // Whoever never comes back is stopped, and told of.
        let most = LONGEST_STAY + STRETCH.checked_div(self.shape.point_time).unwrap_or(0);
        let points = points.min(
            most.saturating_add(1)
                .saturating_sub(self.stays[processor])
                .max(1),
        );
        let Some(turns) = self.turns.as_mut() else {
            return Err(self.failed("the machine has failed already".into()));
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| turns.resume(processor, points)));
        let (stop, passed) = match outcome {
            Ok(stopped) => stopped,
            Err(payload) => return self.panicked(payload.as_ref()),
        };
        machine.advance(passed.saturating_mul(self.shape.point_time));
        self.tally.points += passed;
        self.stops[processor] = stop;
        let stay = &mut self.stays[processor];
        let whole = match stop {
            Stop::Entry | Stop::Idle | Stop::Ended => {
                let whole = core::mem::take(stay) + passed;
                if whole > self.tally.longest.0 {
                    self.tally.longest = (whole, actors::last_deed(processor).into());
                }
                whole
            }
            Stop::Point => {
                self.tally.switches += 1;
                *stay += passed;
                *stay
            }
            // Waiting is not work.
            Stop::Contended => {
                self.tally.switches += 1;
                0
            }
        };
        if whole > most {
            let what = actors::last_deed(processor);
            return Err(self.failed(format!(
                "bound: processor {processor} stayed in the core for {whole} points ({what})"
            )));
        }
        Ok(None)
    }

    /// Nobody had anything to do: let time pass to the next deadline, or let somebody knock.
    fn rouse(&mut self) {
        let all_idle = self.stops.iter().all(|&stop| stop == Stop::Idle);
        let machine = &self.kernel.machine;
        let nothing_waits = (0..self.shape.processors).all(|processor| !machine.interrupt_waits(processor));
        if !all_idle || !nothing_waits {
            return;
        }
        let soon = machine.now().saturating_add(LONGEST_WAIT);
        self.quiet += 1;
        let never = machine.next_deadline().is_none_or(|deadline| deadline > soon);
        if never || self.quiet > PATIENCE || !machine.advance_to_deadline() {
            self.quiet = 0;
            self.tally.knocks += 1;
            actors::knock(&self.kernel);
            self.reinforce();
        }
    }

    /// Every processor in turn, to tell a wait from a deadlock.
    fn see_that_somebody_goes_on(&mut self) -> Result<Option<End>, Failure> {
        if self.stops.iter().all(|&stop| stop == Stop::Idle) {
            return Ok(None);
        }
        for round in 0..STUCK {
            for processor in 0..self.shape.processors {
                if self.stops[processor] == Stop::Idle && !self.kernel.machine.interrupt_waits(processor) {
                    continue;
                }
                let end = self.turn(processor, u64::MAX)?;
                if end.is_some() || self.stops[processor] != Stop::Contended {
                    return Ok(end);
                }
            }
            let _ = round;
        }
        Err(self.failed(format!(
            "deadlock: all processors wait for each other ({:?})",
            self.stops
        )))
    }

    /// Let every processor come to where nothing of the core's is under way.
    ///
    /// # Errors
    /// As [`Host::step`].
    pub fn settle(&mut self) -> Result<Option<End>, Failure> {
        for _ in 0..SETTLING {
            let Some(processor) = self
                .stops
                .iter()
                .position(|stop| !matches!(stop, Stop::Entry | Stop::Idle))
            else {
                return Ok(None);
            };
            if self.stops[processor] == Stop::Contended {
                let end = self.settle_the_others(processor)?;
                if end.is_some() {
                    return Ok(end);
                }
            }
            let end = self.turn(processor, u64::MAX)?;
            if end.is_some() {
                return Ok(end);
            }
        }
        Err(self.failed(format!("deadlock: no rest ({:?})", self.stops)))
    }

    /// A processor waits for others: each of them gets a turn, also those that stand before a guest.
    fn settle_the_others(&mut self, waiting: usize) -> Result<Option<End>, Failure> {
        for processor in 0..self.shape.processors {
            if processor == waiting
                || (self.stops[processor] == Stop::Idle && !self.kernel.machine.interrupt_waits(processor))
            {
                continue;
            }
            let end = self.turn(processor, u64::MAX)?;
            if end.is_some() {
                return Ok(end);
            }
        }
        Ok(None)
    }

    /// Check every invariant, at rest.
    ///
    /// # Errors
    /// As [`Host::step`], and what does not hold.
    pub fn audit(&mut self) -> Result<Option<End>, Failure> {
        let end = self.settle()?;
        if end.is_some() {
            return Ok(end);
        }
        self.tally.audits += 1;
        self.check()?;
        self.check_pauses()?;
        self.reinforce();
        Ok(None)
    }

    /// With nothing under way, a domain's pauses are its toolstack's and its destruction's, and no others.
    fn check_pauses(&mut self) -> Result<(), Failure> {
        for domain in actors::domains(&self.kernel) {
            let pauses = domain.pauses.load(Ordering::SeqCst);
            let toolstack = domain.toolstack_pauses.load(Ordering::SeqCst);
            let dying = domain.lifecycle.lock().dying;
            if pauses != toolstack + u32::from(dying) {
                return Err(self.failed(format!(
                    "pauses: d{} has {pauses}, {toolstack} of them its toolstack's (dying: {dying})",
                    domain.id.0
                )));
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Failure> {
        let kernel = self.kernel.clone();
        let mut told = Vec::new();
        match self.auditor.audit(&kernel) {
            Ok(audited) if audited.ended != 0 => {
                told.push(format!("domains: {} that have ended live on", audited.ended));
            }
            Ok(audited) => self.tally.facts += facts(&audited),
            Err(violation) => told.push(violation.to_string()),
        }
        for domain in actors::domains(&kernel) {
            match kernel.machine.check_translations(domain.physmap.root()) {
                Ok(compared) => self.tally.translations += compared,
                Err(violation) => told.push(format!("translations: d{}: {violation}", domain.id.0)),
            }
        }
        told.extend(order::violation());
        told.extend(actors::complaint());
        match told.is_empty() {
            true => Ok(()),
            false => Err(self.failed(told.join("; "))),
        }
    }

    /// Where too few guests live, make one, as a toolstack would that has not lost its mind.
    fn reinforce(&mut self) {
        while actors::wants_more(&self.kernel, &self.shape) {
            let made = failure::exempt(|| actors::make_guest(&self.kernel, &self.shape, &mut self.numbers));
            if made.is_none() {
                break;
            }
            self.tally.domains += 1;
        }
        // This acted in the name of processor 0, which may idle and does not know.
        self.kernel.machine.kick(0);
    }

    fn panicked(&mut self, payload: &(dyn core::any::Any + Send)) -> Result<Option<End>, Failure> {
        // What its stack holds stays held: it cannot be run on.
        if let Some(turns) = self.turns.take() {
            turns.abandon();
        }
        if payload.is::<Ended>() {
            return Ok(Some(End::MachineOff));
        }
        Err(self.failed(format!("panic: {}", last_panic(payload))))
    }

    fn failed(&self, message: String) -> Failure {
        Failure {
            message,
            steps: self.tally.steps,
        }
    }

    /// The last deeds in words, the latest last.
    pub fn story(&self) -> Vec<String> {
        actors::story()
    }
}
