//! What the boot loader brought along: dom0's kernel and initial file system.

use alloc::string::String;
use alloc::vec::Vec;

use crate::address::{HostAddress, PAGE_SIZE};
use crate::memory::Memory;

/// A module in memory.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its first byte.
    pub start: HostAddress,
    /// Bytes.
    pub length: usize,
    /// The words that the loader gave with it.
    pub command_line: String,
}

/// All modules. Their memory is out of the allocator until this is dropped; then it is free memory.
pub struct Modules {
    memory: &'static Memory,
    modules: Vec<Module>,
}

impl Modules {
    /// Take charge of modules.
    ///
    /// # Safety
    /// Each module's pages are memory inside the direct map that [`Memory::add_free`] was not given, and that nobody
    /// else uses; no page holds parts of two modules.
    pub unsafe fn new(memory: &'static Memory, modules: Vec<Module>) -> Modules {
        Modules { memory, modules }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// A module's bytes.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let module = self.modules.get(index)?;
        let start = self.memory.pointer(module.start);
        // SAFETY: `new`'s contract: mapped, ours, and not written while the borrow lives.
        Some(unsafe { core::slice::from_raw_parts(start, module.length) })
    }

    /// A module's words.
    pub fn command_line(&self, index: usize) -> Option<&str> {
        self.modules.get(index).map(|module| module.command_line.as_str())
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        for module in &self.modules {
            let first = module.start.frame();
            let last = module.start.0.saturating_add(module.length as u64);
            let count = last.div_ceil(PAGE_SIZE as u64).saturating_sub(first.0);
            // SAFETY: `new`'s contract: nobody else uses these pages, and the borrows of their bytes are over.
            unsafe { self.memory.add_free(first, count, false) };
        }
    }
}
