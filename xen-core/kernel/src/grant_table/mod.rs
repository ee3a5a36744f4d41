//! Grant tables: frames that a domain lends to others, and what it has borrowed itself.
//!
//! A domain writes its offers in pages it shares with the core. Nothing there is believed twice: when a grant is taken up,
//! one compare-and-swap checks the offer and marks it as in use, the frame behind it is looked up once and held, and from
//! then on the core's own record ([`table`]) counts. What a domain has mapped is in its [`maptrack`]. The two have a lock
//! each, and no path holds the locks of two domains.

use hypercall_abi::grant_table::{GrantHandle, GrantReference, GrantStatus};
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::GuestFrame;
use machine::memory::{FrameReference, Memory};
use machine::stage_two::EntryKind;
use machine::sync::Lock;

use crate::Kernel;
use crate::domain::Domain;
use crate::physmap::{Physmap, REMOVAL_BATCH};

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;
#[cfg(test)]
pub(crate) mod bench;
mod maptrack;
mod table;

pub use maptrack::Mapping;
use maptrack::Maptrack;
use table::Table;

/// Most frames of a grant table, and what a domain gets that asks for no number (as Xen's default).
pub const MOST_FRAMES: u32 = 64;
/// The same for the record of mappings, in Xen's unit: frames of 256 entries.
pub const MOST_MAPTRACK_FRAMES: u32 = 1024;
const MAPTRACK_ENTRIES_PER_FRAME: u32 = 256;

/// A domain's grant table, and what it has mapped of others'.
pub struct GrantTable<M: Machine> {
    owner: DomainId,
    max_frames: u32,
    table: Lock<Table>,
    maptrack: Lock<Maptrack<M>>,
}

/// What became of one mapping that was to be undone.
pub struct Undone<M: Machine> {
    /// Its handle.
    pub handle: GrantHandle,
    /// The mapping.
    pub mapping: Mapping<M>,
    /// It is gone; otherwise it is as it was.
    pub done: bool,
}

/// Mappings to be undone together.
pub type Batch<M> = heapless::Vec<Undone<M>, REMOVAL_BATCH>;

impl<M: Machine> GrantTable<M> {
    /// A table of one frame that may grow to `max_frames`, and room for `max_maptrack_frames` of mappings. Negative
    /// numbers stand for the default.
    ///
    /// # Errors
    /// EINVAL for more than there may be, or none; ENOMEM.
    pub fn new(
        memory: &'static Memory,
        owner: DomainId,
        max_frames: u32,
        max_maptrack_frames: u32,
    ) -> Result<Self, Error> {
        let max_frames = limit(max_frames, MOST_FRAMES)?;
        let max_maptrack_frames = limit(max_maptrack_frames, MOST_MAPTRACK_FRAMES)?;
        if max_frames == 0 {
            return Err(Error::EINVAL);
        }
        let mut table = Table::default();
        table.grow(memory, owner, 1).map_err(|_| Error::ENOMEM)?;
        Ok(GrantTable {
            owner,
            max_frames,
            table: Lock::new(table),
            maptrack: Lock::new(Maptrack::new(max_maptrack_frames * MAPTRACK_ENTRIES_PER_FRAME)),
        })
    }

    /// Frames it may grow to.
    pub fn max_frames(&self) -> u32 {
        self.max_frames
    }

    /// Frames it has.
    pub fn frames(&self) -> u32 {
        self.table.lock().frames()
    }

    /// Grow to at least `frames`.
    ///
    /// # Errors
    /// EINVAL past the limit, ENOMEM.
    pub fn grow(&self, memory: &'static Memory, frames: u32) -> Result<(), Error> {
        if frames > self.max_frames {
            return Err(Error::EINVAL);
        }
        self.table.lock().grow(memory, self.owner, frames)
    }

    /// Frame `index` of the table, which grows to have it.
    ///
    /// # Errors
    /// EINVAL past the limit, ENOMEM.
    pub fn frame(&self, memory: &'static Memory, index: u64) -> Result<FrameReference, Error> {
        if index >= u64::from(self.max_frames) {
            return Err(Error::EINVAL);
        }
        let mut table = self.table.lock();
        table.grow(memory, self.owner, index as u32 + 1)?;
        table
            .page(index as usize)
            .and_then(FrameReference::duplicate)
            .ok_or(Error::ENOMEM)
    }

    /// Remember where the owner has put a frame of the table.
    pub fn note_place(&self, index: u64, at: GuestFrame) {
        self.table.lock().note_place(index as usize, at);
    }

    /// Where the owner has put a frame of the table last; all ones when nowhere.
    pub fn place(&self, index: u32) -> u64 {
        self.table.lock().place(index as usize)
    }

    /// Entries in use by other domains (or by the owner itself).
    pub fn entries_in_use(&self) -> usize {
        self.table.lock().in_use()
    }

    /// Mappings that the domain holds.
    pub fn mappings(&self) -> u32 {
        self.maptrack.lock().used()
    }

    /// Most mappings that the domain may hold.
    pub fn most_mappings(&self) -> u32 {
        self.maptrack.lock().limit()
    }

    /// Take up a grant for `user`: check the offer, mark it as in use, and hold its frame.
    ///
    /// # Errors
    /// BAD_REFERENCE, GENERAL_ERROR (the offer is not for this) or BAD_PAGE, as Xen tells them apart.
    pub fn pin(
        &self,
        physmap: &Physmap<M>,
        reference: GrantReference,
        user: DomainId,
        write: bool,
    ) -> Result<FrameReference, GrantStatus> {
        self.table
            .lock()
            .pin(reference, user, write, |frame| own_page(physmap, frame, write))
    }

    /// Undo one [`GrantTable::pin`].
    pub fn unpin(&self, reference: GrantReference, write: bool) {
        let page = self.table.lock().unpin(reference, write);
        // The last reference of a domain that is gone: the frame is scrubbed outside the lock.
        drop(page);
    }

    /// Exchange two entries that nobody uses.
    ///
    /// # Errors
    /// BAD_REFERENCE or TRY_AGAIN.
    pub fn swap(&self, first: GrantReference, second: GrantReference) -> Result<(), GrantStatus> {
        self.table.lock().swap(first, second)
    }

    /// A handle for a mapping about to be made.
    pub fn reserve_handle(&self) -> Option<GrantHandle> {
        self.maptrack.lock().reserve()
    }

    /// Give a reserved handle back.
    pub fn release_handle(&self, handle: GrantHandle) {
        self.maptrack.lock().release(handle);
    }

    /// The mapping that a reserved handle stands for from now on.
    pub fn record(&self, handle: GrantHandle, mapping: Mapping<M>) {
        self.maptrack.lock().fill(handle, mapping);
    }

    /// Whether a handle stands for a mapping.
    pub fn knows(&self, handle: GrantHandle) -> bool {
        self.maptrack.lock().get(handle).is_some()
    }

    /// Take the mapping of a handle in order to undo it, if `accept` agrees. Meanwhile the handle is nobody's.
    ///
    /// # Errors
    /// BAD_HANDLE, or what `accept` says.
    pub fn take_mapping(
        &self,
        handle: GrantHandle,
        accept: impl FnOnce(&Mapping<M>) -> Result<(), GrantStatus>,
    ) -> Result<Undone<M>, GrantStatus> {
        let mut maptrack = self.maptrack.lock();
        accept(maptrack.get(handle).ok_or(GrantStatus::BAD_HANDLE)?)?;
        let mapping = maptrack.take(handle).ok_or(GrantStatus::BAD_HANDLE)?;
        Ok(Undone {
            handle,
            mapping,
            done: false,
        })
    }
}

fn limit(wanted: u32, most: u32) -> Result<u32, Error> {
    match wanted {
        negative if negative > i32::MAX as u32 => Ok(most),
        wanted if wanted > most => Err(Error::EINVAL),
        wanted => Ok(wanted),
    }
}

/// A page of a domain's own memory. What it has borrowed itself it cannot lend on, nor the core's pages.
///
/// # Errors
/// BAD_PAGE.
pub fn own_page<M: Machine>(
    physmap: &Physmap<M>,
    at: GuestFrame,
    write: bool,
) -> Result<FrameReference, GrantStatus> {
    match physmap.get(at) {
        Some((page, leaf)) if leaf.kind == EntryKind::Populated && (leaf.permissions.write || !write) => {
            Ok(page)
        }
        _ => Err(GrantStatus::BAD_PAGE),
    }
}

/// Undo mappings of `domain`: out of its physmap with one flush, then out of the granting domains' books, then out of
/// its own. Those whose entry could not be removed are put back and marked as not done.
pub fn undo<M: Machine>(machine: &M, domain: &Domain<M>, batch: &mut Batch<M>) {
    let places: heapless::Vec<GuestFrame, REMOVAL_BATCH> =
        batch.iter().map(|undone| undone.mapping.at).collect();
    let mut pages: heapless::Vec<FrameReference, REMOVAL_BATCH> = heapless::Vec::new();
    let expected: heapless::Vec<_, REMOVAL_BATCH> = batch.iter().map(|undone| undone.mapping.frame).collect();
    domain.physmap.remove_batch(
        machine,
        &places,
        |index, leaf| {
            leaf.is_some_and(|leaf| leaf.kind == EntryKind::Grant && expected.get(index) == Some(&leaf.frame))
        },
        |index, removed| {
            if let Some(undone) = batch.get_mut(index) {
                undone.done = true;
            }
            pages.extend(removed.frames);
        },
    );
    for undone in batch.iter().filter(|undone| undone.done) {
        // A granting domain that is gone keeps no books.
        if let Some(granter) = undone.mapping.granter.upgrade() {
            granter
                .grants
                .unpin(undone.mapping.reference, undone.mapping.write);
        }
    }
    let mut maptrack = domain.grants.maptrack.lock();
    for undone in batch.iter() {
        if undone.done {
            maptrack.release(undone.handle)
        } else {
            maptrack.fill(undone.handle, undone.mapping.clone())
        }
    }
}

impl<M: Machine> Kernel<M> {
    /// Undo some of what a dying domain has mapped; `true` when nothing is left. To be called until it says so, before
    /// the physmap is cleared.
    pub fn release_grant_mappings(&self, domain: &Domain<M>) -> bool {
        let mut batch: Batch<M> = heapless::Vec::new();
        let last = domain.grants.maptrack.lock().take_some(&mut batch);
        undo(&self.machine, domain, &mut batch);
        last && batch.iter().all(|undone| undone.done)
    }
}
