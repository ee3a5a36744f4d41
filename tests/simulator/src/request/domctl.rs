//! `domctl`: what a toolstack does to one domain, here without a plan: any operation on anybody, also in the wrong order.

use hypercall_abi::DomainId;
use hypercall_abi::domctl::{Domctl, INTERFACE_VERSION, op};
use hypercall_abi::hypercall::number::DOMCTL;

use super::domctl_arguments::{self as arguments, Subject};
use super::{Lesson, Maker};
use crate::noticeboard::DomainNotice;

const NO_OPERATION: u32 = 99;

const WEIGHTS: [(u32, u32); 30] = [
    (op::CREATE_DOMAIN, 4),
    (op::DESTROY_DOMAIN, 3),
    (op::PAUSE_DOMAIN, 60),
    (op::UNPAUSE_DOMAIN, 70),
    (op::GET_DOMAIN_INFO, 60),
    (op::MAX_VCPUS, 12),
    (op::MAX_MEMORY, 20),
    (op::SET_DOMAIN_HANDLE, 10),
    (op::SET_NODE_AFFINITY, 8),
    (op::GET_NODE_AFFINITY, 8),
    (op::SCHEDULER_OP, 20),
    (op::SET_PAGING_MEMPOOL_SIZE, 8),
    (op::GET_PAGING_MEMPOOL_SIZE, 8),
    (op::SET_VCPU_AFFINITY, 30),
    (op::GET_VCPU_AFFINITY, 20),
    (op::GET_VCPU_INFO, 20),
    (op::SEND_TRIGGER, 12),
    (op::GET_HVM_CONTEXT, 20),
    (op::SET_HVM_CONTEXT, 10),
    (op::SET_CPU_POLICY, 8),
    (op::GET_CPU_POLICY, 8),
    (op::SET_TSC_INFO, 8),
    (op::GET_TSC_INFO, 8),
    (op::GET_ADDRESS_SIZE, 4),
    (op::SET_VCPU_CONTEXT, 2),
    (op::GET_VCPU_CONTEXT, 2),
    (op::SHADOW_OP, 2),
    (op::RESUME_DOMAIN, 2),
    (op::SOFT_RESET, 1),
    (NO_OPERATION, 2),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let operation = maker.numbers.weighted(&WEIGHTS);
    // Those who may not ask anyway ask about themselves, too.
    let me = maker.knowledge.id;
    let somebody = maker.board.other(me, maker.numbers);
    let notice = somebody.unwrap_or(DomainNotice {
        id: DomainId(1),
        vcpus: 1,
        pages: 16,
        started: true,
    });
    let subject = Subject {
        domain: maker.domain(notice.id),
        vcpus: notice.vcpus,
        pages: notice.pages,
    };
    let request = match operation {
        // Whom there is, one after the other.
        op::GET_DOMAIN_INFO if maker.numbers.chance(1, 2) => {
            let next = DomainId(maker.knowledge.next_look);
            Domctl::new(operation, maker.domain(next))
        }
        op::CREATE_DOMAIN => {
            let vcpus = maker.numbers.within(1, 3) as u32;
            arguments::create(maker, vcpus)
        }
        _ => arguments::make(maker, operation, &subject),
    };
    submit(maker, request);
}

/// Make the call of a request.
pub(super) fn submit(maker: &mut Maker<'_>, mut request: Domctl) {
    let operation = request.command;
    request.interface_version = maker.number32(INTERFACE_VERSION);
    let address = maker.structure(&request);
    maker.call(DOMCTL, operation, &[address]);
}

/// Learn from one.
pub fn learn(lesson: &mut Lesson<'_>) {
    if lesson.call.project.is_some() || !lesson.knowledge.privileged {
        return;
    }
    let Some(request) = lesson.value::<Domctl>(lesson.call.arguments[0]) else {
        return;
    };
    match lesson.call.operation {
        // Nobody wants this one: it is a domain that the confused forget, or destroy.
        op::CREATE_DOMAIN if lesson.succeeded() => lesson.board.enter(DomainNotice {
            id: request.domain,
            vcpus: request.view::<hypercall_abi::domctl::CreateDomain>().max_vcpus,
            pages: 0,
            started: false,
        }),
        op::UNPAUSE_DOMAIN if lesson.succeeded() => lesson.board.start(request.domain),
        op::DESTROY_DOMAIN if lesson.succeeded() => gone(lesson, request.domain),
        op::GET_DOMAIN_INFO if lesson.succeeded() => {
            let info = request.view::<hypercall_abi::domctl::DomainInfo>();
            lesson.knowledge.next_look = info.domain.0.wrapping_add(1);
            // One that nobody has told of: the call that made it was not understood.
            if lesson.board.domain(info.domain).is_none() {
                lesson.board.enter(DomainNotice {
                    id: info.domain,
                    vcpus: info.max_vcpu_id.wrapping_add(1),
                    pages: 0,
                    started: false,
                });
            }
        }
        op::GET_DOMAIN_INFO if lesson.call.intent == super::Intent::Valid => lesson.knowledge.next_look = 0,
        _ if lesson.result == hypercall_abi::Error::ESRCH.as_result()
            && lesson.board.domain(request.domain).is_some() =>
        {
            gone(lesson, request.domain);
        }
        _ => {}
    }
}

/// A domain is no more.
pub(super) fn gone(lesson: &mut Lesson<'_>, domain: DomainId) {
    lesson.board.leave(domain);
    if let Some(projects) = &mut lesson.knowledge.projects {
        projects.abandon(domain);
    }
}
