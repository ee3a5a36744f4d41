//! What callers learn of their ports.

use hypercall_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVirq, Close, ExpandArray, InitControl, Reset, Status, op,
    status,
};
use hypercall_abi::{DomainId, Error};

use crate::knowledge::{Bound, OwnPort, Use};
use crate::noticeboard::PortNotice;
use crate::request::Lesson;

/// Learn from one.
pub fn learn(lesson: &mut Lesson<'_>) {
    let argument = lesson.call.arguments[1];
    if !lesson.succeeded() {
        refused(lesson, argument);
        return;
    }
    match lesson.call.operation {
        op::ALLOC_UNBOUND => {
            let Some(answer) = lesson.value::<AllocUnbound>(argument) else {
                return;
            };
            let own = matches!(answer.domain, DomainId::SELF) || answer.domain == lesson.knowledge.id;
            let me = lesson.knowledge.id;
            let remote = if answer.remote_domain == DomainId::SELF {
                me
            } else {
                answer.remote_domain
            };
            if own {
                note(lesson, answer.port, Bound::Unbound(remote));
            }
            lesson.board.ports.push(PortNotice {
                owner: if own { me } else { answer.domain },
                port: answer.port,
                waits_for: remote,
            });
        }
        op::BIND_INTERDOMAIN => {
            let Some(answer) = lesson.value::<BindInterdomain>(argument) else {
                return;
            };
            let owner = match answer.remote_domain {
                DomainId::SELF => lesson.knowledge.id,
                other => other,
            };
            note(lesson, answer.local_port, Bound::Interdomain(owner));
            let bound = |notice: &PortNotice| (notice.owner, notice.port) == (owner, answer.remote_port);
            lesson.board.ports.remove(bound);
        }
        op::BIND_VIRQ => {
            let Some(answer) = lesson.value::<BindVirq>(argument) else {
                return;
            };
            note(lesson, answer.port, Bound::Virq(answer.virq));
        }
        op::BIND_IPI => {
            let Some(answer) = lesson.value::<BindIpi>(argument) else {
                return;
            };
            note(lesson, answer.port, Bound::Ipi);
        }
        op::CLOSE => {
            let Some(Close { port }) = lesson.value(argument) else {
                return;
            };
            closed(lesson, port);
        }
        op::RESET => {
            let Some(Reset { domain }) = lesson.value(argument) else {
                return;
            };
            if domain == DomainId::SELF || domain == lesson.knowledge.id {
                reset(lesson);
            }
        }
        op::STATUS => {
            let Some(status) = lesson.value::<Status>(argument) else {
                return;
            };
            look(lesson, &status);
        }
        op::INIT_CONTROL => {
            let Some(answer) = lesson.value::<InitControl>(argument) else {
                return;
            };
            lesson.knowledge.queues |= 1u64.checked_shl(answer.vcpu).unwrap_or(0);
            lesson
                .knowledge
                .control_blocks
                .push((answer.control_frame, answer.offset));
            lesson.knowledge.frames.set(answer.control_frame, Use::Area);
        }
        op::EXPAND_ARRAY => {
            let Some(ExpandArray { array_frame }) = lesson.value(argument) else {
                return;
            };
            lesson.knowledge.event_pages.push(array_frame);
            lesson.knowledge.frames.set(array_frame, Use::Area);
        }
        _ => {}
    }
}

fn note(lesson: &mut Lesson<'_>, port: u32, bound: Bound) {
    lesson.knowledge.ports.remove(|own| own.port == port);
    lesson.knowledge.ports.push(OwnPort { port, bound });
}

fn closed(lesson: &mut Lesson<'_>, port: u32) {
    let me = lesson.knowledge.id;
    lesson.knowledge.ports.remove(|own| own.port == port);
    lesson
        .board
        .ports
        .remove(|notice| (notice.owner, notice.port) == (me, port));
}

fn reset(lesson: &mut Lesson<'_>) {
    let me = lesson.knowledge.id;
    let knowledge = &mut *lesson.knowledge;
    knowledge.ports.clear();
    knowledge.queues = 0;
    let pages = knowledge.event_pages.iter().copied();
    let blocks = knowledge.control_blocks.iter().map(|&(frame, _)| frame);
    for frame in pages.chain(blocks) {
        knowledge.frames.set(frame, Use::Memory);
    }
    knowledge.event_pages.clear();
    knowledge.control_blocks.clear();
    lesson.board.ports.remove(|notice| notice.owner == me);
}

/// What a port's status tells: the other end may have closed since.
fn look(lesson: &mut Lesson<'_>, answer: &Status) {
    let me = lesson.knowledge.id;
    if answer.domain != DomainId::SELF && answer.domain != me {
        return;
    }
    match answer.status {
        status::CLOSED => lesson.knowledge.ports.remove(|own| own.port == answer.port),
        status::UNBOUND => {
            let waits_for = answer.remote_domain();
            note(lesson, answer.port, Bound::Unbound(waits_for));
            let notice = PortNotice {
                owner: me,
                port: answer.port,
                waits_for,
            };
            if !lesson.board.ports.iter().any(|other| *other == notice) {
                lesson.board.ports.push(notice);
            }
        }
        status::INTERDOMAIN => note(lesson, answer.port, Bound::Interdomain(answer.remote_domain())),
        status::VIRQ => note(lesson, answer.port, Bound::Virq(answer.interrupt())),
        status::IPI => note(lesson, answer.port, Bound::Ipi),
        _ => {}
    }
}

/// Refusals that say that something is not as it was thought to be.
fn refused(lesson: &mut Lesson<'_>, argument: u64) {
    let gone = lesson.result == Error::EINVAL.as_result();
    match lesson.call.operation {
        op::BIND_INTERDOMAIN if gone || lesson.result == Error::ESRCH.as_result() => {
            let Some(request) = lesson.value::<BindInterdomain>(argument) else {
                return;
            };
            if !gone && !lesson.knowledge.privileged {
                lesson.board.leave(request.remote_domain);
            }
            let stale = (request.remote_domain, request.remote_port);
            let me = lesson.knowledge.id;
            lesson
                .board
                .ports
                .remove(|notice| notice.waits_for == me && (notice.owner, notice.port) == stale);
        }
        op::CLOSE | op::SEND if gone => {
            let Some(Close { port }) = lesson.value(argument) else {
                return;
            };
            lesson.knowledge.ports.remove(|own| own.port == port);
        }
        // Another vCPU, or an earlier life, has set the queues up.
        op::INIT_CONTROL if gone => {
            if let Some(request) = lesson.value::<InitControl>(argument) {
                lesson.knowledge.queues |= 1u64.checked_shl(request.vcpu).unwrap_or(0);
            }
        }
        op::SET_PRIORITY if lesson.result == Error::ENOSYS.as_result() => lesson.knowledge.queues = 0,
        _ => {}
    }
}
