//! Copying between pages, of which either may be another domain's, by its grant.

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{Copy, CopyPointer, GrantStatus, copy_flag};

use super::Model;
use super::memory::{PAGE_SIZE, PageReference};

impl Model {
    pub(super) fn copy_grant(&mut self, element: &Copy) -> Result<(), GrantStatus> {
        let ends = [
            (
                element.source,
                element.flags & copy_flag::SOURCE_IS_REFERENCE != 0,
                false,
            ),
            (
                element.destination,
                element.flags & copy_flag::DESTINATION_IS_REFERENCE != 0,
                true,
            ),
        ];
        // Only one's own memory has a frame number here.
        if ends
            .iter()
            .any(|(end, granted, _)| !granted && end.domain != DomainId::SELF)
        {
            return Err(GrantStatus::PERMISSION_DENIED);
        }
        let [(source, source_granted, _), (destination, destination_granted, _)] = ends;
        let from = self.open(&source, source_granted, false)?;
        let done = self
            .open(&destination, destination_granted, true)
            .and_then(|into| {
                let moved = move_bytes(element, &from, &into);
                self.close_end(&destination, destination_granted, true);
                moved
            });
        self.close_end(&source, source_granted, false);
        done
    }

    fn granter_of(&self, end: &CopyPointer) -> u16 {
        match end.domain {
            DomainId::SELF => self.caller.domain,
            DomainId(number) => number,
        }
    }

    fn open(&mut self, end: &CopyPointer, granted: bool, write: bool) -> Result<PageReference, GrantStatus> {
        let me = self.caller.domain;
        if !granted {
            return self.own_page(me, end.location, write);
        }
        let granter = self.granter_of(end);
        if !self.exists(DomainId(granter)) {
            return Err(GrantStatus::BAD_DOMAIN);
        }
        self.pin(granter, end.reference(), me, write)
    }

    fn close_end(&mut self, end: &CopyPointer, granted: bool, write: bool) {
        if granted {
            self.unpin(self.granter_of(end), end.reference(), write);
        }
    }
}

fn move_bytes(element: &Copy, from: &PageReference, into: &PageReference) -> Result<(), GrantStatus> {
    let (source, destination) = (
        element.source.offset as usize,
        element.destination.offset as usize,
    );
    let length = element.length as usize;
    if source.max(destination) + length > PAGE_SIZE {
        return Err(GrantStatus::BAD_COPY_ARGUMENT);
    }
    let mut bytes = vec![0; length];
    from.read(source, &mut bytes);
    into.write(destination, &bytes);
    Ok(())
}
