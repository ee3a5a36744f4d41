//! Each invariant, broken on purpose, is reported by its name, with the numbers.

mod domains;
mod events;
mod frames;
mod grants;
mod physmap;
mod schedule;
mod speed;
mod timers;
mod vcpus;

use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use hypercall_abi::grant_table::{GrantStatus, MapGrantRef, entry_flag, map_flag, op as grant_op};
use hypercall_abi::hypercall::number::GRANT_TABLE_OP;
use hypercall_abi::vcpu::runstate;
use hypercall_abi::xen::virq;
use machine::Machine;
use machine::address::{GuestFrame, HostFrame, Order};
use machine::fake::{Configuration, set_processor};
use machine::memory::{FrameReference, FrameUse, Memory};
use machine::stage_two::{EntryKind, Leaf, Permissions};

use super::{Auditor, Baseline, Parts, Violation};
use crate::lifecycle::Destruction;
use crate::runstate::RunstateArea;
use crate::testing::{self, TestDomain, TestKernel};
use crate::vcpu::{InfoPlace, Place, stop};

const PAGES: u64 = 8;
/// The guest frame that each domain lends.
const LENT: u64 = 4;
/// Where the borrower maps it, writable and not.
const WINDOW: u64 = 0x100;
/// Where the privileged domain maps another's page.
const FOREIGN: u64 = 0x200;
/// Where each has its shared info.
const SHARED: u64 = 0x300;
const ENTRY: u32 = 9;

/// Three domains that have something of everything. Never dropped: what was broken would break once more.
struct House {
    kernel: ManuallyDrop<TestKernel>,
    domains: ManuallyDrop<[TestDomain; 3]>,
    /// Ports of the channel between 1 and 2, at either end.
    ports: (u32, u32),
}

fn house() -> House {
    set_processor(0);
    let kernel = testing::kernel_on(&Configuration {
        memory_mib: 8,
        ..Configuration::default()
    });
    let domains = [0, 1, 2].map(|id| testing::domain(&kernel, id, 2, PAGES));
    for domain in &domains {
        // Nothing is runnable that is in no queue.
        for vcpu in &domain.vcpus {
            vcpu.stops.store(stop::BLOCKED, Ordering::SeqCst);
        }
        let page = domain.shared_info.duplicate().unwrap();
        let permissions = Permissions::READ_WRITE;
        domain
            .physmap
            .insert(GuestFrame(SHARED), page, permissions, EntryKind::Shared)
            .unwrap();
        register(domain);
    }
    lend(&kernel, &domains);
    let (page, _) = domains[1].physmap.get(GuestFrame(2)).unwrap();
    domains[0]
        .physmap
        .insert(
            GuestFrame(FOREIGN),
            page,
            Permissions::READ_WRITE,
            EntryKind::Foreign,
        )
        .unwrap();
    let ports = connect(&kernel, &domains);
    for (index, domain) in domains.iter().enumerate() {
        kernel.change_deadlines(&testing::vcpu(domain, 1), |deadlines| {
            deadlines.singleshot = Some(1_000_000 + index as u64);
        });
    }
    House {
        kernel: ManuallyDrop::new(kernel),
        domains: ManuallyDrop::new(domains),
        ports,
    }
}

/// All the areas that the core goes on writing.
fn register(domain: &TestDomain) {
    let page = |frame| domain.physmap.get(GuestFrame(frame)).unwrap().0;
    let vcpu = &domain.vcpus[0];
    *vcpu.info.lock() = InfoPlace {
        page: page(5),
        offset: 0,
        registered: true,
    };
    vcpu.runstate.lock().area = Some(RunstateArea {
        first: page(5),
        second: Some(page(6)),
        offset: 4090,
    });
    *vcpu.time_area.lock() = Some(InfoPlace {
        page: page(6),
        offset: 0,
        registered: true,
    });
}

/// Domain 1 lends a page to domain 2, which maps it twice, once to write.
fn lend(kernel: &TestKernel, domains: &[TestDomain; 3]) {
    let table = domains[1].grants.frame(kernel.machine.memory(), 0).unwrap();
    let at = ENTRY as usize * 8;
    table
        .store_u32(at, u32::from(entry_flag::PERMIT_ACCESS) | 2 << 16)
        .unwrap();
    table.store_u32(at + 4, LENT as u32).unwrap();
    for (step, flags) in [(0, 0), (1, map_flag::READ_ONLY)] {
        let request = MapGrantRef {
            host_address: (WINDOW + step) << 12,
            flags: map_flag::HOST_MAP | flags,
            reference: ENTRY,
            domain: DomainId(1),
            ..Default::default()
        };
        testing::poke(&domains[2], 0, &request);
        let arguments = [u64::from(grant_op::MAP_GRANT_REF), 0, 1];
        let caller = testing::vcpu(&domains[2], 0);
        assert_eq!(testing::hypercall(kernel, &caller, GRANT_TABLE_OP, &arguments), 0);
        assert_eq!(
            testing::peek::<MapGrantRef>(&domains[2], 0).status,
            GrantStatus::OKAY
        );
    }
}

/// A channel, an interrupt and event queues.
fn connect(kernel: &TestKernel, domains: &[TestDomain; 3]) -> (u32, u32) {
    let theirs = kernel.allocate_unbound(&domains[1], DomainId(2)).unwrap();
    let ours = kernel.bind_interdomain(&domains[2], &domains[1], theirs).unwrap();
    for vcpu in 0..2 {
        kernel.bind_virq(&domains[1], virq::TIMER, vcpu).unwrap();
    }
    kernel.init_control(&domains[2], 0, GuestFrame(1), 0).unwrap();
    kernel.expand_array(&domains[2], GuestFrame(2)).unwrap();
    kernel.send_event(&domains[1], theirs).unwrap();
    for vcpu in &domains[2].vcpus {
        vcpu.stops.fetch_or(stop::BLOCKED, Ordering::SeqCst);
    }
    kernel.serve_interrupts();
    while kernel.idle.contains(0) {
        kernel.step();
    }
    for domain in domains {
        for index in 0..2 {
            kernel.leave_queue(&testing::vcpu(domain, index));
        }
    }
    (theirs, ours)
}

impl House {
    fn memory(&self) -> &'static Memory {
        self.kernel.machine.memory()
    }

    fn leaf(&self, domain: usize, at: u64) -> Leaf {
        self.domains[domain].physmap.lookup(GuestFrame(at)).unwrap()
    }

    fn page(&self, domain: usize, at: u64) -> FrameReference {
        self.domains[domain].physmap.get(GuestFrame(at)).unwrap().0
    }

    /// Overwrite a leaf.
    fn change(&self, domain: usize, at: u64, change: impl FnOnce(Leaf) -> Option<Leaf>) {
        self.domains[domain].physmap.sabotage(GuestFrame(at), change);
    }

    fn free_frame(&self) -> HostFrame {
        let mut found = None;
        self.memory().walk_free(|frame, _| found = Some(frame)).unwrap();
        found.unwrap()
    }

    fn audit(&self) -> Result<(), Violation> {
        Auditor::default().audit(&self.kernel).map(|_| ())
    }
}

/// What is in order is found to be; broken, it is reported under this name, and the sentence has these words.
#[track_caller]
fn breaks(invariant: &str, words: &[&str], sabotage: impl FnOnce(&House)) {
    let house = house();
    assert_eq!(house.audit(), Ok(()), "before anything was broken");
    sabotage(&house);
    let violation = house.audit().expect_err(invariant);
    assert_eq!(violation.invariant, invariant, "{violation}");
    for word in words {
        assert!(violation.found.contains(word), "no {word:?} in: {violation}");
    }
}

#[test]
fn a_house_in_order_is_found_to_be_and_counted() {
    let house = house();
    let audited = house.kernel.audit().unwrap();
    assert_eq!(audited.domains, 3);
    assert_eq!(audited.vcpus, 6);
    assert_eq!(audited.timers, 3);
    assert_eq!((audited.grants, audited.mappings), (1, 2));
    assert_eq!(audited.ports, 4);
    // Eight pages and the shared info each, two windows, one foreign page.
    assert_eq!(audited.leaves, 3 * (PAGES + 1) + 2 + 1);
    assert_eq!(audited.frames, 2048);
    assert_eq!(audited.tables, house.memory().core_frames());
}

#[test]
fn turns_come_past_every_part() {
    let house = house();
    house.domains[2].claimed.store(1, Ordering::SeqCst);
    house.memory().sabotage_count(house.leaf(1, 0).frame, 1);
    house.domains[1].events.sabotage_counts(|open, _| *open += 1);
    house.kernel.processors[0].sabotage_programmed(None);
    house.domains[2].vcpus[0].stops.store(0, Ordering::SeqCst);
    let mut auditor = Auditor::default();
    let mut found: Vec<&str> = (0..5)
        .map(|_| auditor.audit_next(&house.kernel).unwrap_err().invariant)
        .map(|name| name.split(':').next().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        ["claims", "event channels", "frames", "schedule", "timers"]
    );
}

#[test]
fn what_ended_domains_leave_behind_shows_against_the_baseline() {
    set_processor(0);
    let kernel = testing::kernel();
    let control = testing::domain(&kernel, 0, 1, PAGES);
    control.vcpus[0].stops.store(stop::BLOCKED, Ordering::SeqCst);
    let mut auditor = Auditor::default();
    let baseline = Baseline::take(&kernel, &mut auditor).unwrap();
    let guest = testing::domain(&kernel, 1, 1, PAGES);
    guest.vcpus[0].stops.store(stop::BLOCKED, Ordering::SeqCst);
    let found = baseline.compare(&kernel, &mut auditor).unwrap_err();
    assert_eq!(found.found, "domains: 1 before, 2 now");
    // A page of it that the privileged domain goes on mapping.
    let page = guest.physmap.get(GuestFrame(1)).unwrap().0;
    control
        .physmap
        .insert(GuestFrame(9), page, Permissions::READ_WRITE, EntryKind::Foreign)
        .unwrap();
    while kernel.destroy_domain(&guest) == Destruction::More {}
    let found = baseline.compare(&kernel, &mut auditor).unwrap_err();
    assert_eq!(found.found, "domains: 1 before, 2 now", "a caller still has it");
    drop(guest);
    let found = baseline.compare(&kernel, &mut auditor).unwrap_err();
    assert!(found.found.starts_with("free frames: "), "{found}");
    control.physmap.remove(&kernel.machine, GuestFrame(9)).unwrap();
    assert_eq!(baseline.compare(&kernel, &mut auditor), Ok(()));
}

#[test]
fn parts_are_checked_alone() {
    let house = house();
    house.domains[1].vcpus[1].stops.store(0, Ordering::SeqCst);
    let mut auditor = Auditor::default();
    assert!(auditor.audit_parts(&house.kernel, Parts::BY_HAND).is_ok());
    assert!(auditor.audit_parts(&house.kernel, Parts::SCHEDULE).is_err());
}
