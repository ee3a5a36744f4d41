//! Reading and writing what a guest points at.
//!
//! A pointer in a hypercall is a linear address of the caller: it is walked through the caller's own page tables, each
//! of whose pages is found through its physmap, and then copied, once. Every step can fail and says EFAULT; nothing here
//! trusts an entry further than the look-up of the frame it names.

use hypercall_abi::Error;
use machine::Machine;
use machine::address::{GuestAddress, GuestFrame, LinearAddress, PAGE_SIZE};
use machine::memory::FrameReference;
use machine::virtual_cpu::PagingState;

use crate::physmap::Physmap;

const CR0_PAGING: u64 = 1 << 31;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_FIVE_LEVELS: u64 = 1 << 12;
const EFER_LONG_MODE: u64 = 1 << 10;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// What an access needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// It stores.
    pub write: bool,
    /// It is made with user privilege: hypercalls are not.
    pub user: bool,
}

/// A guest's linear address space at one moment.
pub struct GuestMemory<'a, M: Machine> {
    physmap: &'a Physmap<M>,
    paging: PagingState,
}

impl<'a, M: Machine> GuestMemory<'a, M> {
    /// The address space that `paging` describes.
    pub fn new(physmap: &'a Physmap<M>, paging: PagingState) -> Self {
        GuestMemory { physmap, paging }
    }

    /// Where a linear address lies in guest-physical memory.
    ///
    /// # Errors
    /// EFAULT when the guest's tables do not map it for this access.
    pub fn translate(&self, address: LinearAddress, access: Access) -> Result<GuestAddress, Error> {
        let paging = &self.paging;
        if paging.cr0 & CR0_PAGING == 0 {
            return Ok(GuestAddress(address.0 & 0xffff_ffff));
        }
        if paging.efer & EFER_LONG_MODE != 0 {
            let levels = if paging.cr4 & CR4_FIVE_LEVELS != 0 { 5 } else { 4 };
            let bits = 12 + 9 * levels;
            // Canonical: the bits above are copies of the highest translated one.
            let shift = 64 - bits;
            if ((address.0 << shift) as i64 >> shift) as u64 != address.0 {
                return Err(Error::EFAULT);
            }
            self.walk(GuestAddress(paging.cr3 & FRAME_MASK), address.0, levels, access)
        } else if paging.cr4 & CR4_PAE != 0 {
            let address = address.0 & 0xffff_ffff;
            let top = GuestAddress((paging.cr3 & 0xffff_ffe0) + (address >> 30) * 8);
            let entry = self.read_word(top)?;
            // These four entries have neither permissions nor, on real processors, an accessed bit; some set it.
            if entry & PRESENT == 0 {
                return Err(Error::EFAULT);
            }
            self.walk(GuestAddress(entry & FRAME_MASK), address, 2, access)
        } else {
            self.walk_legacy(address.0 & 0xffff_ffff, access)
        }
    }

    /// Walk `levels` tables of 64-bit entries.
    fn walk(
        &self,
        root: GuestAddress,
        address: u64,
        levels: u32,
        access: Access,
    ) -> Result<GuestAddress, Error> {
        let mut table = root;
        let mut rights = WRITABLE | USER;
        for level in (0..levels).rev() {
            let shift = 12 + 9 * level;
            let entry = self.read_word(GuestAddress(table.0 + ((address >> shift) & 511) * 8))?;
            if entry & PRESENT == 0 {
                return Err(Error::EFAULT);
            }
            rights &= entry;
            if level == 0 || (level <= 2 && entry & LARGE != 0) {
                self.check(rights, access)?;
                let offset_mask = (1u64 << shift) - 1;
                return Ok(GuestAddress(
                    (entry & FRAME_MASK & !offset_mask) | (address & offset_mask),
                ));
            }
            table = GuestAddress(entry & FRAME_MASK);
        }
        Err(Error::EFAULT)
    }

    /// Walk the two levels of 32-bit entries of a guest without PAE.
    fn walk_legacy(&self, address: u64, access: Access) -> Result<GuestAddress, Error> {
        let directory = (self.paging.cr3 & 0xffff_f000) + (address >> 22) * 4;
        let entry = self.read_half(GuestAddress(directory))?;
        if entry & PRESENT == 0 {
            return Err(Error::EFAULT);
        }
        if entry & LARGE != 0 && self.paging.cr4 & CR4_PSE != 0 {
            self.check(entry, access)?;
            // PSE-36: bits 13-16 of the entry are address bits 32-35.
            let high = ((entry >> 13) & 0xf) << 32;
            return Ok(GuestAddress(high | (entry & 0xffc0_0000) | (address & 0x3f_ffff)));
        }
        let leaf = self.read_half(GuestAddress((entry & 0xffff_f000) + ((address >> 12) & 1023) * 4))?;
        if leaf & PRESENT == 0 {
            return Err(Error::EFAULT);
        }
        self.check(entry & leaf, access)?;
        Ok(GuestAddress((leaf & 0xffff_f000) | (address & 0xfff)))
    }

    fn check(&self, rights: u64, access: Access) -> Result<(), Error> {
        let write_checked = access.user || self.paging.cr0 & CR0_WRITE_PROTECT != 0;
        if (access.user && rights & USER == 0) || (access.write && write_checked && rights & WRITABLE == 0) {
            return Err(Error::EFAULT);
        }
        Ok(())
    }

    fn read_word(&self, at: GuestAddress) -> Result<u64, Error> {
        let (page, _) = self.physmap.get(at.frame()).ok_or(Error::EFAULT)?;
        page.load_u64(at.offset()).map_err(|_| Error::EFAULT)
    }

    fn read_half(&self, at: GuestAddress) -> Result<u64, Error> {
        let (page, _) = self.physmap.get(at.frame()).ok_or(Error::EFAULT)?;
        page.load_u32(at.offset())
            .map(u64::from)
            .map_err(|_| Error::EFAULT)
    }

    /// The page behind a linear address, held, with the offset in it.
    ///
    /// # Errors
    /// EFAULT when nothing suitable is there.
    pub fn page(&self, address: LinearAddress, access: Access) -> Result<(FrameReference, usize), Error> {
        let physical = self.translate(address, access)?;
        let (page, leaf) = self.physmap.get(physical.frame()).ok_or(Error::EFAULT)?;
        if access.write && !leaf.permissions.write {
            return Err(Error::EFAULT);
        }
        Ok((page, physical.offset()))
    }

    /// Copy from the guest.
    ///
    /// # Errors
    /// EFAULT; `into` may hold part of it then.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        let access = Access {
            write: false,
            user: false,
        };
        self.each_page(address, into.len(), access, |page, offset, range| {
            page.read(offset, into.get_mut(range).ok_or(Error::EFAULT)?)
                .map_err(|_| Error::EFAULT)
        })
    }

    /// Copy to the guest.
    ///
    /// # Errors
    /// EFAULT; part of it may be written then.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let access = Access {
            write: true,
            user: false,
        };
        self.each_page(address, bytes.len(), access, |page, offset, range| {
            page.write(offset, bytes.get(range).ok_or(Error::EFAULT)?)
                .map_err(|_| Error::EFAULT)
        })
    }

    fn each_page(
        &self,
        address: u64,
        length: usize,
        access: Access,
        mut copy: impl FnMut(&FrameReference, usize, core::ops::Range<usize>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < length {
            let at = LinearAddress(address.checked_add(done as u64).ok_or(Error::EFAULT)?);
            let (page, offset) = self.page(at, access)?;
            let end = done.saturating_add(PAGE_SIZE.saturating_sub(offset)).min(length);
            copy(&page, offset, done..end)?;
            done = end;
        }
        Ok(())
    }
}

/// Copy to guest-physical memory: for those who place things there by address (dom0 construction, shared info).
///
/// # Errors
/// EFAULT for a hole or a page that is not writable memory.
pub fn write_physical<M: Machine>(physmap: &Physmap<M>, at: GuestAddress, bytes: &[u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < bytes.len() {
        let address = at.checked_add(done as u64).ok_or(Error::EFAULT)?;
        let (page, _) = physmap.get(GuestFrame(address.0 >> 12)).ok_or(Error::EFAULT)?;
        let rest = PAGE_SIZE.saturating_sub(address.offset());
        let end = done.saturating_add(rest).min(bytes.len());
        let part = bytes.get(done..end).ok_or(Error::EFAULT)?;
        page.write(address.offset(), part).map_err(|_| Error::EFAULT)?;
        done = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
