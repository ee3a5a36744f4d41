//! The grant table, version 1: entries that the hypervisor reads, and marks while somebody uses them.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use hypercall_abi::grant_table::{GrantReference, entry_flag, reserved};
use hypercall_abi::memory::map_space;
use hypercall_abi::{DomainId, PAGE_SIZE};
use spin::Mutex;

use super::{bare, frame_of, put_at};
use crate::front::{Access, Error};
use crate::ring::{Memory, SharedMemory};

/// Pages of the table.
const PAGES: usize = 4;
const ENTRY: usize = 8;
const ENTRIES: usize = PAGES * PAGE_SIZE / ENTRY;

static TABLE: bare::StaticPages<{ PAGES * PAGE_SIZE }> = bare::StaticPages::new();

pub struct Grants {
    table: SharedMemory,
    /// A bit for each entry in use.
    used: Mutex<[u64; ENTRIES / 64]>,
}

impl Grants {
    /// Puts the table's pages where ours are.
    pub fn begin() -> Result<Grants, Error> {
        let table = TABLE.memory();
        // From the last on: the table grows to that at once.
        for index in (0..PAGES as u64).rev() {
            put_at(
                map_space::GRANT_TABLE,
                index,
                frame_of(&table) + index,
                "grant table pages",
            )?;
        }
        Ok(Grants::over(table))
    }

    fn over(table: SharedMemory) -> Grants {
        let mut used = [0; ENTRIES / 64];
        used[0] = (1 << reserved::COUNT) - 1;
        Grants {
            table,
            used: Mutex::new(used),
        }
    }

    pub fn grant(&self, to: DomainId, frame: u64, access: Access) -> Result<GrantReference, Error> {
        let frame = u32::try_from(frame).map_err(|_| Error::OutOfRange {
            start: frame,
            length: 1,
            limit: u32::MAX.into(),
        })?;
        let reference = self.take()?;
        let flags = match access {
            Access::Read => entry_flag::PERMIT_ACCESS | entry_flag::READ_ONLY,
            Access::ReadWrite => entry_flag::PERMIT_ACCESS,
        };
        let at = reference as usize * ENTRY;
        self.table.store(at + 4, frame, Relaxed);
        // Release: an entry that permits something names the right frame.
        self.table
            .store(at, u32::from(flags) | u32::from(to.0) << 16, Release);
        Ok(reference)
    }

    /// Takes back what is not in use at this moment, in one step: the hypervisor marks entries at the same time.
    pub fn revoke(&self, reference: GrantReference) -> bool {
        if reference < reserved::COUNT || reference as usize >= ENTRIES {
            return false;
        }
        let at = reference as usize * ENTRY;
        let mut word = self.table.load(at, Acquire);
        loop {
            if word as u16 & (entry_flag::READING | entry_flag::WRITING) != 0 {
                return false;
            }
            match self.table.compare_exchange(at, word, 0) {
                Ok(()) => break,
                Err(other) if other == word => return false,
                Err(other) => word = other,
            }
        }
        self.used.lock()[reference as usize / 64] &= !(1 << (reference % 64));
        true
    }

    fn take(&self) -> Result<GrantReference, Error> {
        let mut used = self.used.lock();
        for (index, word) in used.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < 64 {
                *word |= 1 << bit;
                return Ok(index as u32 * 64 + bit);
            }
        }
        Err(Error::OutOfGrants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_those_of_version_one_and_one_in_use_is_not_taken_back() {
        static PAGES: bare::StaticPages<{ super::PAGES * PAGE_SIZE }> = bare::StaticPages::new();
        let (grants, table) = (Grants::over(PAGES.memory()), PAGES.memory());
        let first = grants.grant(DomainId(3), 0x1234, Access::Read).unwrap();
        let second = grants.grant(DomainId(0), 0x1235, Access::ReadWrite).unwrap();
        assert_eq!(
            (first, second),
            (8, 9),
            "behind those that the toolstack fills in"
        );
        assert_eq!(
            (table.load(64, Relaxed), table.load(68, Relaxed)),
            (0x0003_0005, 0x1234)
        );
        assert_eq!((table.load(72, Relaxed), table.load(76, Relaxed)), (1, 0x1235));
        table.store(64, 0x0003_000d, Relaxed);
        assert!(!grants.revoke(first), "it is being read");
        table.store(64, 0x0003_0005, Relaxed);
        assert!(grants.revoke(first) && table.load(64, Relaxed) == 0);
        assert_eq!(grants.grant(DomainId(0), 1, Access::Read), Ok(first));
        assert!(!grants.revoke(1), "the store's is not ours");
        assert!(grants.grant(DomainId(0), 1 << 32, Access::Read).is_err());
    }

    #[test]
    fn a_full_table_says_so() {
        static PAGES: bare::StaticPages<{ super::PAGES * PAGE_SIZE }> = bare::StaticPages::new();
        let grants = Grants::over(PAGES.memory());
        let given = (0..).take_while(|_| grants.grant(DomainId(0), 1, Access::Read).is_ok());
        assert_eq!(given.count(), ENTRIES - reserved::COUNT as usize);
        assert_eq!(
            grants.grant(DomainId(0), 1, Access::Read),
            Err(Error::OutOfGrants)
        );
    }
}
