//! What a simulated guest does to memory: by the tables that hardware would walk, through translations that a processor
//! remembers as hardware does, until it is made to forget them.
//!
//! A guest's access takes no lock and holds no reference. That it never reaches a frame that is free, the core's, or since
//! then another domain's is not arranged here but looked at with each access: such an access is a panic, since it
//! means that the core has let go of a frame too early.

use alloc::vec::Vec;

use super::turns::quietly;
use super::{FakeMachine, interleave, locked};
use crate::Machine;
use crate::ProcessorId;
use crate::address::{GuestAddress, GuestFrame, HostFrame, PAGE_SIZE};
use crate::memory::{FrameUse, Memory};
use crate::stage_two::{Format, NestedPaging, TableRoot};
use crate::sync::atomic::Ordering;

/// A processor remembers at most so many translations: the oldest goes first.
const CAPACITY: usize = 64;

/// Why an access of a guest's is an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestFault {
    /// Where.
    pub address: GuestAddress,
    /// It stored.
    pub write: bool,
    /// Something is mapped there, but not for this.
    pub present: bool,
}

#[derive(Clone, Copy)]
struct Translation {
    root: HostFrame,
    generation: u64,
    at: GuestFrame,
    frame: HostFrame,
    write: bool,
    /// Whose frame it was when it was looked up.
    owner: u16,
}

/// What one processor remembers.
#[derive(Default)]
pub(super) struct Translations {
    entries: Vec<Translation>,
    next: usize,
    /// The guest that runs here: its tables and the generation under which it was entered.
    inside: Option<(HostFrame, u64)>,
}

impl Translations {
    pub fn enter(&mut self, tables: &TableRoot, generation: u64) {
        self.inside = Some((tables.root(), generation));
    }

    pub fn leave(&mut self) {
        self.inside = None;
    }

    fn find(&self, at: GuestFrame) -> Option<Translation> {
        let (root, generation) = self.inside?;
        self.entries
            .iter()
            .find(|entry| entry.at == at && entry.root == root && entry.generation == generation)
            .copied()
    }

    fn remember(&mut self, translation: Translation) {
        let same = |entry: &Translation| entry.at == translation.at && entry.root == translation.root;
        if let Some(index) = self.entries.iter().position(same) {
            self.entries[index] = translation;
        } else if self.entries.len() < CAPACITY {
            self.entries.push(translation);
        } else {
            self.entries[self.next] = translation;
            self.next = (self.next + 1) % CAPACITY;
        }
    }
}

/// A present leaf, as hardware sees it: frame, and whether it may be written.
fn walk(memory: &Memory, root: HostFrame, at: GuestFrame) -> Option<(HostFrame, bool)> {
    if at.0 >> (9 * NestedPaging::LEVELS) != 0 {
        return None;
    }
    let mut table = root;
    for level in (0..NestedPaging::LEVELS).rev() {
        let index = (at.0 >> (9 * level)) as usize & 511;
        // SAFETY: the root is a table, and what a table points to are tables as long as anyone runs on them.
        let entry = unsafe { memory.table_entry(table, index) }.load(Ordering::Acquire);
        if !NestedPaging::present(entry) {
            return None;
        }
        if NestedPaging::is_leaf(entry, level) {
            let offset = at.0 & ((1 << (9 * level)) - 1);
            let frame = HostFrame(NestedPaging::frame(entry).0 + offset);
            return Some((frame, NestedPaging::permissions(entry).write));
        }
        table = NestedPaging::frame(entry);
    }
    None
}

impl FakeMachine {
    /// A load by the guest that runs on this processor, inside one page.
    ///
    /// # Errors
    /// The fault with which the guest exits.
    pub fn guest_load(
        &self,
        tables: &TableRoot,
        at: GuestAddress,
        into: &mut [u8],
    ) -> Result<(), GuestFault> {
        let from = self.reach(tables, at, into.len(), false)?;
        // SAFETY: `reach` gives memory of the arena with room for this many bytes; processors take turns on one thread, so
        // nobody writes at the same time.
        unsafe { core::ptr::copy(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// A store by the guest that runs on this processor, inside one page.
    ///
    /// # Errors
    /// The fault with which the guest exits.
    pub fn guest_store(&self, tables: &TableRoot, at: GuestAddress, bytes: &[u8]) -> Result<(), GuestFault> {
        let into = self.reach(tables, at, bytes.len(), true)?;
        // SAFETY: as above.
        unsafe { core::ptr::copy(bytes.as_ptr(), into, bytes.len()) };
        Ok(())
    }

    fn reach(
        &self,
        tables: &TableRoot,
        at: GuestAddress,
        length: usize,
        write: bool,
    ) -> Result<*mut u8, GuestFault> {
        assert!(at.offset() + length <= PAGE_SIZE, "a guest's access to two pages");
        interleave();
        let translation = self.translate(tables, at, write)?;
        let info = self.memory().frame_info(translation.frame);
        let reachable = info.count != 0 && matches!(info.frame_use, FrameUse::Ram | FrameUse::Shared);
        assert!(
            reachable && info.owner == translation.owner,
            "isolation: a guest reaches {:?} at {:?} by a translation for owner {}: {info:?}",
            translation.frame,
            translation.at,
            translation.owner,
        );
        Ok(self
            .memory()
            .pointer(translation.frame.address())
            .wrapping_add(at.offset()))
    }

    fn translate(
        &self,
        tables: &TableRoot,
        at: GuestAddress,
        write: bool,
    ) -> Result<Translation, GuestFault> {
        let mut known = locked(&self.processors[self.current()].translations);
        if let Some(found) = known.find(at.frame())
            && (found.write || !write)
        {
            return Ok(found);
        }
        let fault = |present| GuestFault {
            address: at,
            write,
            present,
        };
        let (frame, writable) = walk(self.memory(), tables.root(), at.frame()).ok_or(fault(false))?;
        let info = self.memory().frame_info(frame);
        // Devices have no memory here to be reached.
        if (write && !writable) || info.frame_use == FrameUse::Reserved {
            return Err(fault(true));
        }
        let (root, generation) = known.inside.expect("a guest's access outside of a guest");
        let translation = Translation {
            root,
            generation,
            at: at.frame(),
            frame,
            write: writable,
            owner: info.owner,
        };
        known.remember(translation);
        Ok(translation)
    }

    /// Look at a guest's memory without being anybody: by the tables as they are, past all translations, at no point of
    /// interleaving. `false` where there is none.
    pub fn peek(&self, tables: &TableRoot, at: GuestAddress, into: &mut [u8]) -> bool {
        let mut done = 0;
        while done < into.len() {
            let Some(address) = at.checked_add(done as u64) else {
                return false;
            };
            let part = (PAGE_SIZE - address.offset()).min(into.len() - done);
            let Some((frame, _)) = quietly(|| walk(self.memory(), tables.root(), address.frame())) else {
                return false;
            };
            if quietly(|| self.memory().frame_info(frame)).frame_use == FrameUse::Reserved {
                return false;
            }
            let from = self
                .memory()
                .pointer(frame.address())
                .wrapping_add(address.offset());
            // SAFETY: a frame of the arena, a range inside it; processors take turns on one thread, and this one has it.
            unsafe { core::ptr::copy(from, into[done..].as_mut_ptr(), part) };
            done += part;
        }
        true
    }

    /// Compare what processors remember of these tables, and may still use, with what the tables say. At a moment when
    /// nobody changes them. Returns how many were compared.
    ///
    /// # Errors
    /// What is remembered although it was removed or narrowed.
    pub fn check_translations(&self, tables: &TableRoot) -> Result<u64, alloc::string::String> {
        let generation = tables.generation().load(Ordering::SeqCst);
        let mut compared = 0;
        for (processor, state) in self.processors.iter().enumerate() {
            for entry in &locked(&state.translations).entries {
                if entry.root != tables.root() || entry.generation != generation {
                    continue;
                }
                compared += 1;
                let now = walk(self.memory(), tables.root(), entry.at);
                if now.is_none_or(|(frame, write)| frame != entry.frame || (entry.write && !write)) {
                    return Err(alloc::format!(
                        "processor {processor} still reaches {:?} (writable: {}) at {:?}, where the tables have {now:?}",
                        entry.frame,
                        entry.write,
                        entry.at
                    ));
                }
            }
        }
        Ok(compared)
    }

    /// Whether a processor is in a guest at this moment.
    pub fn is_inside(&self, processor: ProcessorId) -> bool {
        locked(&self.processors[processor].translations).inside.is_some()
    }
}
