//! Walks of page tables that a guest wrote: right ones in each format, and everything else.

use hypercall_abi::Error;
use machine::address::{GuestAddress, GuestFrame, LinearAddress, PAGE_SIZE};
use machine::fake::FakeMachine;
use machine::stage_two::Permissions;
use machine::virtual_cpu::PagingState;

use super::*;
use crate::testing::{self, TestDomain, TestKernel};

const PAGES: u64 = 32;
const READ: Access = Access {
    write: false,
    user: false,
};
const WRITE: Access = Access {
    write: true,
    user: false,
};
const USER_READ: Access = Access {
    write: false,
    user: true,
};
const USER_WRITE: Access = Access {
    write: true,
    user: true,
};
const ALL: u64 = PRESENT | WRITABLE | USER;

fn setting() -> (TestKernel, TestDomain) {
    let kernel = testing::kernel();
    let domain = testing::domain(&kernel, 1, 1, PAGES);
    (kernel, domain)
}

fn long_mode(root: u64, levels: u32) -> PagingState {
    PagingState {
        cr0: CR0_PAGING | CR0_WRITE_PROTECT,
        cr3: root << 12,
        cr4: CR4_PAE | if levels == 5 { CR4_FIVE_LEVELS } else { 0 },
        efer: EFER_LONG_MODE,
        privilege: 0,
    }
}

fn memory(domain: &TestDomain, paging: PagingState) -> GuestMemory<'_, FakeMachine> {
    GuestMemory::new(&domain.physmap, paging)
}

fn set(domain: &TestDomain, table: u64, index: u64, entry: u64) {
    testing::poke(domain, (table << 12) + index * 8, &entry);
}

/// Tables in frames 1 to 4 (and 5 above them) that map linear 0x12345 to frame 9, 2 MiB at 0x20_0000 to 0, 1 GiB at 1 GiB.
fn build(domain: &TestDomain) {
    set(domain, 5, 0, (1 << 12) | ALL);
    set(domain, 1, 0, (2 << 12) | ALL);
    set(domain, 2, 0, (3 << 12) | ALL);
    set(domain, 2, 1, ALL | LARGE);
    set(domain, 3, 0, (4 << 12) | ALL);
    set(domain, 3, 1, ALL | LARGE);
    set(domain, 4, 0x12, (9 << 12) | ALL);
}

#[test]
fn four_and_five_levels_with_pages_of_every_size() {
    let (_kernel, domain) = setting();
    build(&domain);
    for paging in [long_mode(1, 4), long_mode(5, 5)] {
        let memory = memory(&domain, paging);
        let to = |address| memory.translate(LinearAddress(address), WRITE);
        assert_eq!(to(0x1_2345), Ok(GuestAddress(0x9345)));
        assert_eq!(to(0x20_3456), Ok(GuestAddress(0x3456)));
        assert_eq!(to(0x4000_7654), Ok(GuestAddress(0x7654)));
        for hole in [0x1_3000, 0x40_0000, 0x8000_0000, 1 << 46] {
            assert_eq!(to(hole), Err(Error::EFAULT), "{hole:#x}");
        }
    }
    let four = memory(&domain, long_mode(1, 4));
    for odd in [1u64 << 47, 1 << 63, 0xffff_0000_0001_2345] {
        assert_eq!(four.translate(LinearAddress(odd), READ), Err(Error::EFAULT));
    }
}

#[test]
fn rights_are_those_of_every_level() {
    let (_kernel, domain) = setting();
    build(&domain);
    let at = LinearAddress(0x1_2345);
    for (table, index, next) in [(1, 0, 2), (2, 0, 3), (3, 0, 4), (4, 0x12, 9)] {
        set(&domain, table, index, (next << 12) | PRESENT | WRITABLE);
        let guest = memory(&domain, long_mode(1, 4));
        assert_eq!(guest.translate(at, USER_READ), Err(Error::EFAULT));
        assert!(guest.translate(at, WRITE).is_ok());
        set(&domain, table, index, (next << 12) | PRESENT | USER);
        assert_eq!(guest.translate(at, WRITE), Err(Error::EFAULT));
        assert!(guest.translate(at, USER_READ).is_ok());
        // Kernels that switched write protection off write where users may not.
        let mut paging = long_mode(1, 4);
        paging.cr0 &= !CR0_WRITE_PROTECT;
        assert!(memory(&domain, paging).translate(at, WRITE).is_ok());
        assert_eq!(
            memory(&domain, paging).translate(at, USER_WRITE),
            Err(Error::EFAULT)
        );
        set(&domain, table, index, (next << 12) | WRITABLE | USER);
        assert_eq!(guest.translate(at, READ), Err(Error::EFAULT), "not present");
        set(&domain, table, index, (next << 12) | ALL);
    }
}

#[test]
fn the_formats_of_32_bit_kernels() {
    let (_kernel, domain) = setting();
    let unpaged = memory(&domain, PagingState::default());
    assert_eq!(
        unpaged.translate(LinearAddress(0xffff_ffff_0000_1234), WRITE),
        Ok(GuestAddress(0x1234))
    );
    build(&domain);
    // PAE: four entries, wherever 32 bytes are aligned.
    testing::poke(&domain, 0x6fe0, &((3u64 << 12) | PRESENT));
    let pae = PagingState {
        cr3: 0x6fe0,
        efer: 0,
        ..long_mode(0, 4)
    };
    let guest = memory(&domain, pae);
    assert_eq!(
        guest.translate(LinearAddress(0x1_2345), WRITE),
        Ok(GuestAddress(0x9345))
    );
    assert_eq!(
        guest.translate(LinearAddress(0x20_3456), WRITE),
        Ok(GuestAddress(0x3456))
    );
    assert_eq!(
        guest.translate(LinearAddress(0xc000_0000), READ),
        Err(Error::EFAULT)
    );
    // Two levels of 32-bit entries, and 4 MiB pages with address bits above 32.
    testing::poke(
        &domain,
        0x7000,
        &[0x8000u32 | ALL as u32, (LARGE | ALL) as u32 | 1 << 13],
    );
    testing::poke(&domain, 0x8000 + 0x12 * 4, &(0x9000u32 | ALL as u32));
    let legacy = PagingState {
        cr3: 0x7000,
        cr4: CR4_PSE,
        ..pae
    };
    let guest = memory(&domain, legacy);
    assert_eq!(
        guest.translate(LinearAddress(0x1_2345), WRITE),
        Ok(GuestAddress(0x9345))
    );
    assert_eq!(
        guest.translate(LinearAddress(0x40_3456), WRITE),
        Ok(GuestAddress(0x1_0000_3456))
    );
    assert_eq!(
        guest.translate(LinearAddress(0x80_0000), READ),
        Err(Error::EFAULT)
    );
}

#[test]
fn tables_that_point_at_themselves_into_holes_and_past_memory_end_in_a_fault_or_in_ones_own_page() {
    let (_kernel, domain) = setting();
    // A table that is its own next level at every level: the walk has as many steps as there are levels.
    for index in 0..512 {
        set(&domain, 1, index, (1 << 12) | ALL);
    }
    for levels in [4, 5] {
        let guest = memory(&domain, long_mode(1, levels));
        assert_eq!(
            guest.translate(LinearAddress(0x1_2345), WRITE),
            Ok(GuestAddress(0x1345))
        );
    }
    for next in [PAGES, 1 << 30, FRAME_MASK >> 12] {
        set(&domain, 2, 0, (next << 12) | ALL);
        assert_eq!(
            memory(&domain, long_mode(2, 4)).translate(LinearAddress(0), READ),
            Err(Error::EFAULT)
        );
        assert_eq!(
            memory(&domain, long_mode(next, 4)).translate(LinearAddress(0), READ),
            Err(Error::EFAULT)
        );
    }
}

#[test]
fn copies_cross_pages_and_stop_where_memory_does() {
    let (kernel, domain) = setting();
    let guest = memory(&domain, PagingState::default());
    let bytes: Vec<u8> = (0..3 * PAGE_SIZE).map(|index| (index / 7) as u8).collect();
    guest.write(10 * 4096 + 100, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    guest.read(10 * 4096 + 100, &mut back).unwrap();
    assert_eq!(back, bytes);
    let end = PAGES * 4096;
    assert_eq!(guest.write(end - 8, &[1; 16]), Err(Error::EFAULT));
    assert_eq!(guest.read(end - 8, &mut [0; 16]), Err(Error::EFAULT));
    assert_eq!(guest.read(u64::MAX - 3, &mut [0; 16]), Err(Error::EFAULT));
    domain
        .physmap
        .protect(&kernel.machine, GuestFrame(20), Permissions::READ_ONLY)
        .unwrap();
    assert_eq!(guest.write(20 * 4096, &[1]), Err(Error::EFAULT));
    assert!(guest.read(20 * 4096, &mut [0]).is_ok());
}

/// Whatever the tables and registers hold, a walk ends, and what it finds is the guest's own.
#[test]
fn random_tables_lead_nowhere_else() {
    let (kernel, domain) = setting();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..20_000 {
        if round % 16 == 0 {
            for index in 0..512 {
                // Mostly near misses: small frame numbers and common bits.
                let entry = random() & random() & 0x8000_0000_0001_ffff | (random() & ALL) | 1;
                set(&domain, random() % PAGES, index, entry);
            }
        }
        let paging = PagingState {
            cr0: random() | CR0_PAGING,
            cr3: random() % (PAGES << 12),
            cr4: random(),
            efer: random(),
            privilege: 0,
        };
        let access = Access {
            write: random() & 1 != 0,
            user: random() & 1 != 0,
        };
        if let Ok((page, offset)) =
            memory(&domain, paging).page(LinearAddress(random() >> (random() % 64)), access)
        {
            assert!(page.owner() == domain.id.0 && offset < PAGE_SIZE);
        }
    }
    drop(domain);
    kernel.domains.remove(hypercall_abi::DomainId(1));
    assert_eq!(
        kernel.machine.memory().frames_owned(1),
        0,
        "no reference stays behind"
    );
}
