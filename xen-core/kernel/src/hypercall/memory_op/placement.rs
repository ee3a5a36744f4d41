//! What lies at a guest frame: the core's shared pages, other domains' memory, or nothing.

use hypercall_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, GRANT_TABLE_STATUS_INDEX, RemoveFromPhysmap, map_space, op,
};
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::{GuestFrame, Order};
use machine::memory::FrameReference;
use machine::stage_two::{EntryKind, Leaf, Permissions};

use super::super::{Answer, Call, DONE};
use super::{living_target, restart};
use crate::domain::Domain;
use crate::physmap::Physmap;

/// `XENMEM_add_to_physmap`: put one thing at a guest frame.
pub fn add<M: Machine>(call: &Call<'_, M>, start: u64) -> Answer {
    check_start(start)?;
    let request: AddToPhysmap = call.read(call.arguments[1])?;
    match request.space {
        map_space::GMFN_FOREIGN => return Err(Error::ENOSYS),
        map_space::GMFN_RANGE => return Err(Error::EOPNOTSUPP),
        _ => {}
    }
    let domain = living_target(call, request.domain)?;
    let what = Thing {
        space: request.space,
        index: request.index,
        foreign: DomainId::INVALID,
    };
    add_one(call, &domain, what, GuestFrame(request.guest_frame))?;
    DONE
}

/// `XENMEM_add_to_physmap_batch`: put many things of one space at guest frames; each has its own error.
pub fn add_batch<M: Machine>(call: &mut Call<'_, M>, start: u64) -> Answer {
    check_start(start)?;
    let request: AddToPhysmapBatch = call.read(call.arguments[1])?;
    if u32::from(request.space) == map_space::GMFN_RANGE {
        return Err(Error::EOPNOTSUPP);
    }
    let domain = living_target(call, request.domain)?;
    let count = u64::from(request.size);
    if count < start {
        return Err(Error::EILSEQ);
    }
    let mut done = start;
    while done < count {
        let index = call.read_element(request.indices.address(), done)?;
        let at = call.read_element(request.guest_frames.address(), done)?;
        let what = Thing {
            space: u32::from(request.space),
            index,
            foreign: request.foreign_domain,
        };
        let error = add_one(call, &domain, what, GuestFrame(at)).map_or_else(|error| -error.number(), |()| 0);
        call.write_element(request.errors.address(), done, &error)?;
        done += 1;
        if done < count && call.spent() {
            return restart(call, op::ADD_TO_PHYSMAP_BATCH, done);
        }
    }
    DONE
}

/// `XENMEM_remove_from_physmap`: empty a guest frame.
pub fn remove<M: Machine>(call: &Call<'_, M>) -> Answer {
    let request: RemoveFromPhysmap = call.read(call.arguments[1])?;
    let domain = call.target(request.domain)?;
    let may_split = domain.may_grow_tables();
    let removed = domain.physmap.remove_if(
        call.machine(),
        GuestFrame(request.guest_frame),
        |leaf| match leaf.kind {
            _ if leaf.order != Order::PAGE && !may_split => Err(Error::ENOMEM),
            EntryKind::Populated | EntryKind::Foreign | EntryKind::Shared => Ok(()),
            // A granted page is undone by its handle; a device's is no page at all.
            EntryKind::Grant | EntryKind::Device => Err(Error::ENOENT),
        },
    )?;
    if removed.is_some() {
        DONE
    } else {
        Err(Error::ENOENT)
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

/// What is to be placed.
struct Thing {
    space: u32,
    index: u64,
    /// For [`map_space::GMFN_FOREIGN`]: whose.
    foreign: DomainId,
}

fn add_one<M: Machine>(
    call: &Call<'_, M>,
    domain: &Domain<M>,
    what: Thing,
    at: GuestFrame,
) -> Result<(), Error> {
    match what.space {
        map_space::SHARED_INFO if what.index == 0 => {
            let page = domain.shared_info.duplicate().ok_or(Error::ENOMEM)?;
            place(call, domain, at, page, EntryKind::Shared)
        }
        map_space::GRANT_TABLE if what.index & GRANT_TABLE_STATUS_INDEX == 0 => {
            let page = domain.grants.frame(call.machine().memory(), what.index)?;
            place(call, domain, at, page, EntryKind::Shared)?;
            domain.grants.note_place(what.index, at);
            Ok(())
        }
        map_space::GMFN => relocate(call, domain, GuestFrame(what.index), at),
        map_space::GMFN_FOREIGN => {
            let page = foreign_page(call, domain, what.foreign, GuestFrame(what.index))?;
            place(call, domain, at, page, EntryKind::Foreign)
        }
        _ => Err(Error::EINVAL),
    }
}

/// Another domain's page, for a privileged one. Only a domain's own memory can be had: not what it has mapped itself.
fn foreign_page<M: Machine>(
    call: &Call<'_, M>,
    domain: &Domain<M>,
    owner: DomainId,
    at: GuestFrame,
) -> Result<FrameReference, Error> {
    if owner == DomainId::SELF {
        return Err(Error::EINVAL);
    }
    let owner = call
        .kernel
        .domains
        .get(owner)
        .filter(|owner| owner.id != domain.id)
        .ok_or(Error::ESRCH)?;
    if !domain.privileged {
        return Err(Error::EPERM);
    }
    match owner.physmap.get(at) {
        Some((page, leaf)) if leaf.kind == EntryKind::Populated => Ok(page),
        _ => Err(Error::EINVAL),
    }
}

/// Put a page at a guest frame, in place of the domain's own memory or another shared page there.
pub(super) fn place<M: Machine>(
    call: &Call<'_, M>,
    domain: &Domain<M>,
    at: GuestFrame,
    page: FrameReference,
    kind: EntryKind,
) -> Result<(), Error> {
    if !domain.may_map_more() {
        return Err(Error::ENOMEM);
    }
    let permissions = if kind == EntryKind::Populated {
        Permissions::ALL
    } else {
        Permissions::READ_WRITE
    };
    let before = domain
        .physmap
        .replace_if(call.machine(), at, page, permissions, kind, |leaf| {
            match leaf.kind {
                EntryKind::Populated | EntryKind::Shared => Ok(()),
                EntryKind::Device => Err(Error::EPERM),
                EntryKind::Foreign | EntryKind::Grant => Err(Error::ENXIO),
            }
        })?;
    // Memory that was there goes back to the machine, as the interface has it: nobody could reach it any more.
    drop(before);
    Ok(())
}

/// Move a page of a domain's own memory.
fn relocate<M: Machine>(
    call: &Call<'_, M>,
    domain: &Domain<M>,
    from: GuestFrame,
    to: GuestFrame,
) -> Result<(), Error> {
    if from == to {
        return Ok(());
    }
    // The destination is looked at first, so that a refusal leaves the page where it was.
    let occupied = |leaf: Leaf| leaf.kind != EntryKind::Populated;
    if !Physmap::<M>::reaches(to) || domain.physmap.lookup(to).is_some_and(occupied) {
        return Err(Error::EINVAL);
    }
    let movable = |leaf: Leaf| leaf.kind == EntryKind::Populated;
    if !domain.physmap.lookup(from).is_some_and(movable) {
        return Err(Error::EINVAL);
    }
    if !domain.may_map_more() {
        return Err(Error::ENOMEM);
    }
    let removed = domain
        .physmap
        .remove_if(call.machine(), from, |leaf| match leaf.kind {
            EntryKind::Populated => Ok(()),
            _ => Err(Error::EINVAL),
        })?;
    let page = removed.and_then(|removed| removed.frames).ok_or(Error::EINVAL)?;
    place(call, domain, to, page, EntryKind::Populated)
}
