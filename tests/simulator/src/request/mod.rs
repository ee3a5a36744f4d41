//! Hypercalls to be made: one file for each family, with a generator of valid, nearly valid and absurd requests, and with
//! what the caller learns from the answer.
//!
//! A generator writes down a valid request from what the caller knows, passing each field through [`Maker`]; in requests
//! that are to be nearly valid, the maker spoils one of them, in absurd ones about half.

pub mod console_io;
mod describe;
pub mod domctl;
mod domctl_arguments;
pub mod event_channel_op;
mod fields;
pub mod grant_table_op;
pub mod hvm_op;
mod lesson;
pub mod memory_op;
mod memory_placement;
mod memory_reservation;
pub mod multicall;
pub mod physdev_op;
pub mod platform_op;
pub mod sched_op;
pub mod sysctl;
pub mod toolstack;
pub mod unknown;
pub mod vcpu_op;
pub mod vm_assist;
mod writes;
pub mod xen_version;

pub use fields::Maker;
pub use lesson::Lesson;
pub use writes::Writes;

use hypercall_abi::Error;
use hypercall_abi::hypercall::number;

/// Calls that a list of calls can hold.
pub const MOST_NESTED: usize = 16;

/// How much of a request is meant to be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Intent {
    /// All, as far as the caller knows.
    #[default]
    Valid,
    /// All but one field.
    Nearly,
    /// Nothing in particular.
    Absurd,
}

/// One hypercall: number and registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// The sub-operation, wherever the family has it.
    pub operation: u32,
    /// The argument registers.
    pub arguments: [u64; 6],
    /// How much of it is meant to be right.
    pub intent: Intent,
    /// For a toolstack: which of its projects this is a step of.
    pub project: Option<u8>,
}

/// What a vCPU is to do: write this to its memory, then make that call.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The call.
    pub call: Call,
    /// For a list of calls, those in it.
    pub nested: heapless::Vec<Call, MOST_NESTED>,
    /// What is written first, at guest-physical addresses, in this order. Places that cannot be written are passed over.
    pub writes: Writes,
    /// The call is left out when some of that cannot be written: what lies there instead could make it the end of the
    /// privileged domain.
    pub strict: bool,
}

impl Request {
    /// Empty it for the next one.
    pub fn clear(&mut self) {
        self.call = Call::default();
        self.nested.clear();
        self.strict = false;
        self.writes.clear();
    }
}

/// The families of hypercalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of the hypercalls")]
pub enum Family {
    EventChannel,
    GrantTable,
    Memory,
    Sched,
    Vcpu,
    VmAssist,
    Hvm,
    Version,
    Console,
    Multicall,
    Physdev,
    Platform,
    Sysctl,
    Domctl,
    Toolstack,
    Unknown,
}

/// Make a request of a family.
pub fn make(family: Family, maker: &mut Maker<'_>) {
    match family {
        Family::EventChannel => event_channel_op::make(maker),
        Family::GrantTable => grant_table_op::make(maker),
        Family::Memory => memory_op::make(maker),
        Family::Sched => sched_op::make(maker),
        Family::Vcpu => vcpu_op::make(maker),
        Family::VmAssist => vm_assist::make(maker),
        Family::Hvm => hvm_op::make(maker),
        Family::Version => xen_version::make(maker),
        Family::Console => console_io::make(maker),
        Family::Multicall => multicall::make(maker),
        Family::Physdev => physdev_op::make(maker),
        Family::Platform => platform_op::make(maker),
        Family::Sysctl => sysctl::make(maker),
        Family::Domctl => domctl::make(maker),
        Family::Toolstack => toolstack::make(maker),
        Family::Unknown => unknown::make(maker),
    }
}

/// Learn from the answer to a call.
pub fn learn(lesson: &mut Lesson<'_>) {
    if lesson.call.project.is_some() {
        toolstack::learn(lesson);
    }
    // A toolstack's calls show who is gone; for a guest, nobody but itself is there in any case.
    if lesson.knowledge.privileged
        && lesson.result == Error::ESRCH.as_result()
        && lesson.call.number == number::MEMORY_OP
        && let Some(domain) = memory_op::subject(lesson)
    {
        domctl::gone(lesson, domain);
    }
    match lesson.call.number {
        number::EVENT_CHANNEL_OP => event_channel_op::learn(lesson),
        number::GRANT_TABLE_OP => grant_table_op::learn(lesson),
        number::MEMORY_OP => memory_op::learn(lesson),
        number::VCPU_OP => vcpu_op::learn(lesson),
        number::DOMCTL => domctl::learn(lesson),
        _ => {}
    }
}
