//! Computed calls: what they can reach.

use std::fmt;

use iced_x86::{FlowControl, Mnemonic, OpKind, Register};

use crate::program::{Function, Program, Step};

/// Where the address of a computed call comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The word at this address.
    Constant(u64),
    /// A word at this distance from a pointer: in a table of methods, the slot.
    Word(i64),
    /// An argument, or something that could not be followed.
    Unknown,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Constant(_) => write!(f, "fixed word"),
            Source::Word(distance) => write!(f, "word {distance}"),
            Source::Unknown => write!(f, "unknown"),
        }
    }
}

/// Whether the step is a call, or a jump out of the function, by a computed address.
pub fn is_computed(program: &Program, function: &Function, step: Step<'_>) -> bool {
    let flow = step.instruction.flow_control();
    let jump = flow == FlowControl::IndirectBranch && !function.has_computed_targets();
    (flow == FlowControl::IndirectCall || jump) && program.constant_target(step).is_none()
}

/// Where the address in a computed call comes from, on each way to it.
pub fn sources(program: &Program, function: &Function, step: Step<'_>) -> Vec<Source> {
    let instruction = step.instruction;
    if instruction.op0_kind() == OpKind::Memory {
        return vec![word(instruction)];
    }
    let returns = |step: Step<'_>| match step.target() {
        Some(target) => program.at(target).is_none_or(|callee| program.returns(callee)),
        None => true,
    };
    let register = instruction.op0_register();
    let mut found: Vec<Source> = function
        .definitions(step.index, register, &returns)
        .into_iter()
        .map(
            |definition| match definition.and_then(|index| function.step(index)) {
                Some(step)
                    if step.instruction.mnemonic() == Mnemonic::Mov
                        && step.instruction.op1_kind() == OpKind::Memory =>
                {
                    word(step.instruction)
                }
                _ => Source::Unknown,
            },
        )
        .collect();
    found.sort();
    found.dedup();
    found
}

fn word(instruction: &iced_x86::Instruction) -> Source {
    if instruction.memory_index() != Register::None {
        return Source::Unknown;
    }
    let displacement = instruction.memory_displacement64();
    match instruction.memory_base() {
        Register::None | Register::RIP => Source::Constant(displacement),
        // Kept on the stack meanwhile.
        Register::RSP | Register::RBP => Source::Unknown,
        _ => Source::Word(displacement as i64),
    }
}
