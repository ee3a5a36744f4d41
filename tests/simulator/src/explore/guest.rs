//! Guests with a fixed part: an act after the other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use hypercall_abi::DomainId;
use kernel::domain::Domain;
use kernel::testing::{TestDomain, TestKernel, TestVcpu};
use machine::Exit;
use machine::address::GuestAddress;
use machine::fake::{FakeMachine, FakeVcpu};
use machine::virtual_cpu::register;

use super::Part;
use crate::host::paging::{Mode, Tables};

/// x2APIC's register of completed interrupts.
const END_OF_INTERRUPT: u32 = 0x80b;
const ARGUMENTS: [usize; 6] = [
    register::RDI,
    register::RSI,
    register::RDX,
    register::R10,
    register::R8,
    register::R9,
];

/// Numbers that all guests of a scene see, without a point of interleaving: memory between them that costs nothing.
#[derive(Clone, Default)]
pub struct Flags(Arc<[AtomicU32; 8]>);

impl Flags {
    /// Set one.
    pub fn set(&self, index: usize, value: u32) {
        self.0[index].store(value, Ordering::SeqCst);
    }

    /// How one is set.
    pub fn get(&self, index: usize) -> u32 {
        self.0[index].load(Ordering::SeqCst)
    }
}

/// What a guest sees while it decides.
pub struct Sight<'a> {
    /// Numbers shared by all guests.
    pub flags: &'a Flags,
    /// Vectors that this vCPU took so far.
    pub taken: &'a [u8],
    /// Non-maskable interrupts that it took so far.
    pub nmis: u64,
    /// What the last call of this vCPU was answered.
    pub result: i64,
    kernel: &'a TestKernel,
    domain: &'a TestDomain,
}

impl Sight<'_> {
    /// The time.
    pub fn now(&self) -> u64 {
        machine::Machine::now(&self.kernel.machine)
    }

    /// The first deadline of all processors, as nobody inside could know.
    pub fn next_deadline(&self) -> u64 {
        self.kernel.machine.next_deadline().unwrap_or(0)
    }

    /// Write to the guest's memory, as the guest does; whether that was possible.
    pub fn store(&self, address: u64, bytes: &[u8]) -> bool {
        let (machine, root) = (&self.kernel.machine, self.domain.physmap.root());
        machine.guest_store(root, GuestAddress(address), bytes).is_ok()
    }

    /// What lies in another domain's memory, as nobody inside could know: zeros where there is nothing.
    pub fn of<const N: usize>(&self, domain: DomainId, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some(domain) = self.kernel.domains.get(domain) {
            let machine = &self.kernel.machine;
            machine.peek(domain.physmap.root(), GuestAddress(address), &mut bytes);
        }
        bytes
    }
}

/// What decides whether a guest goes on.
pub type Condition = Box<dyn Fn(&Sight<'_>) -> bool + Send>;

/// Something that a vCPU does.
pub enum Act {
    /// A hypercall; what it is answered is [`Sight::result`] from then on.
    Call(u64, [u64; 6]),
    /// A write to a model-specific register.
    WriteMsr(u32, u64),
    /// Something that takes no exit.
    Do(Box<dyn Fn(&Sight<'_>) + Send>),
    /// Interrupts are taken from here on, or not.
    Interrupts(bool),
    /// Work on until it holds.
    Until(Condition),
    /// Halt, with interrupts on, until it holds; looked at with interrupts off, as kernels do.
    HaltUntil(Condition),
    /// The like with a call that waits.
    WaitUntil(u64, [u64; 6], Condition),
    /// Write page tables, and use them in 64-bit code from here on.
    Paging(Tables),
    /// Exit for nothing, once.
    Exit,
}

/// A vCPU's way through its acts.
struct Guest {
    kernel: Weak<TestKernel>,
    domain: Weak<Domain<FakeMachine>>,
    acts: Vec<Act>,
    next: usize,
    flags: Flags,
    played: Arc<AtomicU32>,
    /// Where the instruction of a call is that was not answered yet.
    calling: Option<u64>,
    result: i64,
    interrupts: bool,
    taken: Vec<u8>,
    unfinished: u32,
}

/// Give a vCPU its part. Says, later, how many acts it has played.
pub(super) fn install(kernel: &Arc<TestKernel>, vcpu: &TestVcpu, part: Part, flags: &Flags) -> Progress {
    let played = Arc::new(AtomicU32::new(0));
    let progress = Progress {
        domain: part.domain.id.0,
        vcpu: part.vcpu,
        acts: part.acts.len() as u32,
        played: played.clone(),
    };
    let mut guest = Guest {
        kernel: Arc::downgrade(kernel),
        domain: Arc::downgrade(&part.domain),
        acts: part.acts,
        next: 0,
        flags: flags.clone(),
        played,
        calling: None,
        result: i64::MIN,
        interrupts: true,
        taken: Vec::new(),
        unfinished: 0,
    };
    let mut context = vcpu.context.lock();
    context.enter_flat_long_mode();
    context.set_interrupts_enabled(true);
    context.set_program(Box::new(move |context| guest.run(context)));
    progress
}

/// How far a vCPU has come.
pub(super) struct Progress {
    domain: u16,
    vcpu: u32,
    acts: u32,
    played: Arc<AtomicU32>,
}

impl Progress {
    /// Whether all acts were played.
    pub fn done(&self) -> bool {
        self.played.load(Ordering::SeqCst) == self.acts
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let played = self.played.load(Ordering::SeqCst);
        write!(
            f,
            "d{} v{} has played {played} of {} acts",
            self.domain, self.vcpu, self.acts
        )
    }
}

impl Guest {
    fn run(&mut self, context: &mut FakeVcpu) -> Exit {
        let (Some(kernel), Some(domain)) = (self.kernel.upgrade(), self.domain.upgrade()) else {
            return Exit::Halt;
        };
        if let Some(rip) = self.calling {
            if context.state.registers.rip == rip {
                return Exit::Hypercall;
            }
            self.calling = None;
            self.result = context.state.registers.general[register::RAX] as i64;
        }
        // All that is taken here came by the local APIC, which is told when it has been served.
        self.unfinished += context.taken.len() as u32;
        self.taken.append(&mut context.taken);
        if self.unfinished != 0 {
            self.unfinished -= 1;
            return self.leave(context, write_msr(END_OF_INTERRUPT, 0));
        }
        loop {
            let Some(act) = self.acts.get(self.next) else {
                return self.leave(context, Leave::Halt);
            };
            let sight = Sight {
                flags: &self.flags,
                taken: &self.taken,
                nmis: context.nmis,
                result: self.result,
                kernel: &kernel,
                domain: &domain,
            };
            let (leave, stays) = match act {
                Act::Call(number, arguments) => (Some(Leave::Call(*number, *arguments)), false),
                Act::WriteMsr(number, value) => (Some(write_msr(*number, *value)), false),
                Act::Exit => (Some(Leave::Nothing), false),
                Act::Do(act) => {
                    act(&sight);
                    (None, false)
                }
                Act::Paging(tables) => {
                    tables.write(&kernel.machine, &domain);
                    tables.enter(Mode::FourLevels, context);
                    (None, false)
                }
                Act::Interrupts(on) => {
                    self.interrupts = *on;
                    (None, false)
                }
                Act::Until(condition) if condition(&sight) => (None, false),
                Act::Until(_) => (Some(Leave::Nothing), true),
                Act::HaltUntil(condition) | Act::WaitUntil(_, _, condition) if condition(&sight) => {
                    (None, false)
                }
                Act::HaltUntil(_) => (Some(Leave::Halt), true),
                Act::WaitUntil(number, arguments, _) => (Some(Leave::Call(*number, *arguments)), true),
            };
            if !stays {
                self.next += 1;
                self.played.store(self.next as u32, Ordering::SeqCst);
            }
            if let Some(leave) = leave {
                return self.leave(context, leave);
            }
        }
    }

    fn leave(&mut self, context: &mut FakeVcpu, leave: Leave) -> Exit {
        context.set_interrupts_enabled(self.interrupts || matches!(leave, Leave::Halt));
        let registers = &mut context.state.registers;
        match leave {
            Leave::Nothing => Exit::Interrupt,
            Leave::Halt => Exit::Halt,
            Leave::WriteMsr(number, value) => {
                registers.general[register::RCX] = u64::from(number);
                registers.general[register::RAX] = value & 0xffff_ffff;
                registers.general[register::RDX] = value >> 32;
                Exit::WriteMsr
            }
            Leave::Call(number, arguments) => {
                registers.general[register::RAX] = number;
                for (place, value) in ARGUMENTS.into_iter().zip(arguments) {
                    registers.general[place] = value;
                }
                self.calling = Some(registers.rip);
                Exit::Hypercall
            }
        }
    }
}

enum Leave {
    Nothing,
    Halt,
    WriteMsr(u32, u64),
    Call(u64, [u64; 6]),
}

fn write_msr(number: u32, value: u64) -> Leave {
    Leave::WriteMsr(number, value)
}
