//! Stage-two page tables: from guest-physical to host-physical (AMD: nested paging, Intel: EPT).
//!
//! Soundness rests on two rules that this module keeps whatever its callers do. Each present leaf stands for one counted
//! reference to each frame under it (devices excepted: they are no memory). And a removed leaf's reference comes back
//! inside [`Detached`], which can be given up only against a [`Flushed`] proof: no frame is freed while some processor's
//! TLB may still reach it. A `Detached` that is forgotten leaks memory; it never frees early.

use crate::sync::atomic::Ordering;
use crate::sync::{atomic, interleave, modelled};
// Entries are the walking hardware's. They change under a lock of the tables' owner, and those changes are the points of
// interleaving; looks are none.
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::AtomicU64;

use crate::address::{GuestFrame, HostFrame, Order};
use crate::memory::{FrameReference, FrameUse, Memory, OutOfMemory};

#[cfg(any(not(target_os = "none"), debug_assertions))]
pub mod audit;

/// What a guest frame is backed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EntryKind {
    /// The domain's own memory.
    #[doc(alias = "p2m_ram_rw")]
    Populated = 1,
    /// Another domain's memory, mapped by a privileged domain.
    #[doc(alias = "p2m_map_foreign")]
    Foreign = 2,
    /// Another domain's memory, mapped through a grant.
    #[doc(alias = "p2m_grant_map_rw")]
    Grant = 3,
    /// Pages the core provides: shared info, grant table.
    Shared = 4,
    /// A device's registers or firmware tables: no memory of ours.
    #[doc(alias = "p2m_mmio_direct")]
    Device = 5,
}

impl EntryKind {
    fn from_bits(bits: u64) -> Option<EntryKind> {
        Some(match bits {
            1 => EntryKind::Populated,
            2 => EntryKind::Foreign,
            3 => EntryKind::Grant,
            4 => EntryKind::Shared,
            5 => EntryKind::Device,
            _ => return None,
        })
    }
}

/// What the guest may do with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permissions {
    /// Stores are allowed.
    pub write: bool,
    /// Instruction fetches are allowed.
    pub execute: bool,
}

impl Permissions {
    /// Everything: a guest's own memory.
    pub const ALL: Permissions = Permissions {
        write: true,
        execute: true,
    };
    /// Loads and stores.
    pub const READ_WRITE: Permissions = Permissions {
        write: true,
        execute: false,
    };
    /// Loads only.
    pub const READ_ONLY: Permissions = Permissions {
        write: false,
        execute: false,
    };
}

/// A leaf as found by a look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The frame that backs exactly the guest frame asked for (not the superpage's first).
    pub frame: HostFrame,
    /// The size of the entry it was found in.
    pub order: Order,
    /// What the guest may do.
    pub permissions: Permissions,
    /// What it is.
    pub kind: EntryKind,
}

/// The hardware's format of table entries. Implementors are zero-sized; the tables' shape (512 entries, nine bits a
/// level) is common to all.
pub trait Format: Send + Sync + 'static {
    /// Levels of tables: 4 for 48 bits of guest-physical address.
    const LEVELS: u32;
    /// An entry that points to a lower table.
    fn table(frame: HostFrame) -> u64;
    /// A leaf at `level` (0: 4 KiB). `tag` (3 bits) is kept in bits that hardware ignores.
    fn leaf(frame: HostFrame, level: u32, permissions: Permissions, device: bool, tag: u64) -> u64;
    /// Whether the entry is present.
    fn present(entry: u64) -> bool;
    /// Whether a present entry at `level` is a leaf.
    fn is_leaf(entry: u64, level: u32) -> bool;
    /// The frame a present entry points to.
    fn frame(entry: u64) -> HostFrame;
    /// A leaf's permissions.
    fn permissions(entry: u64) -> Permissions;
    /// A leaf's tag.
    fn tag(entry: u64) -> u64;
}

/// log2 of the guest frames that an entry at this level stands for. Levels are a handful: no product wraps.
const fn bits_below(level: u32) -> u32 {
    level.wrapping_mul(9)
}

/// AMD's nested page tables: the processor's ordinary long-mode format, walked as user accesses (APM vol. 2, 15.25).
pub struct NestedPaging;

impl NestedPaging {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const UNCACHED: u64 = (1 << 3) | (1 << 4);
    const ACCESSED_DIRTY: u64 = (1 << 5) | (1 << 6);
    const LARGE: u64 = 1 << 7;
    const NO_EXECUTE: u64 = 1 << 63;
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    const TAG_SHIFT: u32 = 52;
}

impl Format for NestedPaging {
    const LEVELS: u32 = 4;

    fn table(frame: HostFrame) -> u64 {
        frame.address().0 | Self::PRESENT | Self::WRITE | Self::USER | Self::ACCESSED_DIRTY
    }

    fn leaf(frame: HostFrame, level: u32, permissions: Permissions, device: bool, tag: u64) -> u64 {
        // Accessed and dirty are set from the start: we never read them, and hardware then never writes them.
        let mut entry =
            frame.address().0 | Self::PRESENT | Self::USER | Self::ACCESSED_DIRTY | (tag << Self::TAG_SHIFT);
        if permissions.write {
            entry |= Self::WRITE;
        }
        if !permissions.execute {
            entry |= Self::NO_EXECUTE;
        }
        if device {
            entry |= Self::UNCACHED;
        }
        if level > 0 {
            entry |= Self::LARGE;
        }
        entry
    }

    fn present(entry: u64) -> bool {
        entry & Self::PRESENT != 0
    }

    fn is_leaf(entry: u64, level: u32) -> bool {
        level == 0 || entry & Self::LARGE != 0
    }

    fn frame(entry: u64) -> HostFrame {
        HostFrame((entry & Self::FRAME) >> 12)
    }

    fn permissions(entry: u64) -> Permissions {
        Permissions {
            write: entry & Self::WRITE != 0,
            execute: entry & Self::NO_EXECUTE == 0,
        }
    }

    fn tag(entry: u64) -> u64 {
        (entry >> Self::TAG_SHIFT) & 7
    }
}

/// Why a mapping was refused. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No memory for a table.
    OutOfMemory,
    /// The guest frame is not aligned to the block, or past the guest's address space.
    BadGuestFrame,
    /// Something is mapped there already: remove it first.
    Occupied,
    /// The host frame is memory, or one of the core's own device pages, and may not be mapped as a device.
    NotADevice,
}

impl From<OutOfMemory> for MapError {
    fn from(_: OutOfMemory) -> Self {
        MapError::OutOfMemory
    }
}

/// Removed from a table, but perhaps still in some processor's TLB.
#[must_use = "flush, then release: dropping it leaks the frames"]
#[derive(Debug)]
pub struct Detached {
    frames: Option<core::mem::ManuallyDrop<FrameReference>>,
    /// What it was.
    pub kind: EntryKind,
}

impl Detached {
    /// Take the frames back, now that no TLB reaches them. Device entries have none.
    pub fn release(self, _flushed: &Flushed) -> Option<FrameReference> {
        self.frames.map(core::mem::ManuallyDrop::into_inner)
    }

    /// The block's first host frame, for memory.
    pub fn frame(&self) -> Option<HostFrame> {
        self.frames.as_ref().map(|frames| frames.frame())
    }

    /// The block's size; a page for devices.
    pub fn order(&self) -> Order {
        self.frames.as_ref().map_or(Order::PAGE, |frames| frames.order())
    }
}

/// Proof that since the removals that precede it every processor has dropped its translations of one table.
pub struct Flushed {
    _private: (),
}

impl Flushed {
    /// Made by a machine's `flush` only.
    pub(crate) fn new() -> Flushed {
        Flushed { _private: () }
    }
}

/// What a processor needs to run a guest on its tables: where they begin, and how old its translations may be.
///
/// It is shared, so that a vCPU runs without a lock on the tables while another processor changes them. As long as
/// anyone else holds it, dropping the tables leaks them rather than freeing what hardware may still walk.
pub struct TableRoot {
    frame: HostFrame,
    generation: modelled::AtomicU64,
}

impl TableRoot {
    /// The root table's frame: what hardware is pointed at, and the tables' identity.
    pub fn root(&self) -> HostFrame {
        self.frame
    }

    /// Counts removals: a processor whose TLB was filled under an older generation flushes before it enters the guest.
    pub fn generation(&self) -> &modelled::AtomicU64 {
        &self.generation
    }

    /// Without tables: for trials of who may use them when.
    #[cfg(all(test, loom))]
    pub(crate) fn alone(frame: HostFrame) -> TableRoot {
        TableRoot {
            frame,
            generation: modelled::AtomicU64::new(1),
        }
    }
}

/// Where the next tables' generations begin. Apart from all others', so that a root frame that is used again is not taken
/// for the tables it held before.
static FIRST_GENERATION: atomic::AtomicU64 = atomic::AtomicU64::new(1);

/// One guest's stage-two tables.
pub struct StageTwo<F: Format> {
    memory: &'static Memory,
    root: Arc<TableRoot>,
    tables: u64,
    format: PhantomData<F>,
}

impl<F: Format> StageTwo<F> {
    /// Empty tables.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no frame for the root.
    pub fn new(memory: &'static Memory) -> Result<Self, OutOfMemory> {
        let root = memory.allocate_core(Order::PAGE).ok_or(OutOfMemory)?;
        let generation = modelled::AtomicU64::new(FIRST_GENERATION.fetch_add(1 << 32, Ordering::Relaxed));
        let shared = crate::fallible::arc(TableRoot {
            frame: root,
            generation,
        });
        let shared = shared.inspect_err(|_| {
            // SAFETY: allocated just above, and known to nobody.
            unsafe { memory.free_core(root, Order::PAGE) }
        })?;
        Ok(StageTwo {
            memory,
            root: shared,
            tables: 1,
            format: PhantomData,
        })
    }

    /// What a processor needs to run a guest on these tables.
    pub fn root(&self) -> &Arc<TableRoot> {
        &self.root
    }

    /// Frames that the tables themselves take.
    pub fn table_frames(&self) -> u64 {
        self.tables
    }

    /// The memory behind the tables.
    pub fn memory(&self) -> &'static Memory {
        self.memory
    }

    /// Guest frames that the tables can map.
    pub const fn limit() -> u64 {
        1u64.unbounded_shl(bits_below(F::LEVELS))
    }

    fn index(frame: GuestFrame, level: u32) -> usize {
        (frame.0.unbounded_shr(bits_below(level)) & 511) as usize
    }

    fn entry(&self, table: HostFrame, index: usize) -> &AtomicU64 {
        // SAFETY: tables are frames that this structure allocated for the core and frees only when it is dropped or
        // when they are unlinked and flushed.
        unsafe { self.memory.table_entry(table, index) }
    }

    /// The leaf that maps a guest frame.
    pub fn lookup(&self, frame: GuestFrame) -> Option<Leaf> {
        if frame.0 >= Self::limit() {
            return None;
        }
        let mut table = self.root.frame;
        for level in (0..F::LEVELS).rev() {
            let entry = self
                .entry(table, Self::index(frame, level))
                .load(Ordering::Acquire);
            if !F::present(entry) {
                return None;
            }
            if F::is_leaf(entry, level) {
                let order = Order::new(bits_below(level))?;
                let offset = frame.0 & (order.frames() - 1);
                return Some(Leaf {
                    frame: HostFrame(F::frame(entry).0 + offset),
                    order,
                    permissions: F::permissions(entry),
                    kind: EntryKind::from_bits(F::tag(entry))?,
                });
            }
            table = F::frame(entry);
        }
        None
    }

    /// The leaf that maps a guest frame, with a reference to the one frame behind it (none for devices).
    pub fn get(&self, frame: GuestFrame) -> Option<(FrameReference, Leaf)> {
        let leaf = self.lookup(frame)?;
        let reference = match leaf.kind {
            EntryKind::Device => return None,
            _ => self.memory.reference(leaf.frame)?,
        };
        Some((reference, leaf))
    }

    /// Map a block at an empty place. The block's order must be 0, 9 or 18; the reference moves into the table.
    ///
    /// # Errors
    /// The reference back, and why.
    pub fn map(
        &mut self,
        at: GuestFrame,
        block: FrameReference,
        permissions: Permissions,
        kind: EntryKind,
    ) -> Result<(), (FrameReference, MapError)> {
        let order = block.order();
        let level = order.value() / 9;
        if kind == EntryKind::Device || !order.value().is_multiple_of(9) || !order.aligned(block.frame().0) {
            return Err((block, MapError::BadGuestFrame));
        }
        let slot = match self.empty_slot(at, order, level) {
            Ok(slot) => slot,
            Err(error) => return Err((block, error)),
        };
        let (frame, _) = block.into_raw();
        interleave();
        slot.store(
            F::leaf(frame, level, permissions, false, kind as u64),
            Ordering::Release,
        );
        Ok(())
    }

    /// Map one frame of a device (or of firmware's tables) at an empty place.
    ///
    /// # Errors
    /// Why not; frames that are memory in use by anyone are refused.
    pub fn map_device(
        &mut self,
        at: GuestFrame,
        frame: HostFrame,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        if self.memory.frame_info(frame).frame_use != FrameUse::Reserved {
            return Err(MapError::NotADevice);
        }
        let slot = self.empty_slot(at, Order::PAGE, 0)?;
        interleave();
        slot.store(
            F::leaf(frame, 0, permissions, true, EntryKind::Device as u64),
            Ordering::Release,
        );
        Ok(())
    }

    /// The slot for a leaf of `level`, with the tables above it; it must be empty.
    fn empty_slot(&mut self, at: GuestFrame, order: Order, level: u32) -> Result<&AtomicU64, MapError> {
        if !order.aligned(at.0)
            || at
                .checked_add(order.frames())
                .is_none_or(|end| end.0 > Self::limit())
        {
            return Err(MapError::BadGuestFrame);
        }
        let mut table = self.root.frame;
        for above in (level + 1..F::LEVELS).rev() {
            let slot = self.entry(table, Self::index(at, above));
            let entry = slot.load(Ordering::Acquire);
            table = if !F::present(entry) {
                let lower = self
                    .memory
                    .allocate_core(Order::PAGE)
                    .ok_or(MapError::OutOfMemory)?;
                interleave();
                slot.store(F::table(lower), Ordering::Release);
                self.tables = self.tables.saturating_add(1);
                lower
            } else if F::is_leaf(entry, above) {
                return Err(MapError::Occupied);
            } else {
                F::frame(entry)
            };
        }
        let index = Self::index(at, level);
        let entry = self.entry(table, index).load(Ordering::Acquire);
        // A lower table that maps nothing stays linked (a processor may hold it in a paging-structure cache), so the
        // superpage that wants its place is refused: callers fall back to smaller blocks.
        if F::present(entry) {
            return Err(MapError::Occupied);
        }
        Ok(self.entry(table, index))
    }

    /// Remove whatever maps one guest frame, splitting a superpage around it. `Ok(None)` when nothing does.
    ///
    /// # Errors
    /// [`OutOfMemory`] when a split needs a table and there is none; nothing has changed.
    pub fn unmap(&mut self, at: GuestFrame) -> Result<Option<Detached>, OutOfMemory> {
        self.unmap_order(at, Order::PAGE)
    }

    /// Remove the leaf of at least `order` at `at` (which is aligned to it). A larger leaf is split down to `order`; a
    /// smaller one is returned alone, so callers go on by what they got. `Ok(None)` when nothing maps `at`.
    ///
    /// # Errors
    /// [`OutOfMemory`] when a split needs a table and there is none; nothing has changed.
    pub fn unmap_order(&mut self, at: GuestFrame, order: Order) -> Result<Option<Detached>, OutOfMemory> {
        let wanted = order.value() / 9;
        if at.0 >= Self::limit() {
            return Ok(None);
        }
        let mut table = self.root.frame;
        let mut level = F::LEVELS - 1;
        loop {
            let index = Self::index(at, level);
            let entry = self.entry(table, index).load(Ordering::Acquire);
            if !F::present(entry) {
                return Ok(None);
            }
            if !F::is_leaf(entry, level) {
                table = F::frame(entry);
                level -= 1;
            } else if level > wanted {
                table = self.split(table, index, level)?;
                level -= 1;
            } else {
                interleave();
                let before = self.entry(table, index).swap(0, Ordering::AcqRel);
                return Ok(self.detach(before, level));
            }
        }
    }

    fn detach(&self, entry: u64, level: u32) -> Option<Detached> {
        let kind = EntryKind::from_bits(F::tag(entry))?;
        let order = Order::new(bits_below(level))?;
        let frames = (kind != EntryKind::Device).then(|| {
            // SAFETY: the entry just taken out stood for these references, and `swap` took it exactly once.
            core::mem::ManuallyDrop::new(unsafe {
                FrameReference::from_raw(self.memory, F::frame(entry), order)
            })
        });
        Some(Detached { frames, kind })
    }

    /// Replace a superpage by a table of 512 smaller leaves that map the same.
    fn split(&mut self, table: HostFrame, index: usize, level: u32) -> Result<HostFrame, OutOfMemory> {
        let entry = self.entry(table, index).load(Ordering::Acquire);
        let lower = self.memory.allocate_core(Order::PAGE).ok_or(OutOfMemory)?;
        let below = level - 1;
        let first = F::frame(entry);
        for slot in 0..512u64 {
            let frame = first.saturating_add(slot.unbounded_shl(bits_below(below)));
            let device = F::tag(entry) == EntryKind::Device as u64;
            let leaf = F::leaf(frame, below, F::permissions(entry), device, F::tag(entry));
            self.entry(lower, slot as usize).store(leaf, Ordering::Relaxed);
        }
        interleave();
        self.entry(table, index).store(F::table(lower), Ordering::Release);
        self.tables = self.tables.saturating_add(1);
        Ok(lower)
    }

    /// Change what a guest may do with one frame of memory; superpages are split. Narrowing needs a flush afterwards.
    ///
    /// # Errors
    /// [`OutOfMemory`] when a split needs a table and there is none; nothing has changed.
    pub fn protect(&mut self, at: GuestFrame, permissions: Permissions) -> Result<bool, OutOfMemory> {
        let mut table = self.root.frame;
        for level in (0..F::LEVELS).rev() {
            let index = Self::index(at, level);
            let entry = self.entry(table, index).load(Ordering::Acquire);
            if !F::present(entry) {
                return Ok(false);
            }
            if level == 0 {
                let device = F::tag(entry) == EntryKind::Device as u64;
                let leaf = F::leaf(F::frame(entry), 0, permissions, device, F::tag(entry));
                interleave();
                self.entry(table, index).store(leaf, Ordering::Release);
                return Ok(true);
            }
            table = if F::is_leaf(entry, level) {
                self.split(table, index, level)?
            } else {
                F::frame(entry)
            };
        }
        Ok(false)
    }

    /// The lowest guest frame at or after `from` that is mapped, so that tearing down skips holes quickly.
    pub fn next_mapped(&self, from: GuestFrame) -> Option<(GuestFrame, Leaf)> {
        self.next_mapped_before(from, GuestFrame(Self::limit()))
    }

    /// The same, but below `end`: what lies further on is not looked at. Tables stay when they have become empty, so that a
    /// search costs up to 512 looks for each table in the range.
    pub fn next_mapped_before(&self, from: GuestFrame, end: GuestFrame) -> Option<(GuestFrame, Leaf)> {
        let end = end.0.min(Self::limit());
        if from.0 >= end {
            return None;
        }
        let found = self.first_leaf(self.root.frame, F::LEVELS - 1, 0, from.0..end)?;
        self.lookup(found).map(|leaf| (found, leaf))
    }

    /// The first frame of `wanted` that the table at `level` maps, whose own first frame is `base`.
    fn first_leaf(&self, table: HostFrame, level: u32, base: u64, wanted: Range<u64>) -> Option<GuestFrame> {
        let bits = bits_below(level);
        let skipped = wanted.start.saturating_sub(base).unbounded_shr(bits);
        for index in skipped..512 {
            let start = base | index.unbounded_shl(bits);
            if start >= wanted.end {
                return None;
            }
            let entry = self.entry(table, index as usize).load(Ordering::Acquire);
            if !F::present(entry) {
                continue;
            }
            if F::is_leaf(entry, level) {
                return Some(GuestFrame(start.max(wanted.start)));
            }
            let below = self.first_leaf(F::frame(entry), level - 1, start, wanted.clone());
            if below.is_some() {
                return below;
            }
        }
        None
    }

    /// The highest guest frame that is mapped.
    pub fn last_mapped(&self) -> Option<GuestFrame> {
        self.last_leaf(self.root.frame, F::LEVELS - 1, 0)
    }

    fn last_leaf(&self, table: HostFrame, level: u32, base: u64) -> Option<GuestFrame> {
        let bits = bits_below(level);
        (0..512u64).rev().find_map(|index| {
            let start = base | index.unbounded_shl(bits);
            let entry = self.entry(table, index as usize).load(Ordering::Acquire);
            if !F::present(entry) {
                None
            } else if F::is_leaf(entry, level) {
                Some(GuestFrame(start | !u64::MAX.unbounded_shl(bits)))
            } else {
                self.last_leaf(F::frame(entry), level - 1, start)
            }
        })
    }

    fn free_tables(&self, table: HostFrame, level: u32) {
        for index in 0..512 {
            let entry = self.entry(table, index).load(Ordering::Acquire);
            if !F::present(entry) {
                continue;
            }
            if !F::is_leaf(entry, level) {
                self.free_tables(F::frame(entry), level - 1);
            } else if let Some(detached) = self.detach(entry, level) {
                // No vCPU holds these tables any more (they borrow them to run), so no TLB does.
                drop(detached.release(&Flushed::new()));
            }
        }
        // SAFETY: the table was the core's, is linked from nowhere now, and is walked by no processor.
        unsafe { self.memory.free_core(table, Order::PAGE) };
    }
}

impl<F: Format> Drop for StageTwo<F> {
    fn drop(&mut self) {
        if Arc::strong_count(&self.root) == 1 {
            self.free_tables(self.root.frame, F::LEVELS - 1);
        }
    }
}
