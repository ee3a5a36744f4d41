//! Grant tables: what a domain offers, and who uses it.

use std::collections::BTreeMap;

use hypercall_abi::grant_table::{
    Copy, ENTRIES_PER_PAGE_V1, GetStatusFrames, GetVersion, GrantStatus, MapGrantRef, QuerySize, SetVersion,
    SetupTable, SwapGrantRef, UnmapAndReplace, UnmapGrantRef, entry_flag, op,
};
use hypercall_abi::{DomainId, Error};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::memory::{Kind, PageReference};
use super::{Answer, DONE, Model};

/// Elements of a list that are read before the first is acted on, and answered after the last; of unmappings, more.
const GROUP: u64 = 16;
const UNMAP_GROUP: u64 = 32;
/// Handles come so many at a time.
const HANDLES: u32 = 128;
const MAPTRACK_ENTRIES_PER_FRAME: u32 = 256;
/// Most frames of a table, and of mappings' records; also what a domain gets that asks for none.
const MOST_FRAMES: u32 = 64;
const MOST_MAPTRACK_FRAMES: u32 = 1024;

/// An entry in use.
pub struct Pin {
    /// The page, which is lent whatever the entry says later.
    pub page: PageReference,
    /// To whom.
    pub user: u16,
    /// How often for reading.
    pub readers: u32,
    /// How often for writing.
    pub writers: u32,
}

/// A mapping of another's page.
#[derive(Clone, Copy)]
pub struct Mapping {
    /// Whose, and which domain of that number.
    pub granter: (u16, u64),
    /// By which entry.
    pub reference: u32,
    /// For writing.
    pub write: bool,
    /// At which guest frame.
    pub at: u64,
}

/// A domain's grant table, and its mappings.
#[derive(Default)]
pub struct Grants {
    /// The table's pages, and where each was put last.
    pub frames: Vec<(PageReference, u64)>,
    /// Most pages.
    pub max_frames: u32,
    /// Entries in use.
    pub pins: BTreeMap<u32, Pin>,
    /// Mappings by handle.
    pub mappings: BTreeMap<u32, Mapping>,
    /// Handles that were free: the last one freed is taken first.
    free_handles: Vec<u32>,
    handles: u32,
    most_handles: u32,
}

impl Grants {
    /// A table of one page, with limits as a toolstack asks for them; negative numbers leave it to the core.
    pub fn new(first: PageReference, max_frames: u32, max_maptrack_frames: u32) -> Option<Grants> {
        let limit = |wanted: u32, most: u32| match wanted as i32 {
            ..0 => Some(most),
            _ => (wanted <= most).then_some(wanted),
        };
        let max_frames = limit(max_frames, MOST_FRAMES)?;
        let most_handles = limit(max_maptrack_frames, MOST_MAPTRACK_FRAMES)? * MAPTRACK_ENTRIES_PER_FRAME;
        (max_frames != 0).then(|| Grants {
            frames: vec![(first, u64::MAX)],
            max_frames,
            most_handles,
            ..Grants::default()
        })
    }

    /// A handle that no mapping has.
    pub fn take_handle(&mut self) -> Option<u32> {
        if self.free_handles.is_empty() && self.handles + HANDLES <= self.most_handles {
            self.free_handles
                .extend((self.handles..self.handles + HANDLES).rev());
            self.handles += HANDLES;
        }
        self.free_handles.pop()
    }

    /// No mapping has this handle any more.
    pub fn free_handle(&mut self, handle: u32) {
        self.free_handles.push(handle);
    }

    /// An entry's place: the table's page and the offset in it.
    pub fn entry(&self, reference: u32) -> Result<(&PageReference, usize), GrantStatus> {
        let (page, _) = self
            .frames
            .get(reference as usize / ENTRIES_PER_PAGE_V1)
            .ok_or(GrantStatus::BAD_REFERENCE)?;
        Ok((page, reference as usize % ENTRIES_PER_PAGE_V1 * 8))
    }
}

impl Model {
    pub(super) fn grant_table_op(&mut self, [command, list, count, ..]: [u64; 6]) -> Answer {
        const LARGEST_COMMAND: u32 = 0xfff;
        let (command, count) = (command as u32, count as u32);
        if count > i32::MAX as u32 || command > LARGEST_COMMAND {
            return Err(Error::EINVAL.into());
        }
        match command {
            op::MAP_GRANT_REF => self.each(list, count, GROUP, |model, element: &mut MapGrantRef| {
                element.device_bus_address = 0;
                element.status = match model.map_grant(element) {
                    Ok(handle) => {
                        element.handle = handle;
                        GrantStatus::OKAY
                    }
                    Err(status) => status,
                };
            }),
            op::UNMAP_GRANT_REF => {
                self.each(list, count, UNMAP_GROUP, |model, element: &mut UnmapGrantRef| {
                    element.status = model.unmap_grant(element);
                })
            }
            // Only page table entries can be exchanged, and translated guests have none.
            op::UNMAP_AND_REPLACE => self.each(list, count, GROUP, |model, element: &mut UnmapAndReplace| {
                let known = model.me().grants.mappings.contains_key(&element.handle);
                element.status = if known {
                    GrantStatus::GENERAL_ERROR
                } else {
                    GrantStatus::BAD_HANDLE
                };
            }),
            op::COPY => self.each(list, count, GROUP, |model, element: &mut Copy| {
                element.status = status_of(model.copy_grant(element));
            }),
            op::SWAP_GRANT_REF => self.each(list, count, GROUP, |model, element: &mut SwapGrantRef| {
                element.status = status_of(model.swap(element.first, element.second));
            }),
            op::SETUP_TABLE => self.single(list, count, |model, element: &mut SetupTable| {
                element.status = status_of(model.setup_table(element));
            }),
            op::QUERY_SIZE => self.single(list, count, |model, element: &mut QuerySize| {
                element.status = match model.table_of(element.domain) {
                    Ok(owner) => {
                        let grants = &model.at(owner).grants;
                        element.number_of_frames = grants.frames.len() as u32;
                        element.max_number_of_frames = grants.max_frames;
                        GrantStatus::OKAY
                    }
                    Err(status) => status,
                };
            }),
            op::GET_STATUS_FRAMES => self.single(list, count, |_, element: &mut GetStatusFrames| {
                element.status = GrantStatus::GENERAL_ERROR;
            }),
            op::SET_VERSION | op::GET_VERSION if count != 1 => Err(Error::EINVAL.into()),
            op::SET_VERSION => {
                let SetVersion { version } = self.read(list)?;
                if !matches!(version, 1 | 2) {
                    return Err(Error::EINVAL.into());
                }
                self.write(list, &SetVersion { version: 1 })?;
                if version == 1 {
                    DONE
                } else {
                    Err(Error::ENOSYS.into())
                }
            }
            op::GET_VERSION => {
                let mut request: GetVersion = self.read(list)?;
                self.target(request.domain)?;
                request.version = 1;
                self.write(list, &request)?;
                DONE
            }
            op::TRANSFER | op::CACHE_FLUSH => Err(Error::EOPNOTSUPP.into()),
            _ => Err(Error::ENOSYS.into()),
        }
    }

    /// An operation on exactly one element.
    fn single<T>(&mut self, list: u64, count: u32, act: impl FnOnce(&mut Model, &mut T)) -> Answer
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        if count != 1 {
            return Err(Error::EINVAL.into());
        }
        let mut element: T = self.read(list)?;
        act(self, &mut element);
        self.write(list, &element)?;
        DONE
    }

    /// An operation on each element of a list, group by group.
    fn each<T>(
        &mut self,
        list: u64,
        count: u32,
        group: u64,
        mut act: impl FnMut(&mut Model, &mut T),
    ) -> Answer
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let count = u64::from(count);
        // Unmappings share a flush also when each group is a piece.
        let in_pieces = self.told.in_pieces && group != UNMAP_GROUP;
        let group = if in_pieces { 1 } else { group };
        for first in (0..count).step_by(group as usize) {
            let wanted = (count - first).min(group);
            let mut elements: Vec<T> = (first..first + wanted)
                .map_while(|index| self.read_element(list, index).ok())
                .collect();
            elements.iter_mut().for_each(|element| act(self, element));
            let start = first * size_of::<T>() as u64;
            let at = list.checked_add(start).ok_or(Error::EFAULT)?;
            self.write_bytes(at, elements.as_bytes())?;
            if (elements.len() as u64) < wanted {
                return Err(Error::EFAULT.into());
            }
        }
        DONE
    }

    /// The domain whose table an element names.
    fn table_of(&self, id: DomainId) -> Result<u16, GrantStatus> {
        self.target(id).map_err(|error| match error {
            Error::EPERM => GrantStatus::PERMISSION_DENIED,
            _ => GrantStatus::BAD_DOMAIN,
        })
    }

    /// Let a table have so many pages.
    pub(super) fn grow_table(&mut self, number: u16, frames: u64) -> Result<(), Error> {
        if frames > u64::from(self.at(number).grants.max_frames) {
            return Err(Error::EINVAL);
        }
        while (self.at(number).grants.frames.len() as u64) < frames {
            if self.free_frames() == 0 {
                return Err(Error::ENOMEM);
            }
            let page = self.house.page(number, false);
            self.at_mut(number).grants.frames.push((page, u64::MAX));
        }
        Ok(())
    }

    fn setup_table(&mut self, element: &SetupTable) -> Result<(), GrantStatus> {
        let owner = self.table_of(element.domain)?;
        let frames = element.number_of_frames;
        self.grow_table(owner, u64::from(frames))
            .map_err(|_| GrantStatus::GENERAL_ERROR)?;
        for index in 0..frames {
            let place = self.at(owner).grants.frames[index as usize].1;
            self.write_element(element.frame_list.address(), u64::from(index), &place)
                .map_err(|_| GrantStatus::BAD_VIRTUAL_ADDRESS)?;
        }
        Ok(())
    }

    fn swap(&mut self, first: u32, second: u32) -> Result<(), GrantStatus> {
        let grants = &self.me().grants;
        for reference in [first, second] {
            grants.entry(reference)?;
            if grants.pins.contains_key(&reference) {
                return Err(GrantStatus::TRY_AGAIN);
            }
        }
        let ((one, at), (other, there)) = (grants.entry(first)?, grants.entry(second)?);
        let (a, b): (u64, u64) = (one.load(at), other.load(there));
        other.store(there, a);
        one.store(at, b);
        Ok(())
    }

    /// Use an entry of `granter`'s table on behalf of `user`.
    pub(super) fn pin(
        &mut self,
        granter: u16,
        reference: u32,
        user: u16,
        write: bool,
    ) -> Result<PageReference, GrantStatus> {
        let domain = self.at(granter);
        let (table, at) = domain.grants.entry(reference)?;
        let [flags, wanted, ..]: [u16; 4] = table.load(at);
        let marks = entry_flag::READING | if write { entry_flag::WRITING } else { 0 };
        let used = domain.grants.pins.get(&reference);
        if used.is_some_and(|pin| pin.user != user) {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        let offered = flags & entry_flag::TYPE_MASK == entry_flag::PERMIT_ACCESS && wanted == user;
        let writable = flags & entry_flag::READ_ONLY == 0;
        let page = match used {
            // What the entry says now counts only for whether it may be written, and only the first time.
            Some(pin) if !write || pin.writers != 0 => pin.page.clone(),
            Some(_) if !writable => return Err(GrantStatus::GENERAL_ERROR),
            Some(pin) => {
                table.store(at, flags | marks);
                pin.page.clone()
            }
            None if !offered || (write && !writable) => return Err(GrantStatus::GENERAL_ERROR),
            None => {
                table.store(at, flags | marks);
                let frame = u64::from(table.load::<u32>(at + 4));
                match self.own_page(granter, frame, write) {
                    Ok(page) => page,
                    Err(status) => {
                        self.clear_marks(granter, reference);
                        return Err(status);
                    }
                }
            }
        };
        let pin = self.at_mut(granter).grants.pins.entry(reference).or_insert(Pin {
            page: page.clone(),
            user,
            readers: 0,
            writers: 0,
        });
        *(if write { &mut pin.writers } else { &mut pin.readers }) += 1;
        Ok(page)
    }

    /// Use an entry no longer.
    pub(super) fn unpin(&mut self, granter: u16, reference: u32, write: bool) {
        let pins = &mut self.at_mut(granter).grants.pins;
        if let Some(pin) = pins.get_mut(&reference) {
            *(if write { &mut pin.writers } else { &mut pin.readers }) -= 1;
            if pin.readers + pin.writers == 0 {
                pins.remove(&reference);
            }
        }
        self.clear_marks(granter, reference);
    }

    /// Take back the marks of an entry that no use needs any more.
    fn clear_marks(&self, granter: u16, reference: u32) {
        let grants = &self.at(granter).grants;
        let Ok((table, at)) = grants.entry(reference) else {
            return;
        };
        let needed = match grants.pins.get(&reference) {
            None => 0,
            Some(pin) if pin.writers == 0 => entry_flag::READING,
            Some(_) => entry_flag::READING | entry_flag::WRITING,
        };
        let all = entry_flag::READING | entry_flag::WRITING;
        let flags: u16 = table.load(at);
        table.store(at, flags & !(all & !needed));
    }

    /// A page of a domain's own memory.
    pub(super) fn own_page(
        &self,
        number: u16,
        frame: u64,
        write: bool,
    ) -> Result<PageReference, GrantStatus> {
        match self.at(number).map.page(frame) {
            Some((page, entry)) if entry.kind == Kind::Own && (entry.writable || !write) => Ok(page.clone()),
            _ => Err(GrantStatus::BAD_PAGE),
        }
    }
}

fn status_of(result: Result<(), GrantStatus>) -> GrantStatus {
    result.err().unwrap_or(GrantStatus::OKAY)
}
