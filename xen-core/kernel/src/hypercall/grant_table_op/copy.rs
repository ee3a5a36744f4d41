//! Copying between frames, where either may be another domain's by its grant.
//!
//! Both ends are held while the bytes move, and no lock is.

use alloc::sync::Arc;

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{Copy, CopyPointer, GrantReference, GrantStatus, copy_flag};
use machine::Machine;
use machine::address::{GuestFrame, PAGE_SIZE};
use machine::memory::FrameReference;

use super::super::Call;
use crate::domain::Domain;
use crate::grant_table::own_page;

/// One end of a copy: a frame, held, and the grant by which it is reached.
struct End<M: Machine> {
    page: FrameReference,
    grant: Option<(Arc<Domain<M>>, GrantReference, bool)>,
}

impl<M: Machine> Drop for End<M> {
    fn drop(&mut self) {
        if let Some((granter, reference, write)) = &self.grant {
            granter.grants.unpin(*reference, *write);
        }
    }
}

/// Do one copy.
pub fn copy<M: Machine>(call: &Call<'_, M>, element: &mut Copy) {
    element.status = try_copy(call, element).err().unwrap_or(GrantStatus::OKAY);
}

fn try_copy<M: Machine>(call: &Call<'_, M>, element: &Copy) -> Result<(), GrantStatus> {
    let (source, destination) = (&element.source, &element.destination);
    let source_granted = element.flags & copy_flag::SOURCE_IS_REFERENCE != 0;
    let destination_granted = element.flags & copy_flag::DESTINATION_IS_REFERENCE != 0;
    // By frame number one reaches nobody's memory but one's own.
    if (!source_granted && source.domain != DomainId::SELF)
        || (!destination_granted && destination.domain != DomainId::SELF)
    {
        return Err(GrantStatus::PERMISSION_DENIED);
    }
    let from = open(call, source, source_granted, false)?;
    let into = open(call, destination, destination_granted, true)?;
    let length = usize::from(element.length);
    let last = usize::from(source.offset.max(destination.offset)) + length;
    if last > PAGE_SIZE {
        return Err(GrantStatus::BAD_COPY_ARGUMENT);
    }
    into.page
        .copy_from(
            usize::from(destination.offset),
            &from.page,
            usize::from(source.offset),
            length,
        )
        .map_err(|_| GrantStatus::BAD_COPY_ARGUMENT)
}

fn open<M: Machine>(
    call: &Call<'_, M>,
    pointer: &CopyPointer,
    granted: bool,
    write: bool,
) -> Result<End<M>, GrantStatus> {
    let caller = call.domain();
    if !granted {
        let page = own_page(&caller.physmap, GuestFrame(pointer.location), write)?;
        return Ok(End { page, grant: None });
    }
    let granter = match pointer.domain {
        DomainId::SELF => caller.clone(),
        id => call.kernel.domains.get(id).ok_or(GrantStatus::BAD_DOMAIN)?,
    };
    let page = granter
        .grants
        .pin(&granter.physmap, pointer.reference(), caller.id, write)?;
    Ok(End {
        page,
        grant: Some((granter, pointer.reference(), write)),
    })
}
