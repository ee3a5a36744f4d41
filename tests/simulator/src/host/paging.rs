//! The modes that guests run in: without paging, and with tables of their own in each format that there is.
//!
//! Tables map the lowest 4 GiB onto themselves, so that a pointer is the same number in each mode; in pages of every size, so
//! that a walk may end at every level. They lie in the guest's ordinary memory, where attackers write over them.

use kernel::testing::TestDomain;
use machine::address::{GuestAddress, PAGE_SIZE};
use machine::fake::{FakeMachine, FakeVcpu};

use crate::numbers::Numbers;

/// Frames that the tables take.
pub const FRAMES: u64 = 7;

const PRESENT_WRITABLE_USER: u64 = 7;
const LARGE: u64 = 1 << 7;
const CR0_PROTECTED: u64 = 1 << 0;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_FIVE_LEVELS: u64 = 1 << 12;
const EFER_LONG_MODE: u64 = (1 << 8) | (1 << 10);
const ATTRIBUTE_LONG: u16 = 1 << 9;
const ATTRIBUTE_BIG: u16 = 1 << 10;
const USER_PRIVILEGE: u16 = 3 << 5;

/// How a guest's addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 64-bit code without paging: no processor has it, and it needs no tables.
    Flat,
    /// 64-bit code, four levels.
    FourLevels,
    /// 64-bit code, five levels.
    FiveLevels,
    /// 32-bit code, entries of 64 bits.
    Extended,
    /// 32-bit code, entries of 32 bits.
    Legacy,
}

/// Frames of one domain's tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    first: u64,
}

impl Tables {
    /// At the end of a domain's first `pages`; `None` where these are few.
    pub fn of(pages: u64) -> Option<Tables> {
        (pages >= 4 * FRAMES).then(|| Tables {
            first: pages - FRAMES,
        })
    }

    /// Where table `index` is: five levels, four levels, directory pointers, directory, table; directory pointers of PAE;
    /// legacy directory.
    pub fn frame(self, index: u64) -> u64 {
        (self.first + index) << 12
    }

    /// Write all tables, as the guest does.
    pub fn write(self, machine: &FakeMachine, domain: &TestDomain) {
        // Five levels, four levels, directory pointers, directory, table; directory pointers of PAE; legacy directory.
        for index in 0..FRAMES {
            let mut page = [0u8; PAGE_SIZE];
            match index {
                0 => put(&mut page, 0, self.frame(1) | PRESENT_WRITABLE_USER),
                1 => put(&mut page, 0, self.frame(2) | PRESENT_WRITABLE_USER),
                2 => {
                    put(&mut page, 0, self.frame(3) | PRESENT_WRITABLE_USER);
                    for gibibyte in 1..4 {
                        put(
                            &mut page,
                            gibibyte,
                            (gibibyte << 30) | LARGE | PRESENT_WRITABLE_USER,
                        );
                    }
                }
                3 => {
                    put(&mut page, 0, self.frame(4) | PRESENT_WRITABLE_USER);
                    for large in 1..512 {
                        put(&mut page, large, (large << 21) | LARGE | PRESENT_WRITABLE_USER);
                    }
                }
                4 => (0..512).for_each(|small| put(&mut page, small, (small << 12) | PRESENT_WRITABLE_USER)),
                5 => put(&mut page, 0, self.frame(3) | 1),
                _ => {
                    for large in 0..1024u64 {
                        let entry = ((large << 22) | LARGE | PRESENT_WRITABLE_USER) as u32;
                        let at = large as usize * 4;
                        page[at..at + 4].copy_from_slice(&entry.to_le_bytes());
                    }
                }
            }
            // Where the page is gone, the guest lives without.
            let _ = machine.guest_store(domain.physmap.root(), GuestAddress(self.frame(index)), &page);
        }
    }

    /// Put a vCPU into a mode.
    pub fn enter(self, mode: Mode, context: &mut FakeVcpu) {
        context.enter_flat_long_mode();
        let state = &mut context.state;
        let root = match mode {
            Mode::Flat => return,
            Mode::FourLevels => 1,
            Mode::FiveLevels => 0,
            Mode::Extended => 5,
            Mode::Legacy => 6,
        };
        state.cr3 = self.frame(root);
        state.cr0 |= CR0_PROTECTED | CR0_WRITE_PROTECT | CR0_PAGING;
        state.cr4 = match mode {
            Mode::Legacy => CR4_PSE,
            Mode::FiveLevels => CR4_PAE | CR4_FIVE_LEVELS,
            _ => CR4_PAE,
        };
        if matches!(mode, Mode::Extended | Mode::Legacy) {
            state.efer &= !EFER_LONG_MODE;
            state.cs.attributes = (state.cs.attributes & !ATTRIBUTE_LONG) | ATTRIBUTE_BIG;
        }
    }
}

fn put(page: &mut [u8; PAGE_SIZE], index: u64, entry: u64) {
    let at = index as usize * 8;
    page[at..at + 8].copy_from_slice(&entry.to_le_bytes());
}

/// The mode of a deed: hypercalls are answered in 64-bit code, other exits come from everywhere.
pub fn choose(numbers: &mut Numbers, is_call: bool) -> Mode {
    let any = numbers.below(64);
    match any {
        0..20 => Mode::FourLevels,
        20..24 => Mode::FiveLevels,
        24 => Mode::Extended,
        25 => Mode::Legacy,
        26..34 if !is_call => Mode::Extended,
        34..42 if !is_call => Mode::Legacy,
        _ => Mode::Flat,
    }
}

/// Whether user code acts; seldom.
pub fn set_privilege(numbers: &mut Numbers, context: &mut FakeVcpu) {
    let attributes = &mut context.state.ss.attributes;
    *attributes &= !USER_PRIVILEGE;
    if numbers.chance(1, 96) {
        *attributes |= USER_PRIVILEGE;
    }
}
