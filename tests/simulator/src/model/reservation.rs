//! Giving memory to domains and taking it back, claims, and figures.

use hypercall_abi::hypercall::number::MEMORY_OP;
use hypercall_abi::memory::{
    COMMAND_BITS, E820Entry, ForeignMemoryMap, MemoryDomain, MemoryMap, MemoryReservation, PodTarget,
    VnumaTopologyInfo, flag, op,
};
use hypercall_abi::xen::MulticallEntry;
use hypercall_abi::{DomainId, Error};

use super::memory::{Entry, Kind, MOST_FRAMES};
use super::{Answer, DONE, Model, SURE_ORDER};

/// Guest frames of a list that are read before the first is acted on.
const GROUP: u64 = 32;
/// Largest extents: 1 GiB for the privileged, 2 MiB for others.
const MOST_ORDER_PRIVILEGED: u32 = 18;
const MOST_ORDER: u32 = 9;
const MOST_MAP_ENTRIES: u32 = 1024;

/// Blocks that an extent and the tables for it take at most.
const BLOCKS_FOR_EXTENT: u64 = 8;

impl Model {
    pub(super) fn memory_op(&mut self, [command, argument, ..]: [u64; 6]) -> Answer {
        let operation = (command & ((1 << COMMAND_BITS) - 1)) as u32;
        // What a caller says was done before.
        let start = command >> COMMAND_BITS;
        match operation {
            op::INCREASE_RESERVATION | op::DECREASE_RESERVATION | op::POPULATE_PHYSMAP => {
                Ok(self.adjust(operation, argument, start))
            }
            op::ADD_TO_PHYSMAP => self.add_to_physmap(argument, start),
            op::ADD_TO_PHYSMAP_BATCH => self.add_to_physmap_batch(argument, start),
            op::ACQUIRE_RESOURCE => self.acquire_resource(argument, start),
            _ if start != 0 => Err(Error::EINVAL.into()),
            op::MAXIMUM_RAM_PAGE => Ok(self.told.frame_count),
            op::CURRENT_RESERVATION | op::MAXIMUM_RESERVATION | op::MAXIMUM_GPFN => {
                let request: MemoryDomain = self.read(argument)?;
                let target = self.target(request.domain)?;
                Ok(match operation {
                    op::CURRENT_RESERVATION => self.house.owned(target),
                    op::MAXIMUM_RESERVATION => self.at(target).max_pages,
                    _ => self.at(target).map.highest(),
                })
            }
            op::REMOVE_FROM_PHYSMAP => self.remove_from_physmap(argument),
            op::CLAIM_PAGES => self.claim(argument),
            op::MEMORY_MAP => self.memory_map(argument),
            op::SET_MEMORY_MAP => self.set_memory_map(argument),
            op::MACHINE_MEMORY_MAP => self.machine_memory_map(argument),
            op::GET_SHARING_FREED_PAGES | op::GET_SHARING_SHARED_PAGES => Ok(0),
            op::SET_POD_TARGET | op::GET_POD_TARGET => {
                let mut request: PodTarget = self.read(argument)?;
                let target = self.target(request.domain)?;
                self.privileged()?;
                request.total_pages = self.house.owned(target);
                (request.pod_cache_pages, request.pod_entries) = (0, 0);
                self.write(argument, &request)?;
                DONE
            }
            op::GET_VNUMAINFO => {
                let request: VnumaTopologyInfo = self.read(argument)?;
                if request._padding != 0 {
                    return Err(Error::EINVAL.into());
                }
                self.target(request.domain)?;
                Err(Error::EOPNOTSUPP.into())
            }
            op::PAGING_OP | op::ACCESS_OP | op::SHARING_OP => Err(Error::EOPNOTSUPP.into()),
            _ => Err(Error::ENOSYS.into()),
        }
    }

    /// Populate or give back extents; how many are done. These operations have no errors.
    fn adjust(&mut self, operation: u32, argument: u64, start: u64) -> u64 {
        let mut done = start;
        while let Some((more, cut)) = self.adjust_some(operation, argument, done) {
            done = more;
            if !cut {
                break;
            }
        }
        done
    }

    /// The extents from `start` on; how many are done, and whether the call is cut there.
    fn adjust_some(&mut self, operation: u32, argument: u64, start: u64) -> Option<(u64, bool)> {
        let request: MemoryReservation = self.read(argument).ok()?;
        let count = request.number_of_extents;
        if count > u64::from(u32::MAX >> COMMAND_BITS) || start >= count {
            return None;
        }
        let target = self.target(request.domain).ok()?;
        let most = if self.me().privileged {
            MOST_ORDER_PRIVILEGED
        } else {
            MOST_ORDER
        };
        let on_demand = request.memory_flags & flag::POPULATE_ON_DEMAND != 0;
        if request.extent_order > most || (operation == op::POPULATE_PHYSMAP && on_demand) {
            return None;
        }
        let order = request.extent_order;
        let mut done = start;
        // Of larger extents that are given back, each is read when it is its turn.
        let one_by_one = match operation {
            op::DECREASE_RESERVATION => order != 0,
            _ => self.told.in_pieces,
        };
        let group = if one_by_one { 1 } else { GROUP };
        while done < count {
            let wanted = (count - done).min(group);
            let frames: Vec<u64> = (done..done + wanted)
                .map_while(|index| self.read_element(request.extent_start.address(), index).ok())
                .collect();
            let acted = match operation {
                op::POPULATE_PHYSMAP => self.populate(target, &frames, order, done),
                op::DECREASE_RESERVATION if order == 0 => self.release(target, &frames),
                op::DECREASE_RESERVATION => {
                    u64::from(!frames.is_empty() && self.release_extent(target, frames[0], 1 << order))
                }
                // Memory without a place in the map is of no use to translated guests.
                _ => 0,
            };
            done += acted;
            if acted < wanted {
                break;
            }
            if self.told.in_pieces && done < count {
                return Some((done, true));
            }
        }
        Some((done, false))
    }

    /// Populate extents; how many could be.
    fn populate(&mut self, target: u16, frames: &[u64], order: u32, before: u64) -> u64 {
        let done = frames.iter().zip(before..).take_while(|(frame, nth)| {
            // Whether there was a block of several frames in one piece is seen by the result only, unless there are so many
            // that tables, too, leave one.
            let given = self.told.blocks.contains(&(target, **frame));
            let sure = order <= SURE_ORDER && self.told.free_blocks > (*nth + 1) * BLOCKS_FOR_EXTENT;
            let found = order == 0 || (*nth as i64) < self.told.result || given || sure;
            self.populate_extent(target, **frame, order, found).is_ok()
        });
        done.count() as u64
    }

    /// Where the calls of a list, as it is now, ask for blocks of several frames.
    pub fn blocks_wanted(&self, [list, count, ..]: &[u64; 6]) -> Vec<(u16, u64)> {
        let mut wanted = Vec::new();
        for index in 0..u64::from(*count as u32) {
            let Ok(entry) = self.read_element::<MulticallEntry>(*list, index) else {
                break;
            };
            let [command, argument, ..] = entry.args;
            if entry.op != MEMORY_OP || command != u64::from(op::POPULATE_PHYSMAP) {
                continue;
            }
            let Ok(request) = self.read::<MemoryReservation>(argument) else {
                continue;
            };
            let (count, Ok(target)) = (request.number_of_extents, self.target(request.domain)) else {
                continue;
            };
            if request.extent_order != 0 {
                let extents =
                    (0..count).map_while(|nth| self.read_element(request.extent_start.address(), nth).ok());
                wanted.extend(extents.map(|first| (target, first)));
            }
        }
        wanted
    }

    fn populate_extent(&mut self, target: u16, first: u64, order: u32, found: bool) -> Result<(), Error> {
        let frames = 1u64 << order;
        if !self.at(target).may_grow_tables() {
            return Err(Error::ENOMEM);
        }
        if self.house.owned(target) + frames > self.at(target).max_pages {
            return Err(Error::ENOMEM);
        }
        // Others' claims leave so much.
        let others: u64 =
            self.domains.values().map(|domain| domain.claimed).sum::<u64>() - self.at(target).claimed;
        if frames > self.available().saturating_sub(others) {
            return Err(Error::ENOMEM);
        }
        let end = first.checked_add(frames).filter(|end| *end <= MOST_FRAMES);
        let hole = |end| self.at(target).map.entries().range(first..end).next().is_none();
        let place = match end {
            None => Err(Error::EINVAL),
            Some(end) if !hole(end) => Err(Error::EEXIST),
            Some(_) => Ok(()),
        };
        if !found && place.is_ok() {
            return Err(Error::ENOMEM);
        }
        // Memory that was found is no longer claimed, whether it then has its place or not.
        let claimed = &mut self.at_mut(target).claimed;
        *claimed = claimed.saturating_sub(frames);
        place?;
        let pages: Vec<_> = (0..frames).map(|_| self.house.page(target, true)).collect();
        if order >= MOST_ORDER && first.is_multiple_of(512) {
            for (start, part) in (first..).step_by(512).zip(pages.chunks(512)) {
                let free = self.free_frames();
                self.at_mut(target).map.put_superpage(start, part, free)?;
            }
        } else {
            for (frame, page) in (first..).zip(&pages) {
                let free = self.free_frames();
                self.at_mut(target).map.put(frame, Entry::own(page), free)?;
            }
        }
        Ok(())
    }

    /// Give back an extent; if not all of it can be, what comes before is gone and the extent does not count.
    fn release_extent(&mut self, target: u16, first: u64, frames: u64) -> bool {
        let all: Vec<u64> = (0..frames).map(|offset| first.saturating_add(offset)).collect();
        all.chunks(GROUP as usize)
            .all(|part| self.release(target, part) == part.len() as u64)
    }

    /// Give back pages, up to the first that is not the domain's own to give; how many.
    fn release(&mut self, target: u16, frames: &[u64]) -> u64 {
        let may_split = self.at(target).may_grow_tables();
        let mut taken = Vec::new();
        for &frame in frames {
            let free = self.free_frames();
            let map = &mut self.at_mut(target).map;
            let kind = map.get(frame).map(|entry| entry.kind);
            if !matches!(kind, Some(Kind::Own | Kind::Shared)) || (map.in_superpage(frame) && !may_split) {
                break;
            }
            match map.take(frame, free) {
                // The pages go together, in the end.
                Ok(entry) => taken.push(entry),
                Err(_) => break,
            }
        }
        taken.len() as u64
    }

    /// Free frames that domains may have: a little is the core's.
    fn available(&self) -> u64 {
        let reserved = (self.told.total_frames / 256).min(1024);
        self.free_frames().saturating_sub(reserved)
    }

    fn claim(&mut self, argument: u64) -> Answer {
        let request: MemoryReservation = self.read(argument)?;
        let plain = request.extent_start.is_null() && request.extent_order == 0 && request.memory_flags == 0;
        if !plain || !self.exists(request.domain) {
            return Err(Error::EINVAL.into());
        }
        self.privileged()?;
        let (number, pages) = (request.domain.0, request.number_of_extents);
        let owned = self.house.owned(number);
        let domain = self.at(number);
        if pages != 0 && (domain.claimed != 0 || pages <= owned || pages > domain.max_pages) {
            return Err(Error::EINVAL.into());
        }
        let wanted = pages.saturating_sub(owned);
        let claims: u64 = self.domains.values().map(|domain| domain.claimed).sum();
        if pages != 0 && wanted > self.available().saturating_sub(claims) {
            return Err(Error::ENOMEM.into());
        }
        self.at_mut(number).claimed = if pages == 0 { 0 } else { wanted };
        DONE
    }

    fn memory_map(&mut self, argument: u64) -> Answer {
        let mut request: MemoryMap = self.read(argument)?;
        let map = self.me().memory_map.clone();
        if map.is_empty() {
            return Err(Error::ENOSYS.into());
        }
        let count = map.len().min(request.number_of_entries as usize);
        for (index, entry) in map.iter().take(count).enumerate() {
            self.write_element(request.buffer.address(), index as u64, entry)?;
        }
        request.number_of_entries = count as u32;
        self.write(argument, &request)?;
        DONE
    }

    fn set_memory_map(&mut self, argument: u64) -> Answer {
        let request: ForeignMemoryMap = self.read(argument)?;
        let count = request.map.number_of_entries;
        if count > MOST_MAP_ENTRIES {
            return Err(Error::EINVAL.into());
        }
        let target = self.target(request.domain)?;
        let entries: Result<Vec<E820Entry>, Error> = (0..u64::from(count))
            .map(|index| self.read_element(request.map.buffer.address(), index))
            .collect();
        self.at_mut(target).memory_map = entries?;
        DONE
    }

    fn machine_memory_map(&mut self, argument: u64) -> Answer {
        self.privileged()?;
        let mut request: MemoryMap = self.read(argument)?;
        if (request.number_of_entries as usize) < self.told.memory_map.len() {
            return Err(Error::EINVAL.into());
        }
        for (index, entry) in self.told.memory_map.iter().enumerate() {
            self.write_element(request.buffer.address(), index as u64, entry)?;
        }
        request.number_of_entries = self.told.memory_map.len() as u32;
        self.write(argument, &request)?;
        DONE
    }

    /// Whether a number stands for the caller.
    pub(super) fn is_caller(&self, id: DomainId) -> bool {
        id == DomainId::SELF || id.0 == self.caller.domain
    }
}
