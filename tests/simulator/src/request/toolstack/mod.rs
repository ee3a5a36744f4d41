//! A sane toolstack: it makes domains in the order of a real builder, lets them live for a while, and ends them. Each
//! request is one step of one of its [`Projects`](crate::knowledge::Projects).

mod answers;

use hypercall_abi::domctl::op;
use hypercall_abi::event_channel::{self, AllocUnbound, BindInterdomain, Reset};
use hypercall_abi::grant_table::{GrantEntryV1, entry_flag, reserved};
use hypercall_abi::hvm::{self, Param, param};
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{
    self, AcquireResource, AddToPhysmapBatch, E820Entry, ForeignMemoryMap, MemoryMap, MemoryReservation,
    RemoveFromPhysmap, e820, map_space, resource,
};
use hypercall_abi::{DomainId, GuestHandle};

use super::domctl_arguments::{self as arguments, Subject};
use super::{Intent, Maker, domctl};
use crate::knowledge::{Project, Stage, Use};
use crate::noticeboard::{GrantNotice, PortNotice};

pub use answers::learn;

/// Pages given in one call.
const PAGES_AT_ONCE: u64 = 32;

/// Make the next step of some project; `false` when all are being worked at.
pub fn step(maker: &mut Maker<'_>) -> bool {
    let Some(projects) = &mut maker.knowledge.projects else {
        return false;
    };
    let Some(index) = projects.take(maker.numbers) else {
        return false;
    };
    if projects.all[index].vcpus == 0 {
        let orphan = maker.board.domains.pick_if(maker.numbers, |notice| {
            let made_by_nobody = notice.pages == 0 && notice.id != DomainId(0);
            made_by_nobody && projects.all.iter().all(|project| project.domain != notice.id)
        });
        projects.all[index] = match orphan {
            // Its end is somebody's duty.
            Some(notice) => Project {
                domain: notice.id,
                vcpus: notice.vcpus.max(1),
                stage: Stage::Pause,
                busy: true,
                ..Project::default()
            },
            None => Project {
                busy: true,
                ..Project::new(maker.numbers)
            },
        };
    }
    let project = projects.all[index];
    maker.set_intent(Intent::Valid);
    maker.request.call.project = Some(index as u8);
    take_step(maker, &project);
    true
}

/// Make the next step, or something else where there is none to make.
pub fn make(maker: &mut Maker<'_>) {
    if !step(maker) {
        domctl::make(maker);
    }
}

fn take_step(maker: &mut Maker<'_>, project: &Project) {
    let (domain, at) = (project.domain, project.at);
    match project.stage {
        Stage::Create => {
            let request = arguments::create(maker, project.vcpus);
            domctl::submit(maker, request);
        }
        Stage::MaxVcpus => control(maker, project, op::MAX_VCPUS),
        Stage::MaxMemory => control(maker, project, op::MAX_MEMORY),
        Stage::TscInfo => control(maker, project, op::SET_TSC_INFO),
        Stage::PagingPool => control(maker, project, op::SET_PAGING_MEMPOOL_SIZE),
        Stage::TimerMode => parameter(maker, domain, param::TIMER_MODE, 1),
        Stage::ReadPolicy => control(maker, project, op::GET_CPU_POLICY),
        Stage::WritePolicy => control(maker, project, op::SET_CPU_POLICY),
        Stage::MemoryMap => memory_map(maker, project),
        Stage::Claim => claim(maker, domain, project.pages),
        Stage::Populate => populate(maker, project),
        Stage::Unclaim => claim(maker, domain, 0),
        Stage::MapMemory => map_memory(maker, project),
        Stage::MapTable => map_table(maker, domain),
        Stage::UnmapMemory | Stage::UnmapTable => {
            let argument = maker.structure(&RemoveFromPhysmap {
                domain: DomainId::SELF,
                guest_frame: at,
                ..RemoveFromPhysmap::default()
            });
            let operation = memory::op::REMOVE_FROM_PHYSMAP;
            maker.call(number::MEMORY_OP, operation, &[u64::from(operation), argument]);
        }
        Stage::GrantStore => grant(maker, project, reserved::XENSTORE, project.pages - 1),
        Stage::GrantConsole => grant(maker, project, reserved::CONSOLE, project.pages - 2),
        Stage::StorePort | Stage::ConsolePort => {
            let argument = maker.structure(&AllocUnbound {
                domain,
                remote_domain: DomainId::CONTROL,
                port: 0,
            });
            events(maker, event_channel::op::ALLOC_UNBOUND, argument);
        }
        Stage::StorePortParameter => parameter(maker, domain, param::STORE_EVTCHN, u64::from(project.port)),
        Stage::StoreFrameParameter => parameter(maker, domain, param::STORE_PFN, project.pages - 1),
        Stage::ConsolePortParameter => {
            parameter(maker, domain, param::CONSOLE_EVTCHN, u64::from(project.port))
        }
        Stage::ConsoleFrameParameter => parameter(maker, domain, param::CONSOLE_PFN, project.pages - 2),
        Stage::ReadContext => control(maker, project, op::GET_HVM_CONTEXT),
        Stage::WriteContext => control(maker, project, op::SET_HVM_CONTEXT),
        Stage::Unpause => control(maker, project, op::UNPAUSE_DOMAIN),
        Stage::Life => live(maker, project),
        Stage::Pause => control(maker, project, op::PAUSE_DOMAIN),
        Stage::ResetPorts => {
            let argument = maker.structure(&Reset { domain });
            events(maker, event_channel::op::RESET, argument);
        }
        Stage::Destroy => control(maker, project, op::DESTROY_DOMAIN),
    }
}

fn control(maker: &mut Maker<'_>, project: &Project, operation: u32) {
    let subject = Subject {
        domain: project.domain,
        vcpus: project.vcpus,
        pages: project.pages,
    };
    let request = arguments::make(maker, operation, &subject);
    domctl::submit(maker, request);
}

fn events(maker: &mut Maker<'_>, operation: u32, argument: u64) {
    maker.call(
        number::EVENT_CHANNEL_OP,
        operation,
        &[u64::from(operation), argument],
    );
}

fn parameter(maker: &mut Maker<'_>, domain: DomainId, index: u32, value: u64) {
    let argument = maker.structure(&Param {
        domain,
        _padding: 0,
        index,
        value,
    });
    let operation = hvm::op::SET_PARAM;
    maker.call(number::HVM_OP, operation, &[u64::from(operation), argument]);
}

fn memory_map(maker: &mut Maker<'_>, project: &Project) {
    let buffer = maker.array(&[
        E820Entry::new(0, project.pages << 12, e820::RAM),
        E820Entry::new(0xfee0_0000, 0x1000, e820::RESERVED),
    ]);
    let argument = maker.structure(&ForeignMemoryMap {
        domain: project.domain,
        map: MemoryMap {
            number_of_entries: 2,
            _padding: 0,
            buffer: GuestHandle::new(buffer),
        },
        ..ForeignMemoryMap::default()
    });
    let operation = memory::op::SET_MEMORY_MAP;
    maker.call(number::MEMORY_OP, operation, &[u64::from(operation), argument]);
}

fn claim(maker: &mut Maker<'_>, domain: DomainId, number_of_extents: u64) {
    let argument = maker.structure(&MemoryReservation {
        number_of_extents,
        domain,
        ..MemoryReservation::default()
    });
    let operation = memory::op::CLAIM_PAGES;
    maker.call(number::MEMORY_OP, operation, &[u64::from(operation), argument]);
}

fn populate(maker: &mut Maker<'_>, project: &Project) {
    let count = (project.pages - project.populated).min(PAGES_AT_ONCE);
    let frames: heapless::Vec<u64, { PAGES_AT_ONCE as usize }> =
        (project.populated..project.populated + count).collect();
    let list = maker.array(&frames);
    let argument = maker.structure(&MemoryReservation {
        extent_start: GuestHandle::new(list),
        number_of_extents: count,
        domain: project.domain,
        ..MemoryReservation::default()
    });
    let operation = memory::op::POPULATE_PHYSMAP;
    maker.call(number::MEMORY_OP, operation, &[u64::from(operation), argument]);
}

fn map_memory(maker: &mut Maker<'_>, project: &Project) {
    let index = maker.numbers.below(project.pages);
    let at = maker.frame_of(Use::Hole);
    let (indices, frames) = (maker.array(&[index]), maker.array(&[at]));
    let errors = maker.room(8);
    let argument = maker.structure(&AddToPhysmapBatch {
        domain: DomainId::SELF,
        space: map_space::GMFN_FOREIGN as u16,
        size: 1,
        foreign_domain: project.domain,
        indices: GuestHandle::new(indices),
        guest_frames: GuestHandle::new(frames),
        errors: GuestHandle::new(errors),
    });
    let operation = memory::op::ADD_TO_PHYSMAP_BATCH;
    maker.call(number::MEMORY_OP, operation, &[u64::from(operation), argument]);
}

fn map_table(maker: &mut Maker<'_>, domain: DomainId) {
    let at = maker.frame_of(Use::Hole);
    let list = maker.array(&[at]);
    let argument = maker.structure(&AcquireResource {
        domain,
        kind: resource::GRANT_TABLE,
        number_of_frames: 1,
        frame_list: GuestHandle::new(list),
        ..AcquireResource::default()
    });
    let operation = memory::op::ACQUIRE_RESOURCE;
    maker.call(number::MEMORY_OP, operation, &[u64::from(operation), argument]);
}

/// A grant to the toolstack's own domain, written to the new domain's table before it runs. The call after it only looks.
fn grant(maker: &mut Maker<'_>, project: &Project, reference: u32, frame: u64) {
    let entry = GrantEntryV1 {
        flags: entry_flag::PERMIT_ACCESS,
        domain: maker.knowledge.id,
        frame: frame as u32,
    };
    maker
        .request
        .writes
        .put((project.at << 12) + u64::from(reference) * 8, &entry);
    maker.board.grants.push(GrantNotice {
        granter: project.domain,
        reference,
        to: maker.knowledge.id,
        writable: true,
    });
    control(maker, project, op::GET_DOMAIN_INFO);
}

/// What a toolstack does with a domain that runs.
fn live(maker: &mut Maker<'_>, project: &Project) {
    let operation = maker.numbers.weighted(&[
        (op::GET_DOMAIN_INFO, 12),
        (op::PAUSE_DOMAIN, 6),
        (op::UNPAUSE_DOMAIN, if project.pauses == 0 { 1 } else { 24 }),
        (op::GET_VCPU_INFO, 3),
        (op::SET_VCPU_AFFINITY, 3),
        (op::GET_VCPU_AFFINITY, 2),
        (op::SCHEDULER_OP, 2),
        (op::MAX_MEMORY, 2),
        (op::GET_HVM_CONTEXT, 2),
        (op::SEND_TRIGGER, 1),
        (0, 4),
    ]);
    if operation != 0 {
        control(maker, project, operation);
        return;
    }
    // Its store and console rings: the daemons' ends.
    let me = maker.knowledge.id;
    let waits = |notice: &PortNotice| notice.owner == project.domain && notice.waits_for == me;
    match maker.board.ports.pick_if(maker.numbers, waits) {
        Some(notice) => {
            let argument = maker.structure(&BindInterdomain {
                remote_domain: notice.owner,
                remote_port: notice.port,
                ..BindInterdomain::default()
            });
            events(maker, event_channel::op::BIND_INTERDOMAIN, argument);
        }
        None => control(maker, project, op::GET_DOMAIN_INFO),
    }
}
