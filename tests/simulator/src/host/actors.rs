//! Who attacks: what each domain knows, their notices to each other, and what is remembered of their deeds.
//!
//! Guests' programs are called from inside the machine, with nothing in hand but the vCPU; all that they share lies here,
//! one host for each thread. Nobody holds it over a point of interleaving.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use hypercall_abi::hypercall::number;
use hypercall_abi::{DomainId, Error};
use kernel::cpu_policy::CpuPolicy;
use kernel::domain::{DomainConfig, VcpuHandle};
use kernel::testing::{self, TestDomain, TestKernel};
use kernel::vcpu::stop;
use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::memory::FrameUse;
use serde::{Deserialize, Serialize};

use super::guest;
use crate::knowledge::Knowledge;
use crate::noticeboard::{DomainNotice, Noticeboard};
use crate::numbers::Numbers;
use crate::scenario::Shape;

/// Deeds that are remembered in words.
const STORY: usize = 40;

/// What guests did.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Deeds {
    /// Hypercalls made, each counted once however often it restarted.
    pub hypercalls: u64,
    /// Times that one of them was executed again for what was left.
    pub restarts: u64,
    /// Other exits.
    pub exits: u64,
    /// Stores to their own memory that were a deed of their own.
    pub stores: u64,
    /// What came of what: hypercall number, operation, and the result's kind.
    pub outcomes: BTreeSet<u32>,
}

impl Deeds {
    /// Add others.
    pub fn add(&mut self, other: &Deeds) {
        self.hypercalls += other.hypercalls;
        self.restarts += other.restarts;
        self.exits += other.exits;
        self.stores += other.stores;
        self.outcomes.extend(&other.outcomes);
    }

    /// Note what came of a hypercall.
    pub(super) fn note(&mut self, number: u64, operation: u32, result: i64) {
        self.hypercalls += 1;
        // Errors are small negative numbers; of successes it matters only that they are.
        let kind = if result < 0 {
            (result.unsigned_abs() as u32).min(254) + 1
        } else {
            0
        };
        self.outcomes
            .insert(((number as u32).min(127) << 24) | (operation.min(0xffff) << 8) | kind.min(255));
    }
}

/// A domain, and what it knows.
pub(super) struct Actor {
    pub domain: Weak<kernel::domain::Domain<machine::fake::FakeMachine>>,
    pub knowledge: Knowledge,
}

/// All that guests' programs share.
pub(super) struct Stage {
    pub kernel: Weak<TestKernel>,
    pub actors: Vec<(DomainId, Actor)>,
    pub board: Noticeboard,
    pub numbers: Numbers,
    pub deeds: Deeds,
    /// By processor: what its guest did last.
    pub last: Vec<&'static str>,
    pub story: VecDeque<String>,
    /// vCPUs of the privileged domain that wait for a call which may make a domain.
    pub makers: u32,
    /// What somebody saw that must not be.
    pub complaint: Option<String>,
    pub remember: bool,
}

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Do something with what programs share. `None` when there is no host.
pub(super) fn on_stage<R>(act: impl FnOnce(&mut Stage) -> R) -> Option<R> {
    STAGE.with_borrow_mut(|stage| stage.as_mut().map(act))
}

impl Stage {
    fn actor(&mut self, id: DomainId) -> Option<&mut Actor> {
        self.actors
            .iter_mut()
            .find_map(|(other, actor)| (*other == id).then_some(actor))
    }

    /// What a domain knows, and the notices.
    pub fn minds(&mut self, id: DomainId) -> Option<(&mut Knowledge, &mut Noticeboard)> {
        let actor = self
            .actors
            .iter_mut()
            .find_map(|(other, actor)| (*other == id).then_some(actor))?;
        Some((&mut actor.knowledge, &mut self.board))
    }

    /// Remember a deed in words.
    pub fn tell(&mut self, line: String) {
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        self.story.push_back(line);
    }
}

/// A new host, with its privileged domain.
pub(super) fn begin(kernel: &Arc<TestKernel>, shape: &Shape) {
    let stage = Stage {
        kernel: Arc::downgrade(kernel),
        actors: Vec::new(),
        board: Noticeboard::default(),
        numbers: Numbers::new(0),
        deeds: Deeds::default(),
        last: vec!["nothing yet"; shape.processors],
        story: VecDeque::new(),
        makers: 0,
        complaint: None,
        remember: false,
    };
    STAGE.with_borrow_mut(|place| *place = Some(stage));
    let vcpus = shape.vcpus.first().copied().unwrap_or(1);
    let config = testing::configuration(vcpus, true);
    let domain = testing::domain_with(kernel, 0, &config, shape.pages);
    adopt(&domain, shape.pages, true);
    for vcpu in 0..vcpus {
        kernel.reconsider(&testing::vcpu(&domain, vcpu));
    }
}

/// The host is over.
pub(super) fn end() {
    let stage = STAGE.with_borrow_mut(Option::take);
    drop(stage);
}

/// Give a domain's vCPUs programs, and the domain a mind. `started`: its vCPUs may run.
pub(super) fn adopt(domain: &TestDomain, pages: u64, started: bool) {
    for (index, vcpu) in domain.vcpus.iter().enumerate() {
        guest::install(&mut vcpu.context.lock(), domain, index as u32, pages);
        if started {
            vcpu.initialised.store(true, Ordering::SeqCst);
        }
    }
    let vcpus = domain.vcpus.len() as u32;
    on_stage(|stage| {
        let id = domain.id;
        stage
            .actors
            .retain(|(other, actor)| *other != id && actor.domain.strong_count() != 0);
        let told = stage.board.domains.iter().find(|notice| notice.id == id);
        let pages = told.map_or(pages, |notice| notice.pages);
        if told.is_none() {
            stage.board.domains.push(DomainNotice {
                id,
                vcpus,
                pages,
                started,
            });
        }
        let actor = Actor {
            domain: Arc::downgrade(domain),
            knowledge: Knowledge::new(id, domain.privileged, vcpus, pages),
        };
        stage.actors.push((id, actor));
    });
}

/// See to those domains that a toolstack has made since the last time.
pub(super) fn adopt_newcomers(kernel: &TestKernel) {
    for domain in newcomers(kernel) {
        adopt(&domain, 16, false);
    }
}

/// Domains that a toolstack has made since the last time.
fn newcomers(kernel: &TestKernel) -> Vec<TestDomain> {
    let mut all = domains(kernel);
    all.retain(|domain| {
        let known = on_stage(|stage| {
            let knows = |actor: &mut Actor| actor.domain.ptr_eq(&Arc::downgrade(domain));
            stage.actor(domain.id).is_some_and(knows)
        });
        domain.id.0 != 0 && known == Some(false)
    });
    all
}

/// A call that may make a domain is made.
pub(super) fn expect_a_domain() {
    on_stage(|stage| stage.makers += 1);
}

/// It was answered. There is no new domain for whoever was told that there is no memory for one.
pub(super) fn was_answered(kernel: &TestKernel, number: u64, result: i64) {
    let Some(makers) = on_stage(|stage| {
        stage.makers -= 1;
        stage.makers
    }) else {
        return;
    };
    if result >= 0 {
        adopt_newcomers(kernel);
    } else if number == number::DOMCTL
        && result == Error::ENOMEM.as_result()
        && makers == 0
        && let Some(domain) = newcomers(kernel).first()
    {
        complain(format!(
            "domains: d{} was made, and its maker told that it could not be",
            domain.id.0
        ));
    }
}

/// Something is that must not be. The first complaint counts.
pub(super) fn complain(complaint: String) {
    on_stage(|stage| {
        stage.complaint.get_or_insert(complaint);
    });
}

/// What somebody saw that must not be.
pub(super) fn complaint() -> Option<String> {
    on_stage(|stage| stage.complaint.clone()).flatten()
}

/// Every domain there is, by number.
pub(crate) fn domains(kernel: &TestKernel) -> Vec<TestDomain> {
    let mut all = Vec::new();
    let mut next = DomainId(0);
    while let Some(domain) = kernel.domains.at_or_after(next) {
        next = DomainId(domain.id.0 + 1);
        all.push(domain);
    }
    all
}

/// Whether fewer guests live than the shape asks for. Those that nobody lets run do not count, unless there are many.
pub(super) fn wants_more(kernel: &TestKernel, shape: &Shape) -> bool {
    let lives = |domain: &TestDomain| {
        let lifecycle = domain.lifecycle.lock();
        let ended = lifecycle.dying || lifecycle.shutdown.is_some();
        drop(lifecycle);
        let runs = domain.pauses.load(Ordering::SeqCst) == 0
            && domain
                .vcpus
                .iter()
                .any(|vcpu| vcpu.is_up() && vcpu.pauses.load(Ordering::SeqCst) == 0);
        !ended && runs && !domain.privileged
    };
    let all = domains(kernel);
    let living = all.iter().filter(|domain| lives(domain)).count();
    living + 1 < shape.vcpus.len() && all.len() < 2 * shape.vcpus.len()
}

/// Make a guest and let it run. `None` when there is too little memory.
pub(super) fn make_guest(kernel: &TestKernel, shape: &Shape, numbers: &mut Numbers) -> Option<()> {
    let vcpus = *shape
        .vcpus
        .get(numbers.within(1, shape.vcpus.len() as u64 - 1) as usize)?;
    let memory = kernel.machine.memory();
    if memory.free_frames() < shape.pages + 64 {
        return None;
    }
    let config = DomainConfig {
        max_event_port: shape.max_port,
        ..testing::configuration(vcpus, false)
    };
    let policy = Arc::new(CpuPolicy::of_machine(&kernel.machine).ok()?);
    let domain = kernel.create_domain(None, &config, policy).ok()?;
    let most = shape.pages + shape.more_pages;
    domain.max_pages.store(most, Ordering::SeqCst);
    domain.allotted_vcpus.store(vcpus, Ordering::SeqCst);
    for frame in 0..shape.pages {
        let page = memory.allocate(domain.id.0, FrameUse::Ram, Order::PAGE)?;
        domain.physmap.populate(GuestFrame(frame), page).ok()?;
    }
    adopt(&domain, shape.pages, true);
    // In half of them the first vCPU has to start the others, as kernels do.
    let up = if numbers.chance(1, 2) {
        1
    } else {
        domain.vcpus.len()
    };
    for vcpu in domain.vcpus.iter().take(up) {
        vcpu.stops.fetch_and(!stop::DOWN, Ordering::SeqCst);
    }
    domain.toolstack_pauses.store(0, Ordering::SeqCst);
    domain.creation_finished.store(true, Ordering::SeqCst);
    kernel.unpause_domain(&domain);
    Some(())
}

/// Nothing will ever happen by itself: somebody presses a key, and whoever waits has a look.
pub(super) fn knock(kernel: &TestKernel) {
    for domain in domains(kernel) {
        for index in 0..domain.vcpus.len() as u32 {
            if let Some(vcpu) = VcpuHandle::new(&domain, index) {
                kernel.unblock(&vcpu);
            }
        }
    }
}

/// The next choices are made by these numbers.
pub(super) fn choose_by(numbers: Numbers) {
    on_stage(|stage| stage.numbers = numbers);
}

/// Keep deeds in words or not.
pub(super) fn remember(remember: bool) {
    on_stage(|stage| stage.remember = remember);
}

/// The last deeds in words.
pub(super) fn story() -> Vec<String> {
    on_stage(|stage| stage.story.iter().cloned().collect()).unwrap_or_default()
}

/// What was done so far.
pub(super) fn deeds() -> Option<Deeds> {
    on_stage(|stage| stage.deeds.clone())
}

/// What a processor's guest did last.
pub(super) fn last_deed(processor: usize) -> &'static str {
    on_stage(|stage| stage.last.get(processor).copied())
        .flatten()
        .unwrap_or("nothing")
}
