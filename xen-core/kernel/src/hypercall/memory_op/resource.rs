//! Resources of a domain that the privileged domain maps: the grant table's frames.

use hypercall_abi::memory::{AcquireResource, COMMAND_BITS, grant_table_resource, op, resource};
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::GuestFrame;
use machine::stage_two::EntryKind;

use super::super::{Answer, Call, DONE};
use super::{living_target, placement, restart};
use crate::domain::Domain;

/// Byte offset of [`AcquireResource::number_of_frames`], the one field that is written back.
const NUMBER_OF_FRAMES: u64 = core::mem::offset_of!(AcquireResource, number_of_frames) as u64;

/// `XENMEM_acquire_resource`: size of a resource, or its frames at guest frames of the caller's choice.
pub fn acquire<M: Machine>(call: &mut Call<'_, M>, start: u64) -> Answer {
    // Foreign frames in a guest's tables are the privileged domain's alone.
    if !call.domain().privileged {
        return Err(Error::EACCES);
    }
    let request: AcquireResource = call.read(call.arguments[1])?;
    let count = u64::from(request.number_of_frames);
    if request._padding != 0
        || request
            .frame
            .checked_add(count)
            .is_none_or(|end| end > u64::from(u32::MAX))
    {
        return Err(Error::EINVAL);
    }
    if request.domain == DomainId::SELF || request.domain == call.domain().id {
        return Err(Error::EPERM);
    }
    let domain = living_target(call, request.domain)?;
    let size = size_of_resource(&domain, &request)?;
    if request.frame_list.is_null() {
        if count != 0 || start != 0 {
            return Err(Error::EINVAL);
        }
        // The structure was read there: its fields' addresses do not wrap.
        call.write(call.arguments[1].wrapping_add(NUMBER_OF_FRAMES), &size)?;
        return DONE;
    }
    if count > u64::from(u32::MAX >> COMMAND_BITS) {
        return Err(Error::E2BIG);
    }
    let mut done = start;
    while done < count {
        let at = call.read_element(request.frame_list.address(), done)?;
        let page = domain
            .grants
            .frame(call.machine().memory(), request.frame.saturating_add(done))?;
        placement::place(call, call.domain(), GuestFrame(at), page, EntryKind::Foreign)?;
        done += 1;
        if done < count && call.spent() {
            return restart(call, op::ACQUIRE_RESOURCE, done);
        }
    }
    DONE
}

/// Most frames that a resource can have.
fn size_of_resource<M: Machine>(domain: &Domain<M>, request: &AcquireResource) -> Result<u32, Error> {
    match request.kind {
        resource::GRANT_TABLE if request.id == grant_table_resource::SHARED => Ok(domain.grants.max_frames()),
        // There are neither device models nor traces nor tables of version 2.
        resource::IOREQ_SERVER | resource::VMTRACE_BUFFER => Err(Error::EOPNOTSUPP),
        _ => Err(Error::EINVAL),
    }
}
