//! A guest: what a vCPU does each time a processor enters it.

use std::sync::{Arc, Weak};

use hypercall_abi::Error;
use hypercall_abi::hypercall::number;
use kernel::domain::Domain;
use kernel::testing::{TestDomain, TestKernel};
use machine::address::{GuestAddress, PAGE_SIZE};
use machine::fake::{FakeMachine, FakeVcpu};
use machine::virtual_cpu::{CodeSize, VirtualCpu, register};
use machine::{Exit, Machine};

use super::actors::{self, on_stage};
use super::paging::{self, Tables};
use crate::attacker::{Attacker, Role};
use crate::deed::Deed;
use crate::request::Writes;

const ARGUMENTS: [usize; 6] = [
    register::RDI,
    register::RSI,
    register::RDX,
    register::R10,
    register::R8,
    register::R9,
];

/// Bytes of the instruction.
const INSTRUCTION: u64 = 3;

/// A hypercall whose answer the vCPU has not seen yet.
struct Waiting {
    number: u64,
    operation: u32,
    /// Where the instruction is: still there, it is executed again.
    rip: u64,
    /// With what it must be refused, whatever it asks for.
    refused: Option<Error>,
}

/// Hypercalls are for kernels, in 64-bit code.
fn must_be_refused(context: &FakeVcpu) -> Option<Error> {
    if context.paging().privilege != 0 {
        Some(Error::EPERM)
    } else if context.code_size() != CodeSize::SixtyFour {
        Some(Error::ENOSYS)
    } else {
        None
    }
}

fn may_make_domains(number: u64) -> bool {
    matches!(number, number::DOMCTL | number::MULTICALL)
}

/// A vCPU's program.
struct Program {
    domain: Weak<Domain<FakeMachine>>,
    vcpu: u32,
    attacker: Attacker,
    waiting: Option<Waiting>,
    tables: Option<Tables>,
    /// They were written once.
    written: bool,
}

/// Give a vCPU its program.
pub(super) fn install(context: &mut FakeVcpu, domain: &TestDomain, vcpu: u32, pages: u64) {
    // One guest in three is a backend for the others.
    let role = match domain.id.0 {
        0 => Role::Control,
        id if id % 3 == 2 => Role::DriverDomain,
        _ => Role::Guest,
    };
    let mut program = Program {
        domain: Arc::downgrade(domain),
        vcpu,
        attacker: Attacker::new(role, 0, vcpu),
        waiting: None,
        tables: Tables::of(pages),
        written: false,
    };
    context.enter_flat_long_mode();
    context.set_program(Box::new(move |context| program.go_on(context)));
}

impl Program {
    fn go_on(&mut self, context: &mut FakeVcpu) -> Exit {
        let (Some(domain), Some(Some(kernel))) =
            (self.domain.upgrade(), on_stage(|stage| stage.kernel.upgrade()))
        else {
            return Exit::Halt;
        };
        context.taken.clear();
        context.exceptions.clear();
        if let Some(call) = &self.waiting {
            if context.state.registers.rip == call.rip {
                on_stage(|stage| stage.deeds.restarts += 1);
                return Exit::Hypercall;
            }
            self.learn(context, &kernel, &domain);
        }
        self.act(context, &kernel, &domain)
    }

    /// The call has been answered.
    fn learn(&mut self, context: &FakeVcpu, kernel: &TestKernel, domain: &TestDomain) {
        let Some(call) = self.waiting.take() else { return };
        let result = context.state.registers.general[register::RAX] as i64;
        let machine = &kernel.machine;
        let read =
            |address: u64, into: &mut [u8]| machine.peek(domain.physmap.root(), GuestAddress(address), into);
        on_stage(|stage| {
            stage.deeds.note(call.number, call.operation, result);
            self.attacker.choose_by(stage.numbers);
            if stage.remember {
                stage.tell(format!("d{} v{}   = {result:#x}", domain.id.0, self.vcpu));
            }
            if let Some((knowledge, board)) = stage.minds(domain.id) {
                self.attacker.learn(knowledge, board, result, &read);
            }
            stage.numbers.next();
        });
        if domain.privileged && may_make_domains(call.number) {
            actors::was_answered(kernel, call.number, result);
        }
        // Where another vCPU has given this one a new beginning meanwhile, the answer is lost.
        let answered = context.state.registers.rip == call.rip.wrapping_add(INSTRUCTION);
        if let Some(error) = call.refused
            && answered
            && result != error.as_result()
        {
            let (id, vcpu, number) = (domain.id.0, self.vcpu, call.number);
            actors::complain(format!(
                "privilege: hypercall {number} of d{id} v{vcpu} must be refused with {error:?}, and is answered {result:#x}"
            ));
        }
    }

    fn act(&mut self, context: &mut FakeVcpu, kernel: &TestKernel, domain: &TestDomain) -> Exit {
        let machine = &kernel.machine;
        let (now, processor, vcpu) = (machine.now(), machine.current(), self.vcpu);
        if let (Some(tables), false) = (self.tables, self.written) {
            self.written = true;
            tables.write(machine, domain);
        }
        let attacker = &mut self.attacker;
        let deed = on_stage(|stage| {
            attacker.choose_by(stage.numbers);
            // What comes next in this step is chosen otherwise.
            stage.numbers.next();
            let mut numbers = stage.numbers;
            let (knowledge, board) = stage.minds(domain.id)?;
            let deed = attacker.next(knowledge, board, now);
            if stage.remember {
                stage.tell(format!("p{processor} d{} v{vcpu}: {deed}", domain.id.0));
            }
            if let Some(last) = stage.last.get_mut(processor) {
                *last = kind(&deed);
            }
            match deed {
                Deed::Hypercall(_) => {}
                Deed::Store { .. } => stage.deeds.stores += 1,
                Deed::Exit(_) => stage.deeds.exits += 1,
            }
            let is_call = matches!(deed, Deed::Hypercall(_));
            let mode = paging::choose(&mut numbers, is_call);
            paging::set_privilege(&mut numbers, context);
            match self.tables {
                Some(tables) => tables.enter(mode, context),
                None => context.enter_flat_long_mode(),
            }
            Some(deed)
        });
        let Some(Some(deed)) = deed else {
            return Exit::Halt;
        };
        match deed {
            Deed::Hypercall(request) => {
                if !write_all(machine, domain, &request.writes) && request.strict {
                    // What lies there instead is no request of this vCPU's: it calls nobody.
                    return Exit::Interrupt;
                }
                let registers = &mut context.state.registers;
                registers.general[register::RAX] = request.call.number;
                for (place, value) in ARGUMENTS.into_iter().zip(request.call.arguments) {
                    registers.general[place] = value;
                }
                let (number, operation) = (request.call.number, request.call.operation);
                self.waiting = Some(Waiting {
                    number,
                    operation,
                    rip: registers.rip,
                    refused: must_be_refused(context),
                });
                if domain.privileged && may_make_domains(number) {
                    actors::expect_a_domain();
                }
                Exit::Hypercall
            }
            Deed::Store { address, bytes } => {
                store(machine, domain, address, bytes);
                Exit::Interrupt
            }
            Deed::Exit(exit) => {
                write_all(machine, domain, &exit.writes);
                let registers = &mut context.state.registers;
                for &(place, value) in &exit.registers {
                    registers.general[place] = value;
                }
                registers.rip = exit.rip;
                context.instruction.clear();
                context.instruction.extend_from_slice(&exit.instruction);
                if let Some(enabled) = exit.interrupts {
                    context.set_interrupts_enabled(enabled);
                }
                exit.exit
            }
        }
    }
}

fn kind(deed: &Deed<'_>) -> &'static str {
    match deed {
        Deed::Hypercall(request) => {
            hypercall_abi::hypercall::name(request.call.number).unwrap_or("an unknown hypercall")
        }
        Deed::Store { .. } => "a store",
        Deed::Exit(exit) => Exit::kind_name(exit.exit.kind()),
    }
}

/// Store all pieces that can be stored; whether that were all.
fn write_all(machine: &FakeMachine, domain: &TestDomain, writes: &Writes) -> bool {
    let mut all = true;
    for (address, bytes) in writes.iter() {
        all &= store(machine, domain, address, bytes);
    }
    all
}

/// Store bytes as the guest does, page by page; where that faults, the rest is left out. Whether nothing was.
fn store(machine: &FakeMachine, domain: &TestDomain, address: u64, bytes: &[u8]) -> bool {
    let mut done = 0;
    while done < bytes.len() {
        let Some(at) = address.checked_add(done as u64).map(GuestAddress) else {
            return false;
        };
        let part = (PAGE_SIZE - at.offset()).min(bytes.len() - done);
        let stored = machine.guest_store(domain.physmap.root(), at, &bytes[done..done + part]);
        if stored.is_err() {
            return false;
        }
        done += part;
    }
    true
}
