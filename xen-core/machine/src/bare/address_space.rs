//! The core's own page tables: code can be executed, data can be written, nothing can be both.

use boot::ranges::Ranges;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::structures::paging::mapper::{MapToError, MapperFlush, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags as Flags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::layout::{self, DEVICES, DIRECT_MAP, IMAGE_BASE, LOW_MEMORY, WINDOW};
use super::physical_memory::memory;
use crate::address::{HostAddress, Order, PAGE_SIZE};
use crate::sync::Lock;

const PAGE: u64 = PAGE_SIZE as u64;
const DATA: Flags = Flags::PRESENT
    .union(Flags::WRITABLE)
    .union(Flags::NO_EXECUTE)
    .union(Flags::GLOBAL);
const CONSTANT: Flags = Flags::PRESENT.union(Flags::NO_EXECUTE).union(Flags::GLOBAL);
const CODE: Flags = Flags::PRESENT.union(Flags::GLOBAL);
const REGISTERS: Flags = DATA.union(Flags::NO_CACHE).union(Flags::WRITE_THROUGH);

struct AddressSpace {
    root: PhysFrame,
    /// The next unused address for devices.
    next_device: u64,
}

static SPACE: Lock<Option<AddressSpace>> = Lock::new(None);

/// Frames for tables while there is no allocator yet.
struct EarlyFrames<'a>(&'a mut Ranges);

// SAFETY: each frame is taken out of the free ranges, so it is unused and never given twice.
unsafe impl FrameAllocator<Size4KiB> for EarlyFrames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let address = self.0.take(PAGE, PAGE, boot::entry::FIRST_MAPPED)?;
        Some(PhysFrame::containing_address(PhysAddr::new(address)))
    }
}

/// Frames for tables from the allocator.
struct CoreFrames;

// SAFETY: the allocator gives a frame to one taker only.
unsafe impl FrameAllocator<Size4KiB> for CoreFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = memory()?.allocate_core(Order::PAGE)?;
        Some(PhysFrame::containing_address(PhysAddr::new(frame.address().0)))
    }
}

impl AddressSpace {
    fn mapper(&mut self) -> OffsetPageTable<'_> {
        let table = (DIRECT_MAP | self.root.start_address().as_u64()) as *mut PageTable;
        // SAFETY: the root table and all below it are frames of ours, mapped in the direct map, and reached through this
        // one structure only, which is behind a lock.
        unsafe { OffsetPageTable::new(&mut *table, VirtAddr::new(DIRECT_MAP)) }
    }
}

/// Map physical memory with the largest pages that fit, `offset` further on than where it is.
fn map_range(
    mapper: &mut OffsetPageTable<'_>,
    frames: &mut impl FrameAllocator<Size4KiB>,
    offset: u64,
    physical: core::ops::Range<u64>,
    flags: Flags,
) {
    let huge = raw_cpuid::CpuId::new().get_extended_processor_and_feature_identifiers();
    let huge = huge.is_some_and(|features| features.has_1gib_pages());
    let mut address = physical.start;
    while address < physical.end {
        let target = offset.wrapping_add(address);
        let rest = physical.end.saturating_sub(address);
        let fits = |size: u64| (address | target).is_multiple_of(size) && rest >= size;
        let mapped = if huge && fits(Size1GiB::SIZE) {
            map_page::<Size1GiB>(mapper, frames, target, address, flags)
        } else if fits(Size2MiB::SIZE) {
            map_page::<Size2MiB>(mapper, frames, target, address, flags)
        } else {
            map_page::<Size4KiB>(mapper, frames, target, address, flags)
        };
        address = address.saturating_add(mapped);
    }
}

fn map_page<'a, S: PageSize>(
    mapper: &mut OffsetPageTable<'a>,
    frames: &mut impl FrameAllocator<Size4KiB>,
    at: u64,
    physical: u64,
    flags: Flags,
) -> u64
where
    OffsetPageTable<'a>: Mapper<S>,
{
    let page = Page::<S>::containing_address(VirtAddr::new(at));
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new(physical));
    // SAFETY: the callers map fresh addresses, each for one purpose, with rights that keep code and data apart.
    match unsafe { mapper.map_to(page, frame, flags, frames) } {
        Ok(flush) => flush.flush(),
        Err(MapToError::FrameAllocationFailed) => panic!("no memory for the core's page tables"),
        Err(_) => panic!("mapping {at:#x} twice"),
    }
    S::SIZE
}

/// Build the tables and switch to them: the image by its parts' rights, and the direct map of `ram` and of low memory,
/// without the image.
pub fn start(free: &mut Ranges, ram: &Ranges) {
    let mut frames = EarlyFrames(free);
    let Some(root) = frames.allocate_frame() else {
        super::crash::refuse(format_args!("there is no free memory below 4 GiB"))
    };
    let table = (DIRECT_MAP | root.start_address().as_u64()) as *mut PageTable;
    // SAFETY: a fresh frame, mapped by the entry code's direct map.
    unsafe { table.write(PageTable::new()) };
    let mut space = AddressSpace {
        root,
        next_device: DEVICES,
    };
    let mut mapper = space.mapper();
    for part in layout::image_parts() {
        let flags = match (part.writable, part.executable) {
            (true, _) => DATA,
            (_, true) => CODE,
            _ => CONSTANT,
        };
        map_range(&mut mapper, &mut frames, IMAGE_BASE, part.physical, flags);
    }
    let mut direct = ram.clone();
    direct.insert(0..LOW_MEMORY);
    direct.remove(&layout::image());
    for range in direct.iter() {
        map_range(&mut mapper, &mut frames, DIRECT_MAP, range.clone(), DATA);
    }
    // SAFETY: the new tables map the running code, its data and its stack (which is in the image) at the same addresses,
    // and the direct map's frames that are in use.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
    *SPACE.lock() = Some(space);
}

/// Set the calling processor's paging switches: global pages, and write protection that binds us, too.
pub fn prepare_processor() {
    // SAFETY: the tables are laid out for both.
    unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::PAGE_GLOBAL));
        Cr0::update(|flags| flags.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::NUMERIC_ERROR));
    }
}

fn with<R>(work: impl FnOnce(&mut AddressSpace) -> R) -> R {
    work(SPACE.lock().as_mut().expect("the address space is built first"))
}

/// The root table, for other processors to start with. It lies below 4 GiB.
pub fn root() -> HostAddress {
    with(|space| HostAddress(space.root.start_address().as_u64()))
}

/// Back a stretch of addresses with fresh memory of the core's.
pub fn map_core_memory(start: u64, length: u64) {
    with(|space| {
        let mut mapper = space.mapper();
        for page in (start..start.saturating_add(length)).step_by(PAGE_SIZE) {
            let frame = CoreFrames.allocate_frame().expect("memory for the core's start");
            let physical = frame.start_address().as_u64();
            map_page::<Size4KiB>(&mut mapper, &mut CoreFrames, page, physical, DATA);
        }
    });
}

fn map_device_space(physical: HostAddress, length: u64, flags: Flags) -> *mut u8 {
    with(|space| {
        let first = physical.0 & !(PAGE - 1);
        let end = physical.0.saturating_add(length);
        let at = space.next_device;
        let mut mapper = AddressSpace::mapper(space);
        let mut next = at;
        for from in (first..end).step_by(PAGE_SIZE) {
            map_page::<Size4KiB>(&mut mapper, &mut CoreFrames, next, from, flags);
            next = next.saturating_add(PAGE);
        }
        space.next_device = next;
        (at as *mut u8).wrapping_add(physical.offset())
    })
}

/// Map a device's registers, for good.
pub fn map_registers(physical: HostAddress, length: u64) -> *mut u8 {
    map_device_space(physical, length, REGISTERS)
}

/// Map firmware's tables for reading, for good.
pub fn map_firmware(physical: HostAddress, length: u64) -> *const u8 {
    map_device_space(physical, length, CONSTANT)
}

/// Copy from memory outside the direct map, page by page through one window.
pub fn copy_firmware(address: HostAddress, into: &mut [u8]) {
    with(|space| {
        let mut at = address;
        let mut rest = into;
        while !rest.is_empty() {
            let length = rest.len().min(PAGE_SIZE.saturating_sub(at.offset()));
            let (piece, further) = rest.split_at_mut(length);
            let mut mapper = space.mapper();
            map_page::<Size4KiB>(
                &mut mapper,
                &mut CoreFrames,
                WINDOW,
                at.0 & !(PAGE - 1),
                CONSTANT & !Flags::GLOBAL,
            );
            let from = (WINDOW as *const u8).wrapping_add(at.offset());
            // SAFETY: the window maps that page now, under the lock; firmware's memory holds bytes of any value.
            unsafe { core::ptr::copy_nonoverlapping(from, piece.as_mut_ptr(), length) };
            let page = Page::<Size4KiB>::containing_address(VirtAddr::new(WINDOW));
            // Other processors have not looked through the window since they flushed it last.
            if let Ok((_, flush)) = mapper.unmap(page) {
                MapperFlush::flush(flush);
            }
            rest = further;
            at = at.saturating_add(length as u64);
        }
    });
}

/// Map one page of low memory where it is, to be executed by processors that start in it.
pub fn map_start_page(page: HostAddress) {
    with(|space| {
        map_page::<Size4KiB>(
            &mut space.mapper(),
            &mut CoreFrames,
            page.0,
            page.0,
            Flags::PRESENT,
        );
    });
}

/// Undo [`map_start_page`].
pub fn unmap_start_page(page: HostAddress) {
    with(|space| {
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(page.0));
        if let Ok((_, flush)) = space.mapper().unmap(page) {
            flush.flush();
        }
    });
}

/// Whether an address is mapped. Takes no wait: false when somebody is changing the tables.
pub fn is_mapped(address: u64) -> bool {
    let Some(mut space) = SPACE.try_lock() else {
        return false;
    };
    let Some(space) = space.as_mut() else { return false };
    matches!(
        space.mapper().translate(VirtAddr::new_truncate(address)),
        TranslateResult::Mapped { .. }
    )
}
