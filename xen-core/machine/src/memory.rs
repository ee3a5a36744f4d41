//! The machine's memory: every frame's owner, use and count, the allocator, and the only way to touch a guest's bytes.
//!
//! A frame changes its use only at count zero, by one compare-and-swap on its word in the frame table (`frame_word`); an allocator
//! that went wrong would fail that swap instead of handing a frame out twice. Whoever may reach a frame (an entry of a
//! stage-two table, a copy under way, a grant's mapping) holds a [`FrameReference`], so a frame cannot be freed,
//! scrubbed and reused under anyone's hands.
//!
//! The same code runs on the metal (the direct map's base is a constant of the address space) and on the host (the base
//! is an arena's address), so that simulated machines exercise exactly what ships.

use core::ops::Range;
// Points of interleaving are where frames change hands and where guests' bytes are touched, each named below: not every word
// of every table.
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::address::{HostAddress, HostFrame, Order, PAGE_SHIFT, PAGE_SIZE};
use crate::frame_word::FrameWord;
use crate::sync::{Lock, interleave};

#[cfg(any(not(target_os = "none"), debug_assertions))]
pub mod audit;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameUse {
    /// Not memory we manage: firmware, devices, holes.
    Reserved = 0,
    /// In the allocator.
    Free = 1,
    /// The core's own: page tables, stacks, heap, control blocks. Never reachable by a guest.
    Core = 2,
    /// A domain's memory, counted against its allowance.
    Ram = 3,
    /// Pages the core shares with a domain (shared info, grant table): reachable by it, not counted.
    Shared = 4,
}

impl FrameUse {
    pub(crate) fn from_bits(bits: u8) -> FrameUse {
        match bits {
            1 => FrameUse::Free,
            2 => FrameUse::Core,
            3 => FrameUse::Ram,
            4 => FrameUse::Shared,
            _ => FrameUse::Reserved,
        }
    }
}

/// The owner of frames that belong to no domain.
pub const NO_OWNER: u16 = 0x7ff4;
/// Owners are domain ids below this number.
pub const OWNERS: usize = 0x7ff0;

/// A snapshot of a frame's entry in the frame table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameInfo {
    /// References held.
    pub count: u32,
    /// The owning domain's id, or [`NO_OWNER`].
    pub owner: u16,
    /// What the frame is used for.
    pub frame_use: FrameUse,
}

const ORDERS: usize = Order::ONE_GIB.value() as usize + 1;
const NONE: u64 = u64::MAX;

struct FreeLists {
    heads: [u64; ORDERS],
    free_frames: u64,
}

impl FreeLists {
    fn head(&mut self, order: Order) -> &mut u64 {
        &mut self.heads[order.value() as usize]
    }
}

/// All of the machine's memory.
pub struct Memory {
    /// Where host address 0 appears in this address space.
    direct_map: *mut u8,
    table: &'static [FrameWord],
    owned: &'static [AtomicU32],
    free: Lock<FreeLists>,
    total_frames: AtomicU64,
    free_frames: AtomicU64,
    core_frames: AtomicU64,
}

// SAFETY: the direct map is valid for the life of the program and from every processor; all shared state behind it is
// reached through atomics or the allocator's lock.
unsafe impl Sync for Memory {}
// SAFETY: as above; nothing in it belongs to one processor.
unsafe impl Send for Memory {}

impl Memory {
    /// Bytes that the frame table and the owners' counters need for `frames` frames.
    pub const fn metadata_size(frames: u64) -> usize {
        (frames as usize)
            .saturating_mul(size_of::<FrameWord>())
            .saturating_add(OWNERS * size_of::<AtomicU32>())
    }

    /// Memory of `frames` frames, all of them [`FrameUse::Reserved`] until given with [`Memory::add_free`].
    ///
    /// # Safety
    /// `direct_map` maps host addresses `0..frames * 4096` (those that are later given as free, and those of
    /// `metadata`), readable and writable, for the rest of the program; `metadata` is [`Memory::metadata_size`] bytes,
    /// 8-byte aligned, zeroed, used by nobody else, forever.
    pub unsafe fn new(direct_map: *mut u8, frames: u64, metadata: *mut u8) -> Memory {
        // SAFETY: the caller gives zeroed, aligned memory of this size; zero is a valid value of words and counters.
        let (table, owned) = unsafe {
            let table = core::slice::from_raw_parts(metadata.cast::<FrameWord>(), frames as usize);
            let rest = metadata.add(frames as usize * size_of::<FrameWord>());
            (
                table,
                core::slice::from_raw_parts(rest.cast::<AtomicU32>(), OWNERS),
            )
        };
        let free = FreeLists {
            heads: [NONE; ORDERS],
            free_frames: 0,
        };
        Memory {
            direct_map,
            table,
            owned,
            free: Lock::new(free),
            total_frames: AtomicU64::new(0),
            free_frames: AtomicU64::new(0),
            core_frames: AtomicU64::new(0),
        }
    }

    /// Give the frames `first..first + count` to the allocator. Frames that are not [`FrameUse::Reserved`] are skipped.
    /// `clean` says that they hold only zeroes.
    ///
    /// # Safety
    /// The frames are ordinary memory inside the direct map, and nobody uses them.
    pub unsafe fn add_free(&self, first: HostFrame, count: u64, clean: bool) {
        let end = (first.0.saturating_add(count)).min(self.table.len() as u64);
        let mut frame = first.0;
        while frame < end {
            // The largest aligned block that fits goes in at once: boot does not walk gigabytes frame by frame more
            // often than it must.
            let order = Order::largest(frame, end.saturating_sub(frame));
            let mut whole = true;
            for member in HostFrame(frame).block(order) {
                whole &= self.entry(member).give(clean);
            }
            debug_assert!(whole, "memory given twice");
            self.insert_block(&mut self.free.lock(), frame, order);
            self.total_frames.fetch_add(order.frames(), Ordering::Relaxed);
            frame = frame.saturating_add(order.frames());
        }
    }

    /// Frames the allocator was given in all.
    pub fn total_frames(&self) -> u64 {
        self.total_frames.load(Ordering::Relaxed)
    }

    /// Frames that are free now.
    pub fn free_frames(&self) -> u64 {
        self.free_frames.load(Ordering::Relaxed)
    }

    /// Frames that the core took from the allocator: tables, stacks, heap, control blocks.
    pub fn core_frames(&self) -> u64 {
        self.core_frames.load(Ordering::Relaxed)
    }

    /// The frame table's size in frames: addresses past it are no memory.
    pub fn frame_count(&self) -> u64 {
        self.table.len() as u64
    }

    /// Frames of use [`FrameUse::Ram`] that domain `owner` owns, mapped or not.
    pub fn frames_owned(&self, owner: u16) -> u32 {
        self.owned
            .get(owner as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// What the frame table says of a frame; frames outside it are [`FrameUse::Reserved`].
    pub fn frame_info(&self, frame: HostFrame) -> FrameInfo {
        let outside = FrameInfo {
            count: 0,
            owner: 0,
            frame_use: FrameUse::Reserved,
        };
        self.table.get(frame.0 as usize).map_or(outside, FrameWord::info)
    }

    /// A zeroed block of `order` for `owner`, every frame with one reference.
    /// Returns `None` when no block of that size is free.
    pub fn allocate(&'static self, owner: u16, frame_use: FrameUse, order: Order) -> Option<FrameReference> {
        assert!(
            matches!(frame_use, FrameUse::Ram | FrameUse::Shared),
            "only guests' frames are counted"
        );
        let first = self.take_block(order)?;
        self.claim(first, order, owner, frame_use, true);
        if frame_use == FrameUse::Ram
            && let Some(counter) = self.owned.get(owner as usize)
        {
            counter.fetch_add(order.frames() as u32, Ordering::Relaxed);
        }
        Some(FrameReference {
            memory: self,
            first,
            order,
        })
    }

    /// A zeroed block for the core itself. It is returned with [`Memory::free_core`].
    pub(crate) fn allocate_core(&self, order: Order) -> Option<HostFrame> {
        self.take_core(order, true)
    }

    /// A block for the core itself, with whatever bytes it holds: for the heap, which promises none.
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "the host has a heap of its own")
    )]
    pub(crate) fn allocate_core_as_it_is(&self, order: Order) -> Option<HostFrame> {
        self.take_core(order, false)
    }

    fn take_core(&self, order: Order, zero: bool) -> Option<HostFrame> {
        let first = self.take_block(order)?;
        self.claim(first, order, NO_OWNER, FrameUse::Core, zero);
        self.core_frames.fetch_add(order.frames(), Ordering::Relaxed);
        Some(first)
    }

    /// Give a block of the core's back.
    ///
    /// # Safety
    /// The block came from [`Memory::allocate_core`] with this order, and nothing points into it any more.
    pub(crate) unsafe fn free_core(&self, first: HostFrame, order: Order) {
        for frame in first.block(order) {
            self.entry(frame).put_core();
        }
        self.core_frames.fetch_sub(order.frames(), Ordering::Relaxed);
        self.insert_block(&mut self.free.lock(), first.0, order);
    }

    /// One more reference to a guest's frame, whoever owns it. `None` for frames that are no guest's.
    pub(crate) fn reference(&'static self, frame: HostFrame) -> Option<FrameReference> {
        let held = self.table.get(frame.0 as usize)?.reference();
        // A handle is made only of a reference that is held: dropping it gives that back.
        held.then(|| FrameReference {
            memory: self,
            first: frame,
            order: Order::PAGE,
        })
    }

    /// Give a free block's frames an owner and a use, zeroing those that are dirty if told so. Once in the program, not in
    /// each of its callers: the assertions are many, and a call is nothing beside what it does.
    #[inline(never)]
    fn claim(&self, first: HostFrame, order: Order, owner: u16, frame_use: FrameUse, zero: bool) {
        for frame in first.block(order) {
            self.entry(frame).claim(owner, frame_use, || {
                if zero {
                    // SAFETY: the frame is free, and this processor took it off the free lists: nobody else touches it.
                    unsafe { self.pointer(frame.address()).write_bytes(0, PAGE_SIZE) };
                }
            });
        }
    }

    /// A frame's word in the frame table.
    fn entry(&self, frame: HostFrame) -> &FrameWord {
        match self.table.get(frame.0 as usize) {
            Some(word) => word,
            None => beyond_the_table(frame),
        }
    }

    fn take_block(&self, order: Order) -> Option<HostFrame> {
        #[cfg(not(target_os = "none"))]
        if crate::fake::failure::frames_refused() {
            return None;
        }
        let mut lists = self.free.lock();
        let found = (order.value()..ORDERS as u32)
            .filter_map(Order::new)
            .find(|&candidate| *lists.head(candidate) != NONE)?;
        let frame = *lists.head(found);
        self.unlink_block(&mut lists, frame, found);
        // Split: the upper halves go back.
        let mut left = found;
        while let Some(half) = left.half().filter(|_| left > order) {
            self.link_block(&mut lists, frame | half.frames(), half);
            left = half;
        }
        self.free_frames.store(lists.free_frames, Ordering::Relaxed);
        Some(HostFrame(frame))
    }

    /// Put a block of free frames back, merged with its free buddies.
    fn insert_block(&self, lists: &mut FreeLists, mut frame: u64, mut order: Order) {
        while let Some(double) = order.double() {
            let buddy = frame ^ order.frames();
            let Some(entry) = self.table.get(buddy as usize) else {
                break;
            };
            if !entry.is_head_of(order.value()) {
                break;
            }
            self.unlink_block(lists, buddy, order);
            frame &= !order.frames();
            order = double;
        }
        self.link_block(lists, frame, order);
        self.free_frames.store(lists.free_frames, Ordering::Relaxed);
    }

    // Free blocks are a doubly linked list through their own first sixteen bytes: next, previous.

    fn link_block(&self, lists: &mut FreeLists, frame: u64, order: Order) {
        let next = *lists.head(order);
        self.links(frame)[0].store(next, Ordering::Relaxed);
        self.links(frame)[1].store(NONE, Ordering::Relaxed);
        if next != NONE {
            self.links(next)[1].store(frame, Ordering::Relaxed);
        }
        *lists.head(order) = frame;
        self.entry(HostFrame(frame)).mark_head(Some(order.value()));
        lists.free_frames = lists.free_frames.wrapping_add(order.frames());
    }

    fn unlink_block(&self, lists: &mut FreeLists, frame: u64, order: Order) {
        let [next, previous] = self
            .links(frame)
            .each_ref()
            .map(|link| link.load(Ordering::Relaxed));
        if previous == NONE {
            *lists.head(order) = next;
        } else {
            self.links(previous)[0].store(next, Ordering::Relaxed);
        }
        if next != NONE {
            self.links(next)[1].store(previous, Ordering::Relaxed);
        }
        // A clean frame stays clean.
        self.links(frame)[0].store(0, Ordering::Relaxed);
        self.links(frame)[1].store(0, Ordering::Relaxed);
        self.entry(HostFrame(frame)).mark_head(None);
        lists.free_frames = lists.free_frames.wrapping_sub(order.frames());
    }

    fn links(&self, frame: u64) -> &[AtomicU64; 2] {
        // SAFETY: the frame is free and the caller holds the allocator's lock; the pointer is page-aligned and inside
        // the direct map.
        unsafe { &*self.pointer(HostFrame(frame).address()).cast::<[AtomicU64; 2]>() }
    }

    /// Where a host address appears in this address space.
    pub(crate) fn pointer(&self, address: HostAddress) -> *mut u8 {
        self.direct_map.wrapping_add(address.0 as usize)
    }

    /// A word of one of the core's own tables.
    ///
    /// # Safety
    /// `frame` is a [`FrameUse::Core`] frame that the caller owns and that holds a table of 64-bit words; `index` < 512.
    pub(crate) unsafe fn table_entry(&self, frame: HostFrame, index: usize) -> &AtomicU64 {
        debug_assert!(index < 512);
        // SAFETY: inside the caller's frame, aligned; atomics tolerate concurrent walks by hardware.
        unsafe { &*self.pointer(frame.address()).cast::<AtomicU64>().add(index) }
    }

    /// Drop one reference of each frame of a block, freeing those that reach zero.
    fn put(&self, first: HostFrame, order: Order) {
        let mut run = first..first;
        for frame in first.block(order) {
            let next = frame.saturating_add(1);
            if self.put_frame(frame) {
                run.end = next;
            } else {
                self.insert_range(run);
                run = next..next;
            }
        }
        self.insert_range(run);
    }

    /// Drop one reference; true when it was the last, and the frame is now scrubbed and free (but in no list yet).
    fn put_frame(&self, frame: HostFrame) -> bool {
        let freed = self.entry(frame).put(|| {
            // SAFETY: the count is zero: no table, no copy and no processor reaches the frame, and nobody can get a new
            // reference (`FrameWord::reference` refuses count zero).
            unsafe { self.pointer(frame.address()).write_bytes(0, PAGE_SIZE) };
        });
        if let Some(before) = freed
            && before.frame_use == FrameUse::Ram
            && let Some(counter) = self.owned.get(before.owner as usize)
        {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
        freed.is_some()
    }

    fn insert_range(&self, range: Range<HostFrame>) {
        if range.is_empty() {
            return;
        }
        let mut lists = self.free.lock();
        let mut frame = range.start;
        while frame < range.end {
            let order = Order::largest(frame.0, range.end.0.saturating_sub(frame.0));
            self.insert_block(&mut lists, frame.0, order);
            frame = frame.saturating_add(order.frames());
        }
    }
}

/// Blocks come from the free lists and from references, and these name frames of the table.
#[cold]
#[inline(never)]
fn beyond_the_table(frame: HostFrame) -> ! {
    panic!("{frame:?} is beyond the frame table")
}

/// Why a block cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// The right to reach a block of a guest's frames: one counted reference to each of its frames, given back on drop.
#[must_use]
pub struct FrameReference {
    memory: &'static Memory,
    first: HostFrame,
    order: Order,
}

impl Drop for FrameReference {
    fn drop(&mut self) {
        self.memory.put(self.first, self.order);
    }
}

impl core::fmt::Debug for FrameReference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}+{}", self.first, self.order.frames())
    }
}

impl PartialEq for FrameReference {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.order == other.order
    }
}

/// An access that leaves its page or is not aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfPage;

macro_rules! atomic_access {
    ($load:ident, $store:ident, $exchange:ident, $or:ident, $and:ident, $integer:ty, $atomic:ty) => {
        #[doc = concat!("Read a little-endian `", stringify!($integer), "` at a byte offset (acquire).")]
        ///
        /// # Errors
        /// [`OutOfPage`] when the offset is unaligned or past the end.
        pub fn $load(&self, offset: usize) -> Result<$integer, OutOfPage> {
            Ok(self.atomic::<$atomic>(offset)?.load(Ordering::Acquire))
        }

        #[doc = concat!("Write a little-endian `", stringify!($integer), "` at a byte offset (release).")]
        ///
        /// # Errors
        /// [`OutOfPage`] when the offset is unaligned or past the end.
        pub fn $store(&self, offset: usize, value: $integer) -> Result<(), OutOfPage> {
            self.atomic::<$atomic>(offset)?
                .store(value, Ordering::Release);
            Ok(())
        }

        /// Replace `current` by `new`; the inner error is the value found instead.
        ///
        /// # Errors
        /// [`OutOfPage`] when the offset is unaligned or past the end.
        pub fn $exchange(
            &self,
            offset: usize,
            current: $integer,
            new: $integer,
        ) -> Result<Result<$integer, $integer>, OutOfPage> {
            let cell = self.atomic::<$atomic>(offset)?;
            Ok(cell.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst))
        }

        /// Set bits; returns the value before.
        ///
        /// # Errors
        /// [`OutOfPage`] when the offset is unaligned or past the end.
        pub fn $or(&self, offset: usize, bits: $integer) -> Result<$integer, OutOfPage> {
            Ok(self
                .atomic::<$atomic>(offset)?
                .fetch_or(bits, Ordering::SeqCst))
        }

        /// Keep only `bits`; returns the value before.
        ///
        /// # Errors
        /// [`OutOfPage`] when the offset is unaligned or past the end.
        pub fn $and(&self, offset: usize, bits: $integer) -> Result<$integer, OutOfPage> {
            Ok(self
                .atomic::<$atomic>(offset)?
                .fetch_and(bits, Ordering::SeqCst))
        }
    };
}

impl FrameReference {
    /// The block's first frame.
    pub fn frame(&self) -> HostFrame {
        self.first
    }

    /// The block's size.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The owning domain's id.
    pub fn owner(&self) -> u16 {
        self.memory.frame_info(self.first).owner
    }

    /// What the frame is used for.
    pub fn frame_use(&self) -> FrameUse {
        self.memory.frame_info(self.first).frame_use
    }

    /// References held to the (first) frame, this one included.
    pub fn count(&self) -> u32 {
        self.memory.frame_info(self.first).count
    }

    /// Another reference to the same single frame; `None` if it is a larger block or its count is exhausted.
    pub fn duplicate(&self) -> Option<FrameReference> {
        if self.order != Order::PAGE {
            return None;
        }
        self.memory.reference(self.first)
    }

    /// The block as its two halves; a single page comes back as it was.
    ///
    /// # Errors
    /// The reference itself, when it is a single page.
    pub fn split(self) -> Result<(FrameReference, FrameReference), FrameReference> {
        let Some(order) = self.order.half() else {
            return Err(self);
        };
        let (memory, first) = (self.memory, self.first);
        core::mem::forget(self);
        let upper = first.saturating_add(order.frames());
        Ok((
            FrameReference { memory, first, order },
            FrameReference {
                memory,
                first: upper,
                order,
            },
        ))
    }

    /// Give up the handle without giving up the references: a stage-two entry now stands for them.
    pub(crate) fn into_raw(self) -> (HostFrame, Order) {
        let parts = (self.first, self.order);
        core::mem::forget(self);
        parts
    }

    /// Take back what [`FrameReference::into_raw`] gave up.
    ///
    /// # Safety
    /// The caller removes the entry that stood for these references, and makes exactly one handle of it.
    pub(crate) unsafe fn from_raw(memory: &'static Memory, first: HostFrame, order: Order) -> FrameReference {
        FrameReference { memory, first, order }
    }

    fn length(&self) -> usize {
        (self.order.frames() << PAGE_SHIFT) as usize
    }

    fn check(&self, offset: usize, length: usize) -> Result<*mut u8, OutOfPage> {
        let end = offset.checked_add(length).ok_or(OutOfPage)?;
        if end > self.length() {
            return Err(OutOfPage);
        }
        Ok(self.memory.pointer(self.first.address()).wrapping_add(offset))
    }

    /// Copy bytes out of the block. The guest may change them meanwhile: the copy is what counts, so check the copy.
    ///
    /// # Errors
    /// [`OutOfPage`] when the range leaves the block.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfPage> {
        interleave();
        let from = self.check(offset, into.len())?;
        copy_racing(from, into.as_mut_ptr(), into.len());
        Ok(())
    }

    /// Copy bytes into the block.
    ///
    /// # Errors
    /// [`OutOfPage`] when the range leaves the block.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfPage> {
        interleave();
        let into = self.check(offset, bytes.len())?;
        copy_racing(bytes.as_ptr(), into, bytes.len());
        Ok(())
    }

    /// Copy `length` bytes from `source` into this block.
    ///
    /// # Errors
    /// [`OutOfPage`] when either range leaves its block.
    pub fn copy_from(
        &self,
        offset: usize,
        source: &FrameReference,
        source_offset: usize,
        length: usize,
    ) -> Result<(), OutOfPage> {
        let into = self.check(offset, length)?;
        let from = source.check(source_offset, length)?;
        copy_racing(from, into, length);
        Ok(())
    }

    /// Fill a range with zeroes.
    ///
    /// # Errors
    /// [`OutOfPage`] when the range leaves the block.
    pub fn zero(&self, offset: usize, length: usize) -> Result<(), OutOfPage> {
        let into = self.check(offset, length)?;
        // SAFETY: checked to be inside the block, to which this reference is held; guests' racing accesses go through
        // their own mappings and see some mix of bytes, which is theirs to bear.
        unsafe { into.write_bytes(0, length) };
        Ok(())
    }

    fn atomic<A>(&self, offset: usize) -> Result<&A, OutOfPage> {
        interleave();
        let cell = self.check(offset, size_of::<A>())?;
        if !cell.cast::<A>().is_aligned() {
            return Err(OutOfPage);
        }
        // SAFETY: inside the block, aligned, and only ever reached as an atomic of some width or by racing copies.
        Ok(unsafe { &*cell.cast::<A>() })
    }

    atomic_access!(
        load_u8,
        store_u8,
        compare_exchange_u8,
        fetch_or_u8,
        fetch_and_u8,
        u8,
        AtomicU8
    );
    atomic_access!(
        load_u16,
        store_u16,
        compare_exchange_u16,
        fetch_or_u16,
        fetch_and_u16,
        u16,
        AtomicU16
    );
    atomic_access!(
        load_u32,
        store_u32,
        compare_exchange_u32,
        fetch_or_u32,
        fetch_and_u32,
        u32,
        AtomicU32
    );
    atomic_access!(
        load_u64,
        store_u64,
        compare_exchange_u64,
        fetch_or_u64,
        fetch_and_u64,
        u64,
        AtomicU64
    );
}

/// Copy between memory that a guest may write at the same time and memory that it may not (or likewise may).
///
/// A racing plain copy would be undefined behaviour in the abstract machine, so on the metal it is an opaque
/// instruction; on the host (where simulated processors take turns, so nothing races) it is an ordinary copy.
fn copy_racing(from: *const u8, into: *mut u8, length: usize) {
    #[cfg(target_os = "none")]
    // SAFETY: both ranges were checked by the callers; the two string moves read and write exactly `length` bytes,
    // forwards. Words first: a byte move of a page costs eight times as much where string moves are not accelerated.
    unsafe {
        core::arch::asm!("rep movsq", "mov rcx, {tail}", "rep movsb", tail = in(reg) length % 8,
            inout("rcx") length / 8 => _, inout("rsi") from => _, inout("rdi") into => _,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    // SAFETY: both ranges were checked by the callers; source and destination may be one frame, so `copy`.
    unsafe {
        core::ptr::copy(from, into, length);
    }
}
