//! CPU pools: processors that a scheduling policy has for itself, and the domains that run there and nowhere else.
//!
//! Pool 0 is there from the start, has all processors then, and holds the control domain; it never ends. A processor is
//! in one pool or in none, where it runs nothing.

use alloc::sync::Arc;

use hypercall_abi::{DomainId, Error};
use machine::sync::Lock;
use machine::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use machine::{Machine, Nanoseconds, ProcessorId};

use super::policy::{Policy, PolicyKind};
use super::processor_set::{AtomicProcessorSet, ProcessorSet};
use super::share::Competition;
use crate::Kernel;
use crate::domain::{Domain, VcpuHandle};

/// Pools that there can be; their numbers are below this.
pub const MOST_POOLS: u32 = 64;
/// A processor's pool while it is in none.
pub const NO_POOL: u32 = u32::MAX;

const UNUSED: u32 = 0;
const FAIR: u32 = 1;
const PINNED: u32 = 2;

/// A pool, or a place for one.
pub struct Pool {
    state: AtomicU32,
    /// Its processors.
    pub processors: AtomicProcessorSet,
    /// How many they are.
    size: AtomicU32,
    /// The weights of the domains that compete for them, in sum.
    pub(super) weights: AtomicU64,
    /// How long a vCPU runs at least before another may take its place; 0 is no such limit.
    pub ratelimit: AtomicU64,
}

impl Pool {
    const fn unused() -> Pool {
        Pool {
            state: AtomicU32::new(UNUSED),
            processors: AtomicProcessorSet::empty(),
            size: AtomicU32::new(0),
            weights: AtomicU64::new(0),
            ratelimit: AtomicU64::new(0),
        }
    }

    fn change_processors(&self, change: impl FnOnce(&AtomicProcessorSet)) {
        change(&self.processors);
        self.size.store(self.processors.load().count(), Ordering::Relaxed);
    }

    /// Who competes for how much.
    pub(super) fn competition(&self) -> Competition {
        Competition {
            processors: self.size.load(Ordering::Relaxed),
            weights: self.weights.load(Ordering::Relaxed),
        }
    }

    /// Its policy; `None` where there is no pool.
    pub fn kind(&self) -> Option<PolicyKind> {
        match self.state.load(Ordering::Relaxed) {
            FAIR => Some(PolicyKind::Fair),
            PINNED => Some(PolicyKind::Pinned),
            _ => None,
        }
    }

    fn set(&self, kind: Option<PolicyKind>) {
        let state = match kind {
            None => UNUSED,
            Some(PolicyKind::Fair) => FAIR,
            Some(PolicyKind::Pinned) => PINNED,
        };
        self.state.store(state, Ordering::SeqCst);
    }
}

/// Held by whoever changes pools, or makes a domain that is in one.
pub struct PoolChange;

/// All pools.
pub struct Pools {
    places: [Pool; MOST_POOLS as usize],
    /// See [`PoolChange`].
    pub change: Lock<PoolChange>,
}

impl Pools {
    /// Pool 0 with all of `count` processors.
    pub fn new(count: usize) -> Pools {
        let pools = Pools {
            places: [const { Pool::unused() }; MOST_POOLS as usize],
            change: Lock::new(PoolChange),
        };
        let [first, ..] = &pools.places;
        first.set(Some(PolicyKind::Fair));
        first.change_processors(|processors| processors.store(ProcessorSet::first_ones(count)));
        pools
    }

    /// The place of that number; those past the most share the first one's, and are never asked for.
    fn place(&self, number: u32) -> &Pool {
        let [first, ..] = &self.places;
        self.places.get(number as usize).unwrap_or(first)
    }

    /// A pool that exists.
    pub fn get(&self, number: u32) -> Option<&Pool> {
        let pool = self.places.get(number as usize)?;
        pool.kind().map(|_| pool)
    }

    /// The first one that exists at or after a number.
    pub fn at_or_after(&self, number: u32) -> Option<(u32, &Pool)> {
        (number..MOST_POOLS).find_map(|number| Some((number, self.get(number)?)))
    }
}

impl<M: Machine> Kernel<M> {
    /// The pool that a processor is in; the first one for a processor that is in none, which therefore finds nobody in
    /// queues: nobody may run there.
    pub(super) fn pool_of(&self, processor: ProcessorId) -> &Pool {
        self.pools
            .place(self.processor(processor).pool.load(Ordering::Relaxed))
    }

    /// The policy of a processor.
    pub(super) fn policy_of(&self, processor: ProcessorId) -> &'static dyn Policy<M> {
        self.pool_of(processor)
            .kind()
            .unwrap_or(PolicyKind::Fair)
            .policy()
    }

    /// The policy of a domain's pool.
    pub(super) fn policy_for(&self, domain: &Domain<M>) -> &'static dyn Policy<M> {
        let pool = self.pools.place(domain.pool.load(Ordering::Relaxed));
        pool.kind().unwrap_or(PolicyKind::Fair).policy()
    }

    /// The processors on which a vCPU may run now. Whoever changes that looks at the vCPU's place afterwards, and moves it:
    /// the place's lock is what orders the two.
    pub(crate) fn allowed(&self, vcpu: &VcpuHandle<M>) -> ProcessorSet {
        let pool = self.pools.place(vcpu.domain().pool.load(Ordering::Relaxed));
        pool.processors.glance().and(&vcpu.hard_affinity.glance())
    }

    /// The processors of a domain's pool.
    pub(crate) fn processors_of(&self, domain: &Domain<M>) -> ProcessorSet {
        let pool = self.pools.place(domain.pool.load(Ordering::SeqCst));
        pool.processors.load()
    }

    /// Whether a vCPU may run on a processor now.
    pub(crate) fn may_run_on(&self, vcpu: &VcpuHandle<M>, processor: ProcessorId) -> bool {
        let pool = self.pools.place(vcpu.domain().pool.load(Ordering::Relaxed));
        vcpu.hard_affinity.contains(processor) && pool.processors.contains(processor)
    }

    /// Whether a processor's policy promises it to a vCPU that waits and may run there.
    #[cfg(any(test, feature = "testing", debug_assertions))]
    pub(crate) fn promised(&self, processor: ProcessorId, vcpu: &VcpuHandle<M>) -> bool {
        let owner = self.processor(processor).owner.get();
        self.may_run_on(vcpu, processor)
            && match self.pool_of(processor).kind() {
                Some(PolicyKind::Pinned) => match owner {
                    Some(owner) => owner == super::Name::of(vcpu),
                    None => self.owned_by(vcpu).is_none(),
                },
                _ => true,
            }
    }

    /// Domains in a pool.
    pub fn domains_in_pool(&self, pool: u32) -> u32 {
        let (mut count, mut next) = (0u32, DomainId(0));
        while let Some(domain) = self.domains.at_or_after(next) {
            if domain.pool.load(Ordering::Relaxed) == pool {
                count = count.saturating_add(1);
            }
            next = DomainId(domain.id.0.saturating_add(1));
        }
        count
    }

    /// Processors in no pool.
    pub fn free_processors(&self) -> ProcessorSet {
        let mut free = ProcessorSet::EMPTY;
        for (number, processor) in self.processors.iter().enumerate() {
            if processor.pool.load(Ordering::Relaxed) == NO_POOL {
                free.insert(number);
            }
        }
        free
    }

    /// Make a pool without processors. `number`: a certain one, or any.
    ///
    /// # Errors
    /// EEXIST for a number that is taken, ENOSPC when all are or the number is past the most.
    pub fn create_pool(&self, number: Option<u32>, kind: PolicyKind) -> Result<u32, Error> {
        let _change = self.pools.change.lock();
        let number = match number {
            Some(number) if number >= MOST_POOLS => return Err(Error::ENOSPC),
            Some(number) if self.pools.get(number).is_some() => return Err(Error::EEXIST),
            Some(number) => number,
            None => (0..MOST_POOLS)
                .find(|&number| self.pools.get(number).is_none())
                .ok_or(Error::ENOSPC)?,
        };
        let pool = self.pools.place(number);
        pool.ratelimit.store(0, Ordering::Relaxed);
        pool.set(Some(kind));
        Ok(number)
    }

    /// End a pool.
    ///
    /// # Errors
    /// ENOENT when there is none, EBUSY for one that has domains or processors, and for the first.
    pub fn destroy_pool(&self, number: u32) -> Result<(), Error> {
        let _change = self.pools.change.lock();
        let pool = self.pools.get(number).ok_or(Error::ENOENT)?;
        if number == 0 || !pool.processors.load().is_empty() || self.domains_in_pool(number) != 0 {
            return Err(Error::EBUSY);
        }
        pool.set(None);
        Ok(())
    }

    /// Give a pool a processor that is in none. `processor`: a certain one, or any.
    ///
    /// # Errors
    /// ENOENT when there is no such pool, EINVAL when there is no such processor, EBUSY when it is in a pool, ENODEV when
    /// none is free.
    pub fn add_to_pool(&self, number: u32, processor: Option<ProcessorId>) -> Result<(), Error> {
        let _change = self.pools.change.lock();
        let pool = self.pools.get(number).ok_or(Error::ENOENT)?;
        let free = self.free_processors();
        let processor = match processor {
            Some(processor) if processor >= self.processors.len() => return Err(Error::EINVAL),
            Some(processor) if !free.contains(processor) => return Err(Error::EBUSY),
            Some(processor) => processor,
            None => free.first().ok_or(Error::ENODEV)?,
        };
        self.processor(processor).pool.store(number, Ordering::SeqCst);
        pool.change_processors(|processors| processors.insert(processor));
        // Whoever waits may now run there.
        self.each_vcpu_of_pool(number, |vcpu| self.place_again(vcpu));
        self.machine.kick(processor);
        Ok(())
    }

    /// Take a processor out of its pool. vCPUs that may run nowhere else of it may run on all of it from then on.
    ///
    /// # Errors
    /// ENOENT when there is no such pool, EINVAL when the processor is not in it, EBUSY for the last processor of a pool
    /// that has domains.
    pub fn remove_from_pool(&self, number: u32, processor: Option<ProcessorId>) -> Result<(), Error> {
        let _change = self.pools.change.lock();
        let pool = self.pools.get(number).ok_or(Error::ENOENT)?;
        let members = pool.processors.load();
        let processor = processor.or(members.last()).ok_or(Error::EINVAL)?;
        if !members.contains(processor) {
            return Err(Error::EINVAL);
        }
        if members.count() == 1 && self.domains_in_pool(number) != 0 {
            return Err(Error::EBUSY);
        }
        pool.change_processors(|processors| {
            processors.remove(processor);
        });
        self.each_vcpu_of_pool(number, |vcpu| {
            self.mend_affinity(vcpu);
            self.move_away(vcpu);
        });
        self.processor(processor).pool.store(NO_POOL, Ordering::SeqCst);
        self.machine.kick(processor);
        Ok(())
    }

    /// Have a domain run on another pool's processors.
    ///
    /// # Errors
    /// ENOENT when there is no such pool, or one without processors.
    pub fn move_to_pool(&self, domain: &Arc<Domain<M>>, number: u32) -> Result<(), Error> {
        let _change = self.pools.change.lock();
        let pool = self.pools.get(number).ok_or(Error::ENOENT)?;
        if pool.processors.load().is_empty() {
            return Err(Error::ENOENT);
        }
        if domain.pool.load(Ordering::SeqCst) == number {
            return Ok(());
        }
        self.each_existing_vcpu(domain, |vcpu| {
            self.policy_for(vcpu.domain()).forget(self, vcpu);
        });
        let left = self.pools.place(domain.pool.swap(number, Ordering::SeqCst));
        domain.share.count_in(&left.weights, false);
        self.count_competing(domain, domain.share.contenders() != 0);
        self.each_existing_vcpu(domain, |vcpu| {
            self.mend_affinity(vcpu);
            self.move_away(vcpu);
        });
        Ok(())
    }

    /// Whether a vCPU could run if its hard affinity were this.
    ///
    /// # Errors
    /// EINVAL for one that names no processor of its pool.
    pub fn check_affinity(&self, vcpu: &VcpuHandle<M>, wanted: &ProcessorSet) -> Result<(), Error> {
        let pool = self.processors_of(vcpu.domain());
        if pool.and(wanted).is_empty() {
            Err(Error::EINVAL)
        } else {
            Ok(())
        }
    }

    /// Set a vCPU's hard affinity. All processors of its pool mean everywhere, also where it comes to later.
    ///
    /// # Errors
    /// EINVAL for one that names no processor of its pool.
    pub fn set_affinity(&self, vcpu: &VcpuHandle<M>, wanted: ProcessorSet) -> Result<(), Error> {
        // Nobody takes the last of them out of the pool meanwhile.
        let _change = self.pools.change.lock();
        self.check_affinity(vcpu, &wanted)?;
        let pool = self.processors_of(vcpu.domain());
        let everywhere = pool.and(&wanted) == pool;
        vcpu.hard_affinity
            .store(if everywhere { ProcessorSet::ALL } else { wanted });
        self.move_away(vcpu);
        Ok(())
    }

    /// How long a pool's vCPUs run at least.
    ///
    /// # Errors
    /// ENOENT when there is no such pool.
    pub fn set_ratelimit(&self, number: u32, least: Nanoseconds) -> Result<(), Error> {
        let pool = self.pools.get(number).ok_or(Error::ENOENT)?;
        pool.ratelimit.store(least, Ordering::Relaxed);
        Ok(())
    }

    /// A vCPU whose affinity names no processor of its pool may run on all of it.
    fn mend_affinity(&self, vcpu: &VcpuHandle<M>) {
        if self.allowed(vcpu).is_empty() {
            vcpu.hard_affinity.store(ProcessorSet::ALL);
        }
    }

    /// Where a vCPU may run has changed.
    fn move_away(&self, vcpu: &VcpuHandle<M>) {
        let lost = self.owned_by(vcpu).is_some_and(|own| !self.may_run_on(vcpu, own));
        if lost {
            self.policy_for(vcpu.domain()).forget(self, vcpu);
        }
        self.place_again(vcpu);
    }

    /// A domain has begun or ceased to compete for its pool's processors.
    pub(super) fn count_competing(&self, domain: &Domain<M>, competes: bool) {
        let pool = self.pools.place(domain.pool.load(Ordering::Relaxed));
        domain.share.count_in(&pool.weights, competes);
    }

    /// A vCPU will never run again: what its pool's policy gave it is free.
    pub(crate) fn give_up_processor(&self, vcpu: &VcpuHandle<M>) {
        self.policy_for(vcpu.domain()).forget(self, vcpu);
    }

    fn each_vcpu_of_pool(&self, pool: u32, mut action: impl FnMut(&VcpuHandle<M>)) {
        let mut next = DomainId(0);
        while let Some(domain) = self.domains.at_or_after(next) {
            if domain.pool.load(Ordering::SeqCst) == pool {
                self.each_existing_vcpu(&domain, &mut action);
            }
            next = DomainId(domain.id.0.saturating_add(1));
        }
    }

    /// Each vCPU of a domain, also those that the toolstack has not allotted yet.
    fn each_existing_vcpu(&self, domain: &Arc<Domain<M>>, mut action: impl FnMut(&VcpuHandle<M>)) {
        for index in 0..domain.vcpus.len() as u32 {
            if let Some(vcpu) = VcpuHandle::existing(domain, index) {
                action(&vcpu);
            }
        }
    }
}
