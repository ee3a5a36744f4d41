//! The table itself: its size, its format, its frames.

use alloc::sync::Arc;

use hypercall_abi::grant_table::{
    GetStatusFrames, GetVersion, GrantStatus, QuerySize, SetVersion, SetupTable, SwapGrantRef,
};
use hypercall_abi::{DomainId, Error};
use machine::Machine;

use super::super::{Answer, Call, DONE};
use crate::domain::Domain;

/// The format of entries that there is.
const VERSION: u32 = 1;

/// The domain whose table is meant.
fn owner<M: Machine>(call: &Call<'_, M>, id: DomainId) -> Result<Arc<Domain<M>>, GrantStatus> {
    call.target(id).map_err(|error| match error {
        Error::EPERM => GrantStatus::PERMISSION_DENIED,
        _ => GrantStatus::BAD_DOMAIN,
    })
}

/// Frames now and at most.
pub fn query_size<M: Machine>(call: &Call<'_, M>, element: &mut QuerySize) {
    element.status = match owner(call, element.domain) {
        Ok(domain) => {
            element.number_of_frames = domain.grants.frames();
            element.max_number_of_frames = domain.grants.max_frames();
            GrantStatus::OKAY
        }
        Err(status) => status,
    };
}

/// Grow the table, and list where its frames are in the caller's physmap.
pub fn setup<M: Machine>(call: &Call<'_, M>, element: &mut SetupTable) {
    element.status = try_setup(call, element).err().unwrap_or(GrantStatus::OKAY);
}

fn try_setup<M: Machine>(call: &Call<'_, M>, element: &SetupTable) -> Result<(), GrantStatus> {
    let domain = owner(call, element.domain)?;
    let frames = element.number_of_frames;
    domain
        .grants
        .grow(call.machine().memory(), frames)
        .map_err(|_| GrantStatus::GENERAL_ERROR)?;
    for index in 0..frames {
        call.write_element(
            element.frame_list.address(),
            u64::from(index),
            &domain.grants.place(index),
        )
        .map_err(|_| GrantStatus::BAD_VIRTUAL_ADDRESS)?;
    }
    Ok(())
}

/// Choose the format of entries: there is one.
pub fn set_version<M: Machine>(call: &Call<'_, M>) -> Answer {
    if call.arguments[2] as u32 != 1 {
        return Err(Error::EINVAL);
    }
    let request: SetVersion = call.read(call.arguments[1])?;
    let answer = match request.version {
        VERSION => DONE,
        2 => Err(Error::ENOSYS),
        _ => return Err(Error::EINVAL),
    };
    call.write(call.arguments[1], &SetVersion { version: VERSION })?;
    answer
}

/// Say which format a domain's table has.
pub fn get_version<M: Machine>(call: &Call<'_, M>) -> Answer {
    if call.arguments[2] as u32 != 1 {
        return Err(Error::EINVAL);
    }
    let mut request: GetVersion = call.read(call.arguments[1])?;
    call.target(request.domain)?;
    request.version = VERSION;
    call.write(call.arguments[1], &request)?;
    DONE
}

/// Status words are apart in version 2 only.
pub fn status_frames<M: Machine>(_call: &Call<'_, M>, element: &mut GetStatusFrames) {
    element.status = GrantStatus::GENERAL_ERROR;
}

/// Exchange two entries of the caller's table.
pub fn swap<M: Machine>(call: &Call<'_, M>, element: &mut SwapGrantRef) {
    let swapped = call.domain().grants.swap(element.first, element.second);
    element.status = swapped.err().unwrap_or(GrantStatus::OKAY);
}
