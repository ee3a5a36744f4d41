//! Borrowing frames: into the caller's physmap and out of it again.

use alloc::sync::Arc;

use hypercall_abi::Error;
use hypercall_abi::grant_table::{GrantStatus, MapGrantRef, UnmapAndReplace, UnmapGrantRef, map_flag};
use machine::Machine;
use machine::address::GuestAddress;
use machine::memory::FrameReference;
use machine::stage_two::{EntryKind, Permissions};
use zerocopy::FromZeros;

use super::super::{Answer, Call, DONE};
use crate::domain::Domain;
use crate::grant_table::{self, Batch, Mapping};
use crate::physmap::REMOVAL_BATCH;

/// Map one grant.
pub fn map<M: Machine>(call: &Call<'_, M>, element: &mut MapGrantRef) {
    element.device_bus_address = 0;
    match try_map(call, element) {
        Ok(handle) => {
            element.handle = handle;
            element.status = GrantStatus::OKAY;
        }
        Err(status) => element.status = status,
    }
}

fn try_map<M: Machine>(call: &Call<'_, M>, element: &MapGrantRef) -> Result<u32, GrantStatus> {
    if element.flags & (map_flag::HOST_MAP | map_flag::DEVICE_MAP) == 0 {
        return Err(GrantStatus::BAD_REFERENCE);
    }
    // Mappings for devices, into page table entries and for applications are classic PV's.
    if element.flags & !map_flag::READ_ONLY != map_flag::HOST_MAP {
        return Err(GrantStatus::GENERAL_ERROR);
    }
    let granter = call
        .kernel
        .domains
        .get(element.domain)
        .ok_or(GrantStatus::BAD_DOMAIN)?;
    let write = element.flags & map_flag::READ_ONLY == 0;
    let domain = call.domain();
    if !domain.may_map_more() {
        return Err(GrantStatus::NO_SPACE);
    }
    let handle = domain.grants.reserve_handle().ok_or(GrantStatus::NO_SPACE)?;
    let made = granter
        .grants
        .pin(&granter.physmap, element.reference, domain.id, write)
        .and_then(|page| {
            let at = GuestAddress(element.host_address).frame();
            let mapping = Mapping {
                granter: Arc::downgrade(&granter),
                reference: element.reference,
                write,
                at,
                frame: page.frame(),
            };
            enter(call, domain, &mapping, page)
                .inspect_err(|_| granter.grants.unpin(element.reference, write))?;
            Ok(mapping)
        });
    match made {
        Ok(mapping) => {
            domain.grants.record(handle, mapping);
            Ok(handle)
        }
        Err(status) => {
            domain.grants.release_handle(handle);
            Err(status)
        }
    }
}

/// Enter a mapping in the caller's physmap. The caller's own memory makes place (and is freed); nothing else does.
fn enter<M: Machine>(
    call: &Call<'_, M>,
    domain: &Domain<M>,
    mapping: &Mapping<M>,
    page: FrameReference,
) -> Result<(), GrantStatus> {
    let permissions = if mapping.write {
        Permissions::READ_WRITE
    } else {
        Permissions::READ_ONLY
    };
    let before = domain.physmap.replace_if(
        call.machine(),
        mapping.at,
        page,
        permissions,
        EntryKind::Grant,
        |leaf| {
            if leaf.kind == EntryKind::Populated {
                Ok(())
            } else {
                Err(Error::EBUSY)
            }
        },
    );
    before.map(drop).map_err(|_| GrantStatus::GENERAL_ERROR)
}

/// Unmap the grants of an array, a batch at a time, each batch with one flush.
pub fn unmap_all<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let count = u64::from(call.arguments[2] as u32);
    let mut done = 0;
    let mut elements = [UnmapGrantRef::new_zeroed(); REMOVAL_BATCH];
    while done < count {
        let part = (count - done).min(REMOVAL_BATCH as u64) as usize;
        let readable = super::read_elements(call, done, &mut elements[..part]);
        unmap_batch(call, readable);
        super::write_elements(call, done, readable)?;
        done = done.saturating_add(readable.len() as u64);
        if readable.len() < part {
            return Err(Error::EFAULT);
        }
        if done < count && call.spent() {
            return super::restart::<M, UnmapGrantRef>(call, done);
        }
    }
    DONE
}

/// Unmap at most [`REMOVAL_BATCH`] grants.
fn unmap_batch<M: Machine>(call: &Call<'_, M>, elements: &mut [UnmapGrantRef]) {
    let domain = call.domain();
    let mut batch: Batch<M> = heapless::Vec::new();
    let mut indices: heapless::Vec<usize, REMOVAL_BATCH> = heapless::Vec::new();
    for (index, element) in elements.iter_mut().enumerate() {
        element.status = match domain
            .grants
            .take_mapping(element.handle, |mapping| accept(element, mapping))
        {
            Ok(undone) => {
                // Both have room for as many as there are elements.
                let _ = (batch.push(undone), indices.push(index));
                GrantStatus::OKAY
            }
            Err(status) => status,
        };
    }
    grant_table::undo(call.machine(), domain, &mut batch);
    for (index, undone) in indices.iter().zip(&batch) {
        if !undone.done
            && let Some(element) = elements.get_mut(*index)
        {
            element.status = GrantStatus::GENERAL_ERROR;
        }
    }
}

/// Whether the caller names the mapping that the handle stands for. An address of zero asks for nothing: that is no
/// error, and changes nothing.
fn accept<M: Machine>(element: &UnmapGrantRef, mapping: &Mapping<M>) -> Result<(), GrantStatus> {
    if element.host_address == 0 {
        return Err(GrantStatus::OKAY);
    }
    if GuestAddress(element.host_address).frame() != mapping.at {
        return Err(GrantStatus::GENERAL_ERROR);
    }
    Ok(())
}

/// Unmapping with another mapping in its place works on page table entries, which translated guests do not offer.
pub fn replace<M: Machine>(call: &Call<'_, M>, element: &mut UnmapAndReplace) {
    let known = call.domain().grants.knows(element.handle);
    element.status = if known {
        GrantStatus::GENERAL_ERROR
    } else {
        GrantStatus::BAD_HANDLE
    };
}
