//! Deadlines of vCPUs: one-shot and periodic timers, poll timeouts, the local APIC's timer.
//!
//! A vCPU is entered in at most one processor's queue, for the earliest of its deadlines: where it runs, once it does.
//! Entries hold the vCPU, so that a timer that fires finds it alive.
//!
//! A deadline interrupts whoever runs on the processor, so it is served only where that helps: for a vCPU that sleeps or
//! runs. One that waits for a processor learns what has passed when it has one. What serving costs is its owner's, not
//! the running vCPU's.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::cmp::Reverse;
use machine::sync::atomic::Ordering;

use hypercall_abi::xen::virq;
use machine::{Machine, Nanoseconds};

use crate::Kernel;
use crate::domain::VcpuHandle;
use crate::vcpu::{Deadlines, Place, stop};

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

type Key = (Nanoseconds, u16, u32);

/// The deadlines entered on one processor, the earliest last.
pub struct TimerQueue<M: Machine> {
    entries: Vec<(Key, VcpuHandle<M>)>,
}

impl<M: Machine> Default for TimerQueue<M> {
    fn default() -> Self {
        TimerQueue { entries: Vec::new() }
    }
}

fn key<M: Machine>(vcpu: &VcpuHandle<M>, deadline: Nanoseconds) -> Key {
    (deadline, vcpu.domain_id.0, vcpu.index)
}

impl<M: Machine> TimerQueue<M> {
    /// The earliest deadline.
    pub fn first(&self) -> Option<Nanoseconds> {
        self.entries.last().map(|((deadline, ..), _)| *deadline)
    }

    /// Have room for `count` entries, so that entering one never allocates.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<(), TryReserveError> {
        self.entries.try_reserve(count.saturating_sub(self.entries.len()))
    }

    fn insert(&mut self, key: Key, vcpu: VcpuHandle<M>) {
        let index = self.entries.partition_point(|(other, _)| *other > key);
        self.entries.insert(index, (key, vcpu));
    }

    fn remove(&mut self, key: Key) {
        let found = self
            .entries
            .binary_search_by_key(&Reverse(key), |(other, _)| Reverse(*other));
        if let Ok(index) = found {
            // Whoever removes an entry holds the vCPU as well: nothing ends here.
            drop(self.entries.remove(index));
        }
    }

    fn pop_due(&mut self, now: Nanoseconds) -> Option<(Nanoseconds, VcpuHandle<M>)> {
        self.entries
            .pop_if(|((deadline, ..), _)| *deadline <= now)
            .map(|((deadline, ..), vcpu)| (deadline, vcpu))
    }
}

impl<M: Machine> Kernel<M> {
    /// Change a vCPU's deadlines and enter it accordingly.
    pub fn change_deadlines(&self, vcpu: &VcpuHandle<M>, change: impl FnOnce(&mut Deadlines)) {
        let mut deadlines = vcpu.deadlines.lock();
        change(&mut deadlines);
        self.enter_deadline(vcpu, &mut deadlines);
    }

    /// A vCPU begins to run here: its deadlines follow it, and those that passed while it waited are served.
    pub(crate) fn take_deadlines_along(&self, vcpu: &VcpuHandle<M>) {
        let here = self.machine.current();
        let mut deadlines = vcpu.deadlines.lock();
        if let Some((processor, at)) = deadlines.queued
            && processor != here
        {
            self.processor(processor).timers.lock().remove(key(vcpu, at));
            deadlines.queued = None;
        }
        self.enter_deadline(vcpu, &mut deadlines);
        let due = deadlines
            .earliest()
            .is_some_and(|deadline| deadline <= self.machine.now());
        drop(deadlines);
        if due {
            self.expire_timers();
        }
    }

    fn enter_deadline(&self, vcpu: &VcpuHandle<M>, deadlines: &mut Deadlines) {
        let wanted = deadlines.earliest();
        if deadlines.queued.map(|(_, at)| at) == wanted {
            return;
        }
        if let Some((processor, at)) = deadlines.queued.take() {
            self.processor(processor).timers.lock().remove(key(vcpu, at));
        }
        if let Some(at) = wanted {
            let here = self.machine.current();
            self.processor(here)
                .timers
                .lock()
                .insert(key(vcpu, at), vcpu.clone());
            deadlines.queued = Some((here, at));
        }
        self.program_timer();
    }

    /// Serve what is due on this processor by now. What falls due meanwhile waits for the next time: a vCPU whose timers
    /// are always due would keep its processor here for ever.
    pub(crate) fn expire_timers(&self) {
        let here = self.machine.current();
        let now = self.machine.now();
        let mut begin = now;
        loop {
            let due = self.processor(here).timers.lock().pop_due(now);
            let Some((at, vcpu)) = due else { return };
            self.expire(&vcpu, here, at, now);
            let end = self.machine.now();
            self.charge(&vcpu, end.saturating_sub(begin));
            begin = end;
        }
    }

    fn expire(&self, vcpu: &VcpuHandle<M>, here: usize, at: Nanoseconds, now: Nanoseconds) {
        let due = |deadline: Option<Nanoseconds>| deadline.is_some_and(|deadline| deadline <= now);
        let mut deadlines = vcpu.deadlines.lock();
        if deadlines.queued != Some((here, at)) {
            // Changed between the queue and here: it is entered elsewhere already.
            return;
        }
        deadlines.queued = None;
        let sleeps = vcpu.stops.load(Ordering::SeqCst) & (stop::BLOCKED | stop::POLLING) != 0;
        if !sleeps && matches!(*vcpu.place.lock(), Place::Queued(_)) {
            // `take_deadlines_along` enters it again.
            return;
        }
        let mut tick = false;
        if due(deadlines.singleshot) {
            deadlines.singleshot = None;
            tick = true;
        }
        if due(deadlines.periodic) {
            // Ticks missed while nobody looked are one.
            let period = deadlines.period.max(1);
            deadlines.periodic = deadlines.periodic.map(|next| {
                let ticks = (now.saturating_sub(next) / period).saturating_add(1);
                next.saturating_add(period.saturating_mul(ticks))
            });
            tick = true;
        }
        let polled = due(deadlines.poll);
        if polled {
            deadlines.poll = None;
        }
        let renewed = due(deadlines.renewal);
        if renewed {
            deadlines.renewal = None;
        }
        let apic = due(deadlines.apic);
        if apic {
            deadlines.apic = vcpu.lapic.timer_fired(now);
        }
        self.enter_deadline(vcpu, &mut deadlines);
        drop(deadlines);
        if tick {
            self.send_virq(vcpu.domain(), vcpu.index, virq::TIMER);
        }
        if polled {
            vcpu.stops.fetch_and(!stop::POLLING, Ordering::SeqCst);
            self.reconsider(vcpu);
        }
        if renewed {
            self.end_renewal(vcpu);
        }
        if apic {
            self.unblock(vcpu);
        }
    }

    /// Forget all deadlines of a vCPU: its domain ends, or it goes down.
    pub(crate) fn cancel_deadlines(&self, vcpu: &VcpuHandle<M>) {
        self.change_deadlines(vcpu, |deadlines| {
            *deadlines = Deadlines {
                queued: deadlines.queued,
                ..Deadlines::default()
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use machine::fake::{on_processor, set_processor};

    use super::*;
    use crate::cpu_policy::CpuPolicy;
    use crate::lapic::register::{SPURIOUS_VECTOR, TIMER_DIVIDE, TIMER_INITIAL, TIMER_VECTOR};
    use crate::testing;

    #[test]
    fn the_earliest_comes_first_and_entries_are_taken_out_again() {
        let kernel = testing::kernel();
        let domain = testing::domain(&kernel, 1, 3, 1);
        let vcpus = [0, 1, 2].map(|index| testing::vcpu(&domain, index));
        let mut queue = TimerQueue::default();
        for (vcpu, deadline) in vcpus.iter().zip([300, 100, 200]) {
            queue.insert(key(vcpu, deadline), vcpu.clone());
        }
        assert_eq!(queue.first(), Some(100));
        queue.remove(key(&vcpus[1], 100));
        queue.remove(key(&vcpus[1], 100));
        assert!(queue.pop_due(199).is_none());
        assert_eq!(queue.pop_due(250).map(|(deadline, _)| deadline), Some(200));
        assert_eq!(queue.first(), Some(300));
    }

    #[test]
    fn waking_and_arming_find_their_places_set_aside() {
        set_processor(0);
        let kernel = testing::kernel();
        for vcpus in [2, 5] {
            let config = testing::configuration(vcpus, false);
            kernel
                .create_domain(None, &config, Arc::new(CpuPolicy::default()))
                .unwrap();
        }
        for processor in &kernel.processors {
            assert!(processor.timers.lock().entries.capacity() >= 7);
            assert!(
                processor
                    .each_queued(|_| Ok::<(), ()>(()))
                    .is_ok_and(|places| places >= 7)
            );
        }
    }

    #[test]
    fn a_guest_whose_timer_is_always_due_lets_its_processor_go() {
        set_processor(0);
        let kernel = testing::kernel();
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 1), 0);
        for (register, value) in [
            (SPURIOUS_VECTOR, 0x1ff),
            (TIMER_DIVIDE, 0xb),
            (TIMER_VECTOR, (1 << 17) | 0x40),
            (TIMER_INITIAL, 1),
        ] {
            let effect = guest.lapic.write(register, value, kernel.machine.now()).unwrap();
            kernel.apic_effect(&guest, effect);
        }
        let armed = guest.deadlines.lock().apic.unwrap();
        assert!(armed >= 100_000, "{armed} ns are no time to serve anything else");
        kernel.machine.advance(armed);
        kernel.expire_timers();
        let next = guest.deadlines.lock().apic.unwrap();
        assert!(next >= armed + 100_000);
    }

    /// A guest with the shortest periodic timer of each kind.
    fn ticking(kernel: &testing::TestKernel, id: u16) -> testing::TestVcpu {
        let guest = testing::vcpu(&testing::domain(kernel, id, 1, 1), 0);
        kernel.change_deadlines(&guest, |deadlines| {
            deadlines.period = 1_000_000;
            deadlines.periodic = Some(kernel.machine.now() + 1_000_000);
        });
        guest
    }

    fn first(kernel: &testing::TestKernel, processor: usize) -> Option<Nanoseconds> {
        kernel.processors[processor].timers.lock().first()
    }

    #[test]
    fn a_vcpu_that_waits_for_its_processor_does_not_interrupt_the_one_that_runs() {
        set_processor(0);
        let kernel = testing::kernel();
        let guest = ticking(&kernel, 1);
        kernel.reconsider(&guest);
        assert!(matches!(*guest.place.lock(), Place::Queued(_)));
        kernel.machine.advance(1_000_000);
        kernel.expire_timers();
        assert_eq!(first(&kernel, 0), None, "another one is interrupted again");
        assert!(guest.deadlines.lock().periodic.is_some());
        // It has a processor: what passed is served now, and what comes is entered.
        kernel.machine.advance(5_500_000);
        *guest.place.lock() = Place::Running(0);
        kernel.take_deadlines_along(&guest);
        let next = guest.deadlines.lock().periodic;
        assert!(next.is_some_and(|next| next > kernel.machine.now()));
        assert_eq!(first(&kernel, 0), next);
    }

    #[test]
    fn a_sleeping_vcpu_is_woken_by_its_deadline_wherever_it_was_entered() {
        set_processor(0);
        let kernel = testing::kernel();
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 1), 0);
        guest.stops.fetch_or(stop::POLLING, Ordering::SeqCst);
        kernel.change_deadlines(&guest, |deadlines| deadlines.poll = Some(1000));
        kernel.machine.advance(1000);
        kernel.expire_timers();
        assert_eq!(guest.stops.load(Ordering::SeqCst), 0);
        assert!(matches!(*guest.place.lock(), Place::Queued(_)));
    }

    #[test]
    fn deadlines_follow_their_vcpu_to_the_processor_where_it_runs() {
        set_processor(0);
        let kernel = testing::kernel();
        let guest = ticking(&kernel, 1);
        let deadline = first(&kernel, 0);
        assert!(deadline.is_some());
        on_processor(1, || {
            *guest.place.lock() = Place::Running(1);
            kernel.take_deadlines_along(&guest);
        });
        assert_eq!((first(&kernel, 0), first(&kernel, 1)), (None, deadline));
    }

    #[test]
    fn what_is_done_for_a_sleeper_is_not_charged_to_the_one_that_runs() {
        set_processor(0);
        let kernel = testing::kernel();
        let [runs, sleeps] = [1, 2].map(|id| testing::vcpu(&testing::domain(&kernel, id, 1, 1), 0));
        *runs.place.lock() = Place::Running(0);
        let time = |vcpu: &testing::TestVcpu| vcpu.domain().share.age().0;
        let began = kernel.processors[0].since();
        kernel.charge(&sleeps, 500);
        assert_eq!(
            (time(&sleeps), kernel.processors[0].since()),
            (500 * 256, began + 500)
        );
        // One's own are in the time that one runs.
        kernel.charge(&runs, 500);
        assert_eq!((time(&runs), kernel.processors[0].since()), (0, began + 500));
    }
}
