//! Mapping others' pages by their grants, and unmapping them.

use hypercall_abi::grant_table::{GrantStatus, MapGrantRef, UnmapGrantRef, map_flag};

use super::Model;
use super::grant::Mapping;
use super::memory::{Entry, Kind, MOST_FRAMES, PageReference};

impl Model {
    pub(super) fn map_grant(&mut self, element: &MapGrantRef) -> Result<u32, GrantStatus> {
        if element.flags & (map_flag::HOST_MAP | map_flag::DEVICE_MAP) == 0 {
            return Err(GrantStatus::BAD_REFERENCE);
        }
        let write = element.flags & map_flag::READ_ONLY == 0;
        if element.flags & !map_flag::READ_ONLY != map_flag::HOST_MAP {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        if !self.exists(element.domain) {
            return Err(GrantStatus::BAD_DOMAIN);
        }
        let (me, granter) = (self.caller.domain, element.domain.0);
        if !self.may_map_more(me) {
            return Err(GrantStatus::NO_SPACE);
        }
        let handle = self.me_mut().grants.take_handle().ok_or(GrantStatus::NO_SPACE)?;
        let at = element.host_address >> 12;
        let mapped = self.pin(granter, element.reference, me, write).and_then(|page| {
            self.enter_grant(at, page, write)
                .inspect_err(|_| self.unpin(granter, element.reference, write))
        });
        if let Err(status) = mapped {
            self.me_mut().grants.free_handle(handle);
            return Err(status);
        }
        let mapping = Mapping {
            granter: (granter, self.at(granter).birth),
            reference: element.reference,
            write,
            at,
        };
        self.me_mut().grants.mappings.insert(handle, mapping);
        Ok(handle)
    }

    /// A granted page takes the place of a hole, or of the caller's own memory, which is freed.
    fn enter_grant(&mut self, at: u64, page: PageReference, write: bool) -> Result<(), GrantStatus> {
        let there = self.me().map.get(at).map(|entry| entry.kind);
        if at >= MOST_FRAMES || !matches!(there, None | Some(Kind::Own)) {
            return Err(GrantStatus::GENERAL_ERROR);
        }
        self.replace(self.caller.domain, at, Entry::new(page, Kind::Granted, write))
            .map_err(|_| GrantStatus::GENERAL_ERROR)
    }

    pub(super) fn unmap_grant(&mut self, element: &UnmapGrantRef) -> GrantStatus {
        let Some(mapping) = self.me().grants.mappings.get(&element.handle) else {
            return GrantStatus::BAD_HANDLE;
        };
        // An address of zero asks for nothing.
        if element.host_address == 0 {
            return GrantStatus::OKAY;
        }
        let at = element.host_address >> 12;
        if at != mapping.at {
            return GrantStatus::GENERAL_ERROR;
        }
        self.unmap_one(self.caller.domain, element.handle, at);
        GrantStatus::OKAY
    }

    /// A domain's mapping goes, and with it the use of the entry, if the granting domain still is.
    pub(super) fn unmap_one(&mut self, domain: u16, handle: u32, at: u64) {
        let free = self.free_frames();
        // Single pages go without a new table.
        let _ = self.at_mut(domain).map.take(at, free);
        let grants = &mut self.at_mut(domain).grants;
        let Some(mapping) = grants.mappings.remove(&handle) else {
            return;
        };
        grants.free_handle(handle);
        let (granter, birth) = mapping.granter;
        if self
            .domains
            .get(&granter)
            .is_some_and(|granter| granter.birth == birth)
        {
            self.unpin(granter, mapping.reference, mapping.write);
        }
    }
}
