//! For tests and simulations on the host: a hypervisor on a fake machine, domains with memory, and hypercalls by hand.

use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;

use hypercall_abi::DomainId;
use machine::address::{GuestAddress, GuestFrame, Order, PAGE_SIZE};
use machine::fake::{Configuration, FakeMachine};
use machine::memory::FrameUse;
use machine::virtual_cpu::PagingState;
use machine::{Machine, Nanoseconds};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Kernel;
use crate::audit::{Auditor, Parts};
use crate::cpu_policy::CpuPolicy;
use crate::domain::{Domain, DomainConfig, VcpuHandle};
use crate::hypercall::{Answer, Call, Outcome, dispatch};
use crate::vcpu::stop;

/// A hypervisor on a fake machine.
pub type TestKernel = Kernel<FakeMachine>;
/// A domain of it.
pub type TestDomain = Arc<Domain<FakeMachine>>;
/// A vCPU of it.
pub type TestVcpu = VcpuHandle<FakeMachine>;

/// A hypervisor without domains, on two processors and 32 MiB.
pub fn kernel() -> TestKernel {
    kernel_on(&Configuration::default())
}

/// A hypervisor without domains, on a machine of one's choice.
pub fn kernel_on(configuration: &Configuration) -> TestKernel {
    Kernel::new(FakeMachine::new(configuration), "")
}

/// Limits as a toolstack sets them.
pub fn configuration(vcpus: u32, privileged: bool) -> DomainConfig {
    DomainConfig {
        pool: 0,
        handle: [0; 16],
        max_vcpus: vcpus,
        max_event_port: 1023,
        max_grant_frames: 64,
        max_maptrack_frames: 1024,
        privileged,
        direct_ports: Vec::new(),
    }
}

/// A domain with `pages` of memory from guest frame 0, all vCPUs up and nothing paused. Number 0 is privileged.
pub fn domain(kernel: &TestKernel, id: u16, vcpus: u32, pages: u64) -> TestDomain {
    domain_with(kernel, id, &configuration(vcpus, id == 0), pages)
}

/// A domain with limits of one's choice.
pub fn domain_with(kernel: &TestKernel, id: u16, config: &DomainConfig, pages: u64) -> TestDomain {
    let policy = Arc::new(CpuPolicy::default());
    let domain = Domain::new(&kernel.machine, DomainId(id), config, policy).expect("room for a domain");
    let domain = Arc::new(domain);
    domain.max_pages.store(pages.max(1) * 2, Ordering::SeqCst);
    domain.allotted_vcpus.store(config.max_vcpus, Ordering::SeqCst);
    for vcpu in &domain.vcpus {
        vcpu.stops.fetch_and(!stop::DOWN, Ordering::SeqCst);
    }
    domain.pauses.store(0, Ordering::SeqCst);
    domain.toolstack_pauses.store(0, Ordering::SeqCst);
    for frame in 0..pages {
        populate(kernel, &domain, frame);
    }
    kernel
        .domains
        .insert(domain.clone())
        .expect("a number that is not taken");
    kernel
        .set_places_aside()
        .expect("room in the queues for its vCPUs");
    domain
}

/// Check all invariants but the scheduler's: for domains whose hypercalls are made by hand.
///
/// # Panics
/// When one does not hold.
pub fn audit_by_hand(kernel: &TestKernel, auditor: &mut Auditor<FakeMachine>) {
    if let Err(violation) = auditor.audit_parts(kernel, Parts::BY_HAND) {
        panic!("{violation}");
    }
}

/// Give a domain a page of memory.
pub fn populate(kernel: &TestKernel, domain: &TestDomain, frame: u64) {
    let page = kernel
        .machine
        .memory()
        .allocate(domain.id.0, FrameUse::Ram, Order::PAGE)
        .expect("a free page");
    domain
        .physmap
        .populate(GuestFrame(frame), page)
        .expect("a hole in the map");
}

/// A domain's vCPU.
pub fn vcpu(domain: &TestDomain, index: u32) -> TestVcpu {
    VcpuHandle::new(domain, index).expect("a vCPU that exists")
}

/// Make a hypercall and, when it asks for it, make it again until it is done. Pointers are guest-physical addresses.
/// The result is as the guest sees it: negative numbers are errors.
pub fn hypercall(kernel: &TestKernel, vcpu: &TestVcpu, number: u64, arguments: &[u64]) -> i64 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    for _ in 0..1_000_000 {
        match hypercall_once(kernel, vcpu, number, &mut all) {
            Ok(Outcome::Value(value)) => return value as i64,
            Ok(Outcome::Restart) => {}
            Err(error) => return error.as_result(),
        }
    }
    panic!("a hypercall that never ends");
}

/// The same, but with the time for a stretch spent before it begins: the call is cut wherever it can be. Some time must have
/// passed since the start.
pub fn hypercall_in_pieces(kernel: &TestKernel, vcpu: &TestVcpu, number: u64, arguments: &[u64]) -> i64 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    for _ in 0..1_000_000 {
        match stretch(kernel, vcpu, number, &mut all, 0) {
            Ok(Outcome::Value(value)) => return value as i64,
            Ok(Outcome::Restart) => {}
            Err(error) => return error.as_result(),
        }
    }
    panic!("a hypercall that never ends");
}

/// Make one stretch of a hypercall; the arguments change when it asks for a restart.
pub fn hypercall_once(kernel: &TestKernel, vcpu: &TestVcpu, number: u64, arguments: &mut [u64; 6]) -> Answer {
    stretch(kernel, vcpu, number, arguments, kernel.machine.now())
}

fn stretch(
    kernel: &TestKernel,
    vcpu: &TestVcpu,
    number: u64,
    arguments: &mut [u64; 6],
    started: Nanoseconds,
) -> Answer {
    let paging = PagingState::default();
    let mut call = Call {
        kernel,
        vcpu,
        paging,
        arguments: *arguments,
        started,
    };
    let answer = dispatch(&mut call, number);
    *arguments = call.arguments;
    answer
}

/// Write a value into a domain's memory.
pub fn poke<T: IntoBytes + Immutable + ?Sized>(domain: &TestDomain, address: u64, value: &T) {
    crate::guest_memory::write_physical(&domain.physmap, GuestAddress(address), value.as_bytes())
        .expect("memory there");
}

/// Read a value from a domain's memory; it lies in one page.
pub fn peek<T: FromBytes + IntoBytes>(domain: &TestDomain, address: u64) -> T {
    let mut value = T::new_zeroed();
    let (page, _) = domain
        .physmap
        .get(GuestAddress(address).frame())
        .expect("memory there");
    page.read(address as usize % PAGE_SIZE, value.as_mut_bytes())
        .expect("a value in one page");
    value
}

/// Make a hypercall whose argument is a structure, which lies in the domain's page 0 meanwhile.
/// Returns the result and the structure as the call left it.
pub fn hypercall_with<T>(
    kernel: &TestKernel,
    vcpu: &TestVcpu,
    number: u64,
    operation: u32,
    value: T,
) -> (i64, T)
where
    T: FromBytes + IntoBytes + Immutable,
{
    const SCRATCH: u64 = 0;
    poke(vcpu.domain(), SCRATCH, &value);
    let result = hypercall(kernel, vcpu, number, &[u64::from(operation), SCRATCH]);
    (result, peek(vcpu.domain(), SCRATCH))
}
