//! Random operations of several domains, checked against what must always hold.

use alloc::sync::Arc;

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::{Port, status};
use hypercall_abi::xen::virq;
use machine::address::GuestFrame;

use crate::audit::Auditor;
use crate::testing::{self, TestDomain, TestKernel};

/// A small generator whose whole state is a seed, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

const DOMAINS: u64 = 4;
const VCPUS: u32 = 2;
const PORTS: u64 = 24;

fn step(kernel: &TestKernel, domains: &[TestDomain], random: &mut Random) {
    let domain = &domains[random.below(DOMAINS) as usize];
    let other = &domains[random.below(DOMAINS) as usize];
    let port = random.below(PORTS) as Port;
    let vcpu = random.below(u64::from(VCPUS) + 1) as u32;
    // Refusals are part of it: most random operations make no sense.
    match random.below(16) {
        0..=2 => drop(kernel.allocate_unbound(domain, other.id)),
        3..=5 => drop(kernel.bind_interdomain(domain, other, port)),
        6 => drop(kernel.bind_virq(domain, random.below(u64::from(virq::COUNT) + 1) as u32, vcpu)),
        7 => drop(kernel.bind_ipi(domain, vcpu)),
        8..=9 => drop(kernel.close_port(domain, port)),
        10..=11 => drop(kernel.send_event(domain, port)),
        12 => drop(kernel.bind_vcpu(domain, port, vcpu)),
        13 => drop(kernel.unmask_port(domain, port)),
        14 => kernel.send_virq(domain, vcpu, random.below(u64::from(virq::COUNT)) as u32),
        _ => match random.below(40) {
            0 => while !kernel.reset_ports(domain) {},
            1 => drop(kernel.init_control(domain, vcpu, GuestFrame(u64::from(vcpu)), 0)),
            2 => drop(kernel.expand_array(domain, GuestFrame(4))),
            _ => drop(kernel.set_priority(domain, port, random.below(17) as u32)),
        },
    }
}

/// Both ends of each channel agree, and each end holds exactly one share in the other.
fn check(kernel: &TestKernel, domains: &[TestDomain]) {
    let mut shares = vec![0; domains.len()];
    for domain in domains {
        let mut open = 0;
        let size = domain.events.lock().size();
        for port in 0..size {
            let answer = kernel.port_status(domain, port).unwrap();
            open += u32::from(answer.status != status::CLOSED);
            if answer.status != status::INTERDOMAIN {
                continue;
            }
            let remote = domains
                .iter()
                .position(|other| other.id == answer.remote_domain())
                .unwrap();
            shares[remote] += 1;
            let back = kernel
                .port_status(&domains[remote], answer.remote_port())
                .unwrap();
            assert_eq!(back.status, status::INTERDOMAIN);
            assert_eq!((back.remote_domain(), back.remote_port()), (domain.id, port));
        }
        assert_eq!(domain.events.lock().in_use(), open);
        check_virqs(kernel, domain);
    }
    for (domain, shares) in domains.iter().zip(shares) {
        assert_eq!(
            Arc::strong_count(domain),
            2 + shares,
            "the table's, the test's and one for each channel"
        );
    }
}

fn check_virqs(kernel: &TestKernel, domain: &TestDomain) {
    for vcpu in 0..VCPUS {
        for number in 0..virq::COUNT {
            let Some(port) = domain.events.lock().virq_port(vcpu, number) else {
                continue;
            };
            let answer = kernel.port_status(domain, port).unwrap();
            assert_eq!((answer.status, answer.interrupt()), (status::VIRQ, number));
        }
    }
}

#[test]
fn both_ends_always_agree() {
    for seed in 1..=12u64 {
        let kernel = testing::kernel();
        let domains: Vec<TestDomain> = (0..DOMAINS)
            .map(|id| testing::domain(&kernel, id as u16, VCPUS, 6))
            .collect();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut auditor = Auditor::default();
        for count in 0..3000 {
            step(&kernel, &domains, &mut random);
            if count % 50 == 0 {
                check(&kernel, &domains);
                testing::audit_by_hand(&kernel, &mut auditor);
            }
        }
        check(&kernel, &domains);
        end_all(&kernel, &domains, &mut random);
    }
}

/// Domains end one after the other, the others going on meanwhile.
fn end_all(kernel: &TestKernel, domains: &[TestDomain], random: &mut Random) {
    for (index, domain) in domains.iter().enumerate() {
        while !kernel.close_all_ports(domain) {
            step(kernel, domains, random);
        }
        for _ in 0..100 {
            step(kernel, domains, random);
        }
        for ended in &domains[..=index] {
            assert_eq!(ended.events.lock().in_use(), 0);
            assert_eq!(Arc::strong_count(ended), 2);
        }
    }
}

#[test]
fn racing_operations_on_real_threads_end_consistent() {
    let kernel = testing::kernel();
    let domains: Vec<TestDomain> = (0..DOMAINS)
        .map(|id| testing::domain(&kernel, id as u16, VCPUS, 6))
        .collect();
    std::thread::scope(|scope| {
        for seed in 1..=3u64 {
            let (kernel, domains) = (&kernel, &domains);
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
                for _ in 0..10_000 {
                    step(kernel, domains, &mut random);
                }
            });
        }
    });
    check(&kernel, &domains);
    testing::audit_by_hand(&kernel, &mut Auditor::default());
    end_all(&kernel, &domains, &mut Random(77));
    assert_eq!(domains[0].id, DomainId(0));
}
