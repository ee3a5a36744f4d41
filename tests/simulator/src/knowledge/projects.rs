//! The domains that a toolstack is making or has made, each at its stage: the order of a real domain builder.

use hypercall_abi::DomainId;

use crate::numbers::Numbers;

/// Domains that are made at the same time.
pub const MOST_PROJECTS: usize = 4;
/// Steps that a running domain gets before its end, on average.
const LIFE: u64 = 400;

macro_rules! stages {
    ($($stage:ident,)*) => {
        /// What comes next for a domain, in this order.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "the steps are named by what they ask for")]
        pub enum Stage {
            $($stage,)*
        }

        impl Stage {
            const ORDER: &[Stage] = &[$(Stage::$stage,)*];
        }
    };
}

stages! {
    Create,
    MaxVcpus,
    MaxMemory,
    TscInfo,
    PagingPool,
    TimerMode,
    ReadPolicy,
    WritePolicy,
    MemoryMap,
    Claim,
    Populate,
    Unclaim,
    MapMemory,
    UnmapMemory,
    MapTable,
    GrantStore,
    GrantConsole,
    UnmapTable,
    StorePort,
    StorePortParameter,
    StoreFrameParameter,
    ConsolePort,
    ConsolePortParameter,
    ConsoleFrameParameter,
    ReadContext,
    WriteContext,
    Unpause,
    Life,
    Pause,
    ResetPorts,
    Destroy,
}

impl Default for Stage {
    fn default() -> Self {
        Stage::ORDER[0]
    }
}

impl Stage {
    /// The stage after this one, and after the last one the first. A running domain stays what it is.
    pub fn next(self) -> Stage {
        let next = Stage::ORDER.get(self as usize + 1);
        next.copied().unwrap_or_default()
    }
}

/// A domain in the making.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Project {
    /// Its number, once it has one.
    pub domain: DomainId,
    /// What comes next.
    pub stage: Stage,
    /// A vCPU is at it.
    pub busy: bool,
    /// vCPUs it gets.
    pub vcpus: u32,
    /// Memory it gets.
    pub pages: u64,
    /// Memory it has got.
    pub populated: u64,
    /// Where something of it is mapped.
    pub at: u64,
    /// The port that was allocated last.
    pub port: u32,
    /// Leaves of its policy, or bytes of its context, that were read last.
    pub size: u32,
    /// How often it was paused and not let go.
    pub pauses: u32,
    /// Calls in a row that failed.
    pub failures: u32,
    /// Steps that are left of its life.
    pub life: u64,
}

impl Project {
    /// A new one, of random size.
    pub fn new(numbers: &mut Numbers) -> Self {
        Project {
            vcpus: numbers.within(1, 3) as u32,
            pages: numbers.within(24, 64),
            life: numbers.within(1, 2 * LIFE),
            ..Project::default()
        }
    }
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Projects {
    /// Each at its stage.
    pub all: [Project; MOST_PROJECTS],
}

impl Projects {
    /// One that nobody is at; it is taken.
    pub fn take(&mut self, numbers: &mut Numbers) -> Option<usize> {
        let start = numbers.below(MOST_PROJECTS as u64) as usize;
        let index = (0..MOST_PROJECTS)
            .map(|step| (start + step) % MOST_PROJECTS)
            .find(|&index| !self.all[index].busy)?;
        self.all[index].busy = true;
        Some(index)
    }

    /// A domain is gone: who was making it begins anew.
    pub fn abandon(&mut self, domain: DomainId) {
        for project in self.all.iter_mut().filter(|project| project.domain == domain) {
            *project = Project {
                busy: project.busy,
                ..Project::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_end_where_they_began() {
        let mut stage = Stage::Create;
        let mut count = 0;
        loop {
            let next = stage.next();
            count += 1;
            if next == Stage::Create {
                assert_eq!(stage, Stage::Destroy);
                break;
            }
            assert_eq!(next as usize, stage as usize + 1);
            stage = next;
        }
        assert_eq!(count, Stage::ORDER.len());
    }

    #[test]
    fn a_project_is_taken_once() {
        let mut projects = Projects::default();
        let mut numbers = Numbers::new(1);
        let mut taken: Vec<usize> = (0..MOST_PROJECTS)
            .filter_map(|_| projects.take(&mut numbers))
            .collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..MOST_PROJECTS).collect::<Vec<_>>());
        assert_eq!(projects.take(&mut numbers), None);
    }
}
