//! The usual policy: each domain gets processor time in proportion to its weight.
//!
//! A domain ages while its vCPUs run and somebody waits for their processors, the faster the lighter it is and the more
//! of them run; the youngest domain's run next, on whatever processor, each in turn. So all that compete for the same
//! processors grow old together, whichever of them they run on. What keeps that true:
//!
//! - A processor compares who waits for it with who waits for its neighbours, and takes the younger, if that one is
//!   younger by more than a move costs. One without work takes whom it finds.
//! - Time in which nobody waits is free: it makes nobody old.
//! - Where somebody waits, the processor tells the neighbours that run theirs undisturbed: for them, too, time counts from
//!   then on, and at a slice's end they look who is younger.
//! - Sleep makes nobody younger than a credit, so that nobody saves up; and who is behind although it runs all the time
//!   (its weight promises more than its vCPUs can use) does not save up either.
//! - What the control domain does for a guest that woke it is that guest's time, up to a limit for each time.
//!
//! Where this comes from: docs/decisions/0040-scheduler.md.

use machine::sync::atomic::{Ordering, fence};

use machine::{Machine, Nanoseconds, ProcessorId};

use super::policy::{Entering, Placement, Policy};
use super::virtual_time::{Rate, VirtualTime};
use super::{NEVER, Processor, ProcessorSet};
use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};

/// How long a vCPU may keep a processor that another waits for.
pub const SLICE: Nanoseconds = 3_000_000;
/// How much younger than the running one a waking vCPU must be to take its place at once, in time of its own.
pub const GRANULARITY: Nanoseconds = 100_000;
/// How much younger one must be to be fetched from another processor's queue, in time of its own.
pub const MOVE_COST: Nanoseconds = 200_000;
/// How far ahead of those who wait a sleeper may wake, in time of its own.
pub const SLEEP_CREDIT: Nanoseconds = 250_000;
/// How far behind or ahead of those of its new processor a vCPU may come to it, in time of its own.
pub const MOST_DEBT: Nanoseconds = 100_000_000;
/// For how long a neighbour's word that somebody waits is believed.
const WORD_LASTS: Nanoseconds = 2 * SLICE;
/// How much of what the control domain does is counted against the guest that woke it, each time.
pub const MOST_ON_BEHALF: Nanoseconds = 1_000_000;

/// The same for what is sent to it while it is awake: an interrupt's worth.
pub const MORE_ON_BEHALF: Nanoseconds = 50_000;

/// Shares in proportion to weights.
pub struct Fair;

impl<M: Machine> Policy<M> for Fair {
    /// A processor that idles; else the last one, if it would give way; else one whose vCPU is old.
    fn place(&self, kernel: &Kernel<M>, vcpu: &VcpuHandle<M>) -> Placement {
        if let Some(processor) = kernel.claim_idle(vcpu) {
            return Placement {
                processor,
                claimed: true,
            };
        }
        let allowed = kernel.allowed(vcpu);
        let last = vcpu.last_processor.load(Ordering::Relaxed) as usize;
        let age = vcpu.domain().share.age();
        let least = vcpu.domain().share.rate().virtual_of(GRANULARITY);
        let gives_way = |processor: ProcessorId| {
            let current = kernel.processor(processor).age_at_start();
            current.past(age) > least as i64
        };
        let preferred = vcpu.soft_affinity.glance().and(&allowed);
        let preferred = if preferred.is_empty() { allowed } else { preferred };
        let stays = preferred.contains(last) && last < kernel.processors.len();
        let processor = if stays && gives_way(last) {
            last
        } else {
            let near = match kernel.processors.get(last) {
                Some(processor) if stays => processor.neighbours,
                _ => ProcessorSet::ALL,
            };
            let oldest = preferred
                .and(&near)
                .iter()
                .take(MOST_LOOKED_AT)
                .max_by(|&one, &other| {
                    let ages = [one, other].map(|number| kernel.processor(number).age_at_start());
                    ages[0].past(ages[1]).cmp(&0)
                });
            match oldest {
                Some(oldest) if gives_way(oldest) || !stays => oldest,
                _ if stays => last,
                _ => allowed.first().unwrap_or(0),
            }
        };
        Placement {
            processor,
            claimed: false,
        }
    }

    fn turn(
        &self,
        kernel: &Kernel<M>,
        vcpu: &VcpuHandle<M>,
        queue: ProcessorId,
        entering: Entering,
    ) -> VirtualTime {
        let there = kernel.processor(queue);
        let share = &vcpu.domain().share;
        if entering == Entering::Preempted {
            // Whoever yields comes after the next one, without its domain's growing older by that.
            let head = if there.yielded.swap(false, Ordering::Relaxed) {
                kernel.head(queue)
            } else {
                None
            };
            return head.map_or(share.age(), |(head, _)| share.age().or_later(head));
        }
        if share.contenders() == 1 {
            let (rate, floor) = (share.rate(), VirtualTime(there.floor.load(Ordering::Relaxed)));
            let least = floor.earlier(rate.virtual_of(SLEEP_CREDIT));
            let most = floor.later(rate.virtual_of(MOST_DEBT));
            share.bound_age(Some(least), Some(most));
        }
        share.age()
    }

    fn pick(&self, kernel: &Kernel<M>, here: ProcessorId) -> Option<VcpuHandle<M>> {
        let own = kernel.head(here);
        let elsewhere = youngest_nearby(kernel, here);
        if let (Some((own, _)), Some((_, head, rate))) = (own, elsewhere)
            && !younger(head, rate, MOVE_COST, own)
        {
            return kernel.take_own(here);
        }
        // Whoever may run here need not be the first there: it is fetched only if it is younger than who waits here, or it
        // would be sent back at once.
        let wanted = |turn: VirtualTime, vcpu: &VcpuHandle<M>| {
            own.is_none_or(|(own, _)| younger(turn, vcpu.domain().share.rate(), MOVE_COST, own))
        };
        let fetched = elsewhere.and_then(|(queue, ..)| kernel.fetch_waiting(queue, here, wanted));
        let found = fetched.or_else(|| kernel.take_own(here));
        let found = found.or_else(|| fetch_from_anywhere(kernel, here))?;
        let floor = VirtualTime(kernel.processor(here).floor.load(Ordering::Relaxed));
        let share = &found.domain().share;
        share.bound_age(Some(floor.earlier(share.rate().virtual_of(MOST_DEBT))), None);
        Some(found)
    }

    fn begin(&self, kernel: &Kernel<M>, here: ProcessorId, vcpu: &VcpuHandle<M>, now: Nanoseconds) {
        let processor = kernel.processor(here);
        let share = &vcpu.domain().share;
        let age = share.age();
        processor.current.store(age.0, Ordering::Relaxed);
        let rate = rate_here(kernel, here, vcpu.domain());
        processor.rate.store(rate.0, Ordering::Relaxed);
        processor.yielded.store(false, Ordering::Relaxed);
        let waited_for = kernel.head(here).is_some();
        if waited_for {
            let floor = VirtualTime(processor.floor.load(Ordering::Relaxed));
            processor.floor.store(floor.or_later(age).0, Ordering::Relaxed);
        }
        let contested = waited_for || processor.was_told(now);
        let (since, end) = if contested {
            (now, now.saturating_add(SLICE))
        } else {
            (NEVER, NEVER)
        };
        processor.contested.store(since, Ordering::Relaxed);
        processor.slice_end.store(end, Ordering::Relaxed);
        if waited_for {
            tell_neighbours(kernel, here, now);
        }
    }

    fn look(&self, kernel: &Kernel<M>, here: ProcessorId, now: Nanoseconds) {
        let processor = kernel.processor(here);
        let slice_end = processor.slice_end.load(Ordering::Relaxed);
        let undisturbed = processor.contested.load(Ordering::Relaxed) == NEVER;
        let own = kernel.head(here);
        if own.is_none() && !processor.was_told(now) {
            // Whoever waited has gone elsewhere: there is no slice to end, and from here on time is free.
            kernel.settle(here, now);
            processor.contested.store(NEVER, Ordering::Relaxed);
            processor.slice_end.store(NEVER, Ordering::Relaxed);
            return;
        }
        // Who competes has changed, perhaps, and with it how fast the running one ages.
        kernel.settle(here, now);
        if undisturbed {
            processor.contested.store(now, Ordering::Relaxed);
        }
        let over = now >= slice_end;
        let age = processor.age_now(now);
        let gives_way = match own {
            Some((head, rate)) => over || younger(head, rate, GRANULARITY, age),
            None => {
                let elsewhere = youngest_nearby(kernel, here);
                let by = if over { MOVE_COST } else { SLICE };
                elsewhere.is_some_and(|(_, head, rate)| younger(head, rate, by, age))
            }
        };
        if gives_way {
            let least = kernel.pool_of(here).ratelimit.load(Ordering::Relaxed);
            let may_be_cut = processor.began.load(Ordering::Relaxed).saturating_add(least);
            if now >= may_be_cut {
                processor.reschedule.store(true, Ordering::Relaxed);
                // It has done its work: a deadline in the past would fire again at once.
                processor.slice_end.store(NEVER, Ordering::Relaxed);
            } else {
                processor.slice_end.store(may_be_cut, Ordering::Relaxed);
                kernel.program_timer();
            }
        } else if over || slice_end == NEVER {
            processor
                .slice_end
                .store(now.saturating_add(SLICE), Ordering::Relaxed);
            kernel.program_timer();
        }
    }

    fn end(&self, kernel: &Kernel<M>, here: ProcessorId, vcpu: &VcpuHandle<M>, now: Nanoseconds) {
        let processor = kernel.processor(here);
        let aged = processor.unsettled(now);
        let aged = aged.saturating_sub(count_on_behalf(kernel, here, vcpu, now));
        vcpu.domain().share.grow_older(aged);
        processor.contested.store(NEVER, Ordering::Relaxed);
        processor.slice_end.store(NEVER, Ordering::Relaxed);
    }

    /// Behind the next one. Siblings that wait come before: one of them may be who is waited for.
    fn yields(&self, kernel: &Kernel<M>, here: ProcessorId, _: &VcpuHandle<M>) {
        let processor = kernel.processor(here);
        if kernel.head(here).is_some() {
            processor.yielded.store(true, Ordering::Relaxed);
            processor.reschedule.store(true, Ordering::Relaxed);
        }
    }

    fn forget(&self, _kernel: &Kernel<M>, _vcpu: &VcpuHandle<M>) {}
}

/// Processors looked at for one decision, at most: a neighbourhood, and as many of another.
const MOST_LOOKED_AT: usize = 2 * super::MOST_NEIGHBOURS;

/// Whether the one that waits is younger than another by at least so much time of its own.
fn younger(head: VirtualTime, rate: Rate, by: Nanoseconds, than: VirtualTime) -> bool {
    head.later(rate.virtual_of(by)).before(than)
}

/// The youngest of those that wait for a neighbour, or for one of another neighbourhood in turn: the queue, its age, and how
/// it ages.
fn youngest_nearby<M: Machine>(
    kernel: &Kernel<M>,
    here: ProcessorId,
) -> Option<(ProcessorId, VirtualTime, Rate)> {
    let mut waiting = kernel.waiting.glance().and(&kernel.reach(here));
    waiting.remove(here);
    let mut youngest: Option<(ProcessorId, VirtualTime, Rate)> = None;
    for queue in waiting.iter().take(MOST_LOOKED_AT) {
        if let Some((head, rate)) = kernel.head(queue)
            && youngest.is_none_or(|(_, other, _)| head.before(other))
        {
            youngest = Some((queue, head, rate));
        }
    }
    youngest
}

/// For a processor without work of its own: anybody who may run on it.
fn fetch_from_anywhere<M: Machine>(kernel: &Kernel<M>, here: ProcessorId) -> Option<VcpuHandle<M>> {
    let waiting = kernel
        .waiting
        .load()
        .and(&kernel.pool_of(here).processors.glance());
    let (after, before): (ProcessorSet, ProcessorSet) = waiting.split_at(here);
    after
        .iter()
        .chain(before.iter())
        .find_map(|queue| kernel.fetch_waiting(queue, here, |_, _| true))
}

/// How fast a domain ages on this processor now.
fn rate_here<M: Machine>(kernel: &Kernel<M>, here: ProcessorId, domain: &Domain<M>) -> Rate {
    domain.share.rate_among(kernel.pool_of(here).competition())
}

/// Somebody waits here: neighbours where it may run, and which run theirs undisturbed, should know.
fn tell_neighbours<M: Machine>(kernel: &Kernel<M>, here: ProcessorId, now: Nanoseconds) {
    let (Some(allowed), Some((head, rate))) = (kernel.head_allowed(here), kernel.head(here)) else {
        return;
    };
    let mut others = kernel.reach(here).and(&allowed);
    others.remove(here);
    let runs = |number: &ProcessorId| kernel.processor(*number).running.own().is_some();
    for number in others.iter().filter(runs).take(MOST_LOOKED_AT) {
        let other = kernel.processor(number);
        other.told.store(now, Ordering::Relaxed);
        // Whoever is about to look sees the word; who is not is called.
        fence(Ordering::SeqCst);
        let undisturbed = other.slice_end.load(Ordering::Relaxed) == NEVER;
        if undisturbed || younger(head, rate, SLICE, other.age_at_start()) {
            kernel.machine.kick(number);
        }
    }
}

/// The part of this run that counts against the guest that woke this vCPU of the control domain, in virtual time of the
/// vCPU's own.
fn count_on_behalf<M: Machine>(
    kernel: &Kernel<M>,
    here: ProcessorId,
    vcpu: &VcpuHandle<M>,
    now: Nanoseconds,
) -> u64 {
    if !vcpu.domain().privileged {
        return 0;
    }
    let Some((time, waker)) = vcpu.waker.spend(kernel.processor(here).ran(now)) else {
        return 0;
    };
    let waker = kernel
        .domains
        .get(waker.domain)
        .and_then(|domain| VcpuHandle::new(&domain, waker.vcpu));
    let Some(waker) = waker else { return 0 };
    let share = &waker.domain().share;
    share.grow_older(share.rate().virtual_of(time));
    let rate = Rate(kernel.processor(here).rate.load(Ordering::Relaxed));
    rate.virtual_of(time)
}

impl<M: Machine> Kernel<M> {
    /// Note what the domain that runs on a processor has aged there by now.
    fn settle(&self, here: ProcessorId, now: Nanoseconds) {
        let processor = self.processor(here);
        let aged = processor.unsettled(now);
        let Some(name) = processor.running.own() else {
            return;
        };
        if let Some(domain) = self.domains.get(name.domain) {
            domain.share.grow_older(aged);
            let rate = rate_here(self, here, &domain);
            processor.rate.store(rate.0, Ordering::Relaxed);
            processor.current.store(domain.share.age().0, Ordering::Relaxed);
        }
        // "Not contested" is later than any time.
        processor.contested.fetch_max(now, Ordering::Relaxed);
    }
}

impl<M: Machine> Processor<M> {
    /// The age of the domain that runs here, when that was last noted.
    fn age_at_start(&self) -> VirtualTime {
        VirtualTime(self.current.load(Ordering::Relaxed))
    }

    /// The age of the domain that runs here, by what this processor knows.
    fn age_now(&self, now: Nanoseconds) -> VirtualTime {
        self.age_at_start().later(self.unsettled(now))
    }

    /// What the running vCPU's domain has aged here since it was last noted.
    fn unsettled(&self, now: Nanoseconds) -> u64 {
        let contested = self.contested.load(Ordering::Relaxed);
        if contested == NEVER {
            return 0;
        }
        let since = contested.max(self.started.load(Ordering::Relaxed));
        let rate = Rate(self.rate.load(Ordering::Relaxed));
        rate.virtual_of(now.saturating_sub(since))
    }

    /// How long the running vCPU has run, without what was done for others meanwhile.
    fn ran(&self, now: Nanoseconds) -> Nanoseconds {
        now.saturating_sub(self.started.load(Ordering::Relaxed))
    }

    /// Whether a neighbour has said lately that somebody waits who could run here.
    fn was_told(&self, now: Nanoseconds) -> bool {
        let told = self.told.load(Ordering::Relaxed);
        told != NEVER && now.saturating_sub(told) <= WORD_LASTS
    }
}
