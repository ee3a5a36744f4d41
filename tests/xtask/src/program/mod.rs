//! The core's ELF as a program: its functions, their instructions, and who jumps to whom.
//!
//! Read from the file that was linked, not from the sources: what the optimiser took away is not there, and what it
//! copied is there as often as it was copied.

mod function;
mod origin;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use iced_x86::{FlowControl, OpKind, Register};
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SymbolKind};

pub use function::{Function, Step};
pub use origin::{Origin, Origins, is_ours};

/// The program.
pub struct Program {
    sections: Vec<Section>,
    /// Its functions, by address.
    pub functions: Vec<Function>,
    /// What may follow a return, by function: false for those that never return.
    returns: Vec<bool>,
}

/// What is loaded of the file. The linker script puts text, constants (those that hold addresses, too) and data into one
/// section each.
struct Section {
    address: u64,
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Constants,
    Data,
}

/// Where a word of constants lies, and what it says.
struct Word {
    value: u64,
    constant: bool,
}

impl Program {
    /// A program of these functions and nothing else.
    #[cfg(test)]
    pub fn of(functions: Vec<Function>) -> Program {
        let mut program = Program {
            sections: Vec::new(),
            functions,
            returns: Vec::new(),
        };
        program.returns = program.find_returns();
        program
    }

    /// Takes an ELF apart.
    pub fn parse(file: &[u8]) -> Result<Program> {
        let elf = ElfFile64::<LittleEndian>::parse(file)?;
        let mut sections = Vec::new();
        for section in elf.sections() {
            let kind = match section.name()? {
                ".text" => Kind::Text,
                ".rodata" => Kind::Constants,
                ".data" => Kind::Data,
                _ => continue,
            };
            sections.push(Section {
                address: section.address(),
                bytes: section.data()?.to_vec(),
                kind,
            });
        }
        let mut program = Program {
            sections,
            functions: Vec::new(),
            returns: Vec::new(),
        };
        for (address, (end, name)) in program.extents(&elf) {
            if let Some(code) = program.bytes(address, (end - address) as usize) {
                let function = Function::decode(name, address, code);
                program.functions.push(function);
            }
        }
        program.add_jump_tables();
        program.returns = program.find_returns();
        Ok(program)
    }

    /// Begin, end and name of each function. Those of assembly have no size: they end where the next symbol is.
    fn extents(&self, elf: &ElfFile64<'_, LittleEndian>) -> BTreeMap<u64, (u64, String)> {
        let mut found: BTreeMap<u64, (u64, String)> = BTreeMap::new();
        let text = |address| self.section(address).filter(|section| section.kind == Kind::Text);
        for symbol in elf.symbols() {
            let (address, size) = (symbol.address(), symbol.size());
            let (Some(section), Ok(name)) = (text(address), symbol.name()) else {
                continue;
            };
            if matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section) || name.is_empty() {
                continue;
            }
            let name = format!("{:#}", rustc_demangle::demangle(name));
            let end = if size == 0 {
                section.address + section.bytes.len() as u64
            } else {
                address + size
            };
            found.entry(address).or_insert((end, name));
        }
        let starts: Vec<u64> = found.keys().copied().collect();
        for (index, start) in starts.iter().enumerate() {
            if let (Some(next), Some((end, _))) = (starts.get(index + 1), found.get_mut(start)) {
                *end = (*end).min(*next);
            }
        }
        // What runs before 64-bit mode cannot be read as 64-bit code; it calls nobody but `boot_start`.
        found.retain(|_, (_, name)| {
            !matches!(name.as_str(), "boot_entry" | "mb2_header" | "image_text_start")
        });
        found
    }

    fn section(&self, address: u64) -> Option<&Section> {
        self.sections.iter().find(|section| {
            (section.address..section.address + section.bytes.len() as u64).contains(&address)
        })
    }

    /// Bytes of the program as they are linked.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let section = self.section(address)?;
        let offset = (address - section.address) as usize;
        section.bytes.get(offset..offset.checked_add(length)?)
    }

    /// A word of constants; `None` where it could change at run time.
    pub fn constant(&self, address: u64) -> Option<u64> {
        self.section(address)
            .filter(|section| section.kind == Kind::Constants)?;
        let bytes = self.bytes(address, 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Where a call or jump through a constant in memory goes.
    pub fn constant_target(&self, step: Step<'_>) -> Option<u64> {
        let instruction = step.instruction;
        let indirect = matches!(
            instruction.flow_control(),
            FlowControl::IndirectCall | FlowControl::IndirectBranch
        );
        let fixed = instruction.op0_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None
            && matches!(instruction.memory_base(), Register::None | Register::RIP);
        if indirect && fixed {
            self.constant(instruction.memory_displacement64())
        } else {
            None
        }
    }

    /// The function that begins at this address, by its place in [`Program::functions`].
    pub fn at(&self, address: u64) -> Option<usize> {
        self.functions
            .binary_search_by_key(&address, |function| function.start)
            .ok()
    }

    /// The function around this address.
    pub fn around(&self, address: u64) -> Option<usize> {
        let after = self
            .functions
            .partition_point(|function| function.start <= address);
        let index = after.checked_sub(1)?;
        (address < self.functions[index].end).then_some(index)
    }

    /// Whether a call of this function ever comes back.
    pub fn returns(&self, function: usize) -> bool {
        self.returns[function]
    }

    fn words(&self) -> impl Iterator<Item = Word> {
        let data = self.sections.iter().filter(|section| section.kind != Kind::Text);
        data.flat_map(|section| {
            section.bytes.chunks_exact(8).map(|bytes| Word {
                value: u64::from_le_bytes(bytes.try_into().expect("it is eight bytes")),
                constant: section.kind == Kind::Constants,
            })
        })
    }

    /// A constant that points into the middle of a function is an entry of a jump table: it may be reached from each
    /// computed jump of that function.
    fn add_jump_tables(&mut self) {
        let targets: BTreeSet<u64> = self
            .words()
            .filter(|word| word.constant)
            .map(|word| word.value)
            .collect();
        for target in targets {
            if let Some(index) = self.around(target)
                && self.functions[index].start != target
            {
                self.functions[index].add_computed_target(target);
            }
        }
    }

    /// Functions whose address is somewhere in data or in an instruction: those that a computed call can reach.
    pub fn address_taken(&self) -> BTreeSet<usize> {
        let in_data = self.words().filter_map(|word| self.at(word.value));
        let in_code = self.functions.iter().flat_map(|function| {
            function
                .steps()
                .filter_map(|step| self.at(step.constant()?))
                .collect::<Vec<_>>()
        });
        in_data.chain(in_code).collect()
    }

    /// A function returns if it has a return, jumps to one that does, or jumps to where we cannot follow.
    fn find_returns(&self) -> Vec<bool> {
        let mut returns: Vec<bool> = self.functions.iter().map(Function::has_return).collect();
        loop {
            let mut changed = false;
            for (index, function) in self.functions.iter().enumerate() {
                let reached = || {
                    function
                        .tail_calls()
                        .any(|target| self.at(target).is_none_or(|target| returns[target]))
                };
                if !returns[index] && reached() {
                    returns[index] = true;
                    changed = true;
                }
            }
            if !changed {
                return returns;
            }
        }
    }
}
