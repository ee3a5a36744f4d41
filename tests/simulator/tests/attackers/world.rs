//! A kernel without processors of its own: the attackers' deeds are done by hand, one after the other.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{self, GrantStatus};
use hypercall_abi::hypercall::number;
use hypercall_abi::memory;
use kernel::domain::Domain;
use kernel::guest_memory::GuestMemory;
use kernel::lifecycle::Destruction;
use kernel::testing::{self, TestKernel};
use kernel::vcpu::stop;
use machine::Machine;
use machine::fake::{Configuration, FakeMachine, set_interleave, set_processor};
use machine::virtual_cpu::{Exit, PagingState, VirtualCpu};
use simulator::attacker::{Attacker, Role};
use simulator::deed::{Deed, GuestExit};
use simulator::knowledge::Knowledge;
use simulator::noticeboard::{DomainNotice, Noticeboard};
use simulator::numbers::Numbers;
use simulator::request::{Call, Request};

use crate::sum::Sum;

/// Frames that domains have at first.
pub const PAGES: u64 = 64;
/// What the clock moves on between two deeds.
const STEP: u64 = 20_000;
/// What it moves on at each lock that is taken: so calls take time, and long ones are cut.
const TICK: u64 = 400;
/// What a list of calls has as result where none was made.
const NOT_REACHED: i64 = 0x5a5a;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A domain that takes part.
struct Actor {
    id: DomainId,
    knowledge: Knowledge,
    vcpus: Vec<Attacker>,
}

pub struct World {
    kernel: Rc<TestKernel>,
    board: Noticeboard,
    actors: Vec<Actor>,
    numbers: Numbers,
    /// Domains that were held, each once for each time.
    held: Arc<Mutex<Vec<DomainId>>>,
    prepared: Vec<Weak<Domain<FakeMachine>>>,
    /// What was done so far.
    pub sum: Sum,
    seed: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        set_processor(0);
        let kernel = Rc::new(testing::kernel_on(&Configuration {
            processors: 1,
            ..Configuration::default()
        }));
        let mut world = World {
            kernel,
            board: Noticeboard::default(),
            actors: Vec::new(),
            numbers: Numbers::part(seed, 0),
            held: Arc::default(),
            prepared: Vec::new(),
            sum: Sum::default(),
            seed,
        };
        for (id, role, vcpus) in [
            (0, Role::Control, 2),
            (1, Role::Guest, 2),
            (2, Role::DriverDomain, 1),
            (3, Role::Guest, 1),
        ] {
            testing::domain(&world.kernel, id, vcpus, PAGES);
            world.board.enter(DomainNotice {
                id: DomainId(id),
                vcpus,
                pages: PAGES,
                started: true,
            });
            world.add(DomainId(id), role, vcpus, PAGES);
        }
        let clock = Rc::downgrade(&world.kernel);
        set_interleave(Some(Box::new(move || {
            if let Some(kernel) = clock.upgrade() {
                kernel.machine.advance(TICK);
            }
        })));
        world
    }

    fn add(&mut self, id: DomainId, role: Role, vcpus: u32, pages: u64) {
        let seed = self.seed ^ (u64::from(id.0) << 32) ^ self.actors.len() as u64;
        self.actors.push(Actor {
            id,
            knowledge: Knowledge::new(id, role == Role::Control, vcpus, pages),
            vcpus: (0..vcpus).map(|vcpu| Attacker::new(role, seed, vcpu)).collect(),
        });
    }

    /// Domains that the toolstack has started take part; those that ended do not.
    fn take_over(&mut self) {
        self.actors
            .retain(|actor| self.kernel.domains.get(actor.id).is_some());
        let notices: Vec<DomainNotice> = self.board.domains.iter().copied().collect();
        for notice in notices {
            let known = self.actors.iter().any(|actor| actor.id == notice.id);
            let domain = self.kernel.domains.get(notice.id);
            let started = domain.is_some_and(|domain| domain.creation_finished.load(Ordering::SeqCst));
            if !known && started && notice.vcpus != 0 {
                let role = if self.sum.created.is_multiple_of(3) {
                    Role::DriverDomain
                } else {
                    Role::Guest
                };
                self.sum.created += 1;
                self.add(notice.id, role, notice.vcpus, notice.pages);
            }
        }
    }

    /// Give every domain's vCPUs a guest that waits for ever, whoever made them.
    fn prepare(&mut self) {
        let mut next = DomainId(0);
        while let Some(domain) = self.kernel.domains.at_or_after(next) {
            next = DomainId(domain.id.0 + 1);
            self.prepared.retain(|known| known.strong_count() != 0);
            if self
                .prepared
                .iter()
                .any(|known| known.as_ptr() == Arc::as_ptr(&domain))
            {
                continue;
            }
            self.prepared.push(Arc::downgrade(&domain));
            for vcpu in &domain.vcpus {
                let mut context = vcpu.context.lock();
                context.enter_flat_long_mode();
                // A guest that is woken again and again, since it never looks at its events, is held after some rounds.
                let (owner, held, mut rounds) = (Arc::downgrade(&domain), self.held.clone(), 0);
                context.set_program(Box::new(move |guest| {
                    guest.set_interrupts_enabled(true);
                    rounds += 1;
                    if rounds % 8 == 0
                        && let Some(owner) = owner.upgrade()
                    {
                        owner.pauses.fetch_add(1, Ordering::SeqCst);
                        locked(&held).push(owner.id);
                    }
                    Exit::Halt
                }));
            }
        }
    }

    /// One decision of the scheduler; who was held goes on.
    fn schedule(&mut self) {
        self.prepare();
        self.kernel.step();
        for id in locked(&self.held).drain(..) {
            if let Some(domain) = self.kernel.domains.get(id) {
                self.kernel.unpause_domain(&domain);
            }
        }
    }

    /// As the domain's own store; says whether it could be made.
    fn write(&self, id: DomainId, address: u64, bytes: &[u8]) -> bool {
        self.kernel.domains.get(id).is_some_and(|domain| {
            let memory = GuestMemory::new(&domain.physmap, PagingState::default());
            memory.write(address, bytes).is_ok()
        })
    }

    pub fn step(&mut self) {
        self.kernel.machine.advance(STEP);
        let index = self.numbers.below(self.actors.len() as u64) as usize;
        let mut actor = self.actors.swap_remove(index);
        self.act(&mut actor);
        self.actors.push(actor);
        if self.numbers.chance(1, 64) {
            self.take_over();
            self.kernel.machine.take_console();
            self.schedule();
        }
    }

    fn act(&mut self, actor: &mut Actor) {
        let Some(domain) = self.kernel.domains.get(actor.id) else {
            return;
        };
        let lifecycle = *domain.lifecycle.lock();
        if lifecycle.shutdown.is_some() || lifecycle.dying || domain.pauses.load(Ordering::SeqCst) != 0 {
            return;
        }
        let index = self.numbers.below(actor.vcpus.len() as u64) as usize;
        let Some(caller) = kernel::domain::VcpuHandle::new(&domain, index as u32) else {
            return;
        };
        if caller.stops.load(Ordering::SeqCst) & stop::DOWN != 0 {
            caller.initialised.store(true, Ordering::SeqCst);
            return;
        }
        self.sum.deeds += 1;
        let attacker = &mut actor.vcpus[index];
        let now = self.kernel.machine.now();
        let deed = attacker.next(&mut actor.knowledge, &mut self.board, now);
        match deed {
            Deed::Store { address, bytes } => {
                self.sum.stores += 1;
                self.write(actor.id, address, bytes);
            }
            Deed::Exit(exit) => {
                *self.sum.exits.entry(exit.exit.kind()).or_default() += 1;
                let exit = exit.clone();
                self.exit(&caller, &exit);
            }
            Deed::Hypercall(request) => {
                let request = request.clone();
                let result = self.call(actor.id, &caller, &request);
                let domain = domain.clone();
                let read = |address: u64, into: &mut [u8]| {
                    let memory = GuestMemory::new(&domain.physmap, PagingState::default());
                    memory.read(address, into).is_ok()
                };
                self.count(&request, result, &read);
                attacker.learn(&mut actor.knowledge, &mut self.board, result, &read);
            }
        }
    }

    fn call(&mut self, id: DomainId, caller: &testing::TestVcpu, request: &Request) -> i64 {
        let mut written = true;
        for (address, bytes) in request.writes.iter() {
            written &= self.write(id, address, bytes);
        }
        if request.strict && !written {
            return hypercall_abi::Error::EFAULT.as_result();
        }
        let Call {
            number,
            mut arguments,
            ..
        } = request.call;
        for _ in 0..1_000_000 {
            match testing::hypercall_once(&self.kernel, caller, number, &mut arguments) {
                Ok(kernel::hypercall::Outcome::Value(value)) => return value as i64,
                Ok(kernel::hypercall::Outcome::Restart) => self.sum.restarts += 1,
                Err(error) => return error.as_result(),
            }
        }
        panic!("a call that never ends: {request}");
    }

    fn count(&mut self, request: &Request, result: i64, read: &dyn Fn(u64, &mut [u8]) -> bool) {
        let calls = if request.nested.is_empty() {
            vec![(request.call, result)]
        } else {
            let list = request.call.arguments[0];
            let result_of = |index: usize| {
                let mut bytes = [0; 8];
                let read = read(list.wrapping_add(64 * index as u64 + 8) & 0xffff_ffff, &mut bytes);
                // One that was not reached has its mark still.
                match i64::from_le_bytes(bytes) {
                    result if read && result != NOT_REACHED => result,
                    _ => -1,
                }
            };
            let nested = request.nested.iter().enumerate();
            let mut calls: Vec<(Call, i64)> = nested.map(|(index, &call)| (call, result_of(index))).collect();
            calls.push((request.call, result));
            calls
        };
        for (call, result) in calls {
            let tally = self.sum.tallies.entry((call.number, call.operation)).or_default();
            tally.made += 1;
            tally.succeeded += u64::from(result >= 0);
            if call.number == number::GRANT_TABLE_OP && result == 0 {
                for status in statuses(&call, read) {
                    tally.elements += 1;
                    tally.elements_done += u64::from(status == GrantStatus::OKAY.0);
                }
            } else if call.number == number::MEMORY_OP {
                let extents = matches!(
                    call.operation,
                    memory::op::POPULATE_PHYSMAP | memory::op::DECREASE_RESERVATION
                );
                if extents {
                    tally.elements += 1;
                    tally.elements_done += u64::from(result > 0);
                }
            }
        }
    }

    fn exit(&mut self, vcpu: &testing::TestVcpu, exit: &GuestExit) {
        for (address, bytes) in exit.writes.iter() {
            self.write(vcpu.domain_id, address, bytes);
        }
        {
            let mut context = vcpu.context.lock();
            context.state.registers.rip = exit.rip;
            context.instruction = exit.instruction.to_vec();
            for &(index, value) in &exit.registers {
                context.registers_mut().general[index] = value;
            }
            if let Some(enabled) = exit.interrupts {
                context.set_interrupts_enabled(enabled);
            }
            context.push_exit(exit.exit);
        }
        self.kernel.unblock(vcpu);
        self.kernel.reconsider(vcpu);
        self.schedule();
    }

    /// Everything ends; is all memory back?
    pub fn end(self) {
        set_interleave(None);
        let kernel = self.kernel.clone();
        drop(self);
        for id in (0..DomainId::FIRST_RESERVED.0).rev() {
            if let Some(domain) = kernel.domains.get(DomainId(id)) {
                while kernel.destroy_domain(&domain) == Destruction::More {}
            }
        }
        for _ in 0..4 {
            kernel.step();
        }
        let memory = kernel.machine.memory();
        assert_eq!(memory.free_frames(), memory.total_frames());
    }
}

/// The statuses in the elements of a grant operation.
fn statuses(call: &Call, read: &dyn Fn(u64, &mut [u8]) -> bool) -> Vec<i16> {
    use grant_table::{Copy, MapGrantRef, QuerySize, SetupTable, SwapGrantRef, UnmapGrantRef, op};
    let (size, offset) = match call.operation {
        op::MAP_GRANT_REF => (
            size_of::<MapGrantRef>(),
            std::mem::offset_of!(MapGrantRef, status),
        ),
        op::UNMAP_GRANT_REF => (
            size_of::<UnmapGrantRef>(),
            std::mem::offset_of!(UnmapGrantRef, status),
        ),
        op::COPY => (size_of::<Copy>(), std::mem::offset_of!(Copy, status)),
        op::SWAP_GRANT_REF => (
            size_of::<SwapGrantRef>(),
            std::mem::offset_of!(SwapGrantRef, status),
        ),
        op::SETUP_TABLE => (size_of::<SetupTable>(), std::mem::offset_of!(SetupTable, status)),
        op::QUERY_SIZE => (size_of::<QuerySize>(), std::mem::offset_of!(QuerySize, status)),
        _ => return Vec::new(),
    };
    let count = (call.arguments[2] as u32).min(300);
    (0..count as usize)
        .filter_map(|index| {
            let mut bytes = [0; 2];
            let address = call.arguments[1].wrapping_add((index * size + offset) as u64) & 0xffff_ffff;
            read(address, &mut bytes).then_some(i16::from_le_bytes(bytes))
        })
        .collect()
}
