//! Hosts on which core and model are played side by side, one deed after another, from a seed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use kernel::domain::DomainConfig;
use kernel::lifecycle::Destruction;
use kernel::testing::{self, TestKernel};
use machine::Machine;
use machine::fake::{Configuration, set_processor};

use super::{Agreement, Caller, Disagreement};
use crate::attacker::{Attacker, Role};
use crate::deed::Deed;
use crate::knowledge::Knowledge;
use crate::noticeboard::{DomainNotice, Noticeboard};
use crate::numbers::Numbers;

/// What the domains are for that are there at the beginning.
const ROLES: [Role; 4] = [Role::Control, Role::DriverDomain, Role::Guest, Role::Guest];
/// One deed of so many is followed by a while.
const WAIT: u64 = 64;

/// What was played.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Hypercalls whose results and traces were compared.
    pub calls: u64,
    /// Of these, calls that the model does not judge, by kind.
    pub unjudged: BTreeMap<&'static str, u64>,
}

impl Played {
    /// Count another play in.
    pub fn add(&mut self, other: Played) {
        self.calls += other.calls;
        for (kind, count) in other.unjudged {
            *self.unjudged.entry(kind).or_default() += count;
        }
    }
}

/// How the host of a seed is made: most are roomy, some are tight in one way or another.
struct Size {
    memory_mib: usize,
    pages: u64,
    /// Pages that a domain may have beyond those that it begins with.
    more: u64,
    vcpus: u32,
    limits: [u32; 3],
}

impl Size {
    fn of(seed: u64) -> Size {
        let mut numbers = Numbers::part(seed, 98);
        let tight = numbers.chance(1, 3);
        let mut pick = |roomy: u32, others: &[u32]| if tight { numbers.pick(others) } else { roomy };
        Size {
            memory_mib: pick(16, &[3, 4, 16, 32]) as usize,
            pages: pick(64, &[16, 32, 64]).into(),
            more: pick(64, &[0, 2, 8, 1200, 2400]).into(),
            vcpus: pick(2, &[1, 2, 3, 34]),
            limits: [
                pick(1023, &[5, 9, 31, 127, 1023, 4095, 8191]),
                pick(64, &[1, 2, 4, 64]),
                pick(1024, &[0, 1, 4, 1024]),
            ],
        }
    }

    fn kernel(&self) -> TestKernel {
        set_processor(0);
        let kernel = testing::kernel_on(&Configuration {
            memory_mib: self.memory_mib,
            ..Configuration::default()
        });
        for id in 0..ROLES.len() as u16 {
            let [max_event_port, max_grant_frames, max_maptrack_frames] = self.limits;
            let config = DomainConfig {
                max_event_port,
                max_grant_frames,
                max_maptrack_frames,
                ..testing::configuration(self.vcpus, id == 0)
            };
            let domain = testing::domain_with(&kernel, id, &config, self.pages);
            domain.max_pages.store(self.pages + self.more, Ordering::SeqCst);
        }
        kernel
    }
}

/// Domains, and who plays their vCPUs.
#[derive(Default)]
struct Stage {
    board: Noticeboard,
    players: BTreeMap<u16, (Knowledge, Vec<Attacker>)>,
}

impl Stage {
    fn enter(&mut self, number: u16, role: Role, vcpus: u32, pages: u64, seed: u64) {
        let id = DomainId(number);
        self.board.enter(DomainNotice {
            id,
            vcpus,
            pages,
            started: true,
        });
        let knowledge = Knowledge::new(id, number == 0, vcpus, pages);
        let seed = seed ^ u64::from(number) << 32;
        let attackers = (0..vcpus).map(|vcpu| Attacker::new(role, seed, vcpu));
        self.players.insert(number, (knowledge, attackers.collect()));
    }

    /// Domains that ended leave; those that a toolstack has made enter when they are started.
    fn follow(&mut self, agreement: &Agreement<'_>, seed: u64) {
        let domains = &agreement.model().domains;
        self.players.retain(|number, _| domains.contains_key(number));
        for (number, made) in domains {
            let started = made.toolstack_pauses == 0 && made.allotted != 0;
            if started && !self.players.contains_key(number) {
                let pages = made.map.entries().len().clamp(8, 64) as u64;
                self.enter(*number, Role::Guest, made.allotted, pages, seed);
            }
        }
    }

    /// Somebody does something.
    fn act(&mut self, agreement: &mut Agreement<'_>, numbers: &mut Numbers) -> Result<(), Box<Disagreement>> {
        let chosen = numbers.below(self.players.len() as u64) as usize;
        let Some((&domain, (knowledge, attackers))) = self.players.iter_mut().nth(chosen) else {
            return Ok(());
        };
        let vcpu = numbers.below(attackers.len() as u64) as u32;
        let Some(attacker) = attackers.get_mut(vcpu as usize) else {
            return Ok(());
        };
        let now = agreement.model().told.now;
        let deed = attacker.next(knowledge, &mut self.board, now);
        let is_call = matches!(deed, Deed::Hypercall(_));
        let result = agreement.deed(Caller { domain, vcpu }, &deed)?;
        if let (true, Some(result)) = (is_call, result) {
            let read = |address, into: &mut [u8]| agreement.read(domain, address, into);
            attacker.learn(knowledge, &mut self.board, result, &read);
        }
        Ok(())
    }
}

/// Play so many deeds, compare everything, and end all domains: then all memory is free again.
///
/// # Errors
/// What differs.
pub fn play(seed: u64, deeds: u64) -> Result<Played, Box<Disagreement>> {
    play_and_compare(seed, deeds, None)
}

/// The same, with everything compared after so many calls: 1 finds the first that differs.
///
/// # Errors
/// What differs.
pub fn play_and_compare(seed: u64, deeds: u64, between: Option<u64>) -> Result<Played, Box<Disagreement>> {
    let size = Size::of(seed);
    let kernel = size.kernel();
    let mut agreement = Agreement::new(&kernel);
    if let Some(calls) = between {
        agreement.compare_all_after(calls);
    }
    let mut numbers = Numbers::part(seed, 99);
    let mut stage = Stage::default();
    for (number, role) in (0..).zip(ROLES) {
        stage.enter(number, role, size.vcpus, size.pages, seed);
    }
    for _ in 0..deeds {
        if numbers.chance(1, WAIT) {
            agreement.time_passes(numbers.below(1 << 22))?;
        }
        stage.act(&mut agreement, &mut numbers)?;
        stage.follow(&agreement, seed);
    }
    agreement.compare_all()?;
    let played = Played {
        calls: agreement.calls(),
        unjudged: agreement.unjudged().clone(),
    };
    agreement.end(&kernel)?;
    Ok(played)
}

/// End all domains of a kernel.
pub(super) fn end_all(kernel: &TestKernel) {
    let mut next = Some(DomainId(0));
    while let Some(domain) = next.and_then(|next| kernel.domains.at_or_after(next)) {
        while kernel.destroy_domain(&domain) == Destruction::More {}
        next = domain.id.0.checked_add(1).map(DomainId);
    }
}

/// Frames of a kernel that are not free.
pub(super) fn used_frames(kernel: &TestKernel) -> u64 {
    let memory = kernel.machine.memory();
    memory.total_frames() - memory.free_frames()
}
