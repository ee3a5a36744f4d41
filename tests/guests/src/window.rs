//! A window of virtual addresses onto any guest-physical page, above what the entry code maps.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::Page;

/// Where the windows are: the second entry of the uppermost table.
const BASE: u64 = 1 << 39;
const PRESENT_WRITABLE: u64 = 3;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

static POINTERS: Page = Page::new();
static DIRECTORY: Page = Page::new();
static TABLE: Page = Page::new();
static READY: AtomicU64 = AtomicU64::new(0);

/// Puts a page of the guest's physical address space at window `index` (below 512). The two pages are next to each other
/// for an even index and the odd one after it, so that an access may straddle them.
pub fn show(index: u64, physical: u64) -> u64 {
    if READY.load(Ordering::Acquire) == 0 {
        POINTERS.write(0, DIRECTORY.address() | PRESENT_WRITABLE);
        DIRECTORY.write(0, TABLE.address() | PRESENT_WRITABLE);
        let root: u64;
        // SAFETY: reading it has no effect.
        unsafe { core::arch::asm!("mov {}, cr3", out(reg) root, options(nomem, nostack)) };
        // The tables of the entry code are in the image, mapped as they lie.
        crate::page::write((root & ADDRESS) + 8, POINTERS.address() | PRESENT_WRITABLE);
        READY.store(1, Ordering::Release);
    }
    let index = index & 511;
    TABLE.write(index as usize * 8, physical & ADDRESS | PRESENT_WRITABLE);
    let address = BASE + index * 4096;
    // SAFETY: forgets what this processor knew of the window, nothing else.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) address, options(nostack)) };
    address + (physical & 0xfff)
}
