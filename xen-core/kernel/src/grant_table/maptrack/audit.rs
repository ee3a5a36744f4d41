//! What audits look at.

use machine::Machine;

use super::{Mapping, Maptrack, NO_SLOT, Slot};
use crate::audit::{Violation, holds};

const SLOTS: &str = "maptrack: each slot is mapped or free, none under way, each free one listed once";

impl<M: Machine> Maptrack<M> {
    /// Visit all mappings. `id` is whose they are.
    ///
    /// # Errors
    /// The slots are not in order.
    pub fn audit(&self, id: u16, mut visit: impl FnMut(&Mapping<M>)) -> Result<(), Violation> {
        let (mut mapped, mut free) = (0, 0);
        for (handle, slot) in self.chunks.iter().flatten().enumerate() {
            match slot {
                Slot::Free(_) => free += 1,
                Slot::Reserved => holds!(
                    false,
                    SLOTS,
                    "handle {handle} of d{id} is reserved while nothing is under way"
                ),
                Slot::Mapped(mapping) => {
                    mapped += 1;
                    visit(mapping);
                }
            }
        }
        holds!(
            mapped == self.used,
            SLOTS,
            "d{id} has {mapped} mappings and counts {}",
            self.used
        );
        // A list that ends cannot come past a slot twice: as long as there are free slots, it has each of them.
        let mut listed = 0;
        let mut next = self.free;
        while next != NO_SLOT {
            let slot = self
                .chunks
                .get(next as usize / super::CHUNK)
                .and_then(|chunk| chunk.get(next as usize % super::CHUNK));
            let Some(Slot::Free(after)) = slot else {
                holds!(
                    false,
                    SLOTS,
                    "handle {next} of d{id} is listed as free and is not"
                );
                return Ok(());
            };
            listed += 1;
            if listed > free {
                break;
            }
            next = *after;
        }
        holds!(
            listed == free,
            SLOTS,
            "d{id} has {free} free handles, {} are listed",
            if listed > free { "more" } else { "fewer" }
        );
        Ok(())
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> Maptrack<M> {
    /// Change the first free handle, and how many are used.
    pub fn sabotage(&mut self, change: impl FnOnce(&mut u32, &mut u32)) {
        change(&mut self.free, &mut self.used);
    }
}
