//! From the firmware's memory map to the frame allocator.

use alloc::string::ToString;
use alloc::vec::Vec;

use boot::ranges::Ranges;
use boot::{BootInfo, PhysicalMemory};

use super::layout::{DIRECT_MAP, LOW_MEMORY};
use super::{address_space, crash, layout};
use crate::address::{HostAddress, PAGE_SIZE};
use crate::memory::Memory;
use crate::module::{Module, Modules};
use crate::sync::Once;

const PAGE: u64 = PAGE_SIZE as u64;
/// Below this there is no point in starting.
const LEAST_MEMORY: u64 = 64 << 20;

static MEMORY: Once<Memory> = Once::new();
static RAM: Once<Ranges> = Once::new();

/// The machine's memory, once it is known.
pub fn memory() -> Option<&'static Memory> {
    MEMORY.get()
}

/// What the firmware calls usable memory, whoever uses it now.
pub fn ram() -> &'static Ranges {
    static NOTHING: Ranges = Ranges::new();
    RAM.get().unwrap_or(&NOTHING)
}

/// The first gigabytes, as the entry code mapped them.
pub struct FirstMapped;

impl PhysicalMemory for FirstMapped {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        if end > boot::entry::FIRST_MAPPED || length > isize::MAX as usize {
            return None;
        }
        // SAFETY: mapped by the entry code; nobody writes there while the loader's information is read.
        Some(unsafe { core::slice::from_raw_parts((DIRECT_MAP + address) as *const u8, length) })
    }
}

/// Take charge of all memory: our own page tables, the frame table, the allocator.
pub fn start(info: &BootInfo) -> &'static Memory {
    let ram = RAM.call_once(|| info.usable_memory());
    let megabytes = ram.total() >> 20;
    if ram.total() < LEAST_MEMORY {
        crash::refuse(format_args!(
            "it needs {} MiB of memory and this machine has {megabytes} MiB: give it more (QEMU: -m 256 and up)",
            LEAST_MEMORY >> 20
        ));
    }
    check_modules(info, ram);
    let mut free = ram.clone();
    free.remove(&(0..LOW_MEMORY));
    free.remove(&layout::image());
    for module in &info.modules {
        free.remove(&module.pages());
    }
    address_space::start(&mut free, ram);
    let memory = MEMORY.call_once(|| frame_table(&mut free, ram));
    for range in free.iter() {
        let first = HostAddress(range.start).frame();
        // SAFETY: usable memory inside the direct map; the image, the modules, the tables and low memory are not in it.
        unsafe { memory.add_free(first, range.end.saturating_sub(range.start) / PAGE, false) };
    }
    log::info!(
        "memory: {megabytes} MiB, {} MiB free",
        memory.free_frames() / ((1 << 20) / PAGE)
    );
    memory
}

fn check_modules(info: &BootInfo, ram: &Ranges) {
    let mut taken = Ranges::new();
    taken.insert(layout::image());
    for (index, module) in info.modules.iter().enumerate() {
        let range = module.pages();
        if !ram.contains(&range) || range.start < LOW_MEMORY {
            crash::refuse(format_args!(
                "the loader put module {index} at {:#x}, where there is no usable memory: use another loader or more memory",
                module.start
            ));
        }
        if taken.overlaps(&range) {
            crash::refuse(format_args!(
                "the loader put module {index} at {:#x}, on a page that something else occupies: use another loader",
                module.start
            ));
        }
        taken.insert(range);
    }
}

fn frame_table(free: &mut Ranges, ram: &Ranges) -> Memory {
    let frames = ram.end().div_ceil(PAGE);
    let size = Memory::metadata_size(frames);
    let whole = (size as u64).checked_next_multiple_of(PAGE);
    let Some(address) = whole.and_then(|size| free.take(size, PAGE, u64::MAX)) else {
        crash::refuse(format_args!(
            "there is no stretch of {} KiB of free memory for the frame table",
            size >> 10
        ))
    };
    let metadata = (DIRECT_MAP | address) as *mut u8;
    // SAFETY: just taken out of the free memory, inside the new direct map, which maps all usable memory for good.
    unsafe {
        metadata.write_bytes(0, size);
        Memory::new(DIRECT_MAP as *mut u8, frames, metadata)
    }
}

/// The loader's modules, as the kernel takes them.
pub fn modules(info: &BootInfo, memory: &'static Memory) -> Modules {
    let own = |module: &boot::Module| Module {
        start: HostAddress(module.start),
        length: module.length as usize,
        command_line: module.command_line.to_string(),
    };
    let modules: Vec<Module> = info.modules.iter().map(own).collect();
    // SAFETY: `start` checked that the modules lie on pages of their own in usable memory, and kept those from the
    // allocator.
    unsafe { Modules::new(memory, modules) }
}
