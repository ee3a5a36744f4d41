//! A disk as a block device of `embedded-sdmmc`, whose file systems (FAT16, FAT32) then work on it.
//!
//! They ask for one sector at a time, and wait. A request costs about the same for eight sectors as for one, so that the page around
//! it is read and the last few pages are kept. What is written goes to the disk at once. Who shares a disk with somebody that
//! writes to it calls [`Card::forget`].

use core::cell::RefCell;

use embedded_sdmmc_types::{Block as Sector, BlockCount, BlockDevice, BlockIdx};

use super::{Block, PAGE, SECTOR, SECTORS_PER_PAGE};
use crate::front::{Error, Platform};

/// Pages that are kept.
const KEPT: usize = 4;

/// A disk that file systems can share: they ask for blocks through a shared reference.
pub struct Card<P: Platform> {
    disk: RefCell<Block<P>>,
    kept: RefCell<Kept>,
    platform: P,
    patience: u64,
}

/// The last pages that were read.
struct Kept {
    /// The first sector of each, where it holds any.
    sectors: [Option<u64>; KEPT],
    bytes: [[u8; PAGE]; KEPT],
    next: usize,
}

impl<P: Platform> Card<P> {
    /// Takes a disk that is connected. Each access may take `patience` nanoseconds.
    pub fn new(platform: P, disk: Block<P>, patience: u64) -> Card<P> {
        Card {
            disk: RefCell::new(disk),
            kept: RefCell::new(Kept {
                sectors: [None; KEPT],
                bytes: [[0; PAGE]; KEPT],
                next: 0,
            }),
            platform,
            patience,
        }
    }

    /// Does something else with the disk: [`Block::poll`], [`Block::flush`].
    pub fn with<R>(&self, work: impl FnOnce(&mut Block<P>) -> R) -> R {
        work(&mut self.disk.borrow_mut())
    }

    /// Forgets what was kept: somebody else may have written to the disk.
    pub fn forget(&self) {
        self.kept.borrow_mut().sectors = [None; KEPT];
    }

    fn deadline(&self) -> u64 {
        self.platform.now().saturating_add(self.patience)
    }

    /// Reads one sector, out of a page that is kept where possible.
    fn read_sector(&self, disk: &mut Block<P>, at: u64, into: &mut [u8; SECTOR]) -> Result<(), Error> {
        let kept = &mut *self.kept.borrow_mut();
        let first = at / SECTORS_PER_PAGE as u64 * SECTORS_PER_PAGE as u64;
        let geometry = *disk.geometry().ok_or(Error::Disconnected)?;
        let found = kept.sectors.iter().position(|sector| *sector == Some(first));
        let line = match found {
            Some(line) => line,
            // The last page of an odd disk, or a backend that takes less at a time.
            None if first + SECTORS_PER_PAGE as u64 > geometry.sectors
                || geometry.most < SECTORS_PER_PAGE =>
            {
                return disk.read(at, into, self.deadline());
            }
            None => {
                let line = kept.next;
                kept.next = (line + 1) % KEPT;
                kept.sectors[line] = None;
                disk.read(first, &mut kept.bytes[line], self.deadline())?;
                kept.sectors[line] = Some(first);
                line
            }
        };
        let (sectors, _) = kept.bytes[line].as_chunks::<SECTOR>();
        if let Some(sector) = sectors.get((at - first) as usize) {
            *into = *sector;
        }
        Ok(())
    }
}

impl<P: Platform> BlockDevice for Card<P> {
    type Error = Error;

    fn read(&self, blocks: &mut [Sector], start: BlockIdx) -> Result<(), Error> {
        let disk = &mut *self.disk.borrow_mut();
        let mut at = u64::from(start.0);
        if let [block] = blocks {
            return self.read_sector(disk, at, &mut block.contents);
        }
        let most = disk.geometry().ok_or(Error::Disconnected)?.most.max(1);
        let deadline = self.deadline();
        for part in blocks.chunks_mut(most) {
            let ticket = disk.submit_read(at, part.len())?;
            at += part.len() as u64;
            let mut pieces = part.iter_mut().map(|block| &mut block.contents[..]);
            disk.await_pieces(ticket, SECTOR, &mut pieces, deadline)?;
        }
        Ok(())
    }

    fn write(&self, blocks: &[Sector], start: BlockIdx) -> Result<(), Error> {
        self.forget();
        let disk = &mut *self.disk.borrow_mut();
        let most = disk.geometry().ok_or(Error::Disconnected)?.most.max(1);
        let deadline = self.deadline();
        let mut at = u64::from(start.0);
        for part in blocks.chunks(most) {
            let pieces = part.iter().map(|block| &block.contents[..]);
            let ticket = disk.submit_write_sectors(at, part.len(), pieces)?;
            at += part.len() as u64;
            disk.await_pieces(ticket, SECTOR, &mut core::iter::empty(), deadline)?;
        }
        Ok(())
    }

    fn num_blocks(&self) -> Result<BlockCount, Error> {
        let disk = self.disk.borrow();
        let sectors = disk.geometry().ok_or(Error::Disconnected)?.sectors;
        // The trait counts in 32 bits: what lies behind 2 TiB is not seen.
        Ok(BlockCount(u32::try_from(sectors).unwrap_or(u32::MAX)))
    }
}

const _: () = assert!(Sector::LEN == SECTOR);
