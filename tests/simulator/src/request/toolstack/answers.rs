//! How a step of a toolstack went, and what comes next.

use hypercall_abi::Error;
use hypercall_abi::domctl::{CreateDomain, DomainInfo, Domctl, info_flag, op};
use hypercall_abi::event_channel::AllocUnbound;
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{AcquireResource, AddToPhysmapBatch};

use crate::knowledge::{Project, Stage};
use crate::noticeboard::DomainNotice;
use crate::request::Lesson;

/// After so many failures of one step the domain is given up.
const MOST_FAILURES: u32 = 3;

/// Learn how a step went.
pub fn learn(lesson: &mut Lesson<'_>) {
    let Some(index) = lesson.call.project else { return };
    let Some(mut project) = project_of(lesson, index) else {
        return;
    };
    project.busy = false;
    // The confused side has taken the domain away meanwhile, or the projects were mixed up: what was known is void.
    if project.vcpus == 0 {
        store(lesson, index, project);
        return;
    }
    match outcome(lesson, &mut project) {
        Outcome::Next => {
            project.failures = 0;
            project.stage = project.stage.next();
        }
        Outcome::Again => project.failures = 0,
        Outcome::Failed => {
            project.failures += 1;
            if project.failures >= MOST_FAILURES {
                project.failures = 0;
                project.stage = after_failures(project.stage);
            }
        }
        Outcome::Gone => {
            lesson.board.leave(project.domain);
            project = Project::default();
        }
    }
    store(lesson, index, project);
}

/// What a toolstack cannot do it leaves out, unless nothing makes sense without it.
fn after_failures(stage: Stage) -> Stage {
    match stage {
        Stage::MaxVcpus | Stage::MaxMemory | Stage::Populate | Stage::WriteContext | Stage::Unpause => {
            Stage::Destroy
        }
        Stage::MapTable => Stage::StorePort,
        Stage::MapMemory => Stage::MapTable,
        Stage::Create | Stage::Life | Stage::Destroy => stage,
        other => other.next(),
    }
}

enum Outcome {
    Next,
    Again,
    Failed,
    Gone,
}

fn project_of(lesson: &Lesson<'_>, index: u8) -> Option<Project> {
    let projects = lesson.knowledge.projects.as_ref()?;
    projects.all.get(usize::from(index)).copied()
}

fn store(lesson: &mut Lesson<'_>, index: u8, project: Project) {
    if let Some(projects) = &mut lesson.knowledge.projects
        && let Some(place) = projects.all.get_mut(usize::from(index))
    {
        *place = project;
    }
}

fn outcome(lesson: &mut Lesson<'_>, project: &mut Project) -> Outcome {
    let argument = lesson.call.arguments[1];
    if lesson.call.number == number::DOMCTL && lesson.result == Error::ESRCH.as_result() {
        return Outcome::Gone;
    }
    match project.stage {
        Stage::Create if lesson.succeeded() => created(lesson, project),
        Stage::Populate => {
            let given = u64::try_from(lesson.result).unwrap_or(0);
            project.populated = (project.populated + given).min(project.pages);
            match given {
                _ if project.populated == project.pages => Outcome::Next,
                0 => Outcome::Failed,
                _ => Outcome::Again,
            }
        }
        // Without a claim the memory may or may not be there.
        Stage::Claim | Stage::Unclaim => Outcome::Next,
        Stage::MapMemory if lesson.succeeded() => {
            let request = lesson.value::<AddToPhysmapBatch>(argument);
            let frames = request.map(|request| (request.guest_frames.address(), request.errors.address()));
            let error = frames.and_then(|(_, errors)| lesson.value::<i32>(errors));
            match (frames.and_then(|(frames, _)| lesson.value::<u64>(frames)), error) {
                (Some(at), Some(0)) => {
                    project.at = at;
                    Outcome::Next
                }
                _ => Outcome::Failed,
            }
        }
        Stage::MapTable if lesson.succeeded() => {
            let request = lesson.value::<AcquireResource>(argument);
            match request.and_then(|request| lesson.value::<u64>(request.frame_list.address())) {
                Some(at) => {
                    project.at = at;
                    Outcome::Next
                }
                None => Outcome::Failed,
            }
        }
        Stage::StorePort | Stage::ConsolePort if lesson.succeeded() => {
            project.port = lesson
                .value::<AllocUnbound>(argument)
                .map_or(0, |answer| answer.port);
            Outcome::Next
        }
        Stage::Unpause if lesson.succeeded() => {
            lesson.board.start(project.domain);
            Outcome::Next
        }
        Stage::Life => lived(lesson, project),
        Stage::Destroy if lesson.succeeded() => Outcome::Gone,
        _ if lesson.succeeded() => Outcome::Next,
        _ => Outcome::Failed,
    }
}

fn created(lesson: &mut Lesson<'_>, project: &mut Project) -> Outcome {
    let Some(request) = lesson.value::<Domctl>(lesson.call.arguments[0]) else {
        return Outcome::Failed;
    };
    project.domain = request.domain;
    lesson.board.enter(DomainNotice {
        id: request.domain,
        vcpus: request.view::<CreateDomain>().max_vcpus,
        pages: project.pages,
        started: false,
    });
    Outcome::Next
}

fn lived(lesson: &mut Lesson<'_>, project: &mut Project) -> Outcome {
    project.life = project.life.saturating_sub(1);
    if lesson.call.number == number::DOMCTL && lesson.succeeded() {
        match lesson.call.operation {
            op::PAUSE_DOMAIN => project.pauses += 1,
            op::UNPAUSE_DOMAIN => project.pauses = project.pauses.saturating_sub(1),
            _ => {}
        }
    }
    let info = (lesson.call.number == number::DOMCTL && lesson.call.operation == op::GET_DOMAIN_INFO)
        .then(|| lesson.value::<Domctl>(lesson.call.arguments[0]))
        .flatten();
    let Some(request) = info.filter(|_| lesson.succeeded()) else {
        return if project.life == 0 {
            Outcome::Next
        } else {
            Outcome::Again
        };
    };
    // That operation answers with the next domain where there is none of that number.
    if request.domain != project.domain {
        return Outcome::Gone;
    }
    let info = request.view::<DomainInfo>();
    if info.flags & (info_flag::SHUTDOWN | info_flag::DYING) != 0 {
        project.life = 0;
    }
    if project.life == 0 {
        Outcome::Next
    } else {
        Outcome::Again
    }
}
