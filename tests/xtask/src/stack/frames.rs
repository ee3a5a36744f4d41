//! How deep the stack is at each call of a function, from its instructions.

use std::collections::HashMap;

use iced_x86::{FlowControl, Mnemonic, OpKind, Register};

use crate::program::{Function, Program, Step};

/// Bytes below the return address of the function.
pub type Depth = u64;

/// A function's use of the stack.
#[derive(Default)]
pub struct Frame {
    /// The most that it uses itself.
    pub deepest: Depth,
    /// How much it uses when an instruction runs, by the instruction's number: for those that leave the function.
    pub at: HashMap<usize, Depth>,
    /// What could not be followed.
    pub doubts: Vec<String>,
}

/// What is known at one instruction: how far the stack pointer, and the registers that were copied from it, are below
/// the return address. The stack grows downwards, depths are positive.
#[derive(Clone, PartialEq)]
struct State {
    stack: i64,
    copies: Vec<(Register, i64)>,
    /// Whether the stack pointer was set to another stack: what is called from there on is another root's.
    elsewhere: bool,
    /// The depth that the stack pointer was compared with: the end of a loop that touches a large frame's pages.
    compared: Option<i64>,
}

impl State {
    fn copy_of(&self, register: Register) -> Option<i64> {
        if register == Register::RSP {
            return Some(self.stack);
        }
        self.copies
            .iter()
            .find(|(name, _)| *name == register)
            .map(|(_, depth)| *depth)
    }

    fn set(&mut self, register: Register, depth: Option<i64>) {
        self.copies.retain(|(name, _)| *name != register);
        if let Some(depth) = depth {
            self.copies.push((register, depth));
        }
    }

    /// The state where two ways meet: the deeper stack, and what both know.
    fn join(&self, other: &State) -> State {
        State {
            stack: self.stack.max(other.stack),
            copies: self
                .copies
                .iter()
                .filter(|&&(name, depth)| other.copy_of(name) == Some(depth))
                .copied()
                .collect(),
            elsewhere: self.elsewhere && other.elsewhere,
            compared: None,
        }
    }
}

/// Follows the stack pointer through a function.
pub fn frame(program: &Program, function: &Function) -> Frame {
    let mut frame = Frame::default();
    let mut states: HashMap<usize, State> = HashMap::new();
    let mut visits: HashMap<usize, u32> = HashMap::new();
    let start = State {
        stack: 0,
        copies: Vec::new(),
        elsewhere: false,
        compared: None,
    };
    let mut work = vec![(0, start)];
    while let Some((index, state)) = work.pop() {
        let Some(step) = function.step(index) else {
            continue;
        };
        let state = match states.get(&index) {
            Some(old) => {
                let joined = old.join(&state);
                if joined == *old {
                    continue;
                }
                joined
            }
            None => state,
        };
        // Ways that meet differ by what one call left on the stack, not without end.
        let visits = visits.entry(index).or_default();
        *visits += 1;
        if *visits > 64 {
            frame
                .doubts
                .push(format!("the stack grows in a loop at {:#x}", step.address()));
            continue;
        }
        states.insert(index, state.clone());
        frame.deepest = frame.deepest.max(state.stack.max(0) as u64);
        let mut next = state.clone();
        apply(step, &mut next, &mut frame);
        frame.deepest = frame.deepest.max(next.stack.max(0) as u64);
        for follower in followers(program, function, step) {
            let mut next = next.clone();
            if let Some(end) = touched_pages(function, step, &state) {
                // The loop ends with the stack pointer where it was compared to be.
                next.stack = end;
                if follower != index + 1 {
                    continue;
                }
            }
            work.push((follower, next));
        }
    }
    for step in function.steps() {
        match states.get(&step.index) {
            Some(state) if state.elsewhere => {}
            Some(state) => {
                frame.at.insert(step.index, state.stack.max(0) as u64);
            }
            // Not reached by what we can follow: as deep as it gets.
            None => {
                frame.at.insert(step.index, frame.deepest);
            }
        }
    }
    frame
}

/// Where a conditional jump back belongs to a loop that touches the pages of a large frame: the depth it ends with.
fn touched_pages(function: &Function, step: Step<'_>, state: &State) -> Option<i64> {
    let back = step
        .target()
        .is_some_and(|target| target < step.address() && function.contains(target));
    (step.instruction.mnemonic() == Mnemonic::Jne && back)
        .then_some(state.compared)
        .flatten()
}

fn followers(program: &Program, function: &Function, step: Step<'_>) -> Vec<usize> {
    let mut found = Vec::new();
    if !step.is_call()
        && let Some(index) = step.target().and_then(|target| function.index_of(target))
    {
        found.push(index);
    }
    if step.instruction.flow_control() == FlowControl::IndirectBranch {
        let targets = function.computed_targets().iter();
        found.extend(targets.filter_map(|&target| function.index_of(target)));
    }
    let comes_back = match step.target().filter(|_| step.is_call()) {
        Some(target) => program.at(target).is_none_or(|callee| program.returns(callee)),
        None => true,
    };
    if step.falls_through() && comes_back {
        found.push(step.index + 1);
    }
    found
}

/// What an instruction does to the stack pointer and its copies.
fn apply(step: Step<'_>, state: &mut State, frame: &mut Frame) {
    let instruction = step.instruction;
    let first = instruction.op0_register().full_register();
    let immediate = || match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate64 => {
            Some(instruction.immediate(1) as i64)
        }
        _ => None,
    };
    let was_compared = state.compared.take();
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pushfq => state.stack += 8,
        Mnemonic::Pop => {
            state.stack -= 8;
            state.set(first, None);
        }
        Mnemonic::Popfq => state.stack -= 8,
        Mnemonic::Leave => {
            if let Some(depth) = state.copy_of(Register::RBP) {
                state.stack = depth - 8;
            }
            state.set(Register::RBP, None);
        }
        Mnemonic::Cmp if first == Register::RSP => {
            state.compared = state.copy_of(instruction.op1_register());
        }
        Mnemonic::Mov if first == Register::RSP && instruction.op0_kind() == OpKind::Register => {
            match state.copy_of(instruction.op1_register()) {
                Some(depth) if instruction.op1_kind() == OpKind::Register => state.stack = depth,
                _ => state.elsewhere = true,
            }
        }
        Mnemonic::Lea if first == Register::RSP => match based(step, state) {
            Some(depth) => state.stack = depth,
            None => state.elsewhere = true,
        },
        Mnemonic::Sub | Mnemonic::Add if first == Register::RSP => match immediate() {
            Some(bytes) if instruction.mnemonic() == Mnemonic::Sub => state.stack += bytes,
            Some(bytes) => state.stack -= bytes,
            None => frame
                .doubts
                .push(format!("a frame of unknown size at {:#x}", step.address())),
        },
        // Rounding down for a larger alignment takes less than that.
        Mnemonic::And if first == Register::RSP => match immediate() {
            Some(mask) => state.stack += !mask,
            None => frame
                .doubts
                .push(format!("an unknown alignment at {:#x}", step.address())),
        },
        Mnemonic::Mov if instruction.op0_kind() == OpKind::Register => {
            let copied = (instruction.op1_kind() == OpKind::Register)
                .then(|| state.copy_of(instruction.op1_register()))
                .flatten();
            state.set(first, copied);
        }
        Mnemonic::Lea => {
            let depth = based(step, state);
            state.set(first, depth);
        }
        Mnemonic::Cmp | Mnemonic::Test => {}
        // A store between the comparison and the jump would be fine, and does not occur.
        Mnemonic::Jne => state.compared = was_compared,
        _ if instruction.op0_kind() == OpKind::Register && first != Register::None => state.set(first, None),
        _ => {}
    }
}

/// The depth that a `lea` of a copy plus a constant gives.
fn based(step: Step<'_>, state: &State) -> Option<i64> {
    let instruction = step.instruction;
    if instruction.memory_index() != Register::None {
        return None;
    }
    let base = state.copy_of(instruction.memory_base())?;
    Some(base - instruction.memory_displacement64() as i64)
}

#[cfg(test)]
mod tests {
    use super::{Frame, frame};
    use crate::program::{Function, Program};

    fn frame_of(code: &[u8]) -> (Frame, Program) {
        let program = Program::of(vec![Function::decode("sample".into(), 0x1000, code)]);
        (frame(&program, &program.functions[0]), program)
    }

    #[test]
    fn pushes_and_subtractions_are_added_up_to_each_call() {
        #[rustfmt::skip]
        let code = [
            0x55,                         // push rbp
            0x48, 0x89, 0xe5,             // mov rbp, rsp
            0x53,                         // push rbx
            0x48, 0x83, 0xec, 0x28,       // sub rsp, 0x28
            0xe8, 0x00, 0x00, 0x00, 0x00, // call
            0x48, 0x8d, 0x65, 0xf8,       // lea rsp, [rbp - 8]
            0x5b,                         // pop rbx
            0x5d,                         // pop rbp
            0xe9, 0x00, 0x10, 0x00, 0x00, // jmp elsewhere
        ];
        let (frame, program) = frame_of(&code);
        let at = |address| frame.at[&program.functions[0].index_of(address).expect("it begins there")];
        assert_eq!(at(0x1009), 8 + 8 + 0x28, "at the call");
        assert_eq!(at(0x1014), 0, "a jump in last place has given everything back");
        assert_eq!((frame.deepest, frame.doubts.len()), (8 + 8 + 0x28, 0));
    }

    #[test]
    fn a_frame_made_page_by_page_has_its_whole_size() {
        #[rustfmt::skip]
        let code = [
            0x4c, 0x8d, 0x9c, 0x24, 0x00, 0xd0, 0xff, 0xff, // lea r11, [rsp - 0x3000]
            0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00,       // sub rsp, 0x1000
            0x48, 0xc7, 0x04, 0x24, 0x00, 0x00, 0x00, 0x00, // mov qword [rsp], 0
            0x4c, 0x39, 0xdc,                               // cmp rsp, r11
            0x75, 0xec,                                     // jne to the subtraction
            0x48, 0x83, 0xec, 0x10,                         // sub rsp, 0x10
            0xc3,                                           // ret
        ];
        let (frame, _) = frame_of(&code);
        assert_eq!((frame.deepest, frame.doubts.len()), (0x3010, 0));
    }

    #[test]
    fn a_stack_that_grows_without_end_is_no_number() {
        // push rax; jmp to it
        let (frame, _) = frame_of(&[0x50, 0xeb, 0xfd]);
        assert_eq!(frame.doubts.len(), 1);
    }

    #[test]
    fn what_follows_a_change_of_stacks_is_not_counted_here() {
        #[rustfmt::skip]
        let code = [
            0x50,                         // push rax
            0x48, 0x89, 0xfc,             // mov rsp, rdi
            0xe9, 0x00, 0x10, 0x00, 0x00, // jmp elsewhere
        ];
        let (frame, _) = frame_of(&code);
        assert_eq!((frame.deepest, frame.at.get(&2)), (8, None));
    }
}
