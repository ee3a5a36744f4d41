//! Pages, which live for as long as anybody holds them, and the maps by which domains reach them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::{Rc, Weak};

use hypercall_abi::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
/// Nothing was written.
const CLEAN: (usize, usize) = (PAGE_SIZE, 0);
/// Guest frames that there can be: 48 bits of address.
pub const MOST_FRAMES: u64 = 1 << 36;

/// What all pages together come to, and which of them the current call has written.
#[derive(Default)]
pub struct House {
    /// Pages that somebody holds.
    pub pages: Cell<u64>,
    /// Of these, each domain's own memory.
    owned: RefCell<BTreeMap<u16, u64>>,
    next_identity: Cell<u64>,
    /// Pages written since the last look.
    pub written: RefCell<Vec<Weak<Page>>>,
    /// Places of maps changed since the last look: domain and guest frame.
    pub changed: RefCell<Vec<(u16, u64)>>,
}

impl House {
    /// Pages of a domain's own memory, wherever they are mapped.
    pub fn owned(&self, domain: u16) -> u64 {
        self.owned.borrow().get(&domain).copied().unwrap_or(0)
    }

    /// A zeroed page.
    pub fn page(self: &Rc<Self>, owner: u16, counted: bool) -> PageReference {
        self.pages.set(self.pages.get() + 1);
        self.next_identity.set(self.next_identity.get() + 1);
        if counted {
            *self.owned.borrow_mut().entry(owner).or_default() += 1;
        }
        Rc::new(Page {
            identity: self.next_identity.get(),
            owner,
            counted,
            frame: Cell::new(None),
            place: Cell::new(None),
            dirty: Cell::new(CLEAN),
            bytes: RefCell::new(None),
            house: self.clone(),
        })
    }
}

/// A page of memory.
pub struct Page {
    /// Which one: no two are the same, ever.
    pub identity: u64,
    /// Whose.
    pub owner: u16,
    /// The owner's memory, counted against its allowance; not a page that the core shares with it.
    pub counted: bool,
    /// Where the machine under test has it, once that is known. One answer shows it; nothing else depends on it.
    pub frame: Cell<Option<u64>>,
    /// A map and a guest frame where it was mapped last.
    pub place: Cell<Option<(u16, u64)>>,
    /// The bytes that were written since the last look: from, to.
    dirty: Cell<(usize, usize)>,
    /// Nothing stands for zeroes.
    bytes: RefCell<Option<Box<[u8; PAGE_SIZE]>>>,
    house: Rc<House>,
}

/// The right to reach a page.
pub type PageReference = Rc<Page>;

impl Drop for Page {
    fn drop(&mut self) {
        self.house.pages.set(self.house.pages.get() - 1);
        if self.counted
            && let Some(count) = self.house.owned.borrow_mut().get_mut(&self.owner)
        {
            *count -= 1;
        }
    }
}

impl Page {
    /// Copy bytes out.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        match &*self.bytes.borrow() {
            Some(bytes) => into.copy_from_slice(&bytes[offset..offset + into.len()]),
            None => into.fill(0),
        }
    }

    /// Copy bytes in.
    pub fn write(self: &Rc<Self>, offset: usize, from: &[u8]) {
        let (start, end) = self.dirty.get();
        if end == 0 {
            self.house.written.borrow_mut().push(Rc::downgrade(self));
        }
        self.dirty.set((start.min(offset), end.max(offset + from.len())));
        let mut bytes = self.bytes.borrow_mut();
        let bytes = bytes.get_or_insert_with(|| Box::new([0; PAGE_SIZE]));
        bytes[offset..offset + from.len()].copy_from_slice(from);
    }

    /// Whether some of the contents are these.
    pub fn holds_at(&self, offset: usize, other: &[u8]) -> bool {
        match &*self.bytes.borrow() {
            Some(bytes) => bytes[offset..offset + other.len()] == *other,
            None => *other == ZEROES[..other.len()],
        }
    }

    /// The bytes that were written since this was asked last.
    pub fn take_written(&self) -> Range<usize> {
        let (start, end) = self.dirty.replace(CLEAN);
        start..end
    }

    /// A value in it.
    pub fn load<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.read(offset, value.as_mut_bytes());
        value
    }

    /// Set a value in it.
    pub fn store<T: IntoBytes + Immutable>(self: &Rc<Self>, offset: usize, value: T) {
        self.write(offset, value.as_bytes());
    }

    /// Set bits of a 64-bit word; the word as it was.
    pub fn set_bits(self: &Rc<Self>, offset: usize, bits: u64) -> u64 {
        let before: u64 = self.load(offset);
        self.store(offset, before | bits);
        before
    }

    /// Clear bits of a 64-bit word; the word as it was.
    pub fn clear_bits(self: &Rc<Self>, offset: usize, bits: u64) -> u64 {
        let before: u64 = self.load(offset);
        self.store(offset, before & !bits);
        before
    }
}

/// What a guest frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The domain's own memory.
    Own,
    /// Another's, mapped by a privileged domain.
    Foreign,
    /// Another's, by a grant.
    Granted,
    /// A page that the core shares with the domain.
    Shared,
    /// No memory.
    Device,
}

/// An entry of a map.
#[derive(Clone)]
pub struct Entry {
    /// The page; devices have none.
    pub page: Option<PageReference>,
    /// What it is.
    pub kind: Kind,
    /// The domain may write.
    pub writable: bool,
}

/// A domain's guest-physical memory.
///
/// Which second-stage tables it takes counts, since a domain gets only so many: a table for each 2 MiB, 1 GiB and
/// 512 GiB of which something was ever mapped, save for 2 MiB that are mapped in one piece.
#[derive(Default)]
pub struct Map {
    domain: u16,
    entries: BTreeMap<u64, Entry>,
    tables: BTreeSet<(u32, u64)>,
    superpages: BTreeSet<u64>,
}

/// Nothing is left for a table.
pub struct NoTable;

impl From<NoTable> for Error {
    fn from(_: NoTable) -> Self {
        Error::ENOMEM
    }
}

impl Map {
    /// A domain's, with nothing in it.
    pub fn new(domain: u16) -> Self {
        Map {
            domain,
            ..Map::default()
        }
    }

    /// What is at a guest frame.
    pub fn get(&self, frame: u64) -> Option<&Entry> {
        self.entries.get(&frame)
    }

    /// The page at a guest frame, if memory is there.
    pub fn page(&self, frame: u64) -> Option<(&PageReference, &Entry)> {
        let entry = self.get(frame)?;
        Some((entry.page.as_ref()?, entry))
    }

    /// All entries.
    pub fn entries(&self) -> &BTreeMap<u64, Entry> {
        &self.entries
    }

    /// The highest guest frame in use.
    pub fn highest(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(frame, _)| *frame)
    }

    /// Second-stage tables, the root included.
    pub fn tables(&self) -> u64 {
        1 + self.tables.len() as u64
    }

    /// Whether a guest frame is part of 2 MiB mapped in one piece.
    pub fn in_superpage(&self, frame: u64) -> bool {
        self.superpages.contains(&(frame >> 9))
    }

    /// The tables above a guest frame, down to those of a level; `free` frames are there for them.
    fn make_tables(&mut self, frame: u64, lowest: u32, free: &mut u64) -> Result<(), NoTable> {
        for level in (lowest..=3).rev() {
            let table = (level, frame >> (9 * level));
            if !self.tables.contains(&table) {
                *free = free.checked_sub(1).ok_or(NoTable)?;
                self.tables.insert(table);
            }
        }
        Ok(())
    }

    fn enter(&mut self, frame: u64, entry: Entry) {
        if let Some(page) = &entry.page {
            page.place.set(Some((self.domain, frame)));
            page.house.changed.borrow_mut().push((self.domain, frame));
        }
        self.entries.insert(frame, entry);
    }

    /// Put something at a guest frame where nothing is.
    pub fn put(&mut self, frame: u64, entry: Entry, mut free: u64) -> Result<(), NoTable> {
        self.make_tables(frame, 1, &mut free)?;
        self.enter(frame, entry);
        Ok(())
    }

    /// Put 2 MiB of pages at guest frames where nothing is: in one piece, if there was no table there.
    pub fn put_superpage(
        &mut self,
        first: u64,
        pages: &[PageReference],
        mut free: u64,
    ) -> Result<(), NoTable> {
        let whole = self.make_tables(first, 2, &mut free).is_ok() && !self.tables.contains(&(1, first >> 9));
        if whole {
            self.superpages.insert(first >> 9);
        }
        for (frame, page) in (first..).zip(pages) {
            if !whole {
                self.make_tables(frame, 1, &mut free)?;
            }
            self.enter(frame, Entry::own(page));
        }
        Ok(())
    }

    /// Take away what is at a guest frame.
    pub fn take(&mut self, frame: u64, free: u64) -> Result<Option<Entry>, NoTable> {
        if self.in_superpage(frame) {
            if free == 0 {
                return Err(NoTable);
            }
            self.superpages.remove(&(frame >> 9));
            self.tables.insert((1, frame >> 9));
        }
        let taken = self.entries.remove(&frame);
        if let Some(Entry { page: Some(page), .. }) = &taken {
            page.house.changed.borrow_mut().push((self.domain, frame));
        }
        Ok(taken)
    }
}

impl Entry {
    /// A page of the domain's own.
    pub fn own(page: &PageReference) -> Entry {
        Entry {
            page: Some(page.clone()),
            kind: Kind::Own,
            writable: true,
        }
    }

    /// A page of another kind.
    pub fn new(page: PageReference, kind: Kind, writable: bool) -> Entry {
        Entry {
            page: Some(page),
            kind,
            writable,
        }
    }
}
