//! The toolstack's questions about the machine.

use alloc::vec::Vec;

use hypercall_abi::domctl::{DomainInfo, scheduler};
use hypercall_abi::hypercall::number::SYSCTL;
use hypercall_abi::sysctl::*;
use hypercall_abi::xen::ControlBitmap;
use hypercall_abi::{DomainId, Error, GuestHandle};
use machine::Machine;
use machine::fake::set_processor;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::testing::{self, TestDomain, TestKernel};

const ARGUMENT: u64 = 0x100;
const BUFFER: u64 = 0x1000;
const PAGES: u64 = 16;

struct Tools {
    kernel: TestKernel,
    control: TestDomain,
}

impl Tools {
    fn new() -> Tools {
        set_processor(0);
        let kernel = testing::kernel();
        let control = testing::domain(&kernel, 0, 1, PAGES);
        Tools { kernel, control }
    }

    fn send(&self, request: &Sysctl) -> (i64, Sysctl) {
        testing::poke(&self.control, ARGUMENT, request);
        let caller = testing::vcpu(&self.control, 0);
        let result = testing::hypercall(&self.kernel, &caller, SYSCTL, &[ARGUMENT]);
        (result, testing::peek(&self.control, ARGUMENT))
    }

    fn call<T: IntoBytes + FromBytes + Immutable>(&self, command: u32, view: &T) -> (i64, T) {
        let mut request = Sysctl::new(command);
        request.set_view(view);
        let (result, reply) = self.send(&request);
        (result, reply.view())
    }

    fn ask<T: IntoBytes + FromBytes + Immutable>(&self, command: u32, view: &T) -> T {
        let (result, reply) = self.call(command, view);
        assert_eq!(result, 0);
        reply
    }
}

#[test]
fn only_the_privileged_and_only_this_version() {
    let tools = Tools::new();
    let guest = testing::domain(&tools.kernel, 3, 1, 4);
    for command in 0..40 {
        testing::poke(&guest, ARGUMENT, &Sysctl::new(command));
        let result = testing::hypercall(&tools.kernel, &testing::vcpu(&guest, 0), SYSCTL, &[ARGUMENT]);
        assert_eq!(result, Error::EPERM.as_result());
    }
    let mut request = Sysctl::new(op::PHYSICAL_INFO);
    request.interface_version = 0x14;
    assert_eq!(tools.send(&request).0, Error::EACCES.as_result());
    assert_eq!(
        tools.send(&Sysctl::new(op::DEBUG_KEYS)).0,
        Error::ENOSYS.as_result()
    );
    let caller = testing::vcpu(&tools.control, 0);
    let fault = testing::hypercall(&tools.kernel, &caller, SYSCTL, &[PAGES << 12]);
    assert_eq!(fault, Error::EFAULT.as_result());
}

#[test]
fn the_machine_is_described() {
    let tools = Tools::new();
    let info = tools.ask(op::PHYSICAL_INFO, &PhysicalInfo::default());
    let memory = tools.kernel.machine.memory();
    assert_eq!(
        (info.number_of_cpus, info.max_cpu_id, info.number_of_nodes),
        (2, 1, 1)
    );
    assert_eq!(
        (info.total_pages, info.free_pages),
        (memory.total_frames(), memory.free_frames())
    );
    let offered = physical_capability::HVM | physical_capability::HAP | physical_capability::GRANT_TABLE_V1;
    assert_eq!(
        info.capabilities, offered,
        "no classic guests, no passed-through devices"
    );
    assert_eq!(info.hardware_capabilities[0], 0x078b_fbfd);
    assert_eq!(info.outstanding_pages, 0);
    *tools.kernel.domains.claims.lock() = 5;
    assert_eq!(
        tools
            .ask(op::PHYSICAL_INFO, &PhysicalInfo::default())
            .outstanding_pages,
        5
    );
    let heap = tools.ask(op::AVAILABLE_HEAP, &AvailableHeap::default());
    assert_eq!(heap.available_bytes, memory.free_frames() << 12);
    assert_eq!(
        tools.ask(op::SCHEDULER_ID, &SchedulerId::default()).scheduler,
        scheduler::CREDIT2
    );
}

#[test]
fn topology_is_told_as_far_as_there_is_room() {
    let tools = Tools::new();
    let counted = tools.ask(op::CPU_TOPOLOGY_INFO, &CpuTopologyInfo::default());
    assert_eq!(counted.number_of_cpus, 2);
    let request = |number_of_cpus: u32| CpuTopologyInfo {
        number_of_cpus,
        topology: GuestHandle::new(BUFFER),
        ..CpuTopologyInfo::default()
    };
    assert_eq!(tools.ask(op::CPU_TOPOLOGY_INFO, &request(64)).number_of_cpus, 2);
    assert_eq!(
        testing::peek::<[u32; 6]>(&tools.control, BUFFER),
        [0, 0, 0, 1, 0, 0]
    );
    assert_eq!(tools.ask(op::CPU_TOPOLOGY_INFO, &request(1)).number_of_cpus, 1);
    let hole = CpuTopologyInfo {
        topology: GuestHandle::new(PAGES << 12),
        ..request(2)
    };
    assert_eq!(
        tools.call(op::CPU_TOPOLOGY_INFO, &hole).0,
        Error::EFAULT.as_result()
    );

    assert_eq!(tools.ask(op::NUMA_INFO, &NumaInfo::default()).number_of_nodes, 1);
    let all = NumaInfo {
        number_of_nodes: 64,
        memory: GuestHandle::new(BUFFER),
        distances: GuestHandle::new(BUFFER + 64),
        ..NumaInfo::default()
    };
    assert_eq!(tools.ask(op::NUMA_INFO, &all).number_of_nodes, 1);
    let size = tools.kernel.machine.memory().total_frames() << 12;
    assert_eq!(testing::peek::<u64>(&tools.control, BUFFER), size);
    assert_eq!(testing::peek::<u32>(&tools.control, BUFFER + 64), 10);

    let times = GetCpuInfo {
        max_cpus: 8,
        info: GuestHandle::new(BUFFER),
        ..GetCpuInfo::default()
    };
    assert_eq!(tools.ask(op::GET_CPU_INFO, &times).number_of_cpus, 2);
}

#[test]
fn all_domains_are_listed() {
    let tools = Tools::new();
    for id in [2, 7] {
        testing::domain(&tools.kernel, id, 1, 4);
    }
    let request = |first: u16, max_domains: u32| GetDomainInfoList {
        first_domain: DomainId(first),
        max_domains,
        buffer: GuestHandle::new(BUFFER),
        ..GetDomainInfoList::default()
    };
    let list = |first: u16, most: u32| -> Vec<u16> {
        let count = tools
            .ask(op::GET_DOMAIN_INFO_LIST, &request(first, most))
            .number_of_domains;
        (0..u64::from(count))
            .map(|index| {
                testing::peek::<u16>(&tools.control, BUFFER + index * size_of::<DomainInfo>() as u64)
            })
            .collect()
    };
    assert_eq!(list(0, 64), [0, 2, 7]);
    assert_eq!(list(1, 1), [2]);
    assert_eq!(list(8, 64), []);
    assert_eq!(list(u16::MAX, u32::MAX), []);
    assert_eq!(list(0, 0), []);
    let hole = GetDomainInfoList {
        buffer: GuestHandle::new(PAGES << 12),
        ..request(0, 4)
    };
    assert_eq!(
        tools.call(op::GET_DOMAIN_INFO_LIST, &hole).0,
        Error::EFAULT.as_result()
    );
}

#[test]
fn pools_are_made_filled_emptied_and_ended() {
    let tools = Tools::new();
    let set = |at: u64| ControlBitmap {
        bitmap: GuestHandle::new(at),
        nr_bits: 64,
        ..ControlBitmap::default()
    };
    let request = |operation: u32, pool: u32, cpu: u32| CpupoolOp {
        operation,
        pool,
        cpu,
        scheduler: scheduler::NULL,
        cpus: set(BUFFER),
        ..CpupoolOp::default()
    };
    let call = |operation: u32, pool: u32, cpu: u32| {
        let (result, told) = tools.call(op::CPUPOOL_OP, &request(operation, pool, cpu));
        (result, told.pool)
    };
    let cpus = || testing::peek::<u64>(&tools.control, BUFFER);
    let refused = |error: Error, pool: u32| (error.as_result(), pool);
    let pool = tools.ask(op::CPUPOOL_OP, &request(cpupool::INFO, 0, 0));
    assert_eq!(
        (pool.pool, pool.scheduler, pool.number_of_domains, cpus()),
        (0, scheduler::CREDIT2, 1, 3)
    );
    assert_eq!(call(cpupool::INFO, 1, 0), refused(Error::ENOENT, 1));
    assert_eq!(call(cpupool::CREATE, cpupool::ANY, 0), (0, 1));
    assert_eq!(call(cpupool::CREATE, 1, 0), refused(Error::EEXIST, 1));
    assert_eq!(call(cpupool::CREATE, 64, 0), refused(Error::ENOSPC, 64));
    assert_eq!(call(cpupool::ADD_CPU, 1, cpupool::ANY), refused(Error::ENODEV, 1));
    assert_eq!(call(cpupool::ADD_CPU, 1, 1), refused(Error::EBUSY, 1));
    assert_eq!(call(cpupool::REMOVE_CPU, 0, 1), (0, 0));
    assert_eq!(call(cpupool::REMOVE_CPU, 0, 0), refused(Error::EBUSY, 0));
    assert_eq!(call(cpupool::REMOVE_CPU, 0, 1), refused(Error::EINVAL, 0));
    assert_eq!((call(cpupool::FREE_INFO, 0, 0).0, cpus()), (0, 2));
    assert_eq!(call(cpupool::ADD_CPU, 1, cpupool::ANY), (0, 1));
    assert_eq!(call(cpupool::ADD_CPU, 1, 2), refused(Error::EINVAL, 1));
    let pool = tools.ask(op::CPUPOOL_OP, &request(cpupool::INFO, 1, 0));
    assert_eq!(
        (pool.pool, pool.scheduler, pool.number_of_domains, cpus()),
        (1, scheduler::NULL, 0, 2)
    );
    assert_eq!(call(cpupool::DESTROY, 1, 0), refused(Error::EBUSY, 1));
    // The control domain stays where it is.
    assert_eq!(call(cpupool::MOVE_DOMAIN, 1, 0), refused(Error::EINVAL, 1));
    let guest = testing::domain(&tools.kernel, 5, 1, 1);
    testing::vcpu(&guest, 0)
        .hard_affinity
        .store(crate::schedule::ProcessorSet::one(0));
    let moved = CpupoolOp {
        domain: 5,
        ..request(cpupool::MOVE_DOMAIN, 1, 0)
    };
    assert_eq!(tools.call(op::CPUPOOL_OP, &moved).0, 0);
    assert!(tools.kernel.allowed(&testing::vcpu(&guest, 0)).contains(1));
    assert_eq!(
        tools
            .ask(op::CPUPOOL_OP, &request(cpupool::INFO, 1, 0))
            .number_of_domains,
        1
    );
    assert_eq!(
        call(cpupool::REMOVE_CPU, 1, cpupool::ANY),
        refused(Error::EBUSY, 1)
    );
    let back = CpupoolOp { pool: 0, ..moved };
    assert_eq!(tools.call(op::CPUPOOL_OP, &back).0, 0);
    assert_eq!(call(cpupool::REMOVE_CPU, 1, cpupool::ANY), (0, 1));
    // No processor is left in it: nobody may move there.
    assert_eq!(tools.call(op::CPUPOOL_OP, &moved).0, Error::ENOENT.as_result());
    assert_eq!(call(cpupool::DESTROY, 1, 0), (0, 1));
    assert_eq!(call(99, 0, 0), refused(Error::ENOSYS, 0));
}

#[test]
fn the_least_time_before_a_preemption_is_kept_in_its_limits() {
    let tools = Tools::new();
    let request = |command: u32, microseconds: u64| SchedulerOp {
        pool: 0,
        scheduler: scheduler::CREDIT2,
        command,
        parameters: [microseconds, 0],
        ..SchedulerOp::default()
    };
    let get = || tools.ask(op::SCHEDULER_OP, &request(1, 0)).parameters[0];
    assert_eq!(get(), 0);
    for (microseconds, answer) in [
        (1000, 0),
        (99, Error::EINVAL.as_result()),
        (500_001, Error::EINVAL.as_result()),
    ] {
        assert_eq!(tools.call(op::SCHEDULER_OP, &request(0, microseconds)).0, answer);
    }
    assert_eq!(get(), 1000);
    let elsewhere = SchedulerOp {
        pool: 3,
        ..request(1, 0)
    };
    assert_eq!(
        tools.call(op::SCHEDULER_OP, &elsewhere).0,
        Error::ESRCH.as_result()
    );
}

#[test]
fn features_are_those_of_hardware_assisted_guests() {
    let tools = Tools::new();
    let words = tools.ask(
        op::GET_CPU_FEATURESET,
        &CpuFeatureset {
            index: featureset::HVM,
            ..Default::default()
        },
    );
    let room = |index: u32, number_of_features: u32| CpuFeatureset {
        index,
        number_of_features,
        features: GuestHandle::new(BUFFER),
    };
    let all = words.number_of_features;
    assert_eq!(
        tools
            .ask(op::GET_CPU_FEATURESET, &room(featureset::HOST, all))
            .number_of_features,
        all
    );
    let [edx, ecx] = testing::peek::<[u32; 2]>(&tools.control, BUFFER);
    assert_eq!(edx, 0x078b_fbfd);
    assert!(ecx & (1 << 21) != 0, "x2APIC is always there");
    let (result, short) = tools.call(op::GET_CPU_FEATURESET, &room(featureset::HVM_MAX, 3));
    assert_eq!(
        (result, short.number_of_features),
        (Error::ENOBUFS.as_result(), 3)
    );
    for (index, error) in [(featureset::PV, Error::EOPNOTSUPP), (99, Error::EINVAL)] {
        assert_eq!(
            tools.call(op::GET_CPU_FEATURESET, &room(index, all)).0,
            error.as_result()
        );
        let policy = CpuPolicy {
            index: if index == 99 { 99 } else { policy::PV_MAX },
            ..Default::default()
        };
        assert_eq!(tools.call(op::GET_CPU_POLICY, &policy).0, error.as_result());
    }
    let small = CpuPolicy {
        index: policy::HVM_MAX,
        number_of_leaves: 1,
        leaves: GuestHandle::new(BUFFER),
        ..Default::default()
    };
    assert_eq!(
        tools.call(op::GET_CPU_POLICY, &small).0,
        Error::ENOBUFS.as_result()
    );
}

#[test]
fn the_log_is_read_whole_in_pieces_and_cleared() {
    let tools = Tools::new();
    let line = |text: core::fmt::Arguments<'_>| {
        tools
            .kernel
            .log(&log::Record::builder().args(text).level(log::Level::Info).build());
    };
    line(format_args!("first"));
    line(format_args!("second"));
    let request = |count: u32| ReadConsole {
        buffer: GuestHandle::new(BUFFER),
        count,
        ..ReadConsole::default()
    };
    let text = |count: u32| -> Vec<u8> {
        (0..u64::from(count))
            .map(|at| testing::peek(&tools.control, BUFFER + at))
            .collect()
    };
    let whole = tools.ask(op::READ_CONSOLE, &request(4096));
    let all = text(whole.count);
    assert!(all.ends_with(b"second\n") && all.windows(5).any(|part| part == b"first"));
    // By pieces, from where the last one ended.
    let piece = tools.ask(op::READ_CONSOLE, &request(10));
    let mut pieces = text(piece.count);
    let rest = ReadConsole {
        incremental: 1,
        index: piece.index,
        ..request(4096)
    };
    let rest = tools.ask(op::READ_CONSOLE, &rest);
    pieces.extend(text(rest.count));
    assert_eq!(pieces, all);
    let clear = ReadConsole {
        clear: 1,
        ..request(0)
    };
    assert_eq!(tools.ask(op::READ_CONSOLE, &clear).count, 0);
    assert_eq!(tools.ask(op::READ_CONSOLE, &request(4096)).count, 0);
    line(format_args!("third"));
    let hole = ReadConsole {
        buffer: GuestHandle::new(PAGES << 12),
        ..request(4096)
    };
    assert_eq!(tools.call(op::READ_CONSOLE, &hole).0, Error::EFAULT.as_result());
}
