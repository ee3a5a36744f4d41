//! A domain's guest-physical memory map: which frame backs each of its pages, and what it may do there.
//!
//! A thin layer of policy over the machine's stage-two tables: it holds the lock, pairs each removal with its flush, and
//! keeps batches together so that one flush serves many removals.

use alloc::sync::Arc;

use hypercall_abi::Error;
use machine::Machine;
use machine::address::{GuestFrame, HostFrame, Order};
use machine::memory::{FrameReference, OutOfMemory};
use machine::stage_two::{Detached, EntryKind, Leaf, MapError, Permissions, StageTwo, TableRoot};
use machine::sync::{ReadGuard, SharedLock};

/// Removals that share one flush.
pub const REMOVAL_BATCH: usize = 32;

/// A domain's guest-physical memory map.
pub struct Physmap<M: Machine> {
    /// Before `tables`, so that it goes first and the tables know that nobody runs on them.
    root: Arc<TableRoot>,
    tables: SharedLock<StageTwo<M::Format>>,
}

/// The error code of a refused mapping.
pub fn map_error(error: MapError) -> Error {
    match error {
        MapError::OutOfMemory => Error::ENOMEM,
        MapError::BadGuestFrame => Error::EINVAL,
        MapError::Occupied => Error::EEXIST,
        MapError::NotADevice => Error::EPERM,
    }
}

/// What a removal took out.
#[derive(Debug)]
pub struct Removed {
    /// The frames, for memory; devices have none.
    pub frames: Option<FrameReference>,
    /// What the entry was.
    pub kind: EntryKind,
}

impl<M: Machine> Physmap<M> {
    /// An empty map.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no frame for its root.
    pub fn new(machine: &M) -> Result<Self, OutOfMemory> {
        let tables = StageTwo::new(machine.memory())?;
        Ok(Physmap {
            root: tables.root().clone(),
            tables: SharedLock::new(tables),
        })
    }

    /// What a vCPU runs on; no lock is held meanwhile.
    pub fn root(&self) -> &TableRoot {
        &self.root
    }

    /// The tables, for several look-ups in a row.
    pub fn read(&self) -> ReadGuard<'_, StageTwo<M::Format>> {
        self.tables.read()
    }

    /// Whether there can be a page at a guest frame at all.
    pub fn reaches(at: GuestFrame) -> bool {
        at.0 < StageTwo::<M::Format>::limit()
    }

    /// The frame behind a guest frame, held so that it stays; `None` for holes and devices.
    pub fn get(&self, at: GuestFrame) -> Option<(FrameReference, Leaf)> {
        self.tables.read().get(at)
    }

    /// What maps a guest frame.
    pub fn lookup(&self, at: GuestFrame) -> Option<Leaf> {
        self.tables.read().lookup(at)
    }

    /// Map a block into a hole.
    ///
    /// # Errors
    /// The block back, and why.
    pub fn insert(
        &self,
        at: GuestFrame,
        block: FrameReference,
        permissions: Permissions,
        kind: EntryKind,
    ) -> Result<(), (FrameReference, MapError)> {
        self.tables.write().map(at, block, permissions, kind)
    }

    /// Map a device's frame into a hole.
    ///
    /// # Errors
    /// EINVAL, EEXIST, EPERM (the frame is no device's) or ENOMEM.
    pub fn insert_device(
        &self,
        at: GuestFrame,
        frame: HostFrame,
        permissions: Permissions,
    ) -> Result<(), Error> {
        self.tables
            .write()
            .map_device(at, frame, permissions)
            .map_err(map_error)
    }

    /// Map one page, in place of whatever is there. What was there is given back.
    ///
    /// # Errors
    /// EINVAL or ENOMEM; on ENOMEM for the new entry's table the old one is gone already.
    pub fn replace(
        &self,
        machine: &M,
        at: GuestFrame,
        page: FrameReference,
        permissions: Permissions,
        kind: EntryKind,
    ) -> Result<Option<Removed>, Error> {
        self.replace_if(machine, at, page, permissions, kind, |_| Ok(()))
    }

    /// Map one page, in place of what is there if `check` lets that go. What was there is given back.
    ///
    /// # Errors
    /// What `check` says, EINVAL or ENOMEM; on ENOMEM for the new entry's table the old one is gone already.
    pub fn replace_if(
        &self,
        machine: &M,
        at: GuestFrame,
        page: FrameReference,
        permissions: Permissions,
        kind: EntryKind,
        check: impl FnOnce(Leaf) -> Result<(), Error>,
    ) -> Result<Option<Removed>, Error> {
        let mut tables = self.tables.write();
        if let Some(leaf) = tables.lookup(at) {
            check(leaf)?;
        }
        let old = tables.unmap(at).map_err(|_| Error::ENOMEM)?;
        let removed = old.map(|old| flush_one(machine, &self.root, old));
        tables
            .map(at, page, permissions, kind)
            .map_err(|(_, error)| map_error(error))?;
        Ok(removed)
    }

    /// Remove the page at a guest frame. `Ok(None)` when there is none.
    ///
    /// # Errors
    /// ENOMEM when splitting a superpage needs a table and there is none; nothing has changed.
    pub fn remove(&self, machine: &M, at: GuestFrame) -> Result<Option<Removed>, Error> {
        self.remove_if(machine, at, |_| Ok(()))
    }

    /// Remove the page at a guest frame if `check` accepts what maps it.
    ///
    /// # Errors
    /// What `check` says, or ENOMEM; nothing has changed.
    pub fn remove_if(
        &self,
        machine: &M,
        at: GuestFrame,
        check: impl FnOnce(Leaf) -> Result<(), Error>,
    ) -> Result<Option<Removed>, Error> {
        let mut tables = self.tables.write();
        match tables.lookup(at) {
            None => return Ok(None),
            Some(leaf) => check(leaf)?,
        }
        let old = tables.unmap(at).map_err(|_| Error::ENOMEM)?;
        Ok(old.map(|old| flush_one(machine, &self.root, old)))
    }

    /// Remove, with one flush, those of up to [`REMOVAL_BATCH`] pages that `accept` lets go; it is shown what maps each
    /// (nothing, for holes), by the page's index in `frames`. `take` is given each one removed. When a superpage cannot
    /// be split for want of memory, that page and those after it stay.
    pub fn remove_batch(
        &self,
        machine: &M,
        frames: &[GuestFrame],
        mut accept: impl FnMut(usize, Option<Leaf>) -> bool,
        mut take: impl FnMut(usize, Removed),
    ) {
        let mut tables = self.tables.write();
        let mut removed: heapless::Vec<(usize, Detached), REMOVAL_BATCH> = heapless::Vec::new();
        for (index, &frame) in frames.iter().take(REMOVAL_BATCH).enumerate() {
            if !accept(index, tables.lookup(frame)) {
                continue;
            }
            match tables.unmap(frame) {
                // Capacity equals the bound of the loop.
                Ok(Some(detached)) => drop(removed.push((index, detached))),
                Ok(None) => {}
                Err(OutOfMemory) => break,
            }
        }
        if removed.is_empty() {
            return;
        }
        let flushed = machine.flush(&self.root);
        // Scrubbing happens below; the tables are not needed for it.
        drop(tables);
        for (index, detached) in removed {
            let kind = detached.kind;
            take(
                index,
                Removed {
                    frames: detached.release(&flushed),
                    kind,
                },
            );
        }
    }

    /// The highest guest frame that is mapped.
    pub fn highest(&self) -> Option<GuestFrame> {
        self.tables.read().last_mapped()
    }

    /// Remove the entries found from `from` on, superpages of up to 2 MiB at a time, at most `limit` of them and with one flush;
    /// frames are given back at once. Returns where to go on, or `None` when the map is empty from there.
    pub fn clear_some(&self, machine: &M, from: GuestFrame, limit: usize) -> Option<GuestFrame> {
        let mut tables = self.tables.write();
        let mut removed: heapless::Vec<Detached, REMOVAL_BATCH> = heapless::Vec::new();
        let mut next = from;
        let mut more = false;
        while let Some((at, leaf)) = tables.next_mapped(next) {
            if removed.len() >= limit.min(REMOVAL_BATCH) {
                more = true;
                next = at;
                break;
            }
            // In pieces that are soon scrubbed. Taken whole, where there is no table for that, nothing can fail.
            let taken = tables
                .unmap_order(at, Order::TWO_MIB)
                .or_else(|OutOfMemory| tables.unmap_order(at, leaf.order));
            let mut size = leaf.order;
            if let Ok(Some(detached)) = taken {
                size = detached.order();
                let _ = removed.push(detached);
            }
            next = GuestFrame(at.0.saturating_add(size.frames()));
        }
        if !removed.is_empty() {
            let flushed = machine.flush(&self.root);
            // Scrubbing happens here; the tables are not needed for it.
            drop(tables);
            for detached in removed {
                drop(detached.release(&flushed));
            }
        }
        more.then_some(next)
    }

    /// Change what the guest may do with a page.
    ///
    /// # Errors
    /// ENOMEM when a split has no table; ENOENT for a hole.
    pub fn protect(&self, machine: &M, at: GuestFrame, permissions: Permissions) -> Result<(), Error> {
        let mut tables = self.tables.write();
        if !tables.protect(at, permissions).map_err(|_| Error::ENOMEM)? {
            return Err(Error::ENOENT);
        }
        machine.flush(&self.root);
        Ok(())
    }

    /// Give `block` to the domain at `at`: as one superpage where that fits, else in smaller pieces.
    ///
    /// # Errors
    /// EINVAL, EEXIST or ENOMEM. On ENOMEM, pieces that were mapped before the failure stay: the caller reports the
    /// extent as not done and the toolstack or the domain's end frees them.
    pub fn populate(&self, at: GuestFrame, block: FrameReference) -> Result<(), Error> {
        let mut tables = self.tables.write();
        let frames = block.order().frames();
        let end = at
            .checked_add(frames)
            .filter(|end| end.0 <= StageTwo::<M::Format>::limit())
            .ok_or(Error::EINVAL)?;
        // A single page is checked by the mapping itself.
        if frames > 1 && tables.next_mapped_before(at, end).is_some() {
            return Err(Error::EEXIST);
        }
        populate_block(&mut tables, at, block)
    }
}

fn populate_block<F: machine::stage_two::Format>(
    tables: &mut StageTwo<F>,
    at: GuestFrame,
    block: FrameReference,
) -> Result<(), Error> {
    let order = block.order();
    let block = if order.value().is_multiple_of(9) && order.aligned(at.0) {
        match tables.map(at, block, Permissions::ALL, EntryKind::Populated) {
            Ok(()) => return Ok(()),
            Err((_, error)) if order == Order::PAGE => return Err(map_error(error)),
            Err((_, MapError::BadGuestFrame)) => return Err(Error::EINVAL),
            Err((block, _)) => block,
        }
    } else {
        block
    };
    // Halves, down to a size that fits; depth is bounded by the largest order, 18.
    match block.split() {
        Ok((lower, upper)) => {
            let half = lower.order().frames();
            populate_block(tables, at, lower)?;
            populate_block(tables, at.saturating_add(half), upper)
        }
        Err(_) => Err(Error::EEXIST),
    }
}

fn flush_one<M: Machine>(machine: &M, tables: &TableRoot, old: Detached) -> Removed {
    let kind = old.kind;
    let flushed = machine.flush(tables);
    Removed {
        frames: old.release(&flushed),
        kind,
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl<M: Machine> Physmap<M> {
    pub(crate) fn sabotage(&self, at: GuestFrame, change: impl FnOnce(Leaf) -> Option<Leaf>) {
        self.tables.write().sabotage(at, change);
    }
}
