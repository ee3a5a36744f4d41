//! The attackers against the kernel, one deed after the other: do they reach what they are made to reach?

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{self, GrantStatus};
use hypercall_abi::hypercall::{name, number};
use hypercall_abi::{domctl, event_channel, hvm, memory, platform, sched, sysctl, vcpu, version};
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

const DEEDS: usize = 200_000;
/// Frames that domains have at first.
const PAGES: u64 = 64;
/// What the clock moves on between two deeds.
const STEP: u64 = 20_000;
/// What it moves on at each lock that is taken: so calls take time, and long ones are cut.
const TICK: u64 = 400;
/// What a list of calls has as result where none was made.
const NOT_REACHED: i64 = 0x5a5a;

/// What became of one sub-operation's calls.
#[derive(Clone, Copy, Default)]
struct Tally {
    made: u64,
    succeeded: u64,
    elements: u64,
    elements_done: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A domain that takes part.
struct Actor {
    id: DomainId,
    knowledge: Knowledge,
    vcpus: Vec<Attacker>,
}

/// What was done, and what became of it.
#[derive(Clone, Default)]
struct Sum {
    tallies: BTreeMap<(u64, u32), Tally>,
    exits: BTreeMap<usize, u64>,
    stores: u64,
    restarts: u64,
    created: usize,
    deeds: usize,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        for (&key, tally) in &other.tallies {
            let sum = self.tallies.entry(key).or_default();
            sum.made += tally.made;
            sum.succeeded += tally.succeeded;
            sum.elements += tally.elements;
            sum.elements_done += tally.elements_done;
        }
        for (&kind, count) in &other.exits {
            *self.exits.entry(kind).or_default() += count;
        }
        self.stores += other.stores;
        self.restarts += other.restarts;
        self.created += other.created;
        self.deeds += other.deeds;
    }
}

struct World {
    kernel: Rc<TestKernel>,
    board: Noticeboard,
    actors: Vec<Actor>,
    numbers: Numbers,
    /// Domains that were held, each once for each time.
    held: Arc<Mutex<Vec<DomainId>>>,
    prepared: Vec<Weak<Domain<FakeMachine>>>,
    sum: Sum,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> World {
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

    fn step(&mut self) {
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
    fn end(self) {
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

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn print(sum: &Sum) {
    for (&(number, operation), tally) in &sum.tallies {
        // Nonsense is made too, and is not worth a line each.
        if tally.made < 3 {
            continue;
        }
        let name = name(number).unwrap_or("?");
        print!(
            "{name:18} {operation:4}: {:7} made, {:6} succeeded ({:5.1} %)",
            tally.made,
            tally.succeeded,
            percent(tally.succeeded, tally.made)
        );
        if tally.elements != 0 {
            print!(
                "; {} of {} elements ({:.1} %)",
                tally.elements_done,
                tally.elements,
                percent(tally.elements_done, tally.elements)
            );
        }
        println!();
    }
    let exits: Vec<String> = sum
        .exits
        .iter()
        .map(|(&kind, count)| format!("{} {count}", Exit::kind_name(kind)))
        .collect();
    println!("exits: {}", exits.join(", "));
    println!(
        "{} stores, {} restarts, {} domains made",
        sum.stores, sum.restarts, sum.created
    );
}

/// All that can succeed. What is missing here is not offered, whatever one asks.
fn can_succeed() -> Vec<(u64, u32)> {
    use number::*;
    let mut all = Vec::new();
    let mut add =
        |number: u64, operations: &[u32]| all.extend(operations.iter().map(|&operation| (number, operation)));
    {
        use event_channel::op::*;
        add(
            EVENT_CHANNEL_OP,
            &[
                BIND_INTERDOMAIN,
                BIND_VIRQ,
                CLOSE,
                SEND,
                STATUS,
                ALLOC_UNBOUND,
                BIND_IPI,
                BIND_VCPU,
                UNMASK,
                RESET,
                INIT_CONTROL,
                EXPAND_ARRAY,
                SET_PRIORITY,
            ],
        );
    }
    {
        use grant_table::op::*;
        add(
            GRANT_TABLE_OP,
            &[
                MAP_GRANT_REF,
                UNMAP_GRANT_REF,
                SETUP_TABLE,
                COPY,
                QUERY_SIZE,
                SET_VERSION,
                GET_VERSION,
                SWAP_GRANT_REF,
            ],
        );
    }
    {
        use memory::op::*;
        add(
            MEMORY_OP,
            &[
                DECREASE_RESERVATION,
                MAXIMUM_RAM_PAGE,
                CURRENT_RESERVATION,
                MAXIMUM_RESERVATION,
                POPULATE_PHYSMAP,
                ADD_TO_PHYSMAP,
                MEMORY_MAP,
                MACHINE_MEMORY_MAP,
                SET_MEMORY_MAP,
                MAXIMUM_GPFN,
                REMOVE_FROM_PHYSMAP,
                SET_POD_TARGET,
                GET_POD_TARGET,
                GET_SHARING_FREED_PAGES,
                GET_SHARING_SHARED_PAGES,
                ADD_TO_PHYSMAP_BATCH,
                CLAIM_PAGES,
                ACQUIRE_RESOURCE,
            ],
        );
    }
    {
        use sched::op::*;
        add(
            SCHED_OP,
            &[YIELD, BLOCK, SHUTDOWN, POLL, REMOTE_SHUTDOWN, SHUTDOWN_CODE],
        );
    }
    {
        use vcpu::op::*;
        add(
            VCPU_OP,
            &[
                UP,
                DOWN,
                IS_UP,
                GET_RUNSTATE_INFO,
                REGISTER_RUNSTATE_MEMORY_AREA,
                SET_PERIODIC_TIMER,
                STOP_PERIODIC_TIMER,
                SET_SINGLESHOT_TIMER,
                STOP_SINGLESHOT_TIMER,
                REGISTER_VCPU_INFO,
                SEND_NMI,
                GET_PHYSICAL_ID,
                REGISTER_VCPU_TIME_MEMORY_AREA,
            ],
        );
    }
    add(VM_ASSIST, &[0, 1]);
    {
        use hvm::op::*;
        add(
            HVM_OP,
            &[
                SET_PARAM,
                GET_PARAM,
                FLUSH_TLBS,
                GET_TIME,
                SET_EVTCHN_UPCALL_VECTOR,
            ],
        );
    }
    add(
        XEN_VERSION,
        &[0, 1, 2, 3, 4, 5, version::op::GET_FEATURES, 7, 8, 9],
    );
    add(CONSOLE_IO, &[0, 1]);
    add(MULTICALL, &[0]);
    {
        use platform::op::*;
        add(PLATFORM_OP, &[SET_TIME32, SET_TIME64, GET_CPU_INFO]);
    }
    {
        use sysctl::op::*;
        add(
            SYSCTL,
            &[
                READ_CONSOLE,
                PHYSICAL_INFO,
                SCHEDULER_ID,
                GET_DOMAIN_INFO_LIST,
                GET_CPU_INFO,
                AVAILABLE_HEAP,
                CPU_TOPOLOGY_INFO,
                NUMA_INFO,
                CPUPOOL_OP,
                GET_CPU_FEATURESET,
                GET_CPU_POLICY,
            ],
        );
    }
    {
        use domctl::op::*;
        add(
            DOMCTL,
            &[
                CREATE_DOMAIN,
                DESTROY_DOMAIN,
                PAUSE_DOMAIN,
                UNPAUSE_DOMAIN,
                GET_DOMAIN_INFO,
                SET_VCPU_AFFINITY,
                MAX_MEMORY,
                GET_VCPU_INFO,
                MAX_VCPUS,
                SCHEDULER_OP,
                SET_DOMAIN_HANDLE,
                GET_VCPU_AFFINITY,
                SEND_TRIGGER,
                GET_HVM_CONTEXT,
                SET_HVM_CONTEXT,
                GET_ADDRESS_SIZE,
                GET_TSC_INFO,
                SET_TSC_INFO,
                SET_NODE_AFFINITY,
                GET_NODE_AFFINITY,
                GET_CPU_POLICY,
                SET_CPU_POLICY,
                GET_PAGING_MEMPOOL_SIZE,
                SET_PAGING_MEMPOOL_SIZE,
            ],
        );
    }
    all
}

/// Attack one host after the other, each for so many deeds; what became of each sub-operation, over all.
fn attack(hosts: u64, deeds: usize) -> Sum {
    let mut sum = Sum::default();
    for seed in 1..=hosts {
        let mut world = World::new(seed);
        while world.sum.deeds < deeds {
            world.step();
        }
        sum.add(&world.sum);
        world.end();
    }
    sum
}

#[test]
fn everything_that_can_succeed_does_and_all_memory_comes_back() {
    let sum = attack(1, DEEDS);
    print(&sum);
    let mut missing = Vec::new();
    for key in can_succeed() {
        let tally = sum.tallies.get(&key).copied().unwrap_or_default();
        let by_element = tally.elements != 0;
        let succeeded = if by_element {
            tally.elements_done
        } else {
            tally.succeeded
        };
        if succeeded == 0 || tally.succeeded == tally.made && tally.made > 10_000 {
            missing.push((name(key.0), key.1, tally.made));
        }
    }
    assert_eq!(missing, [], "never succeeded, or never failed");
    assert!(sum.restarts > 0);
    assert!(sum.created > 10);
}

/// Hosts of the simulator do not get old: what takes two domains must succeed soon.
#[test]
fn young_hosts_reach_it_as_well() {
    let sum = attack(20, 4000);
    print(&sum);
    let share = |number: u64, operation: u32| {
        let tally = sum.tallies.get(&(number, operation)).copied().unwrap_or_default();
        let (done, made) = if tally.elements == 0 {
            (tally.succeeded, tally.made)
        } else {
            (tally.elements_done, tally.elements)
        };
        percent(done, made)
    };
    use number::{DOMCTL, EVENT_CHANNEL_OP, GRANT_TABLE_OP, MEMORY_OP};
    for (number, operation) in [
        (GRANT_TABLE_OP, grant_table::op::MAP_GRANT_REF),
        (GRANT_TABLE_OP, grant_table::op::UNMAP_GRANT_REF),
        (GRANT_TABLE_OP, grant_table::op::COPY),
        (EVENT_CHANNEL_OP, event_channel::op::BIND_INTERDOMAIN),
        (EVENT_CHANNEL_OP, event_channel::op::SEND),
        (EVENT_CHANNEL_OP, event_channel::op::INIT_CONTROL),
        (MEMORY_OP, memory::op::POPULATE_PHYSMAP),
        (MEMORY_OP, memory::op::ADD_TO_PHYSMAP_BATCH),
        (DOMCTL, domctl::op::CREATE_DOMAIN),
        (DOMCTL, domctl::op::SET_HVM_CONTEXT),
    ] {
        let share = share(number, operation);
        assert!(share > 15.0, "{:?} {operation}: {share:.1} %", name(number));
    }
}

#[test]
fn requests_read_as_lines_of_a_script() {
    let mut knowledge = Knowledge::new(DomainId(0), true, 1, PAGES);
    let mut board = Noticeboard::default();
    let mut attacker = Attacker::new(Role::Control, 3, 0);
    let lines: Vec<String> = (0..20_000)
        .map(|time| attacker.next(&mut knowledge, &mut board, time).to_string())
        .collect();
    assert!(lines.iter().all(|line| !line.contains('\n')));
    let has = |part: &str| assert!(lines.iter().any(|line| line.contains(part)), "{part}");
    has("event_channel_op.6 Valid (0x6, ");
    has("AllocUnbound { domain: d[self]");
    has("MapGrantRef { host_address: ");
    has("MemoryReservation { ");
    has("CreateDomain { ");
    has("multicall.0 ");
    has("exit CpuId r0=");
}

#[test]
fn the_same_seed_gives_the_same_deeds() {
    let deeds = |seed: u64| {
        let mut knowledge = Knowledge::new(DomainId(1), false, 1, PAGES);
        let mut board = Noticeboard::default();
        let mut attacker = Attacker::new(Role::Guest, seed, 0);
        (0..2000)
            .map(|time| {
                let deed = attacker.next(&mut knowledge, &mut board, time).to_string();
                attacker.learn(&mut knowledge, &mut board, 0, &|_, into| {
                    into.fill(0);
                    true
                });
                deed
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(deeds(5), deeds(5));
    assert_ne!(deeds(5), deeds(6));
}
