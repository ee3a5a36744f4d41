//! What a domain has mapped of others' frames, by handle.

use alloc::boxed::Box;
use alloc::sync::Weak;
use alloc::vec::Vec;

use hypercall_abi::grant_table::{GrantHandle, GrantReference};
use machine::Machine;
use machine::address::{GuestFrame, HostFrame};

use super::{Batch, Undone};
use crate::domain::Domain;

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

/// Entries are added so many at a time, and stay.
const CHUNK: usize = 128;
/// Slots that one call of [`Maptrack::take_some`] looks at.
const SCAN: usize = 4096;
const NO_SLOT: u32 = u32::MAX;

/// A mapping that a domain holds.
pub struct Mapping<M: Machine> {
    /// Whose frame it is. Weak: a mapping keeps the frame, not its domain.
    pub granter: Weak<Domain<M>>,
    /// By which grant.
    pub reference: GrantReference,
    /// It may be written.
    pub write: bool,
    /// Where it is mapped.
    pub at: GuestFrame,
    /// What is mapped there.
    pub frame: HostFrame,
}

impl<M: Machine> Clone for Mapping<M> {
    fn clone(&self) -> Self {
        Mapping {
            granter: self.granter.clone(),
            ..*self
        }
    }
}

enum Slot<M: Machine> {
    /// Free; the next free one.
    Free(u32),
    /// A mapping is being made or undone.
    Reserved,
    /// A mapping.
    Mapped(Mapping<M>),
}

/// All mappings of a domain.
pub struct Maptrack<M: Machine> {
    chunks: Vec<Box<[Slot<M>]>>,
    limit: u32,
    free: u32,
    used: u32,
    /// Where [`Maptrack::take_some`] goes on.
    cursor: usize,
}

impl<M: Machine> Maptrack<M> {
    pub fn new(limit: u32) -> Self {
        Maptrack {
            chunks: Vec::new(),
            limit,
            free: NO_SLOT,
            used: 0,
            cursor: 0,
        }
    }

    pub fn used(&self) -> u32 {
        self.used
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn capacity(&self) -> usize {
        self.chunks.len().saturating_mul(CHUNK)
    }

    fn slot(&mut self, handle: GrantHandle) -> Option<&mut Slot<M>> {
        let index = handle as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// A free handle, marked as in use.
    pub fn reserve(&mut self) -> Option<GrantHandle> {
        if self.free == NO_SLOT {
            self.extend()?;
        }
        let handle = self.free;
        let slot = self.slot(handle)?;
        let Slot::Free(next) = *slot else { return None };
        *slot = Slot::Reserved;
        self.free = next;
        self.used = self.used.saturating_add(1);
        Some(handle)
    }

    fn extend(&mut self) -> Option<()> {
        let first = self.capacity();
        let end = first.saturating_add(CHUNK);
        if end > self.limit as usize {
            return None;
        }
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).ok()?;
        self.chunks.try_reserve(1).ok()?;
        // Each names the next; the last names none.
        let next = (first as u32).saturating_add(1)..end as u32;
        chunk.extend(next.chain([NO_SLOT]).map(Slot::Free));
        self.chunks.push(chunk.into_boxed_slice());
        self.free = first as u32;
        Some(())
    }

    /// Free a reserved handle.
    pub fn release(&mut self, handle: GrantHandle) {
        let next = self.free;
        if let Some(slot @ Slot::Reserved) = self.slot(handle) {
            *slot = Slot::Free(next);
            self.free = handle;
            self.used = self.used.saturating_sub(1);
        }
    }

    /// Let a reserved handle stand for a mapping.
    pub fn fill(&mut self, handle: GrantHandle, mapping: Mapping<M>) {
        if let Some(slot @ Slot::Reserved) = self.slot(handle) {
            *slot = Slot::Mapped(mapping);
        }
    }

    /// The mapping that a handle stands for.
    pub fn get(&mut self, handle: GrantHandle) -> Option<&Mapping<M>> {
        match self.slot(handle)? {
            Slot::Mapped(mapping) => Some(mapping),
            Slot::Free(_) | Slot::Reserved => None,
        }
    }

    /// Take a mapping out; its handle is reserved until it is released or filled again.
    pub fn take(&mut self, handle: GrantHandle) -> Option<Mapping<M>> {
        let slot = self.slot(handle)?;
        match core::mem::replace(slot, Slot::Reserved) {
            Slot::Mapped(mapping) => Some(mapping),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Take some mappings out, whichever come next; `true` when the end was reached.
    pub fn take_some(&mut self, batch: &mut Batch<M>) -> bool {
        for _ in 0..SCAN {
            if self.cursor >= self.capacity() {
                self.cursor = 0;
                return true;
            }
            if batch.is_full() {
                return false;
            }
            let handle = self.cursor as GrantHandle;
            self.cursor += 1;
            if let Some(mapping) = self.take(handle) {
                // There is room: checked above.
                let _ = batch.push(Undone {
                    handle,
                    mapping,
                    done: false,
                });
            }
        }
        false
    }
}
