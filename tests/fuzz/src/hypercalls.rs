//! A guest's hypercalls: arguments in registers, structures and lists in its memory, beside others that must not notice.

use hypercall_abi::DomainId;
use kernel::Kernel;
use kernel::guest_memory::write_physical;
use kernel::lifecycle::Destruction;
use kernel::testing::{self, TestDomain, TestKernel};
use machine::Machine;
use machine::address::GuestAddress;
use machine::fake::{FakeMachine, set_processor};
use zerocopy::IntoBytes;

use crate::input::{Input, fingerprint};

const PAGES: u64 = 8;
/// The hostile guest.
const GUEST: usize = 1;
/// Calls in one input: enough for each to build upon others.
const CALLS: usize = 64;

/// The first byte: which vCPU begins. Then words for memory, and calls.
pub fn run(data: &[u8]) {
    set_processor(0);
    let mark = fingerprint(data);
    let kernel: TestKernel = testing::kernel();
    let before = kernel.machine.memory().free_frames();
    let domains = [0, 1, 2].map(|id| testing::domain(&kernel, id, 2, PAGES));
    for frame in 0..PAGES {
        testing::poke(&domains[2], frame << 12, &mark);
    }
    play(&kernel, &domains, &mut Input::new(data));
    for frame in 0..PAGES {
        assert_eq!(
            testing::peek::<u64>(&domains[2], frame << 12),
            mark,
            "another's memory changed"
        );
    }
    for bystander in [0, 2] {
        assert_eq!(
            domains[bystander].lifecycle.lock().shutdown,
            None,
            "another's end"
        );
        assert_eq!(domains[bystander].owned_pages(&kernel.machine), PAGES);
    }
    assert!(holds_no(&domains[GUEST], mark), "another's memory was read");
    end(&kernel, domains);
    assert_eq!(
        kernel.machine.memory().free_frames(),
        before,
        "memory that does not come back"
    );
}

fn play(kernel: &TestKernel, domains: &[TestDomain; 3], input: &mut Input<'_>) {
    let mut calls = 0;
    while !input.is_empty() && calls < CALLS {
        let what = input.byte();
        match what {
            // Words into memory: a structure, or an entry of a list.
            0x80.. => {
                let address = u64::from(what & 0x07) << 12 | input.number(1) << 3;
                let words: Vec<u64> = (0..(what >> 3 & 0xf) + 1).map(|_| word(input)).collect();
                // It may have given the page away: then nothing is written.
                let _ = write_physical(&domains[GUEST].physmap, GuestAddress(address), words.as_bytes());
            }
            _ => {
                let caller = testing::vcpu(&domains[GUEST], u32::from(what >> 6));
                let number = u64::from(what & 0x3f);
                let count = usize::from(input.byte() % 7);
                let arguments: Vec<u64> = (0..count).map(|_| word(input)).collect();
                testing::hypercall(kernel, &caller, number, &arguments);
                calls += 1;
            }
        }
    }
}

/// A number in few bytes: small ones, addresses of the guest's memory, borders, and any.
fn word(input: &mut Input<'_>) -> u64 {
    let tag = input.byte();
    match tag {
        0..=0x5f => u64::from(tag),
        0x60..=0x67 => u64::from(tag & 7) << 12,
        0x68..=0x6f => u64::from(tag & 7) << 12 | input.number(1) << 3,
        0x70..=0x77 => u64::from(tag & 7) << 12 | 0xfff & input.number(2),
        0x78 => u64::from(DomainId::SELF.0),
        0x79 => u64::MAX,
        0x7a => PAGES << 12,
        0x7b => 1 << (input.byte() & 63),
        0x7c => (1u64 << (input.byte() & 63)).wrapping_sub(1),
        0x7d => input.number(2),
        0x7e => input.number(4),
        0x7f => input.number(8),
        // Two halves: most structures are made of smaller fields.
        0x80..=0xbf => u64::from(tag & 0x3f) | input.number(1) << 32,
        _ => u64::from(tag & 0x3f) | input.number(1) << 16 | input.number(1) << 32 | input.number(1) << 48,
    }
}

fn holds_no(domain: &TestDomain, mark: u64) -> bool {
    (0..PAGES).all(|frame| {
        let Some((page, _)) = domain.physmap.get(machine::address::GuestFrame(frame)) else {
            return true;
        };
        let mut bytes = [0; 4096];
        page.read(0, &mut bytes).is_ok() && !bytes.windows(8).any(|window| window == mark.to_ne_bytes())
    })
}

fn end(kernel: &Kernel<FakeMachine>, domains: [TestDomain; 3]) {
    for domain in domains.into_iter().rev() {
        while kernel.destroy_domain(&domain) == Destruction::More {}
    }
    kernel.step();
}

/// One call of each family, with what it needs in memory.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        // version; features (a structure in page 0)
        ("xen_version", vec![17, 1, 0, 0x80, 0, 0, 17, 2, 6, 0x60]),
        // add to physmap: domain, space, index, frame
        (
            "memory_op",
            vec![0x90, 0, 0x78, 0, 3, 12, 2, 7, 0x60, 12, 2, 12, 0x60],
        ),
        // allocate an unbound port for domain 2, then send to it
        (
            "events",
            vec![0x80, 0, 0x82, 32, 2, 6, 0x60, 0x80, 0, 1, 32, 2, 4, 0x60],
        ),
        // grant table: set up, query
        (
            "grants",
            vec![
                0x90, 0, 0x78, 1, 0x61, 20, 3, 2, 0x60, 1, 0x90, 0, 0x78, 0, 0, 20, 3, 6, 0x60, 1,
            ],
        ),
        // a copy from oneself to oneself
        (
            "grant_copy",
            vec![0xa0, 0, 1, 0x78, 0, 2, 0x78, 0, 20, 3, 5, 0x60, 1],
        ),
        // two calls in a list
        (
            "multicall",
            vec![0xb8, 0, 17, 0, 0, 0, 0, 0, 0, 0, 13, 2, 0x60, 1],
        ),
        (
            "vcpu_op",
            vec![24, 3, 4, 0, 0x60, 0x80, 0, 0x60, 24, 3, 5, 0, 0x60],
        ),
        ("sched_op", vec![29, 2, 0, 0, 29, 2, 1, 0]),
        ("hvm_op", vec![0x90, 0, 0x78, 0, 1, 34, 2, 1, 0x60]),
        ("no_such_call", vec![0x3f, 6, 0x79, 0x79, 0x79, 0x79, 0x79, 0x79]),
    ]
}
