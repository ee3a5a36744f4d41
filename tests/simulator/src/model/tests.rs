//! Random deeds of a control domain, a backend and guests: the core and the model never differ.

use std::collections::BTreeMap;

use hypercall_abi::DomainId;
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

const PAGES: u64 = 64;
const VCPUS: u32 = 2;

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
        let attackers = (0..vcpus).map(|vcpu| Attacker::new(role, seed ^ u64::from(number) << 32, vcpu));
        self.players.insert(number, (knowledge, attackers.collect()));
    }
}

fn house() -> TestKernel {
    set_processor(0);
    let kernel = testing::kernel_on(&Configuration {
        memory_mib: 16,
        ..Configuration::default()
    });
    for id in 0..4 {
        testing::domain(&kernel, id, VCPUS, PAGES);
    }
    kernel
}

/// All domains end, and all memory is free again.
fn end(kernel: TestKernel) {
    let mut next = Some(DomainId(0));
    while let Some(domain) = next.and_then(|next| kernel.domains.at_or_after(next)) {
        while kernel.destroy_domain(&domain) == Destruction::More {}
        next = domain.id.0.checked_add(1).map(DomainId);
    }
    let memory = kernel.machine.memory();
    assert_eq!(memory.free_frames(), memory.total_frames());
}

/// So many deeds from a seed. How many calls were compared.
fn play(seed: u64, deeds: u64) -> Result<(u64, BTreeMap<&'static str, u64>), Box<Disagreement>> {
    let kernel = house();
    let mut agreement = Agreement::new(&kernel);
    if let Ok(calls) = std::env::var("MODEL_BETWEEN") {
        agreement.compare_all_after(calls.parse().unwrap());
    }
    let mut numbers = Numbers::part(seed, 99);
    let mut stage = Stage::default();
    let roles = [Role::Control, Role::DriverDomain, Role::Guest, Role::Guest];
    for (number, role) in (0..).zip(roles) {
        stage.enter(number, role, VCPUS, PAGES, seed);
    }
    for _ in 0..deeds {
        if numbers.chance(1, 64) {
            let nanoseconds = numbers.below(1 << 22);
            agreement.time_passes(nanoseconds)?;
        }
        let chosen = numbers.below(stage.players.len() as u64) as usize;
        let Some((&domain, (knowledge, attackers))) = stage.players.iter_mut().nth(chosen) else {
            continue;
        };
        let vcpu = numbers.below(attackers.len() as u64) as u32;
        let attacker = &mut attackers[vcpu as usize];
        let now = agreement.model().told.now;
        let deed = attacker.next(knowledge, &mut stage.board, now);
        let is_call = matches!(deed, Deed::Hypercall(_));
        let result = agreement.deed(Caller { domain, vcpu }, &deed)?;
        if let (true, Some(result)) = (is_call, result) {
            attacker.learn(knowledge, &mut stage.board, result, &|address, into| {
                agreement.read(domain, address, into)
            });
        }
        stage
            .players
            .retain(|number, _| agreement.model().domains.contains_key(number));
        for (number, made) in &agreement.model().domains {
            let started = made.toolstack_pauses == 0 && made.allotted != 0;
            if started && !stage.players.contains_key(number) {
                stage.enter(
                    *number,
                    Role::Guest,
                    made.allotted,
                    made.map.entries().len().clamp(8, 64) as u64,
                    seed,
                );
                break;
            }
        }
    }
    agreement.compare_all()?;
    let counted = (agreement.calls(), agreement.unjudged().clone());
    drop(agreement);
    end(kernel);
    Ok(counted)
}

#[test]
fn core_and_model_agree_on_every_result_and_on_memory() {
    let seeds: u64 = std::env::var("MODEL_SEEDS").map_or(30, |seeds| seeds.parse().unwrap());
    let first: u64 = std::env::var("MODEL_FIRST").map_or(1, |first| first.parse().unwrap());
    let deeds: u64 = std::env::var("MODEL_DEEDS").map_or(1000, |deeds| deeds.parse().unwrap());
    let mut unjudged = BTreeMap::new();
    let mut calls = 0;
    for seed in first..first + seeds {
        match play(seed, deeds) {
            Ok((made, kinds)) => {
                calls += made;
                for (kind, count) in kinds {
                    *unjudged.entry(kind).or_insert(0) += count;
                }
            }
            Err(disagreement) => panic!("seed {seed}:\n{disagreement}"),
        }
    }
    println!("{calls} calls compared; not judged: {unjudged:?}");
}
