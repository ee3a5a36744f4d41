//! Attackers: a vCPU's part in a domain, which chooses what it does next and learns from what comes of it.

use hypercall_abi::Error;
use hypercall_abi::hypercall::number;

use crate::deed::{Deed, GuestExit};
use crate::exits;
use crate::knowledge::{Knowledge, Reader};
use crate::noticeboard::Noticeboard;
use crate::numbers::Numbers;
use crate::request::{self, Call, Family, Lesson, Maker, Request};
use crate::stores::{self, Store};

/// Deeds between two looks at some frame.
const PROBE_AFTER: u64 = 4;
/// How many guests' deeds there are to one that ends its domain.
const DEADLY: u64 = 600;

/// What a domain is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A guest: a bit of everything.
    Guest,
    /// A backend: it maps and copies what others grant, and binds the channels that they offer.
    DriverDomain,
    /// The privileged domain: a toolstack that knows what it does, one that does not, and a backend.
    Control,
}

const GUEST: [(Family, u32); 15] = [
    (Family::EventChannel, 200),
    (Family::GrantTable, 140),
    (Family::Memory, 120),
    (Family::Sched, 30),
    (Family::Vcpu, 50),
    (Family::VmAssist, 4),
    (Family::Hvm, 24),
    (Family::Version, 8),
    (Family::Console, 2),
    (Family::Multicall, 24),
    (Family::Physdev, 3),
    (Family::Platform, 2),
    (Family::Sysctl, 3),
    (Family::Domctl, 4),
    (Family::Unknown, 4),
];

const DRIVER_DOMAIN: [(Family, u32); 10] = [
    (Family::EventChannel, 220),
    (Family::GrantTable, 320),
    (Family::Memory, 40),
    (Family::Sched, 20),
    (Family::Vcpu, 20),
    (Family::Hvm, 8),
    (Family::Version, 4),
    (Family::Multicall, 24),
    (Family::Domctl, 1),
    (Family::Unknown, 2),
];

const CONTROL: [(Family, u32); 16] = [
    (Family::Toolstack, 160),
    (Family::Domctl, 60),
    (Family::Sysctl, 24),
    (Family::Platform, 6),
    (Family::EventChannel, 100),
    (Family::GrantTable, 120),
    (Family::Memory, 100),
    (Family::Sched, 12),
    (Family::Vcpu, 20),
    (Family::Hvm, 24),
    (Family::Version, 6),
    (Family::Console, 2),
    (Family::Multicall, 24),
    (Family::Physdev, 2),
    (Family::VmAssist, 2),
    (Family::Unknown, 3),
];

/// A vCPU that attacks.
#[derive(Clone, Debug)]
pub struct Attacker {
    role: Role,
    vcpu: u32,
    numbers: Numbers,
    request: Request,
    store: Store,
    exit: GuestExit,
    deeds: u64,
    /// A call was made and its answer is not known.
    waits: bool,
    deadly: u64,
}

impl Attacker {
    /// The part that vCPU `vcpu` of a domain plays.
    pub fn new(role: Role, seed: u64, vcpu: u32) -> Self {
        Attacker {
            role,
            vcpu,
            numbers: Numbers::part(seed, u64::from(vcpu)),
            request: Request::default(),
            store: Store::default(),
            exit: GuestExit::default(),
            deeds: 0,
            waits: false,
            // The privileged domain's end is the machine's.
            deadly: if role == Role::Control { 0 } else { DEADLY },
        }
    }

    /// Choose by these numbers from now on.
    pub fn choose_by(&mut self, numbers: Numbers) {
        self.numbers = numbers;
    }

    /// Nothing that it does is meant to end its domain, or everything so many times rarer.
    pub fn set_deadly(&mut self, one_in: u64) {
        self.deadly = if self.role == Role::Control { 0 } else { one_in };
    }

    /// What it does next.
    pub fn next(&mut self, knowledge: &mut Knowledge, board: &mut Noticeboard, now: u64) -> Deed<'_> {
        self.deeds += 1;
        if core::mem::take(&mut self.waits) {
            give_up(knowledge, &self.request.call);
        }
        let dice = self.numbers.below(100);
        self.request.clear();
        let mut maker = Maker::new(
            &mut self.numbers,
            knowledge,
            board,
            &mut self.request,
            self.vcpu,
            now,
        );
        maker.deadly = self.deadly;
        if dice < 16 && stores::make(&mut maker, &mut self.store) {
            return Deed::Store {
                address: self.store.address,
                bytes: &self.store.bytes,
            };
        }
        if (16..24).contains(&dice) {
            exits::make(&mut maker, &mut self.exit);
            return Deed::Exit(&self.exit);
        }
        let family = match self.role {
            Role::Guest => maker.numbers.weighted(&GUEST),
            Role::DriverDomain => maker.numbers.weighted(&DRIVER_DOMAIN),
            Role::Control => maker.numbers.weighted(&CONTROL),
        };
        request::make(family, &mut maker);
        self.waits = true;
        Deed::Hypercall(&self.request)
    }

    /// What its last call returned. `read` reads the domain's memory at a guest-physical address, and says `false` where
    /// it cannot be read.
    pub fn learn(
        &mut self,
        knowledge: &mut Knowledge,
        board: &mut Noticeboard,
        result: i64,
        read: &Reader<'_>,
    ) {
        if !core::mem::take(&mut self.waits) {
            return;
        }
        let call = &self.request.call;
        if call.intent == request::Intent::Valid {
            knowledge.note_fault(self.vcpu, faulted(call, result), &mut self.numbers, read);
        }
        if self.deeds.is_multiple_of(PROBE_AFTER) {
            knowledge.probe(read);
        }
        let mut lesson = Lesson {
            call: self.request.call,
            result,
            knowledge,
            board,
            numbers: &mut self.numbers,
            read,
        };
        if self.request.nested.is_empty() {
            request::learn(&mut lesson);
        } else if result >= 0 {
            self.learn_from_list(knowledge, board, read);
        }
    }

    fn learn_from_list(&mut self, knowledge: &mut Knowledge, board: &mut Noticeboard, read: &Reader<'_>) {
        let list = self.request.call.arguments[0];
        for (index, &call) in self.request.nested.iter().enumerate() {
            let mut lesson = Lesson {
                call,
                result: 0,
                knowledge,
                board,
                numbers: &mut self.numbers,
                read,
            };
            let entry = lesson.element::<hypercall_abi::xen::MulticallEntry>(list, index as u64);
            let Some(entry) = entry.filter(|entry| entry.op == call.number) else {
                return;
            };
            lesson.result = entry.result as i64;
            request::learn(&mut lesson);
        }
    }
}

/// Whether a request was not found as it was written: it is not there, or something else is.
fn faulted(call: &Call, result: i64) -> bool {
    let versioned = matches!(call.number, number::DOMCTL | number::SYSCTL | number::PLATFORM_OP);
    result == Error::EFAULT.as_result() || versioned && result == Error::EACCES.as_result()
}

/// Nobody will ever know how a call went.
fn give_up(knowledge: &mut Knowledge, call: &Call) {
    if let (Some(index), Some(projects)) = (call.project, &mut knowledge.projects)
        && let Some(project) = projects.all.get_mut(usize::from(index))
    {
        project.busy = false;
    }
}
