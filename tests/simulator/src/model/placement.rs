//! What lies at a guest frame: shared pages, moved pages, other domains' pages, nothing.

use hypercall_abi::memory::{
    AcquireResource, AddToPhysmap, AddToPhysmapBatch, COMMAND_BITS, GRANT_TABLE_STATUS_INDEX,
    RemoveFromPhysmap, grant_table_resource, map_space, resource,
};
use hypercall_abi::{DomainId, Error};

use super::memory::{Entry, Kind, MOST_FRAMES, NoTable, PageReference};
use super::{Answer, DONE, Model, Refusal};

impl Model {
    pub(super) fn add_to_physmap(&mut self, argument: u64, start: u64) -> Answer {
        check_start(start)?;
        let request: AddToPhysmap = self.read(argument)?;
        match request.space {
            map_space::GMFN_FOREIGN => return Err(Error::ENOSYS.into()),
            map_space::GMFN_RANGE => return Err(Error::EOPNOTSUPP.into()),
            _ => {}
        }
        let target = self.target(request.domain)?;
        self.add_one(
            target,
            request.space,
            request.index,
            DomainId::INVALID,
            request.guest_frame,
        )?;
        DONE
    }

    pub(super) fn add_to_physmap_batch(&mut self, argument: u64, start: u64) -> Answer {
        let mut next = Some(start);
        while let Some(start) = next {
            next = self.add_some_of_batch(argument, start)?;
        }
        DONE
    }

    /// Place what there is from `start` on; where the call is cut, if it is.
    fn add_some_of_batch(&mut self, argument: u64, start: u64) -> Result<Option<u64>, Refusal> {
        check_start(start)?;
        let request: AddToPhysmapBatch = self.read(argument)?;
        let space = u32::from(request.space);
        if space == map_space::GMFN_RANGE {
            return Err(Error::EOPNOTSUPP.into());
        }
        let target = self.target(request.domain)?;
        let count = u64::from(request.size);
        if count < start {
            return Err(Error::EILSEQ.into());
        }
        for nth in start..count {
            let index = self.read_element(request.indices.address(), nth)?;
            let at = self.read_element(request.guest_frames.address(), nth)?;
            let result = self.add_one(target, space, index, request.foreign_domain, at);
            let error: i32 = result.map_or_else(|error| -error.number(), |()| 0);
            self.write_element(request.errors.address(), nth, &error)?;
            if self.told.in_pieces && nth + 1 < count {
                return Ok(Some(nth + 1));
            }
        }
        Ok(None)
    }

    fn add_one(
        &mut self,
        target: u16,
        space: u32,
        index: u64,
        foreign: DomainId,
        at: u64,
    ) -> Result<(), Error> {
        match space {
            map_space::SHARED_INFO if index == 0 => {
                let page = self.at(target).shared_info.clone();
                self.place(target, at, page, Kind::Shared)
            }
            map_space::GRANT_TABLE if index & GRANT_TABLE_STATUS_INDEX == 0 => {
                let page = self.table_page(target, index)?;
                self.place(target, at, page, Kind::Shared)?;
                self.at_mut(target).grants.frames[index as usize].1 = at;
                Ok(())
            }
            map_space::GMFN => self.relocate(target, index, at),
            map_space::GMFN_FOREIGN => {
                if !self.exists(foreign) || foreign.0 == target {
                    let itself = foreign == DomainId::SELF;
                    return Err(if itself { Error::EINVAL } else { Error::ESRCH });
                }
                if !self.at(target).privileged {
                    return Err(Error::EPERM);
                }
                match self.at(foreign.0).map.page(index) {
                    Some((page, entry)) if entry.kind == Kind::Own => {
                        let page = page.clone();
                        self.place(target, at, page, Kind::Foreign)
                    }
                    _ => Err(Error::EINVAL),
                }
            }
            _ => Err(Error::EINVAL),
        }
    }

    /// A page of a grant table, which grows to have it.
    fn table_page(&mut self, number: u16, index: u64) -> Result<PageReference, Error> {
        if index >= u64::from(self.at(number).grants.max_frames) {
            return Err(Error::EINVAL);
        }
        self.grow_table(number, index + 1)?;
        Ok(self.at(number).grants.frames[index as usize].0.clone())
    }

    /// Put a page where nothing is, or the domain's own memory (which is freed), or a shared page.
    fn place(&mut self, target: u16, at: u64, page: PageReference, kind: Kind) -> Result<(), Error> {
        if !self.may_map_more(target) {
            return Err(Error::ENOMEM);
        }
        match self.at(target).map.get(at).map(|entry| entry.kind) {
            Some(Kind::Device) => return Err(Error::EPERM),
            Some(Kind::Foreign | Kind::Granted) => return Err(Error::ENXIO),
            Some(Kind::Own | Kind::Shared) | None => {}
        }
        if at >= MOST_FRAMES {
            return Err(Error::EINVAL);
        }
        Ok(self.replace(target, at, Entry::new(page, kind, true))?)
    }

    /// Put something at a guest frame; what was there goes.
    pub(super) fn replace(&mut self, target: u16, at: u64, entry: Entry) -> Result<(), NoTable> {
        let free = self.free_frames();
        let before = self.at_mut(target).map.take(at, free)?;
        let free = self.free_frames();
        let put = self.at_mut(target).map.put(at, entry, free);
        drop(before);
        put
    }

    /// Move a page of a domain's own memory. A move that is refused leaves everything as it was.
    fn relocate(&mut self, target: u16, from: u64, to: u64) -> Result<(), Error> {
        if from == to {
            return Ok(());
        }
        let map = &self.at(target).map;
        let own = |entry: &Entry| entry.kind == Kind::Own;
        if to >= MOST_FRAMES || !map.get(to).is_none_or(own) || !map.get(from).is_some_and(own) {
            return Err(Error::EINVAL);
        }
        if !self.may_map_more(target) {
            return Err(Error::ENOMEM);
        }
        let free = self.free_frames();
        let Some(entry) = self.at_mut(target).map.take(from, free)? else {
            return Err(Error::EINVAL);
        };
        Ok(self.replace(target, to, entry)?)
    }

    pub(super) fn remove_from_physmap(&mut self, argument: u64) -> Answer {
        let request: RemoveFromPhysmap = self.read(argument)?;
        let target = self.target(request.domain)?;
        let may_split = self.at(target).may_grow_tables();
        let free = self.free_frames();
        let map = &mut self.at_mut(target).map;
        let Some(entry) = map.get(request.guest_frame) else {
            return Err(Error::ENOENT.into());
        };
        if map.in_superpage(request.guest_frame) && !may_split {
            return Err(Error::ENOMEM.into());
        }
        // A granted page is given back by its handle.
        if matches!(entry.kind, Kind::Granted | Kind::Device) {
            return Err(Error::ENOENT.into());
        }
        map.take(request.guest_frame, free).map_err(Error::from)?;
        DONE
    }

    pub(super) fn acquire_resource(&mut self, argument: u64, start: u64) -> Answer {
        let mut next = Some(start);
        while let Some(start) = next {
            next = self.acquire_some(argument, start)?;
        }
        DONE
    }

    /// Map the frames from `start` on; where the call is cut, if it is.
    fn acquire_some(&mut self, argument: u64, start: u64) -> Result<Option<u64>, Refusal> {
        if !self.me().privileged {
            return Err(Error::EACCES.into());
        }
        let request: AcquireResource = self.read(argument)?;
        let count = u64::from(request.number_of_frames);
        let end = request.frame.checked_add(count);
        if request._padding != 0 || end.is_none_or(|end| end > u64::from(u32::MAX)) {
            return Err(Error::EINVAL.into());
        }
        if self.is_caller(request.domain) {
            return Err(Error::EPERM.into());
        }
        let target = self.target(request.domain)?;
        match (request.kind, request.id) {
            (resource::GRANT_TABLE, grant_table_resource::SHARED) => {}
            (resource::IOREQ_SERVER | resource::VMTRACE_BUFFER, _) => return Err(Error::EOPNOTSUPP.into()),
            _ => return Err(Error::EINVAL.into()),
        }
        if request.frame_list.is_null() {
            if count != 0 || start != 0 {
                return Err(Error::EINVAL.into());
            }
            let answer = AcquireResource {
                number_of_frames: self.at(target).grants.max_frames,
                ..request
            };
            // Only this field is written back.
            let at = std::mem::offset_of!(AcquireResource, number_of_frames) as u64;
            self.write(argument + at, &answer.number_of_frames)?;
            return Ok(None);
        }
        if count > u64::from(u32::MAX >> COMMAND_BITS) {
            return Err(Error::E2BIG.into());
        }
        for nth in start..count {
            let at = self.read_element(request.frame_list.address(), nth)?;
            let page = self.table_page(target, request.frame + nth)?;
            self.place(self.caller.domain, at, page, Kind::Foreign)?;
            if self.told.in_pieces && nth + 1 < count {
                return Ok(Some(nth + 1));
            }
        }
        Ok(None)
    }
}

/// Progress is counted in 16 bits here.
fn check_start(start: u64) -> Result<(), Error> {
    if start > u64::from(u16::MAX) {
        Err(Error::EDOM)
    } else {
        Ok(())
    }
}
