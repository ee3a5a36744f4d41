//! Hypercalls with random arguments, from a guest and from the privileged domain: whatever is asked, the hypervisor
//! stands, nobody else's memory changes, and in the end all memory comes back. The tests are built with checked
//! arithmetic: a sum that overflows is a failure.

use hypercall_abi::DomainId;
use hypercall_abi::domctl::Domctl;
use hypercall_abi::hypercall::number;
use hypercall_abi::platform::{self, PlatformOp};
use hypercall_abi::sysctl::Sysctl;
use machine::Machine;
use machine::address::GuestAddress;
use machine::fake::set_processor;
use zerocopy::IntoBytes;

use crate::audit::Auditor;
use crate::guest_memory::write_physical;
use crate::lifecycle::Destruction;
use crate::testing::{self, TestDomain, TestKernel};

const PAGES: u64 = 8;
const ROUNDS: usize = 60;
const CALLS: usize = 400;
/// All invariants are checked after every so many calls.
const AUDITED: usize = 8;
/// The guest frame by which the bystander's memory is known.
const MARK: u64 = 0x5eed_0bad_cafe_f00d;

/// Numbers that are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// What makes handlers stumble: borders, addresses in and out of memory, and now and then anything.
    fn word(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(DomainId::SELF.0),
            3 => self.below(4),
            4 => self.below(64),
            5 => self.below(PAGES << 12),
            6 => self.below(PAGES) << 12,
            7 => (PAGES << 12) - self.below(64),
            8 => 1 << self.below(64),
            9 => (1u64 << self.below(64)).wrapping_sub(1),
            10 => self.next() >> 32,
            _ => self.next(),
        }
    }

    fn words<const COUNT: usize>(&mut self) -> [u64; COUNT] {
        core::array::from_fn(|_| self.word())
    }
}

struct House {
    kernel: TestKernel,
    domains: [TestDomain; 3],
}

fn house() -> House {
    set_processor(0);
    let kernel = testing::kernel();
    let domains = [0, 1, 2].map(|id| testing::domain(&kernel, id, 2, PAGES));
    for frame in 0..PAGES {
        testing::poke(&domains[2], frame << 12, &MARK);
    }
    House { kernel, domains }
}

impl House {
    /// Random words over the caller's first pages. `false`: it has given away the page that requests lie in.
    fn litter(&self, caller: usize, numbers: &mut Numbers) -> bool {
        let physmap = &self.domains[caller].physmap;
        for page in 0..3 {
            let words = numbers.words::<64>();
            let written = write_physical(physmap, GuestAddress(page << 12), words.as_bytes());
            if page == 0 && written.is_err() {
                return false;
            }
        }
        true
    }

    /// Everything ends, and every frame is free again.
    fn end(self, before: u64) {
        let House { kernel, domains } = self;
        for id in (0..DomainId::FIRST_RESERVED.0).rev() {
            if let Some(domain) = kernel.domains.get(DomainId(id)) {
                while kernel.destroy_domain(&domain) == Destruction::More {}
            }
        }
        drop(domains);
        kernel.step();
        assert_eq!(kernel.machine.memory().free_frames(), before);
    }
}

#[test]
fn a_guest_that_asks_for_anything_harms_nobody() {
    for round in 0..ROUNDS {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (round as u64 + 1));
        let house = house();
        let before = house.kernel.machine.memory().total_frames();
        let mut auditor = Auditor::default();
        for call in 0..CALLS {
            house.litter(1, &mut numbers);
            let caller = testing::vcpu(&house.domains[1], numbers.below(2) as u32);
            let number = numbers.below(64);
            let mut arguments: [u64; 6] = numbers.words();
            arguments[0] = if numbers.below(4) == 0 {
                arguments[0]
            } else {
                numbers.below(32)
            };
            testing::hypercall(&house.kernel, &caller, number, &arguments);
            if call % AUDITED == 0 {
                testing::audit_by_hand(&house.kernel, &mut auditor);
            }
        }
        for frame in 0..PAGES {
            assert_eq!(testing::peek::<u64>(&house.domains[2], frame << 12), MARK);
        }
        for bystander in [0, 2] {
            assert_eq!(house.domains[bystander].lifecycle.lock().shutdown, None);
            assert_eq!(house.domains[bystander].owned_pages(&house.kernel.machine), PAGES);
        }
        house.end(before);
    }
}

#[test]
fn a_toolstack_that_asks_for_anything_meets_answers() {
    for round in 0..ROUNDS {
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d ^ (round as u64 + 1));
        let house = house();
        let before = house.kernel.machine.memory().total_frames();
        let mut auditor = Auditor::default();
        let caller = testing::vcpu(&house.domains[0], 0);
        for call in 0..CALLS {
            if !house.litter(0, &mut numbers) {
                break;
            }
            let kind = numbers.below(4);
            match kind {
                0 => {
                    let target = DomainId(numbers.below(4) as u16);
                    let mut request = Domctl::new(numbers.below(90) as u32, target);
                    request.payload = numbers.words();
                    testing::poke(&house.domains[0], 0, &request);
                    testing::hypercall(&house.kernel, &caller, number::DOMCTL, &[0]);
                }
                1 => {
                    let mut request = Sysctl::new(numbers.below(32) as u32);
                    request.payload = numbers.words();
                    testing::poke(&house.domains[0], 0, &request);
                    testing::hypercall(&house.kernel, &caller, number::SYSCTL, &[0]);
                }
                2 => {
                    let request = PlatformOp {
                        command: numbers.below(66) as u32,
                        interface_version: platform::INTERFACE_VERSION,
                        payload: numbers.words(),
                    };
                    testing::poke(&house.domains[0], 0, &request);
                    testing::hypercall(&house.kernel, &caller, number::PLATFORM_OP, &[0]);
                }
                _ => {
                    // All but what ends the machine, which it may.
                    let families = [
                        number::MEMORY_OP,
                        number::XEN_VERSION,
                        number::CONSOLE_IO,
                        number::GRANT_TABLE_OP,
                        number::EVENT_CHANNEL_OP,
                        number::PHYSDEV_OP,
                        number::HVM_OP,
                    ];
                    let family = families[numbers.below(families.len() as u64) as usize];
                    let mut arguments: [u64; 6] = numbers.words();
                    arguments[0] = numbers.below(32);
                    testing::hypercall(&house.kernel, &caller, family, &arguments);
                }
            }
            if call % AUDITED == 0 {
                testing::audit_by_hand(&house.kernel, &mut auditor);
            }
        }
        assert_eq!(house.domains[0].lifecycle.lock().shutdown, None);
        drop(caller);
        house.end(before);
    }
}
