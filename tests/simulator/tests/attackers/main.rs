//! The attackers against the kernel, one deed after the other: do they reach what they are made to reach?

mod expected;
mod sum;
mod world;

use hypercall_abi::DomainId;
use hypercall_abi::hypercall::{name, number};
use hypercall_abi::{domctl, event_channel, grant_table, memory};
use simulator::attacker::{Attacker, Role};
use simulator::knowledge::Knowledge;
use simulator::noticeboard::Noticeboard;

use expected::can_succeed;
use sum::{Sum, percent, print};
use world::{PAGES, World};

const DEEDS: usize = 200_000;

/// Attack one host after the other, each for so many deeds; what became of each sub-operation, over all.
fn attack(hosts: u64, deeds: usize) -> Sum {
    let mut sum = Sum::default();
    for seed in 1..=hosts {
        let mut world = World::new(seed);
        while world.sum.deeds < deeds {
            world.step();
        }
        sum.add(&world.sum);
        world.end();
    }
    sum
}

#[test]
fn everything_that_can_succeed_does_and_all_memory_comes_back() {
    let sum = attack(1, DEEDS);
    print(&sum);
    let mut missing = Vec::new();
    for key in can_succeed() {
        let tally = sum.tallies.get(&key).copied().unwrap_or_default();
        let by_element = tally.elements != 0;
        let succeeded = if by_element {
            tally.elements_done
        } else {
            tally.succeeded
        };
        if succeeded == 0 || tally.succeeded == tally.made && tally.made > 10_000 {
            missing.push((name(key.0), key.1, tally.made));
        }
    }
    assert_eq!(missing, [], "never succeeded, or never failed");
    assert!(sum.restarts > 0);
    assert!(sum.created > 10);
}

/// Hosts of the simulator do not get old: what takes two domains must succeed soon.
#[test]
fn young_hosts_reach_it_as_well() {
    let sum = attack(20, 4000);
    print(&sum);
    let share = |number: u64, operation: u32| {
        let tally = sum.tallies.get(&(number, operation)).copied().unwrap_or_default();
        let (done, made) = if tally.elements == 0 {
            (tally.succeeded, tally.made)
        } else {
            (tally.elements_done, tally.elements)
        };
        percent(done, made)
    };
    use number::{DOMCTL, EVENT_CHANNEL_OP, GRANT_TABLE_OP, MEMORY_OP};
    for (number, operation) in [
        (GRANT_TABLE_OP, grant_table::op::MAP_GRANT_REF),
        (GRANT_TABLE_OP, grant_table::op::UNMAP_GRANT_REF),
        (GRANT_TABLE_OP, grant_table::op::COPY),
        (EVENT_CHANNEL_OP, event_channel::op::BIND_INTERDOMAIN),
        (EVENT_CHANNEL_OP, event_channel::op::SEND),
        (EVENT_CHANNEL_OP, event_channel::op::INIT_CONTROL),
        (MEMORY_OP, memory::op::POPULATE_PHYSMAP),
        (MEMORY_OP, memory::op::ADD_TO_PHYSMAP_BATCH),
        (DOMCTL, domctl::op::CREATE_DOMAIN),
        (DOMCTL, domctl::op::SET_HVM_CONTEXT),
    ] {
        let share = share(number, operation);
        assert!(share > 15.0, "{:?} {operation}: {share:.1} %", name(number));
    }
}

#[test]
fn requests_read_as_lines_of_a_script() {
    let mut knowledge = Knowledge::new(DomainId(0), true, 1, PAGES);
    let mut board = Noticeboard::default();
    let mut attacker = Attacker::new(Role::Control, 3, 0);
    let lines: Vec<String> = (0..20_000)
        .map(|time| attacker.next(&mut knowledge, &mut board, time).to_string())
        .collect();
    assert!(lines.iter().all(|line| !line.contains('\n')));
    let has = |part: &str| assert!(lines.iter().any(|line| line.contains(part)), "{part}");
    has("event_channel_op.6 Valid (0x6, ");
    has("AllocUnbound { domain: d[self]");
    has("MapGrantRef { host_address: ");
    has("MemoryReservation { ");
    has("CreateDomain { ");
    has("multicall.0 ");
    has("exit CpuId r0=");
}

#[test]
fn the_same_seed_gives_the_same_deeds() {
    let deeds = |seed: u64| {
        let mut knowledge = Knowledge::new(DomainId(1), false, 1, PAGES);
        let mut board = Noticeboard::default();
        let mut attacker = Attacker::new(Role::Guest, seed, 0);
        (0..2000)
            .map(|time| {
                let deed = attacker.next(&mut knowledge, &mut board, time).to_string();
                attacker.learn(&mut knowledge, &mut board, 0, &|_, into| {
                    into.fill(0);
                    true
                });
                deed
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(deeds(5), deeds(5));
    assert_ne!(deeds(5), deeds(6));
}
