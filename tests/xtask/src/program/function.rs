//! One function's instructions.

use std::collections::{HashMap, HashSet};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

/// A function.
pub struct Function {
    /// Its name in the source, without the compiler's hashes.
    pub name: String,
    /// The address of its first instruction.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
    instructions: Vec<Instruction>,
    /// Who jumps to an instruction, by the instruction's address.
    sources: HashMap<u64, Vec<usize>>,
    /// Instructions that jump tables lead to.
    computed: Vec<u64>,
}

/// An instruction and its place.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Its number in its function.
    pub index: usize,
    /// The instruction.
    pub instruction: &'a Instruction,
}

impl Step<'_> {
    /// Where it lies.
    pub fn address(&self) -> u64 {
        self.instruction.ip()
    }

    /// An address that it carries other than as the target of a jump or a call.
    pub fn constant(&self) -> Option<u64> {
        let instruction = self.instruction;
        if matches!(instruction.mnemonic(), Mnemonic::Lea) && instruction.is_ip_rel_memory_operand() {
            return Some(instruction.ip_rel_memory_address());
        }
        (0..instruction.op_count()).find_map(|operand| match instruction.op_kind(operand) {
            OpKind::Immediate64 | OpKind::Immediate32 | OpKind::Immediate32to64 => {
                Some(instruction.immediate(operand))
            }
            _ => None,
        })
    }

    /// Where a direct call, jump or branch goes.
    pub fn target(&self) -> Option<u64> {
        let direct = matches!(
            self.instruction.op0_kind(),
            OpKind::NearBranch64 | OpKind::NearBranch32 | OpKind::NearBranch16
        );
        direct.then(|| self.instruction.near_branch_target())
    }

    /// Whether the next instruction can follow this one, if calls come back.
    pub fn falls_through(&self) -> bool {
        !matches!(
            self.instruction.flow_control(),
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Exception
        )
    }

    /// A call by a computed address, or a jump by one that leaves the function.
    pub fn is_call(&self) -> bool {
        matches!(
            self.instruction.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        ) && self.instruction.code() != Code::Syscall
    }
}

impl Function {
    /// Disassembles a function's code.
    pub fn decode(name: String, start: u64, code: &[u8]) -> Function {
        let instructions: Vec<Instruction> = Decoder::with_ip(64, code, start, DecoderOptions::NONE)
            .into_iter()
            .collect();
        let mut function = Function {
            name,
            start,
            end: start + code.len() as u64,
            instructions,
            sources: HashMap::new(),
            computed: Vec::new(),
        };
        let mut sources: HashMap<u64, Vec<usize>> = HashMap::new();
        for step in function.steps().filter(|step| !step.is_call()) {
            if let Some(target) = step.target() {
                sources.entry(target).or_default().push(step.index);
            }
        }
        function.sources = sources;
        function
    }

    pub(super) fn add_computed_target(&mut self, target: u64) {
        if self.index_of(target).is_none() {
            return;
        }
        let jumps: Vec<usize> = self.computed_jumps().map(|step| step.index).collect();
        self.sources.entry(target).or_default().extend(jumps);
        self.computed.push(target);
    }

    /// Instructions that jump tables lead to.
    pub fn computed_targets(&self) -> &[u64] {
        &self.computed
    }

    /// Whether its computed jumps go by a table.
    pub fn has_computed_targets(&self) -> bool {
        !self.computed.is_empty()
    }

    fn computed_jumps(&self) -> impl Iterator<Item = Step<'_>> {
        self.steps()
            .filter(|step| step.instruction.flow_control() == FlowControl::IndirectBranch)
    }

    /// Its instructions in order.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.instructions
            .iter()
            .enumerate()
            .map(|(index, instruction)| Step { index, instruction })
    }

    /// One of its instructions.
    pub fn step(&self, index: usize) -> Option<Step<'_>> {
        let instruction = self.instructions.get(index)?;
        Some(Step { index, instruction })
    }

    /// Which of its instructions lies at an address.
    pub fn index_of(&self, address: u64) -> Option<usize> {
        self.instructions
            .binary_search_by_key(&address, |instruction| instruction.ip())
            .ok()
    }

    /// Whether some jump leads to the instruction at this address.
    pub fn is_jumped_to(&self, address: u64) -> bool {
        self.sources.contains_key(&address)
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    pub(super) fn has_return(&self) -> bool {
        self.steps().any(|step| match step.instruction.flow_control() {
            FlowControl::Return => true,
            // A jump to a computed address without a table is a call in last place.
            FlowControl::IndirectBranch => self.computed.is_empty(),
            _ => false,
        })
    }

    /// Targets of direct jumps to other functions.
    pub fn tail_calls(&self) -> impl Iterator<Item = u64> {
        self.steps()
            .filter(|step| !step.is_call())
            .filter_map(|step| step.target())
            .filter(|&target| !self.contains(target))
    }

    /// Instructions that can run right before this one. `returns` says whether the call in a step comes back.
    pub fn before(&self, index: usize, returns: &dyn Fn(Step<'_>) -> bool) -> Vec<usize> {
        let Some(step) = self.step(index) else {
            return Vec::new();
        };
        let mut before = self.sources.get(&step.address()).cloned().unwrap_or_default();
        if let Some(previous) = index.checked_sub(1).and_then(|previous| self.step(previous))
            && previous.falls_through()
            && (!previous.is_call() || returns(previous))
        {
            before.push(previous.index);
        }
        before
    }

    /// What `register` can hold when the instruction at `index` runs, as far as constants go: each constant that can
    /// reach it, and `None` once if something else can.
    pub fn constants_in(
        &self,
        index: usize,
        register: Register,
        returns: &dyn Fn(Step<'_>) -> bool,
    ) -> Vec<Option<u64>> {
        let definitions = self.definitions(index, register, returns);
        let mut found: Vec<Option<u64>> = definitions
            .into_iter()
            .map(|definition| constant(self.step(definition?)?.instruction))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The instructions that can have given `register` the value that it has when the instruction at `index` runs;
    /// copies between registers are followed. `None` stands for what was there when the function began.
    pub fn definitions(
        &self,
        index: usize,
        register: Register,
        returns: &dyn Fn(Step<'_>) -> bool,
    ) -> Vec<Option<usize>> {
        let mut factory = InstructionInfoFactory::new();
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut work = vec![(index, register)];
        while let Some((index, register)) = work.pop() {
            let before = self.before(index, returns);
            if before.is_empty() {
                found.push(None);
            }
            for before in before {
                let Some(step) = self.step(before).filter(|_| seen.insert((before, register))) else {
                    continue;
                };
                match written(&mut factory, step.instruction, register) {
                    Written::No => work.push((before, register)),
                    Written::From(other) => work.push((before, other)),
                    Written::Here => found.push(Some(before)),
                }
            }
        }
        found
    }
}

/// What an instruction does to a register.
enum Written {
    No,
    From(Register),
    Here,
}

fn written(factory: &mut InstructionInfoFactory, instruction: &Instruction, register: Register) -> Written {
    // Kept by the functions that are called.
    const KEPT: [Register; 6] = [
        Register::RBX,
        Register::RBP,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    if matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    ) {
        return if KEPT.contains(&register) {
            Written::No
        } else {
            Written::Here
        };
    }
    let writes = factory.info(instruction).used_registers().iter().any(|used| {
        used.register().full_register() == register
            && matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            )
    });
    let copied = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op1_kind() == OpKind::Register
        && instruction.op1_register().is_gpr64();
    match (writes, copied) {
        (false, _) => Written::No,
        (true, true) => Written::From(instruction.op1_register()),
        (true, false) => Written::Here,
    }
}

/// The constant that an instruction leaves in its first operand.
fn constant(instruction: &Instruction) -> Option<u64> {
    match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Mov, OpKind::Immediate64 | OpKind::Immediate32 | OpKind::Immediate32to64) => {
            Some(instruction.immediate(1))
        }
        (Mnemonic::Lea, OpKind::Memory) if instruction.is_ip_rel_memory_operand() => {
            Some(instruction.ip_rel_memory_address())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::Register;

    use super::Function;

    /// Two ways that leave different constants in a register meet in one call.
    #[test]
    fn constants_of_each_way_to_a_call_are_found() {
        #[rustfmt::skip]
        let code = [
            0x85, 0xf6,                   // test esi, esi
            0x74, 0x07,                   // je 0xb
            0xbf, 0x11, 0x11, 0x00, 0x00, // mov edi, 0x1111
            0xeb, 0x05,                   // jmp 0x10
            0xbf, 0x22, 0x22, 0x00, 0x00, // mov edi, 0x2222
            0x48, 0x89, 0xf8,             // mov rax, rdi
            0xe8, 0x00, 0x00, 0x00, 0x00, // call
        ];
        let function = Function::decode("sample".into(), 0x1000, &code);
        let call = function.index_of(0x1013).expect("it begins there");
        let constants = |register| function.constants_in(call, register, &|_| true);
        assert_eq!(constants(Register::RDI), [Some(0x1111), Some(0x2222)]);
        assert_eq!(
            constants(Register::RAX),
            [Some(0x1111), Some(0x2222)],
            "through a copy"
        );
        assert_eq!(constants(Register::RSI), [None], "what came as an argument");
    }

    #[test]
    fn a_call_ends_what_is_known_of_the_registers_it_may_change() {
        #[rustfmt::skip]
        let code = [
            0xbf, 0x11, 0x11, 0x00, 0x00, // mov edi, 0x1111
            0xbb, 0x22, 0x22, 0x00, 0x00, // mov ebx, 0x2222
            0xe8, 0x00, 0x00, 0x00, 0x00, // call
            0xc3,                         // ret
        ];
        let function = Function::decode("sample".into(), 0x1000, &code);
        let after = function.index_of(0x100f).expect("it begins there");
        assert_eq!(function.constants_in(after, Register::RDI, &|_| true), [None]);
        assert_eq!(
            function.constants_in(after, Register::RBX, &|_| true),
            [Some(0x2222)]
        );
    }
}
