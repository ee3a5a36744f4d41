//! Which vCPU runs where.
//!
//! Each processor has a run queue of its own, ordered by virtual run time: who has run least runs next, a waking vCPU
//! gets a small credit for having slept, and a processor without work takes from the others' queues. Policies (weights,
//! caps, pools) are a later step; this one is work-conserving and starves nobody.
//!
//! A vCPU's [`Place`] says where it is and changes only under its lock. No wake-up is lost: whoever ends a reason not to
//! run does so before it looks at the place, and whoever takes a vCPU off its processor looks at the reasons after it
//! took the place's lock.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use machine::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

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
#[cfg(any(test, feature = "testing", debug_assertions))]
pub(crate) use audit::may_run;

/// How long a vCPU may keep a processor that another waits for.
const SLICE: Nanoseconds = 10_000_000;
/// How far behind the running one a waking vCPU must be to take its place at once.
const GRANULARITY: Nanoseconds = 1_000_000;
/// How much of its sleep counts in a waking vCPU's favour.
const SLEEP_CREDIT: Nanoseconds = 5_000_000;
/// Interrupts that are served between two looks at what should run.
const MOST_INTERRUPTS: usize = 64;
/// "No deadline" in an atomic.
const NEVER: u64 = u64::MAX;

/// A processor's part of the scheduler.
pub struct Processor<M: Machine> {
    queue: Lock<VecDeque<VcpuHandle<M>>>,
    /// Deadlines of vCPUs that were armed on this processor.
    pub(crate) timers: Lock<TimerQueue<M>>,
    /// It waits for work.
    idle: AtomicBool,
    /// The running vCPU should give way.
    reschedule: AtomicBool,
    /// When the running vCPU's slice ends; [`NEVER`] while nobody waits for the processor.
    slice_end: AtomicU64,
    /// When the running vCPU began, later by what was done for others meanwhile.
    started: AtomicU64,
    /// The virtual run time of the one that runs.
    current: AtomicU64,
    /// The least virtual run time here, which only grows: where newcomers are placed.
    floor: AtomicU64,
    /// What the hardware timer is set to, so that it is not set again to the same.
    programmed: AtomicU64,
    /// Time without work.
    pub idle_time: AtomicU64,
}

impl<M: Machine> Default for Processor<M> {
    fn default() -> Self {
        Processor {
            queue: Lock::new(VecDeque::new()),
            timers: Lock::new(TimerQueue::default()),
            idle: AtomicBool::new(false),
            reschedule: AtomicBool::new(false),
            slice_end: AtomicU64::new(NEVER),
            started: AtomicU64::new(0),
            current: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            programmed: AtomicU64::new(NEVER),
            idle_time: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
impl<M: Machine> Processor<M> {
    /// How many vCPUs can wait here without an allocation.
    pub(crate) fn places(&self) -> usize {
        self.queue.lock().capacity()
    }

    /// From when on the running vCPU is accounted.
    pub(crate) fn began(&self) -> Nanoseconds {
        self.started.load(Ordering::Relaxed)
    }
}

/// Whether nothing keeps a vCPU from running.
fn runnable<M: Machine>(vcpu: &VcpuHandle<M>) -> bool {
    vcpu.wants_to_run() && vcpu.domain().pauses.load(Ordering::SeqCst) == 0
}

fn may_run_on<M: Machine>(vcpu: &VcpuHandle<M>, processor: ProcessorId) -> bool {
    processor >= 64 || vcpu.hard_affinity.load(Ordering::Relaxed) & (1 << processor) != 0
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
            let missing = count.saturating_sub(queue.len());
            queue.try_reserve(missing).map_err(|_| Error::ENOMEM)?;
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

    /// Should the running vCPU give way to one that waits here?
    fn check_preemption(&self) {
        let here = self.here();
        let Some(least) = here
            .queue
            .lock()
            .iter()
            .map(|v| v.virtual_runtime.load(Ordering::Relaxed))
            .min()
        else {
            // Whoever waited has gone elsewhere: there is no slice to end.
            here.slice_end.store(NEVER, Ordering::Relaxed);
            return;
        };
        let now = self.machine.now();
        let ran = now.saturating_sub(here.started.load(Ordering::Relaxed));
        let current = here.current.load(Ordering::Relaxed).saturating_add(ran);
        let slice_end = here.slice_end.load(Ordering::Relaxed);
        if now >= slice_end || least.saturating_add(GRANULARITY) < current {
            here.reschedule.store(true, Ordering::Relaxed);
            // It has done its work: a deadline in the past would fire again at once.
            here.slice_end.store(NEVER, Ordering::Relaxed);
        } else if slice_end == NEVER {
            here.slice_end.store(now.saturating_add(SLICE), Ordering::Relaxed);
            self.program_timer();
        }
    }

    /// Set this processor's timer to whatever comes first.
    pub(crate) fn program_timer(&self) {
        let here = self.here();
        let first = here.timers.lock().first().unwrap_or(NEVER);
        let deadline = first.min(here.slice_end.load(Ordering::Relaxed));
        if here.programmed.swap(deadline, Ordering::Relaxed) != deadline {
            self.machine.set_deadline((deadline != NEVER).then_some(deadline));
        }
    }

    /// The next vCPU to run on this processor: its own queue's, else another's.
    fn choose(&self, processor: ProcessorId) -> Option<VcpuHandle<M>> {
        loop {
            let candidate = self
                .take_from(processor, processor)
                .or_else(|| self.steal(processor))?;
            let mut place = candidate.place.lock();
            if runnable(&candidate) && may_run_on(&candidate, processor) {
                *place = Place::Running(processor);
                drop(place);
                return Some(candidate);
            }
            self.rest(&candidate, &mut place, self.machine.now());
            drop(place);
            // It may have become runnable again, or may run elsewhere.
            self.reconsider(&candidate);
        }
    }

    fn take_from(&self, queue: ProcessorId, processor: ProcessorId) -> Option<VcpuHandle<M>> {
        let mut queue = self.processor(queue).queue.lock();
        let (index, _) = (0..queue.len())
            .zip(queue.iter())
            .filter(|(_, vcpu)| may_run_on(vcpu, processor))
            .min_by_key(|(_, vcpu)| vcpu.virtual_runtime.load(Ordering::Relaxed))?;
        queue.remove(index)
    }

    fn steal(&self, processor: ProcessorId) -> Option<VcpuHandle<M>> {
        let after = processor.saturating_add(1)..self.processors.len();
        let mut others = after.chain(0..processor);
        others.find_map(|other| self.take_from(other, processor))
    }

    fn run_vcpu(&self, processor: ProcessorId, vcpu: &VcpuHandle<M>) {
        let here = self.processor(processor);
        let begin = self.machine.now();
        let waiting = self.call_others(here);
        here.reschedule.store(false, Ordering::Relaxed);
        let slice_end = if waiting {
            begin.saturating_add(SLICE)
        } else {
            NEVER
        };
        here.slice_end.store(slice_end, Ordering::Relaxed);
        here.started.store(begin, Ordering::Relaxed);
        let runtime = vcpu.virtual_runtime.load(Ordering::Relaxed);
        here.current.store(runtime, Ordering::Relaxed);
        here.floor.fetch_max(runtime, Ordering::Relaxed);
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
        let share = end.saturating_sub(here.started.load(Ordering::Relaxed));
        vcpu.virtual_runtime.fetch_add(share, Ordering::Relaxed);
        vcpu.domain()
            .cpu_time
            .fetch_add(end.saturating_sub(begin), Ordering::Relaxed);
        here.slice_end.store(NEVER, Ordering::Relaxed);
        self.put_away(vcpu, end);
    }

    /// Whether vCPUs wait here. A processor that was called for one of them may have chosen another, and gives the call on.
    fn call_others(&self, here: &Processor<M>) -> bool {
        let queue = here.queue.lock();
        let idle = self
            .processors
            .iter()
            .any(|processor| processor.idle.load(Ordering::Relaxed));
        let called = if idle {
            queue.iter().find_map(|vcpu| self.claim_idle(vcpu))
        } else {
            None
        };
        let waiting = !queue.is_empty();
        drop(queue);
        if let Some(called) = called {
            self.machine.kick(called);
        }
        waiting
    }

    /// Whether the vCPU that runs here should stop running now.
    pub(crate) fn must_give_way(&self, vcpu: &VcpuHandle<M>) -> bool {
        let here = self.here();
        here.reschedule.load(Ordering::Relaxed)
            || !runnable(vcpu)
            || !may_run_on(vcpu, self.machine.current())
    }

    /// Time that was spent on this processor for a vCPU: its own, and not that of the one that runs here.
    pub(crate) fn charge(&self, vcpu: &VcpuHandle<M>, time: Nanoseconds) {
        let current = self.machine.current();
        if *vcpu.place.lock() == Place::Running(current) {
            return;
        }
        vcpu.virtual_runtime.fetch_add(time, Ordering::Relaxed);
        self.processor(current).started.fetch_add(time, Ordering::Relaxed);
    }

    /// Make the vCPU that runs here give way after this exit.
    pub(crate) fn yield_now(&self) {
        let here = self.here();
        if !here.queue.lock().is_empty() {
            here.reschedule.store(true, Ordering::Relaxed);
        }
    }

    /// A vCPU leaves its processor: to a queue, if it still wants to run.
    fn put_away(&self, vcpu: &VcpuHandle<M>, now: Nanoseconds) {
        let mut place = vcpu.place.lock();
        // The state is noted while the place is held: who takes the vCPU on notes the next one after this.
        if runnable(vcpu) {
            self.change_runstate(vcpu, runstate::RUNNABLE, now);
            let target = self.enqueue(vcpu, &mut place);
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
        *place = Place::Off;
        let blocked = vcpu.stops.load(Ordering::SeqCst) & (stop::BLOCKED | stop::POLLING) != 0;
        let state = if blocked {
            runstate::BLOCKED
        } else {
            runstate::OFFLINE
        };
        self.change_runstate(vcpu, state, now);
    }

    /// Take a vCPU that will never run again out of the queue that it waits in, which holds its domain.
    pub(crate) fn leave_queue(&self, vcpu: &VcpuHandle<M>) {
        let mut place = vcpu.place.lock();
        let Place::Queued(queue) = *place else { return };
        let mut there = self.processor(queue).queue.lock();
        let mut entries = (0..there.len()).zip(there.iter());
        // Not there: a processor has just taken it, and sees that it may not run as soon as we let go.
        let Some((index, _)) = entries.find(|(_, other)| *other == vcpu) else {
            return;
        };
        let entry = there.remove(index);
        drop(there);
        self.rest(vcpu, &mut place, self.machine.now());
        drop(place);
        drop(entry);
    }

    /// Put a vCPU into the queue where it should run. Returns the processor to be told.
    fn enqueue(&self, vcpu: &VcpuHandle<M>, place: &mut Place) -> ProcessorId {
        let (target, claimed) = self.best_processor(vcpu);
        let there = self.processor(target);
        let floor = there.floor.load(Ordering::Relaxed);
        let runtime = vcpu.virtual_runtime.load(Ordering::Relaxed);
        // Queues of different processors run at different virtual speeds: what carries over is bounded both ways.
        let adjusted = runtime.clamp(floor.saturating_sub(SLEEP_CREDIT), floor.saturating_add(SLICE));
        vcpu.virtual_runtime.store(adjusted, Ordering::Relaxed);
        *place = Place::Queued(target);
        there.queue.lock().push_back(vcpu.clone());
        if !claimed {
            // Nobody idled when we chose. Who began to since did not see this entry, and we did not see it idle: one of
            // us must, or the vCPU would wait for a slice's end beside an idle processor.
            fence(Ordering::SeqCst);
            if let Some(idle) = self.claim_idle(vcpu) {
                self.machine.kick(idle);
            }
        }
        target
    }

    /// A processor that idles and where the vCPU may run, the one where it last ran first. It is taken for the vCPU: no
    /// other finds it idle.
    fn claim_idle(&self, vcpu: &VcpuHandle<M>) -> Option<ProcessorId> {
        let last = vcpu.last_processor.load(Ordering::Relaxed) as usize;
        let all = 0..self.processors.len();
        all.contains(&last)
            .then_some(last)
            .into_iter()
            .chain(all)
            .find(|&candidate| {
                let idle = &self.processor(candidate).idle;
                may_run_on(vcpu, candidate) && idle.swap(false, Ordering::SeqCst)
            })
    }

    /// Where a vCPU should run: on a processor that idles, else where it last ran. Says whether it idled.
    fn best_processor(&self, vcpu: &VcpuHandle<M>) -> (ProcessorId, bool) {
        if let Some(idle) = self.claim_idle(vcpu) {
            return (idle, true);
        }
        let last = vcpu.last_processor.load(Ordering::Relaxed) as usize;
        let count = self.processors.len();
        if last < count && may_run_on(vcpu, last) {
            return (last, false);
        }
        let allowed = (0..count).find(|&candidate| may_run_on(vcpu, candidate));
        (allowed.unwrap_or(0), false)
    }

    fn idle(&self, processor: ProcessorId) {
        let here = self.processor(processor);
        here.idle.store(true, Ordering::SeqCst);
        // Whoever queued before it saw us idle did not kick: look once more.
        let work = self.processors.iter().any(|other| {
            let queue = other.queue.lock();
            queue.iter().any(|vcpu| may_run_on(vcpu, processor))
        });
        if !work {
            self.program_timer();
            let begin = self.machine.now();
            self.machine.wait();
            here.idle_time
                .fetch_add(self.machine.now().saturating_sub(begin), Ordering::Relaxed);
        }
        here.idle.store(false, Ordering::SeqCst);
    }

    /// Something happened that this vCPU waits for, or that it must look at: end its block, and make it look if it runs.
    pub fn unblock(&self, vcpu: &VcpuHandle<M>) {
        let before = vcpu
            .stops
            .fetch_and(!(stop::BLOCKED | stop::POLLING), Ordering::SeqCst);
        // An interrupt ends a poll as well: the guest may poll for what its handler must do first.
        if before & (stop::BLOCKED | stop::POLLING) != 0 {
            self.reconsider(vcpu);
        } else {
            self.make_look(vcpu);
        }
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
        let target = self.enqueue(vcpu, &mut place);
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
            Place::Queued(queue) if !may_run_on(vcpu, queue) => {
                let mut there = self.processor(queue).queue.lock();
                let mut entries = (0..there.len()).zip(there.iter());
                // Not there: a processor has just taken it, and looks at where it may run as soon as we let go.
                let Some((index, _)) = entries.find(|(_, other)| *other == vcpu) else {
                    return;
                };
                drop(there.remove(index));
                drop(there);
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
    /// it) or in the core (and comes to look soon); it never waits for us.
    pub(crate) fn wait_until_stopped(&self, vcpu: &VcpuHandle<M>) {
        begin_waiting();
        loop {
            let place = *vcpu.place.lock();
            match place {
                Place::Running(processor) if processor != self.machine.current() => {
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
