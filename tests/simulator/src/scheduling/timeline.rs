//! A host whose clock jumps from event to event.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use kernel::lifecycle::Destruction;
use kernel::schedule::ProcessorSet;
use kernel::testing::{self, TestKernel, TestVcpu};
use kernel::vcpu::{Place, stop};
use machine::fake::{Configuration, Stop, Turns, on_processor};
use machine::virtual_cpu::Exit;
use machine::{Machine, Nanoseconds};
use std::sync::atomic::Ordering;

use super::mix::{Mix, Work};
use crate::numbers::Numbers;

/// Points that the core may pass before a processor is back in a guest or idle.
const MOST_POINTS: u64 = 10_000_000;

/// Turns that each processor may need, on average, until all have come to rest.
const MOST_ACTS: usize = 1000;

/// A vCPU and what it has to do.
pub struct Actor {
    /// Its handle.
    pub vcpu: TestVcpu,
    /// Which domain of the mix it is of.
    pub domain: usize,
    work: Work,
    numbers: Numbers,
    /// What is left to compute before it sleeps.
    left: Nanoseconds,
    /// Work that has come for it so far: when, and how much.
    pub arrivals: Vec<(Nanoseconds, Nanoseconds)>,
    /// When its next work comes.
    next: Nanoseconds,
    /// What it has computed.
    pub ran: Nanoseconds,
    /// Since when it waits for a processor.
    waits_since: Option<Nanoseconds>,
    /// It waits because it has just woken.
    woke: bool,
    /// Times from waking to running.
    pub latencies: Vec<Nanoseconds>,
    /// The longest time that it waited for a processor without a cap's doing.
    pub longest_wait: Nanoseconds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Something in the core: it needs its turn.
    Core,
    /// A guest, since then.
    Guest {
        actor: usize,
        since: Nanoseconds,
    },
    Idle,
}

/// A host at work.
pub struct Timeline {
    /// The core.
    pub kernel: Rc<TestKernel>,
    /// All vCPUs.
    pub actors: Vec<Actor>,
    /// By domain number less one: the first of its vCPUs.
    first: Vec<usize>,
    turns: Turns,
    on: Rc<Cell<bool>>,
    doing: Vec<Doing>,
    numbers: Numbers,
    /// Work to come: when, for whom.
    arrivals: BinaryHeap<Reverse<(Nanoseconds, usize)>>,
    /// Guests that end a burst: when, where, and which stretch of it.
    ends: BinaryHeap<Reverse<(Nanoseconds, usize, Nanoseconds)>>,
    /// Entries into guests so far: decisions of the scheduler's, mostly.
    pub decisions: u64,
    /// Points that the core has passed.
    pub points: u64,
    /// Called where everything has come to rest for a moment.
    pub moments: Cell<u64>,
}

impl Timeline {
    /// The host of a mix at time 0.
    pub fn new(mix: &Mix) -> Timeline {
        let kernel = Rc::new(testing::kernel_on(&Configuration {
            processors: mix.processors,
            memory_mib: 8,
            ..Configuration::default()
        }));
        let mut numbers = Numbers::part(mix.seed, 0x71e);
        let (mut actors, mut first, mut arrivals) = (Vec::new(), Vec::new(), BinaryHeap::new());
        for (index, share) in mix.domains.iter().enumerate() {
            let domain = testing::domain(&kernel, index as u16 + 1, share.vcpus.len() as u32, 1);
            first.push(actors.len());
            for (number, work) in share.vcpus.iter().enumerate() {
                let vcpu = testing::vcpu(&domain, number as u32);
                vcpu.context.lock().set_interrupts_enabled(true);
                // It runs until it is interrupted, or until its burst ends: then it has been told to sleep.
                vcpu.context
                    .lock()
                    .set_program(Box::new(|_| Exit::WriteBackCaches));
                if mix.pinned {
                    let mut set = ProcessorSet::one(numbers.below(mix.processors as u64) as usize);
                    set.insert(numbers.below(mix.processors as u64) as usize);
                    vcpu.hard_affinity.store(set);
                }
                let mut own = Numbers::part(mix.seed, actors.len() as u64 + 1);
                let next = match *work {
                    Work::Compute => Nanoseconds::MAX,
                    Work::Jobs { period, .. } => own.below(period),
                };
                if next != Nanoseconds::MAX {
                    arrivals.push(Reverse((next, actors.len())));
                    vcpu.stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
                }
                actors.push(Actor {
                    left: if next == Nanoseconds::MAX { next } else { 0 },
                    vcpu,
                    domain: index,
                    work: *work,
                    numbers: own,
                    arrivals: Vec::new(),
                    next,
                    ran: 0,
                    waits_since: None,
                    woke: false,
                    latencies: Vec::new(),
                    longest_wait: 0,
                });
            }
            // Now that all are as they will be: setting a share looks at who may run.
            kernel
                .set_share(
                    &domain,
                    share.weight,
                    share.cap.min(100 * share.vcpus.len() as u32),
                )
                .expect("a share in its limits");
        }
        let on = Rc::new(Cell::new(true));
        let (at, still_on) = (kernel.clone(), on.clone());
        let turns = Turns::new(mix.processors, move |_| {
            while still_on.get() {
                at.step();
            }
        });
        let timeline = Timeline {
            doing: vec![Doing::Core; mix.processors],
            turns,
            on,
            kernel,
            actors,
            first,
            numbers,
            arrivals,
            ends: BinaryHeap::new(),
            decisions: 0,
            points: 0,
            moments: Cell::new(0),
        };
        for actor in &timeline.actors {
            timeline.kernel.reconsider(&actor.vcpu);
        }
        timeline
    }

    /// Time now.
    pub fn now(&self) -> Nanoseconds {
        self.kernel.machine.now()
    }

    /// Let time pass until `end`; at each moment at which all has come to rest, look.
    ///
    /// # Errors
    /// What the look found wrong; a processor that does not leave the core.
    pub fn run_until(
        &mut self,
        end: Nanoseconds,
        look: &mut dyn FnMut(&Timeline) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            self.settle()?;
            self.moments.set(self.moments.get() + 1);
            look(self)?;
            let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
            let burst = self.ends.peek().map(|Reverse((at, ..))| *at);
            let deadline = self.kernel.machine.next_deadline();
            let next = [arrival, burst, deadline].into_iter().flatten().min();
            let now = self.now();
            let next = next.unwrap_or(end).max(now);
            if next >= end {
                self.kernel.machine.advance(end - now);
                self.count_all();
                return Ok(());
            }
            self.kernel.machine.advance(next - now);
            self.deliver();
        }
    }

    /// What is due happens: work comes, bursts end.
    fn deliver(&mut self) {
        let now = self.now();
        while let Some(&Reverse((at, processor, since))) = self.ends.peek() {
            if at > now {
                break;
            }
            self.ends.pop();
            if let Doing::Guest { actor, since: began } = self.doing[processor]
                && began == since
            {
                self.count(processor);
                if self.actors[actor].left == 0 {
                    // It sleeps: the exit lets the core see it.
                    let vcpu = &self.actors[actor].vcpu;
                    vcpu.stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
                }
                self.doing[processor] = Doing::Core;
            }
        }
        while let Some(&Reverse((at, actor))) = self.arrivals.peek() {
            if at > now {
                break;
            }
            self.arrivals.pop();
            self.arrive(actor, now);
        }
    }

    fn arrive(&mut self, index: usize, now: Nanoseconds) {
        let actor = &mut self.actors[index];
        let Work::Jobs {
            period,
            length,
            irregular,
            events,
        } = actor.work
        else {
            return;
        };
        let length = if irregular {
            actor.numbers.within(length / 2, length * 3 / 2)
        } else {
            length
        };
        actor.left += length;
        actor.arrivals.push((now, length));
        let pause = if irregular {
            actor.numbers.within(period / 2, period * 3 / 2)
        } else {
            period
        };
        actor.next = now + pause.max(1);
        self.arrivals.push(Reverse((actor.next, index)));
        let vcpu = self.actors[index].vcpu.clone();
        let sleeps = vcpu.stops.load(Ordering::SeqCst) & stop::BLOCKED != 0;
        if sleeps {
            self.actors[index].woke = true;
        } else {
            // Its burst goes on for longer.
            let running = self
                .doing
                .iter()
                .position(|doing| matches!(doing, Doing::Guest { actor, .. } if *actor == index));
            if let Some(processor) = running {
                self.count(processor);
                self.enter(processor, index);
            }
        }
        // A timer of its own goes off where it last ran; an event comes from anywhere.
        let last = vcpu.last_processor.load(Ordering::SeqCst) as usize;
        let from = if events {
            self.numbers.below(self.doing.len() as u64) as usize
        } else {
            last
        };
        let kernel = self.kernel.clone();
        on_processor(from, || kernel.unblock(&vcpu));
        // It came by an interrupt there, after which the processor looks at what should run.
        kernel.machine.kick(from);
        if sleeps {
            self.note_waiting(index);
        }
    }

    /// Count what the guest on a processor has computed by now.
    fn count(&mut self, processor: usize) {
        let now = self.now();
        if let Doing::Guest { actor, since } = self.doing[processor] {
            let ran = now - since;
            let actor = &mut self.actors[actor];
            actor.ran += ran;
            if actor.left != Nanoseconds::MAX {
                actor.left = actor.left.saturating_sub(ran);
            }
        }
    }

    fn count_all(&mut self) {
        for processor in 0..self.doing.len() {
            if let Doing::Guest { actor, .. } = self.doing[processor] {
                self.count(processor);
                self.enter(processor, actor);
            }
        }
    }

    /// A guest computes from now on.
    fn enter(&mut self, processor: usize, actor: usize) {
        let now = self.now();
        self.doing[processor] = Doing::Guest { actor, since: now };
        let left = self.actors[actor].left;
        if left != Nanoseconds::MAX {
            self.ends.push(Reverse((now + left, processor, now)));
        }
    }

    /// Let all processors act until each is in a guest or idle, and nothing waits for any.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..MOST_ACTS * self.doing.len() {
            let machine = &self.kernel.machine;
            let processor = (0..self.doing.len()).find(|&processor| {
                self.doing[processor] == Doing::Core || machine.interrupt_waits(processor)
            });
            let Some(processor) = processor else { return Ok(()) };
            self.count(processor);
            self.doing[processor] = Doing::Core;
            self.act(processor)?;
        }
        let waiting = self.actors.iter().filter_map(|actor| {
            let place = *actor.vcpu.place.lock();
            (place != Place::Off).then(|| {
                let set = actor.vcpu.hard_affinity.load();
                let age = actor.vcpu.domain().share.age().0;
                format!(
                    "d{} v{} {place:?} {set:?} {age}",
                    actor.domain + 1,
                    actor.vcpu.index
                )
            })
        });
        let waiting: Vec<String> = waiting.collect();
        Err(format!(
            "rest: the core does not come to rest; {}",
            waiting.join(", ")
        ))
    }

    fn act(&mut self, processor: usize) -> Result<(), String> {
        let before = self.runs(processor);
        let (stop, points) = self.turns.resume(processor, MOST_POINTS);
        self.points += points;
        let after = self.runs(processor);
        if before != after
            && let Some(actor) = before
        {
            self.note_waiting(actor);
        }
        match stop {
            Stop::Entry => {
                self.decisions += 1;
                let actor = after.ok_or("a guest is entered, and none is on record")?;
                self.note_running(actor);
                if !self.kernel.machine.interrupt_waits(processor) {
                    self.enter(processor, actor);
                }
                Ok(())
            }
            Stop::Idle => {
                self.doing[processor] = Doing::Idle;
                Ok(())
            }
            stop => Err(format!("processor {processor} stays in the core: {stop:?}")),
        }
    }

    /// The vCPU on a processor, as the core has it.
    fn runs(&self, processor: usize) -> Option<usize> {
        let (domain, vcpu) = self.kernel.processors[processor].runs()?;
        Some(self.first[usize::from(domain) - 1] + vcpu as usize)
    }

    /// A vCPU may wait for a processor from now on.
    fn note_waiting(&mut self, actor: usize) {
        let now = self.now();
        let actor = &mut self.actors[actor];
        if matches!(*actor.vcpu.place.lock(), Place::Queued(_)) {
            actor.waits_since.get_or_insert(now);
        }
    }

    fn note_running(&mut self, actor: usize) {
        let now = self.now();
        let actor = &mut self.actors[actor];
        let waited = actor.waits_since.take().map_or(0, |since| now - since);
        if actor.woke {
            actor.latencies.push(waited);
            actor.woke = false;
        }
        actor.longest_wait = actor.longest_wait.max(waited);
    }

    /// Take the host apart, so that its memory serves the next one.
    pub fn finish(mut self) {
        for actor in &self.actors {
            actor.vcpu.domain().pauses.fetch_add(1, Ordering::SeqCst);
        }
        let everywhere = |timeline: &mut Timeline| {
            for processor in 0..timeline.doing.len() {
                timeline.kernel.machine.kick(processor);
                let _ = timeline.turns.resume(processor, MOST_POINTS);
            }
        };
        for _ in 0..4 {
            everywhere(&mut self);
        }
        for actor in self.actors.drain(..) {
            while self.kernel.destroy_domain(actor.vcpu.domain()) == Destruction::More {}
        }
        self.on.set(false);
        for _ in 0..2 {
            everywhere(&mut self);
        }
    }

    /// The time that all processors have idled by now.
    pub fn idle_time(&self) -> Nanoseconds {
        let processors = self.kernel.processors.iter();
        let times = processors.map(|processor| processor.idle_time.load(Ordering::SeqCst));
        times.sum()
    }

    /// Whether a processor idles.
    pub fn idles(&self, processor: usize) -> bool {
        self.doing[processor] == Doing::Idle
    }
}
