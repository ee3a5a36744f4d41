//! How fast deeds are made: the simulator aims at a million calls a second, and choosing them may take a third of that.

use std::hint::black_box;

use hypercall_abi::DomainId;
use simulator::attacker::{Attacker, Role};
use simulator::deed::Deed;
use simulator::knowledge::Knowledge;
use simulator::noticeboard::{DomainNotice, Noticeboard};

const DEEDS: u64 = 200_000;

/// Nanoseconds that this thread has had a processor for: others' work on the machine does not count.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    text.split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .expect("a number")
}

/// Figures of an unoptimised build say nothing: it prints, and asserts where it is optimised.
#[test]
fn a_deed_is_made_in_less_than_a_microsecond() {
    for role in [Role::Guest, Role::DriverDomain, Role::Control] {
        let id = DomainId(if role == Role::Control { 0 } else { 1 });
        let mut knowledge = Knowledge::new(id, role == Role::Control, 2, 64);
        let mut board = Noticeboard::default();
        for id in 0..4 {
            board.enter(DomainNotice {
                id: DomainId(id),
                vcpus: 2,
                pages: 64,
                started: true,
            });
        }
        let mut attacker = Attacker::new(role, 1, 0);
        let mut bytes = 0;
        let began = processor_time();
        for now in 0..DEEDS {
            if let Deed::Hypercall(request) = attacker.next(&mut knowledge, &mut board, now) {
                bytes += request.writes.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            }
            attacker.learn(&mut knowledge, &mut board, -22, &|_, into| {
                into.fill(0);
                true
            });
        }
        let each = (processor_time() - began) / DEEDS;
        println!(
            "{role:?}: {each} ns for each deed, {} bytes written on average",
            black_box(bytes) as u64 / DEEDS
        );
        if !cfg!(debug_assertions) {
            assert!(each < 1000, "{role:?}: {each} ns");
        }
    }
}
