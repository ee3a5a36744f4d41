//! Which vCPU runs where: the mechanism.
//!
//! Each processor has a run queue of its own, in the order that its pool's policy gives ([`policy`]): [`fair`] shares by
//! weight, [`pinned`] gives each vCPU a processor. A processor without work takes from the others' queues, and nobody is
//! interrupted for the scheduler's sake while nobody else waits: each processor has one timer, set to what comes first of
//! a slice's end, a cap's end and its vCPUs' deadlines.
//!
//! A vCPU's [`Place`] says where it is and changes only under its lock. No wake-up is lost: whoever ends a reason not to
//! run does so before it looks at the place, and whoever takes a vCPU off its processor looks at the reasons after it
//! took the place's lock. Whatever a policy answers, a vCPU runs only if it may, where it may, and once.

use alloc::sync::Arc;
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use hypercall_abi::Error;
use hypercall_abi::vcpu::runstate;
use hypercall_abi::xen::vm_assist;
use machine::sync::{Lock, begin_waiting, wait_for_another};
use machine::{Interrupt, Machine, Nanoseconds, ProcessorId};

use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};
use crate::timer::TimerQueue;
use crate::vcpu::{Place, stop};

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;
mod cap;
pub mod fair;
mod name;
mod pinned;
pub mod policy;
pub mod pool;
mod processor_set;
mod queue;
pub mod share;
mod virtual_time;

pub(crate) use name::{Name, Owner, Waker};
use policy::{Entering, Placement};
pub use processor_set::{AtomicProcessorSet, MOST_PROCESSORS, ProcessorSet};
use queue::RunQueue;
pub(crate) use virtual_time::{Rate, VirtualTime};

/// Interrupts that are served between two looks at what should run.
const MOST_INTERRUPTS: usize = 64;
/// Processors that are neighbours: they share a cache, or would, and look at each other's queues at each decision.
pub const MOST_NEIGHBOURS: usize = 16;
/// How long after its time a timer is thought to be lost.
const LATE: Nanoseconds = 5_000_000;
/// "No deadline" in an atomic.
const NEVER: u64 = u64::MAX;

/// A processor's part of the scheduler.
pub struct Processor<M: Machine> {
    queue: Lock<RunQueue<M>>,
    /// The turn of the first in the queue, and how fast its domain ages: for who looks without the lock. Valid while the
    /// processor is among [`Kernel::waiting`].
    head: AtomicU64,
    head_rate: AtomicU64,
    /// Deadlines of vCPUs that were armed on this processor.
    pub(crate) timers: Lock<TimerQueue<M>>,
    /// The pool it is in.
    pub(crate) pool: AtomicU32,
    /// Whom it belongs to, where each vCPU has a processor of its own.
    owner: Owner,
    /// Those that it looks at before all others, itself among them.
    neighbours: ProcessorSet,
    /// Which other neighbourhood it looks at next.
    rotation: AtomicU32,
    /// The vCPU that runs here.
    running: Owner,
    /// The running vCPU should give way.
    reschedule: AtomicBool,
    /// When to look whether the running vCPU should give way; [`NEVER`] while nobody waits for the processor.
    slice_end: AtomicU64,
    /// When the running vCPU's domain has used its cap up.
    cap_end: AtomicU64,
    /// When the running vCPU began, and the same, later by what was done for others meanwhile.
    began: AtomicU64,
    started: AtomicU64,
    /// The age of the running vCPU's domain when it was last noted, and how fast it ages.
    current: AtomicU64,
    rate: AtomicU64,
    /// The running vCPU gives way to the next, whoever that is.
    yielded: AtomicBool,
    /// Since when somebody else wants this processor; [`NEVER`] while nobody does.
    contested: AtomicU64,
    /// When a neighbour last said that somebody waits there who could run here.
    told: AtomicU64,
    /// The age of those who compete here, which only grows: where newcomers are placed.
    floor: AtomicU64,
    /// On whose behalf events are being sent from here.
    sender: Owner,
    /// What the hardware timer is set to, so that it is not set again to the same.
    programmed: AtomicU64,
    /// Time without work.
    pub idle_time: AtomicU64,
}

impl<M: Machine> Processor<M> {
    /// One of `count` processors, in the first pool.
    pub(crate) fn new(number: ProcessorId, count: usize) -> Self {
        let first = number.saturating_sub(number % MOST_NEIGHBOURS);
        let mut neighbours = ProcessorSet::EMPTY;
        (first..first.saturating_add(MOST_NEIGHBOURS).min(count)).for_each(|other| neighbours.insert(other));
        let atomic = AtomicU64::new;
        Processor {
            queue: Lock::new(RunQueue::new()),
            head: atomic(0),
            head_rate: atomic(0),
            timers: Lock::new(TimerQueue::default()),
            pool: AtomicU32::new(0),
            owner: Owner::default(),
            neighbours,
            rotation: AtomicU32::new(0),
            running: Owner::default(),
            reschedule: AtomicBool::new(false),
            slice_end: atomic(NEVER),
            cap_end: atomic(NEVER),
            began: atomic(0),
            started: atomic(0),
            current: atomic(0),
            rate: atomic(0),
            yielded: AtomicBool::new(false),
            contested: atomic(NEVER),
            told: atomic(NEVER),
            floor: atomic(0),
            sender: Owner::default(),
            programmed: atomic(NEVER),
            idle_time: atomic(0),
        }
    }
}

#[cfg(test)]
impl<M: Machine> Processor<M> {
    /// From when on the running vCPU is accounted.
    pub(crate) fn since(&self) -> Nanoseconds {
        self.started.load(Ordering::Relaxed)
    }
}

/// Whether nothing keeps a vCPU from running.
fn runnable<M: Machine>(vcpu: &VcpuHandle<M>) -> bool {
    vcpu.wants_to_run() && vcpu.domain().pauses.load(Ordering::SeqCst) == 0
}

/// Numbers of processors come from the machine, which counted them before the kernel was made, and from our own records.
#[cold]
#[inline(never)]
fn no_such_processor() -> ! {
    unreachable!("a processor that was not counted")
}

impl<M: Machine> Kernel<M> {
    /// What the kernel keeps of the processor that asks.
    pub(crate) fn here(&self) -> &Processor<M> {
        self.processor(self.machine.current())
    }

    /// What the kernel keeps of a processor.
    pub(crate) fn processor(&self, number: ProcessorId) -> &Processor<M> {
        match self.processors.get(number) {
            Some(processor) => processor,
            None => no_such_processor(),
        }
    }

    /// What a processor does from here on, forever.
    pub fn run_processor(&self) -> ! {
        loop {
            self.step();
        }
    }

    /// Set aside a place for each vCPU that there is in every run queue and every timer queue: waking and arming a timer
    /// then never allocate, however little memory is left.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn set_places_aside(&self) -> Result<(), Error> {
        let count = self.domains.vcpus();
        for processor in &self.processors {
            let mut queue = processor.queue.lock();
            queue.reserve(count).map_err(|_| Error::ENOMEM)?;
            drop(queue);
            let mut timers = processor.timers.lock();
            timers.reserve(count).map_err(|_| Error::ENOMEM)?;
        }
        Ok(())
    }

    /// One decision: run a vCPU until it gives way, or wait for something to happen.
    pub fn step(&self) {
        let processor = self.machine.current();
        self.serve_interrupts();
        match self.choose(processor) {
            Some(vcpu) => self.run_vcpu(processor, &vcpu),
            None => self.idle(processor),
        }
    }

    /// Take note of what happened to this processor. What is left waits until the next look, which is soon: a guest is not
    /// entered meanwhile. vCPUs of one domain that keep kicking this processor must not keep it here.
    pub fn serve_interrupts(&self) {
        for _ in 0..MOST_INTERRUPTS {
            let Some(interrupt) = self.machine.take_interrupt() else {
                return;
            };
            match interrupt {
                Interrupt::Timer => {
                    self.here().programmed.store(NEVER, Ordering::Relaxed);
                    self.call_who_is_late();
                    self.expire_timers();
                    self.check_preemption();
                    self.program_timer();
                }
                Interrupt::Kick => self.check_preemption(),
                Interrupt::Line(line) => self.device_interrupt(line),
                Interrupt::Console => self.console_input(),
            }
        }
    }

    /// A neighbour whose timer should have fired a while ago is called: an interrupt that got lost (emulators do that), under
    /// a guest that never exits, would otherwise be missed for ever.
    fn call_who_is_late(&self) {
        let (here, now) = (self.machine.current(), self.machine.now());
        for number in self
            .processor(here)
            .neighbours
            .iter()
            .filter(|&number| number != here)
        {
            let programmed = self.processor(number).programmed.load(Ordering::Relaxed);
            if programmed != NEVER && programmed.saturating_add(LATE) < now {
                self.machine.kick(number);
            }
        }
    }

    /// Should the running vCPU give way?
    fn check_preemption(&self) {
        let (here, now) = (self.machine.current(), self.machine.now());
        self.check_cap(here, now);
        self.policy_of(here).look(self, here, now);
    }

    /// Set this processor's timer to whatever comes first.
    pub(crate) fn program_timer(&self) {
        let here = self.here();
        let first = here.timers.lock().first().unwrap_or(NEVER);
        let deadline = first
            .min(here.slice_end.load(Ordering::Relaxed))
            .min(here.cap_end.load(Ordering::Relaxed));
        if here.programmed.swap(deadline, Ordering::Relaxed) != deadline {
            self.machine.set_deadline((deadline != NEVER).then_some(deadline));
        }
    }

    /// The next vCPU to run on this processor, by its policy. The one that this gives back may run here, and does from
    /// here on, as all others see it.
    fn choose(&self, processor: ProcessorId) -> Option<VcpuHandle<M>> {
        loop {
            let candidate = self.policy_of(processor).pick(self, processor)?;
            let mut place = candidate.place.lock();
            let exhausted = candidate.domain().share.exhausted(self.machine.now());
            if runnable(&candidate) && self.may_run_on(&candidate, processor) && exhausted.is_none() {
                *place = Place::Running(processor);
                drop(place);
                return Some(candidate);
            }
            if exhausted.is_some() {
                candidate.stops.fetch_or(stop::CAPPED, Ordering::SeqCst);
            }
            self.rest(&candidate, &mut place, self.machine.now());
            drop(place);
            if let Some(until) = exhausted {
                self.wait_for_renewal(&candidate, until);
            }
            // It may have become runnable again, or may run elsewhere.
            self.reconsider(&candidate);
        }
    }

    /// Change a queue, and say at the same time whether somebody waits in it, and who is first.
    fn change_queue<R>(&self, number: ProcessorId, change: impl FnOnce(&mut RunQueue<M>) -> R) -> R {
        let there = self.processor(number);
        let mut queue = there.queue.lock();
        let result = change(&mut queue);
        queue.refresh(self.machine.now(), self.pool_of(number).competition());
        let waits = match queue.first() {
            Some((head, rate)) => {
                there.head.store(head.0, Ordering::Relaxed);
                there.head_rate.store(rate.0, Ordering::Relaxed);
                true
            }
            None => false,
        };
        // This processor's membership changes under its queue's lock only.
        match (waits, self.waiting.contains(number)) {
            (true, false) => self.waiting.insert(number),
            (false, true) => {
                self.waiting.remove(number);
            }
            _ => {}
        }
        result
    }

    /// The first that waits for a processor: its turn, and how fast its domain ages. A look without the lock.
    fn head(&self, number: ProcessorId) -> Option<(VirtualTime, Rate)> {
        if !self.waiting.contains(number) {
            return None;
        }
        let there = self.processor(number);
        let head = VirtualTime(there.head.load(Ordering::Relaxed));
        Some((head, Rate(there.head_rate.load(Ordering::Relaxed))))
    }

    /// Where the first that waits for a processor may run.
    fn head_allowed(&self, number: ProcessorId) -> Option<ProcessorSet> {
        let queue = self.processor(number).queue.lock();
        queue.iter().next().map(|vcpu| self.allowed(vcpu))
    }

    /// Take the first that waits here.
    fn take_own(&self, here: ProcessorId) -> Option<VcpuHandle<M>> {
        self.head(here)?;
        self.change_queue(here, |queue| {
            queue.refresh(self.machine.now(), self.pool_of(here).competition());
            queue.pop()
        })
    }

    /// Take the first of those that wait for another processor, may run here, and are wanted.
    fn fetch_waiting(
        &self,
        queue: ProcessorId,
        here: ProcessorId,
        wanted: impl Fn(VirtualTime, &VcpuHandle<M>) -> bool,
    ) -> Option<VcpuHandle<M>> {
        self.change_queue(queue, |waiting| {
            waiting.refresh(self.machine.now(), self.pool_of(here).competition());
            waiting.take(|turn, vcpu| self.may_run_on(vcpu, here) && wanted(turn, vcpu))
        })
    }

    /// The processors of its pool that a processor looks at: its neighbours, and another neighbourhood each time.
    fn reach(&self, here: ProcessorId) -> ProcessorSet {
        let processor = self.processor(here);
        let neighbourhoods = self.processors.len().div_ceil(MOST_NEIGHBOURS).max(1);
        let mut reach = processor.neighbours;
        if neighbourhoods > 1 {
            let next = processor.rotation.fetch_add(1, Ordering::Relaxed) as usize;
            let first = (next % neighbourhoods).saturating_mul(MOST_NEIGHBOURS);
            if let Some(other) = self.processors.get(first) {
                reach = reach.or(&other.neighbours);
            }
        }
        reach.and(&self.pool_of(here).processors.glance())
    }

    /// The processor that belongs to a vCPU, where each has one.
    fn owned_by(&self, vcpu: &VcpuHandle<M>) -> Option<ProcessorId> {
        let home = vcpu.home.load(Ordering::SeqCst) as usize;
        let processor = self.processors.get(home)?;
        (processor.owner.get() == Some(Name::of(vcpu))).then_some(home)
    }

    fn run_vcpu(&self, processor: ProcessorId, vcpu: &VcpuHandle<M>) {
        let here = self.processor(processor);
        let policy = self.policy_of(processor);
        let begin = self.machine.now();
        self.call_others(processor);
        here.reschedule.store(false, Ordering::Relaxed);
        here.began.store(begin, Ordering::Relaxed);
        here.started.store(begin, Ordering::Relaxed);
        let cap_end = vcpu.domain().share.allowance(begin);
        here.cap_end.store(
            cap_end.map_or(NEVER, |time| begin.saturating_add(time)),
            Ordering::Relaxed,
        );
        policy.begin(self, processor, vcpu, begin);
        here.running.set(Some(Name::of(vcpu)));
        vcpu.last_processor.store(processor as u32, Ordering::Relaxed);
        self.program_timer();
        self.change_runstate(vcpu, runstate::RUNNING, begin);

        // Held for as long as the vCPU runs: whoever wants its registers pauses it first.
        let mut context = vcpu.context.lock();
        self.publish_time(vcpu);
        self.take_deadlines_along(vcpu);
        self.machine.load(&mut context);
        self.run_until_it_gives_way(vcpu, &mut context);
        self.machine.unload(&mut context);
        drop(context);

        let end = self.machine.now();
        // What was done for others meanwhile counts as this one's time on the processor, and not in its share.
        here.running.set(None);
        policy.end(self, processor, vcpu, end);
        here.cap_end.store(NEVER, Ordering::Relaxed);
        let time = end.saturating_sub(begin);
        vcpu.domain().cpu_time.fetch_add(time, Ordering::Relaxed);
        self.spend_cap(vcpu, time, end);
        self.put_away(vcpu, end);
    }

    /// A processor that was called for a vCPU may have chosen another, and gives the call on.
    fn call_others(&self, here: ProcessorId) {
        if self.head(here).is_none() || self.idle.glance().is_empty() {
            return;
        }
        let queue = self.processor(here).queue.lock();
        let called = queue.iter().find_map(|vcpu| self.claim_idle(vcpu));
        drop(queue);
        if let Some(called) = called {
            self.machine.kick(called);
        }
    }

    /// Do something that may wake others in the name of a vCPU that runs here: what the control domain then does is that
    /// one's doing ([`fair`]).
    pub(crate) fn on_behalf_of<R>(&self, vcpu: &VcpuHandle<M>, act: impl FnOnce() -> R) -> R {
        let sender = &self.here().sender;
        sender.set(Some(Name::of(vcpu)));
        let result = act();
        sender.set(None);
        result
    }

    /// Whether the vCPU that runs here should stop running now.
    pub(crate) fn must_give_way(&self, vcpu: &VcpuHandle<M>) -> bool {
        let here = self.here();
        here.reschedule.load(Ordering::Relaxed)
            || !runnable(vcpu)
            || !self.may_run_on(vcpu, self.machine.current())
    }

    /// Time that was spent on this processor for a vCPU: its own, and not that of the one that runs here.
    pub(crate) fn charge(&self, vcpu: &VcpuHandle<M>, time: Nanoseconds) {
        let current = self.machine.current();
        if *vcpu.place.lock() == Place::Running(current) {
            return;
        }
        let share = &vcpu.domain().share;
        share.grow_older(share.rate().virtual_of(time));
        self.processor(current).started.fetch_add(time, Ordering::Relaxed);
    }

    /// The vCPU that runs here gives way after this exit, if anybody waits.
    pub(crate) fn yield_now(&self, vcpu: &VcpuHandle<M>) {
        let here = self.machine.current();
        self.policy_of(here).yields(self, here, vcpu);
    }

    /// A vCPU leaves its processor: to a queue, if it still wants to run.
    fn put_away(&self, vcpu: &VcpuHandle<M>, now: Nanoseconds) {
        let mut place = vcpu.place.lock();
        // The state is noted while the place is held: who takes the vCPU on notes the next one after this.
        if runnable(vcpu) {
            self.change_runstate(vcpu, runstate::RUNNABLE, now);
            let target = self.enqueue(vcpu, &mut place, Entering::Preempted);
            drop(place);
            if target != self.machine.current() {
                self.machine.kick(target);
            }
        } else {
            self.rest(vcpu, &mut place, now);
        }
    }

    /// A vCPU that may not run is in no queue and on no processor from here on.
    fn rest(&self, vcpu: &VcpuHandle<M>, place: &mut Place, now: Nanoseconds) {
        if *place != Place::Off && vcpu.domain().share.leaves() {
            self.count_competing(vcpu.domain(), false);
        }
        *place = Place::Off;
        let stops = vcpu.stops.load(Ordering::SeqCst);
        let state = if stops & (stop::BLOCKED | stop::POLLING) != 0 {
            runstate::BLOCKED
        } else if stops == stop::CAPPED && vcpu.pauses.load(Ordering::SeqCst) == 0 {
            // It would run: as Xen tells it.
            runstate::RUNNABLE
        } else {
            runstate::OFFLINE
        };
        self.change_runstate(vcpu, state, now);
    }

    /// Take a vCPU that will never run again out of the queue that it waits in, which holds its domain.
    pub(crate) fn leave_queue(&self, vcpu: &VcpuHandle<M>) {
        let mut place = vcpu.place.lock();
        let Place::Queued(queue) = *place else { return };
        // Not there: a processor has just taken it, and sees that it may not run as soon as we let go.
        let Some(entry) = self.change_queue(queue, |queue| queue.take(|_, other| other == vcpu)) else {
            return;
        };
        self.rest(vcpu, &mut place, self.machine.now());
        drop(place);
        drop(entry);
    }

    /// Put a vCPU into the queue where it should run. Returns the processor to be told.
    fn enqueue(&self, vcpu: &VcpuHandle<M>, place: &mut Place, entering: Entering) -> ProcessorId {
        if *place == Place::Off && vcpu.domain().share.joins() {
            self.count_competing(vcpu.domain(), true);
        }
        let policy = self.policy_for(vcpu.domain());
        let wanted = policy.place(self, vcpu);
        let known = wanted.processor < self.processors.len();
        let Placement { processor, claimed } = Placement {
            processor: if known { wanted.processor } else { 0 },
            claimed: known && wanted.claimed,
        };
        let turn = policy.turn(self, vcpu, processor, entering);
        *place = Place::Queued(processor);
        let now = self.machine.now();
        self.change_queue(processor, |queue| queue.insert(turn, now, vcpu.clone()));
        if !claimed {
            // Nobody idled when we chose. Who began to since did not see this entry, and we did not see it idle: one of
            // us must, or the vCPU would wait for a slice's end beside an idle processor.
            fence(Ordering::SeqCst);
            if let Some(idle) = self.claim_idle(vcpu) {
                self.machine.kick(idle);
            }
        }
        processor
    }

    /// A processor that idles and where the vCPU may run: where it last ran, else where it would rather, else a neighbour
    /// of that, else any. It is taken for the vCPU: no other finds it idle.
    fn claim_idle(&self, vcpu: &VcpuHandle<M>) -> Option<ProcessorId> {
        // Who must not miss one that begins to idle has put a fence before this.
        let idle = self.idle.glance();
        if idle.is_empty() {
            return None;
        }
        let idle = idle.and(&self.allowed(vcpu));
        let last = vcpu.last_processor.load(Ordering::Relaxed) as usize;
        let near = self
            .processors
            .get(last)
            .map_or(ProcessorSet::EMPTY, |processor| processor.neighbours);
        let preferred = idle.and(&vcpu.soft_affinity.glance());
        let sets = [preferred, preferred.and(&near), preferred, idle.and(&near), idle];
        let mut candidates = (0..).zip(sets).flat_map(|(turn, set)| {
            let only_last = turn == 0;
            set.iter()
                .filter(move |&candidate| !only_last || candidate == last)
        });
        candidates.find(|&candidate| self.idle.remove(candidate))
    }

    /// Nothing to run: say so, look once more, and wait.
    fn idle(&self, processor: ProcessorId) {
        self.idle.insert(processor);
        // Whoever queued before it saw us idle did not kick.
        if let Some(vcpu) = self.choose(processor) {
            self.idle.remove(processor);
            return self.run_vcpu(processor, &vcpu);
        }
        self.program_timer();
        let begin = self.machine.now();
        self.machine.wait();
        self.processor(processor)
            .idle_time
            .fetch_add(self.machine.now().saturating_sub(begin), Ordering::Relaxed);
        self.idle.remove(processor);
    }

    /// Something happened that this vCPU waits for, or that it must look at: end its block, and make it look if it runs.
    pub fn unblock(&self, vcpu: &VcpuHandle<M>) {
        let before = vcpu
            .stops
            .fetch_and(!(stop::BLOCKED | stop::POLLING), Ordering::SeqCst);
        // An interrupt ends a poll as well: the guest may poll for what its handler must do first.
        if before & (stop::BLOCKED | stop::POLLING) != 0 {
            vcpu.waker.note(self.sender_to(vcpu), fair::MOST_ON_BEHALF);
            self.reconsider(vcpu);
        } else {
            if vcpu.domain().privileged
                && let Some(sender) = self.sender_to(vcpu)
            {
                vcpu.waker.add(sender, fair::MORE_ON_BEHALF);
            }
            self.make_look(vcpu);
        }
    }

    /// In whose name something is sent to a vCPU from here, if that is another domain's.
    fn sender_to(&self, vcpu: &VcpuHandle<M>) -> Option<Name> {
        let sender = self.here().sender.own()?;
        (sender.domain != vcpu.domain_id).then_some(sender)
    }

    /// Make a vCPU that runs elsewhere exit, so that it sees what changed.
    pub(crate) fn make_look(&self, vcpu: &VcpuHandle<M>) {
        let place = *vcpu.place.lock();
        if let Place::Running(processor) = place
            && processor != self.machine.current()
        {
            self.machine.kick(processor);
        }
    }

    /// Something that kept a vCPU from running may have ended: put it in a queue if it now wants to run.
    pub fn reconsider(&self, vcpu: &VcpuHandle<M>) {
        let mut place = vcpu.place.lock();
        if *place != Place::Off || !runnable(vcpu) {
            return;
        }
        self.change_runstate(vcpu, runstate::RUNNABLE, self.machine.now());
        let target = self.enqueue(vcpu, &mut place, Entering::Woken);
        drop(place);
        if target == self.machine.current() {
            self.check_preemption();
        } else {
            self.machine.kick(target);
        }
    }

    /// Where a vCPU may run has changed: move it if it is where it may not be. Never waits, since two vCPUs of one domain
    /// may place each other.
    pub fn place_again(&self, vcpu: &VcpuHandle<M>) {
        let mut place = vcpu.place.lock();
        match *place {
            Place::Queued(queue) if !self.may_run_on(vcpu, queue) => {
                // Not there: a processor has just taken it, and looks at where it may run as soon as we let go.
                let Some(entry) = self.change_queue(queue, |queue| queue.take(|_, other| other == vcpu))
                else {
                    return;
                };
                drop(entry);
                self.rest(vcpu, &mut place, self.machine.now());
                drop(place);
                self.reconsider(vcpu);
            }
            // It may now run where nobody looked for it.
            Place::Queued(_) => {
                drop(place);
                if let Some(idle) = self.claim_idle(vcpu) {
                    self.machine.kick(idle);
                }
            }
            Place::Running(processor) if processor != self.machine.current() => {
                drop(place);
                self.machine.kick(processor);
            }
            Place::Running(_) | Place::Off => {}
        }
    }

    /// Stop all vCPUs of a domain, and wait until none runs. Nested; not for one's own domain; no lock may be held.
    pub fn pause_domain(&self, domain: &Arc<Domain<M>>) {
        domain.pauses.fetch_add(1, Ordering::SeqCst);
        self.each_vcpu(domain, |vcpu| self.wait_until_stopped(vcpu));
    }

    /// Undo one [`Kernel::pause_domain`].
    pub fn unpause_domain(&self, domain: &Arc<Domain<M>>) {
        let before = domain.pauses.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before != 0, "unpaused more often than paused");
        if before == 1 {
            self.each_vcpu(domain, |vcpu| self.reconsider(vcpu));
        }
    }

    /// Stop one vCPU, and wait until it does not run. Nested; not for oneself; no lock may be held.
    pub fn pause_vcpu(&self, vcpu: &VcpuHandle<M>) {
        vcpu.pauses.fetch_add(1, Ordering::SeqCst);
        self.wait_until_stopped(vcpu);
    }

    /// Undo one [`Kernel::pause_vcpu`].
    pub fn unpause_vcpu(&self, vcpu: &VcpuHandle<M>) {
        if vcpu.pauses.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.reconsider(vcpu);
        }
    }

    /// Do something for each allotted vCPU of a domain.
    pub fn each_vcpu(&self, domain: &Arc<Domain<M>>, mut action: impl FnMut(&VcpuHandle<M>)) {
        for index in 0..domain.allotted_vcpus.load(Ordering::Acquire) {
            if let Some(vcpu) = VcpuHandle::new(domain, index) {
                action(&vcpu);
            }
        }
    }

    /// Wait until a vCPU that may not run any more is off its processor. That one is in the guest (and is kicked out of
    /// it) or in the core (and comes to look soon); it never waits for us. If it may run again meanwhile, because others
    /// took back what stopped it, there is nothing to wait for.
    pub(crate) fn wait_until_stopped(&self, vcpu: &VcpuHandle<M>) {
        begin_waiting();
        loop {
            let place = *vcpu.place.lock();
            match place {
                Place::Running(processor) if processor != self.machine.current() && !runnable(vcpu) => {
                    self.machine.kick(processor);
                    wait_for_another();
                }
                _ => return,
            }
        }
    }

    /// Note a vCPU's new state for the toolstack and for the guest's own copy.
    pub(crate) fn change_runstate(&self, vcpu: &VcpuHandle<M>, state: i32, now: Nanoseconds) {
        let mark =
            vcpu.domain().assists.load(Ordering::Relaxed) & (1 << vm_assist::TYPE_RUNSTATE_UPDATE_FLAG) != 0;
        vcpu.runstate.lock().change(state, now, mark);
    }
}

#[cfg(test)]
mod tests;
