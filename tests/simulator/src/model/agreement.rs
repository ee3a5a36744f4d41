//! The core and the model side by side: the same deeds to both, and no difference ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use hypercall_abi::hypercall::number;
use hypercall_abi::memory;
use hypercall_abi::xen::MulticallEntry;
use hypercall_abi::{DomainId, grant_table};
use kernel::domain::VcpuHandle;
use kernel::guest_memory::GuestMemory;
use kernel::testing::{self, TestDomain, TestKernel};
use kernel::vcpu::stop;
use machine::Machine;
use machine::address::GuestFrame;
use machine::virtual_cpu::PagingState;
use zerocopy::{FromZeros, IntoBytes};

use super::compare::{self, Compared, Frames};
use super::import::{copy, told};
use super::play;
use super::script::{Disagreement, Noted};
use super::{Caller, Model, SURE_ORDER};
use crate::deed::Deed;

/// Deeds that a disagreement shows.
const SCRIPT: usize = 24;
/// Calls between two comparisons of everything.
const BETWEEN: u64 = 1024;
/// One call of so many is cut wherever it can be.
const IN_PIECES: u64 = 3;
/// More time than a call takes before it is cut.
const LONG: u64 = 1_000_000;

/// A kernel with its model. Nothing may happen to the kernel but by way of this.
pub struct Agreement<'k> {
    pub(super) kernel: &'k TestKernel,
    pub(super) model: Model,
    pub(super) frames: Frames,
    script: VecDeque<Noted>,
    calls: u64,
    between: u64,
    unjudged: BTreeMap<&'static str, u64>,
}

impl<'k> Agreement<'k> {
    /// Begin with a kernel whose domains have memory and nothing else yet. From now on no vCPU is run: each domain is
    /// paused, and the calls are made by hand.
    pub fn new(kernel: &'k TestKernel) -> Self {
        let mut agreement = Agreement {
            kernel,
            model: Model::default(),
            frames: Frames::default(),
            script: VecDeque::new(),
            calls: 0,
            between: BETWEEN,
            unjudged: BTreeMap::new(),
        };
        agreement.model.told = told(kernel);
        agreement.model.pools = super::pools::at_the_start(agreement.model.told.processors);
        agreement.tell();
        for core in domains(kernel) {
            agreement.take_in(&core);
        }
        let unknown = agreement.model.free_frames() - kernel.machine.memory().free_frames();
        agreement.model.told.unknown_frames = unknown;
        agreement
    }

    /// Compare everything after so many calls; 1 finds the first that differs.
    pub fn compare_all_after(&mut self, calls: u64) {
        self.between = calls.max(1);
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Calls that were made and compared.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Calls that the model did not judge, by kind.
    pub fn unjudged(&self) -> &BTreeMap<&'static str, u64> {
        &self.unjudged
    }

    /// A guest stores bytes in its memory, as far as it may.
    pub fn store(&mut self, domain: u16, address: u64, bytes: &[u8]) -> Result<(), Box<Disagreement>> {
        let Some(core) = self.kernel.domains.get(DomainId(domain)) else {
            return Ok(());
        };
        self.note(Noted::Store(domain, address, bytes.to_vec()));
        let memory = GuestMemory::new(&core.physmap, PagingState::default());
        let stored = memory.write(address, bytes).is_ok();
        self.model.caller = Caller { domain, vcpu: 0 };
        let modelled = self.model.write_bytes(address, bytes).is_ok();
        if stored == modelled {
            return Ok(());
        }
        self.differs(format!(
            "a store: the core does it: {stored}, the model: {modelled}"
        ))
    }

    /// Time passes, and what becomes due happens.
    pub fn time_passes(&mut self, nanoseconds: u64) -> Result<(), Box<Disagreement>> {
        self.note(Noted::Time(nanoseconds));
        self.kernel.machine.advance(nanoseconds);
        self.kernel.serve_interrupts();
        self.tell();
        self.model.time_passes(self.kernel.machine.now());
        self.check(Self::compare_touched)
    }

    /// A vCPU makes a hypercall. `None` when there is no such vCPU (any more), or the call would end the machine.
    ///
    /// # Errors
    /// What differs.
    pub fn call(
        &mut self,
        caller: Caller,
        number: u64,
        arguments: &[u64; 6],
    ) -> Result<Option<i64>, Box<Disagreement>> {
        let domain = self.kernel.domains.get(DomainId(caller.domain));
        let vcpu = domain.and_then(|domain| VcpuHandle::new(&domain, caller.vcpu));
        let Some(vcpu) = vcpu else { return Ok(None) };
        self.model.caller = caller;
        if self.model.ends_the_machine(number, arguments) {
            return Ok(None);
        }
        let structure = self.structure(number, arguments);
        let blocks = if number == number::MULTICALL {
            self.model.blocks_wanted(arguments)
        } else {
            Vec::new()
        };
        self.note(Noted::Call(caller, number, *arguments, structure, 0));
        self.tell();
        self.model.told.free_blocks = if number == number::MEMORY_OP {
            self.free_blocks()
        } else {
            0
        };
        let in_pieces = self.calls.is_multiple_of(IN_PIECES)
            && self.model.told.now > LONG
            && (number != number::MULTICALL || self.keeps_its_list(arguments));
        self.model.told.in_pieces = in_pieces;
        let result = if in_pieces {
            testing::hypercall_in_pieces(self.kernel, &vcpu, number, arguments)
        } else {
            testing::hypercall(self.kernel, &vcpu, number, arguments)
        };
        if let Some(Noted::Call(.., noted)) = self.script.back_mut() {
            *noted = result;
        }
        self.calls += 1;
        self.model.told.result = result;
        // A list's results lie in memory, where later calls of the list can change them; memory that was given shows, too.
        let list = if number == number::MULTICALL {
            entries(&vcpu, arguments)
        } else {
            Vec::new()
        };
        self.model.told.results = list.iter().map(|entry| entry.result as i64).collect();
        self.model.told.arguments = list
            .iter()
            .take(if in_pieces { list.len() } else { 0 })
            .map(|entry| entry.args)
            .collect();
        self.model.told.blocks = blocks;
        let kernel = self.kernel;
        self.model.told.blocks.retain(|(domain, frame)| {
            let target = kernel.domains.get(DomainId(*domain));
            target.is_some_and(|target| target.physmap.lookup(GuestFrame(*frame)).is_some())
        });
        drop(vcpu);
        match self.model.judge(caller, number, arguments) {
            Ok(expected) if expected != result => {
                let name = |result| hypercall_abi::Error::from_result(result);
                let [core, model] = [result, expected].map(|result| match name(result) {
                    Some(error) => format!("{error:?}"),
                    None => format!("{result:#x}"),
                });
                return self.differs(format!("the core answers {core}, the model {model}"));
            }
            Ok(_) => {}
            Err(what) => {
                *self.unjudged.entry(what).or_default() += 1;
                self.synchronise(caller.domain);
            }
        }
        self.check(Self::take_in_new)?;
        self.check(Self::compare_touched)?;
        if self.calls.is_multiple_of(self.between) {
            self.compare_all()?;
        }
        Ok(Some(result))
    }

    /// A vCPU does what an attacker chose. Exits other than hypercalls are not the model's: nothing happens. The result is
    /// a call's.
    ///
    /// # Errors
    /// What differs.
    pub fn deed(&mut self, caller: Caller, deed: &Deed<'_>) -> Result<Option<i64>, Box<Disagreement>> {
        match deed {
            Deed::Hypercall(request) => {
                for (address, bytes) in request.writes.iter() {
                    self.store(caller.domain, address, bytes)?;
                }
                self.call(caller, request.call.number, &request.call.arguments)
            }
            Deed::Store { address, bytes } => self.store(caller.domain, *address, bytes).map(|()| None),
            Deed::Exit(_) => Ok(None),
        }
    }

    /// Read a domain's memory; `false` where it cannot be read.
    pub fn read(&self, domain: u16, address: u64, into: &mut [u8]) -> bool {
        let core = self.kernel.domains.get(DomainId(domain));
        core.is_some_and(|core| {
            GuestMemory::new(&core.physmap, PagingState::default())
                .read(address, into)
                .is_ok()
        })
    }

    /// Compare all there is.
    ///
    /// # Errors
    /// What differs.
    pub fn compare_all(&mut self) -> Result<(), Box<Disagreement>> {
        self.frames.tidy();
        self.check(|agreement| {
            for core in domains(agreement.kernel) {
                compare::domain(agreement.kernel, &mut agreement.frames, &core, &agreement.model)?;
            }
            let (core, model) = (
                agreement.kernel.machine.memory().free_frames(),
                agreement.model.free_frames(),
            );
            if core == model {
                Ok(())
            } else {
                Err(format!("free frames: the core has {core}, the model {model}"))
            }
        })
    }

    /// All domains end, and everything is free again.
    ///
    /// # Errors
    /// What is not.
    pub fn end(self, kernel: &TestKernel) -> Result<(), Box<Disagreement>> {
        play::end_all(kernel);
        let left = play::used_frames(kernel) - self.model.told.unknown_frames;
        if left == 0 {
            Ok(())
        } else {
            self.differs(format!("{left} frames are not free after all domains have ended"))
        }
    }

    fn differs<T>(&self, what: String) -> Result<T, Box<Disagreement>> {
        Err(Box::new(Disagreement {
            what,
            script: self.script.iter().map(Noted::to_string).collect(),
        }))
    }

    fn check(&mut self, compare: impl FnOnce(&mut Self) -> Compared) -> Result<(), Box<Disagreement>> {
        compare(self).or_else(|what| self.differs(what))
    }

    fn note(&mut self, deed: Noted) {
        if self.script.len() == SCRIPT {
            self.script.pop_front();
        }
        self.script.push_back(deed);
    }

    /// Whether no call of a list writes to the list: one that is cut is read again, and would be another one then.
    fn keeps_its_list(&self, [list, count, ..]: &[u64; 6]) -> bool {
        const ENTRY: u64 = size_of::<MulticallEntry>() as u64;
        let count = u64::from(*count as u32);
        // Pointers have 32 bits where there is no paging; what comes close to their end is not looked at closely.
        const BITS: u64 = 0xffff_ffff;
        let start = list & BITS;
        let end = start.saturating_add(count.saturating_mul(ENTRY));
        let apart = |at: u64, length: u64| {
            let at = at & BITS;
            at.saturating_add(length) <= BITS && (at >= end || at.saturating_add(length) <= start)
        };
        (0..count)
            .map_while(|index| self.listed(*list, index))
            .all(|entry| {
                let [operation, at, count, ..] = entry.args;
                match entry.op {
                    // A copy may go to the list's own page, by its number or by a grant.
                    number::GRANT_TABLE_OP if operation as u32 == grant_table::op::COPY => false,
                    // What it registers the core goes on writing to, with the time.
                    number::VCPU_OP => false,
                    number::GRANT_TABLE_OP => {
                        // No element is larger than that.
                        let length = u64::from(count as u32).saturating_mul(ENTRY);
                        apart(at, length)
                    }
                    number::MEMORY_OP => match operation as u32 & 0x3f {
                        memory::op::ADD_TO_PHYSMAP_BATCH | memory::op::ACQUIRE_RESOURCE => false,
                        memory::op::POPULATE_PHYSMAP | memory::op::DECREASE_RESERVATION => {
                            let mut request = memory::MemoryReservation::new_zeroed();
                            let known = self.model.read_bytes(at, request.as_mut_bytes()).is_ok();
                            let extents = request.number_of_extents.saturating_mul(8);
                            !known
                                || (apart(at, size_of::<memory::MemoryReservation>() as u64)
                                    && apart(request.extent_start.address(), extents))
                        }
                        _ => true,
                    },
                    _ => true,
                }
            })
    }

    fn listed(&self, list: u64, index: u64) -> Option<MulticallEntry> {
        let mut entry = MulticallEntry::new_zeroed();
        let at = list.checked_add(index.checked_mul(size_of::<MulticallEntry>() as u64)?)?;
        self.model.read_bytes(at, entry.as_mut_bytes()).ok()?;
        Some(entry)
    }

    /// What a call's first pointer points at.
    fn structure(&self, number: u64, arguments: &[u64; 6]) -> [u64; 8] {
        let at = match number {
            number::DOMCTL | number::SYSCTL | number::PLATFORM_OP | number::MULTICALL => arguments[0],
            number::VCPU_OP => arguments[2],
            _ => arguments[1],
        };
        let mut words = [0; 8];
        let _ = self.model.read_bytes(at, words.as_mut_bytes());
        words
    }

    /// Tell the model what time it is.
    fn tell(&mut self) {
        let clock = self.kernel.machine.clock_parameters();
        let told = &mut self.model.told;
        (told.now, told.tsc) = (clock.system_time, clock.tsc_timestamp);
        told.scale = (clock.multiplier, clock.shift);
    }

    /// Free blocks of the order that the model is told of.
    fn free_blocks(&self) -> u64 {
        let mut count = 0;
        let walked = self.kernel.machine.memory().walk_free(|_, order| {
            let more = order.value().checked_sub(SURE_ORDER);
            count += more.map_or(0, |more| 1 << more);
        });
        // Lists that are not in order are the audits' to tell.
        walked.map_or(0, |()| count)
    }

    /// Whether both have the same domains; those that are new are paused, and their shared page gets its place.
    fn take_in_new(&mut self) -> Compared {
        if self.kernel.domains.count() != self.model.domains.len() {
            return Err(format!(
                "domains: the core has {}, the model {}",
                self.kernel.domains.count(),
                self.model.domains.len()
            ));
        }
        if self.model.births_seen == self.model.births {
            return Ok(());
        }
        self.model.births_seen = self.model.births;
        for core in domains(self.kernel) {
            let Some(domain) = self.model.domains.get_mut(&core.id.0) else {
                return Err(format!("domain {} is not there in the model", core.id.0));
            };
            if domain.shared_info.frame.get().is_none() {
                core.pauses.fetch_add(1, Ordering::SeqCst);
                domain.pauses += 1;
                self.frames
                    .same(core.shared_info.frame().0, &domain.shared_info)?;
            }
        }
        Ok(())
    }

    /// Compare what the last call has changed.
    fn compare_touched(&mut self) -> Compared {
        let changed = self.model.house.changed.take();
        for (number, at) in changed {
            let model = self.model.domains.get(&number);
            if let (Some(core), Some(model)) = (self.kernel.domains.get(DomainId(number)), model) {
                compare::frame(&mut self.frames, &core, model, at)?;
            }
        }
        let written = self.model.house.written.take();
        for page in written.iter().filter_map(std::rc::Weak::upgrade) {
            compare::written(self.kernel, &self.model, &page)?;
        }
        Ok(())
    }

    /// Take over what a call that is not judged may have changed: the caller's memory, and some facts about vCPUs.
    fn synchronise(&mut self, caller: u16) {
        for core in domains(self.kernel) {
            let Some(model) = self.model.domains.get_mut(&core.id.0) else {
                continue;
            };
            model.address_bits = core.cpu_policy.lock().address_bits() as u8;
            for (theirs, ours) in core.vcpus.iter().zip(&mut model.vcpus) {
                ours.initialised = theirs.initialised.load(Ordering::SeqCst);
                ours.down = theirs.stops.load(Ordering::SeqCst) & stop::DOWN != 0;
            }
        }
        let core = self.kernel.domains.get(DomainId(caller));
        let (Some(core), Some(model)) = (core, self.model.domains.get(&caller)) else {
            return;
        };
        for (at, entry) in model.map.entries() {
            if let (Some(page), Some((core, _))) = (&entry.page, core.physmap.get(GuestFrame(*at))) {
                copy(&core, page);
            }
        }
    }
}

/// All domains of a kernel.
fn domains(kernel: &TestKernel) -> Vec<TestDomain> {
    let mut all = Vec::with_capacity(kernel.domains.count());
    let mut next = Some(DomainId(0));
    while let Some(domain) = next.and_then(|next| kernel.domains.at_or_after(next)) {
        next = domain.id.0.checked_add(1).map(DomainId);
        all.push(domain);
    }
    all
}

/// A list of calls that was made.
fn entries(vcpu: &testing::TestVcpu, [list, count, ..]: &[u64; 6]) -> Vec<MulticallEntry> {
    let memory = GuestMemory::new(&vcpu.domain().physmap, PagingState::default());
    let entries = (0..u64::from(*count as u32)).map_while(|index| {
        let mut entry = MulticallEntry::new_zeroed();
        let at = list.wrapping_add(index * size_of::<MulticallEntry>() as u64);
        memory.read(at, entry.as_mut_bytes()).ok()?;
        Some(entry)
    });
    entries.collect()
}
