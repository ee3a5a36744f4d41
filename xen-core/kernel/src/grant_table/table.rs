//! The lending side: the shared pages with a domain's offers, and the core's record of those that are taken up.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hypercall_abi::grant_table::{ENTRIES_PER_PAGE_V1, GrantReference, GrantStatus, entry_flag};
use hypercall_abi::{DomainId, Error};
use machine::address::{GuestFrame, Order};
use machine::memory::{FrameReference, FrameUse, Memory};

#[cfg(any(test, feature = "testing", debug_assertions))]
mod audit;

const ENTRY_SIZE: usize = 8;
const FRAME_OFFSET: usize = 4;
/// An entry is retried so often when its owner changes it at the same moment.
const ATTEMPTS: u32 = 5;
/// Users of one entry, far from the counters' end.
const MOST_PINS: u32 = u32::MAX / 2;

/// The record of one entry.
#[derive(Default)]
struct Active {
    /// The frame, while the entry is in use. It stays this one whatever the entry says later.
    page: Option<FrameReference>,
    /// Who uses it.
    user: DomainId,
    readers: u32,
    writers: u32,
}

impl Active {
    fn pinned(&self) -> bool {
        self.readers != 0 || self.writers != 0
    }
}

/// A shared page with its entries' records.
struct Part {
    page: FrameReference,
    active: Box<[Active]>,
    place: u64,
}

/// A grant table.
#[derive(Default)]
pub struct Table {
    parts: Vec<Part>,
}

impl Table {
    pub fn frames(&self) -> u32 {
        self.parts.len() as u32
    }

    /// Grow to at least `frames`.
    pub fn grow(&mut self, memory: &'static Memory, owner: DomainId, frames: u32) -> Result<(), Error> {
        while self.frames() < frames {
            self.parts.try_reserve(1).map_err(|_| Error::ENOMEM)?;
            let mut active = Vec::new();
            active
                .try_reserve_exact(ENTRIES_PER_PAGE_V1)
                .map_err(|_| Error::ENOMEM)?;
            active.resize_with(ENTRIES_PER_PAGE_V1, Active::default);
            let page = memory
                .allocate(owner.0, FrameUse::Shared, Order::PAGE)
                .ok_or(Error::ENOMEM)?;
            self.parts.push(Part {
                page,
                active: active.into_boxed_slice(),
                place: u64::MAX,
            });
        }
        Ok(())
    }

    pub fn page(&self, index: usize) -> Option<&FrameReference> {
        self.parts.get(index).map(|part| &part.page)
    }

    pub fn note_place(&mut self, index: usize, at: GuestFrame) {
        if let Some(part) = self.parts.get_mut(index) {
            part.place = at.0;
        }
    }

    pub fn place(&self, index: usize) -> u64 {
        self.parts.get(index).map_or(u64::MAX, |part| part.place)
    }

    pub fn in_use(&self) -> usize {
        self.parts
            .iter()
            .flat_map(|part| part.active.iter())
            .filter(|active| active.pinned())
            .count()
    }

    /// An entry: its page, where it is there, and its record.
    fn entry(
        &mut self,
        reference: GrantReference,
    ) -> Result<(&FrameReference, usize, &mut Active), GrantStatus> {
        let slot = reference as usize % ENTRIES_PER_PAGE_V1;
        let part = self.parts.get_mut(reference as usize / ENTRIES_PER_PAGE_V1);
        let part = part.ok_or(GrantStatus::BAD_REFERENCE)?;
        let active = part.active.get_mut(slot).ok_or(GrantStatus::BAD_REFERENCE)?;
        Ok((&part.page, slot * ENTRY_SIZE, active))
    }

    /// Take up an entry; `find` gives the frame that it names.
    pub fn pin(
        &mut self,
        reference: GrantReference,
        user: DomainId,
        write: bool,
        find: impl FnOnce(GuestFrame) -> Result<FrameReference, GrantStatus>,
    ) -> Result<FrameReference, GrantStatus> {
        let (shared, offset, active) = self.entry(reference)?;
        let used = active.pinned();
        if used && (active.user != user || active.readers.max(active.writers) >= MOST_PINS) {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        if !used || (write && active.writers == 0) {
            mark(shared, offset, user, write, used)?;
        }
        if !used {
            let frame = shared
                .load_u32(offset + FRAME_OFFSET)
                .map_err(|_| GrantStatus::BAD_REFERENCE);
            let found = frame.and_then(|frame| find(GuestFrame(u64::from(frame))));
            active.user = user;
            active.page = found.map(Some).inspect_err(|_| unmark(shared, offset, active))?;
        }
        let Some(page) = active.page.as_ref().and_then(FrameReference::duplicate) else {
            unmark(shared, offset, active);
            if !active.pinned() {
                active.page = None;
            }
            return Err(GrantStatus::GENERAL_ERROR);
        };
        let pins = if write {
            &mut active.writers
        } else {
            &mut active.readers
        };
        // Each holds a reference to the page, and these are far fewer.
        *pins = pins.saturating_add(1);
        Ok(page)
    }

    /// Undo one pin. The page comes back with the last.
    pub fn unpin(&mut self, reference: GrantReference, write: bool) -> Option<FrameReference> {
        let (shared, offset, active) = self.entry(reference).ok()?;
        let count = if write {
            &mut active.writers
        } else {
            &mut active.readers
        };
        *count = count.saturating_sub(1);
        unmark(shared, offset, active);
        if active.pinned() { None } else { active.page.take() }
    }

    pub fn swap(&mut self, first: GrantReference, second: GrantReference) -> Result<(), GrantStatus> {
        for reference in [first, second] {
            if self.entry(reference)?.2.pinned() {
                return Err(GrantStatus::TRY_AGAIN);
            }
        }
        let values = [first, second].map(|reference| self.load(reference));
        for (reference, value) in [second, first].into_iter().zip(values) {
            let (shared, offset, _) = self.entry(reference)?;
            shared
                .store_u64(offset, value?)
                .map_err(|_| GrantStatus::BAD_REFERENCE)?;
        }
        Ok(())
    }

    fn load(&mut self, reference: GrantReference) -> Result<u64, GrantStatus> {
        let (shared, offset, _) = self.entry(reference)?;
        shared.load_u64(offset).map_err(|_| GrantStatus::BAD_REFERENCE)
    }
}

/// Mark an entry as in use, in one step with the check that it is an offer to `user` (and may be written). An entry that
/// is `used` already was checked when it was taken up; only whether it may be written counts then.
fn mark(
    shared: &FrameReference,
    offset: usize,
    user: DomainId,
    write: bool,
    used: bool,
) -> Result<(), GrantStatus> {
    let mut seen = shared.load_u32(offset).map_err(|_| GrantStatus::BAD_REFERENCE)?;
    for _ in 0..ATTEMPTS {
        let (flags, domain) = (seen as u16, (seen >> 16) as u16);
        if !used && (flags & entry_flag::TYPE_MASK != entry_flag::PERMIT_ACCESS || domain != user.0) {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        if write && flags & entry_flag::READ_ONLY != 0 {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let marks = entry_flag::READING | if write { entry_flag::WRITING } else { 0 };
        let swap = shared.compare_exchange_u32(offset, seen, seen | u32::from(marks));
        match swap.map_err(|_| GrantStatus::BAD_REFERENCE)? {
            Ok(_) => return Ok(()),
            Err(now) => seen = now,
        }
    }
    Err(GrantStatus::GENERAL_ERROR)
}

/// Take back the marks that no user needs any more.
fn unmark(shared: &FrameReference, offset: usize, active: &Active) {
    let mut clear = 0;
    if active.writers == 0 {
        clear |= entry_flag::WRITING;
    }
    if !active.pinned() {
        clear |= entry_flag::READING;
    }
    if clear != 0 {
        // The offset is one of an entry, which lies in the page and is aligned.
        let _ = shared.fetch_and_u16(offset, !clear);
    }
}
