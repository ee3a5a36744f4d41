//! The core's address space, and where the image lies in it.

use core::ops::Range;

pub use boot::entry::{DIRECT_MAP, IMAGE_BASE};

/// Registers of devices and firmware's tables, mapped as they are needed.
pub const DEVICES: u64 = 0xffff_e000_0000_0000;
/// One page through which firmware's memory is copied.
pub const WINDOW: u64 = 0xffff_e800_0000_0000;
/// Stacks, each with unmapped pages around it.
pub const STACKS: u64 = 0xffff_f000_0000_0000;

/// Memory below this is firmware's and the start code's; the allocator never gets it.
pub const LOW_MEMORY: u64 = 1 << 20;

unsafe extern "C" {
    static image_text_start: u8;
    static image_text_end: u8;
    static image_rodata_end: u8;
    static image_end: u8;
}

/// A part of the image, as physical addresses.
pub struct ImagePart {
    /// Where it lies.
    pub physical: Range<u64>,
    /// Whether it is written to.
    pub writable: bool,
    /// Whether it is executed.
    pub executable: bool,
}

/// The image's parts: text, constants, data.
pub fn image_parts() -> [ImagePart; 3] {
    let [start, text, rodata, end] = [
        &raw const image_text_start,
        &raw const image_text_end,
        &raw const image_rodata_end,
        &raw const image_end,
    ]
    .map(|symbol| symbol as u64 & !IMAGE_BASE);
    [
        ImagePart {
            physical: start..text,
            writable: false,
            executable: true,
        },
        ImagePart {
            physical: text..rodata,
            writable: false,
            executable: false,
        },
        ImagePart {
            physical: rodata..end,
            writable: true,
            executable: false,
        },
    ]
}

/// The whole image, as physical addresses.
pub fn image() -> Range<u64> {
    let [text, _, data] = image_parts();
    text.physical.start..data.physical.end
}

/// The whole image, as it is linked.
pub fn image_addresses() -> Range<u64> {
    let physical = image();
    (IMAGE_BASE | physical.start)..(IMAGE_BASE | physical.end)
}

/// Where an address in the direct map lies physically; `None` for other addresses.
pub fn direct_map_to_physical(pointer: *const u8) -> Option<u64> {
    (pointer as u64)
        .checked_sub(DIRECT_MAP)
        .filter(|&physical| physical < DEVICES - DIRECT_MAP)
}
