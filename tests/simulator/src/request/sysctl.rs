//! `sysctl`: the machine as the toolstack sees it.

use hypercall_abi::domctl::{DomainInfo, scheduler};
use hypercall_abi::hypercall::number::SYSCTL;
use hypercall_abi::sysctl::{
    AvailableHeap, CpuFeatureset, CpuInfo, CpuPolicy, CpuTopology, CpuTopologyInfo, CpupoolOp, GetCpuInfo,
    GetDomainInfoList, INTERFACE_VERSION, NumaInfo, PerformanceCounterDescription, PerformanceCounterOp,
    ReadConsole, SchedCredit2, SchedulerOp, Sysctl, cpupool, featureset, op, performance_counter, policy,
    scheduler_command,
};
use hypercall_abi::xen::CpuidLeaf;
use hypercall_abi::{DomainId, GuestHandle, payload};

use super::Maker;
use super::domctl_arguments::bitmap;

const WEIGHTS: [(u32, u32); 17] = [
    (op::READ_CONSOLE, 4),
    (op::PHYSICAL_INFO, 6),
    (op::SCHEDULER_ID, 4),
    (op::PERFORMANCE_COUNTER_OP, 6),
    (op::GET_DOMAIN_INFO_LIST, 12),
    (op::GET_CPU_INFO, 6),
    (op::AVAILABLE_HEAP, 6),
    (op::CPU_TOPOLOGY_INFO, 6),
    (op::NUMA_INFO, 6),
    (op::CPUPOOL_OP, 30),
    (op::SCHEDULER_OP, 4),
    (op::GET_CPU_FEATURESET, 6),
    (op::GET_CPU_POLICY, 6),
    (op::DEBUG_KEYS, 1),
    (op::CPU_HOTPLUG, 1),
    (op::PM_OP, 1),
    (32, 1),
];

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let command = maker.numbers.weighted(&WEIGHTS);
    let mut request = Sysctl::new(command);
    request.interface_version = maker.number32(INTERFACE_VERSION);
    match command {
        op::READ_CONSOLE => {
            let valid = maker.numbers.below(4096) as u32;
            let count = maker.number32(valid);
            request.set_view(&ReadConsole {
                clear: u8::from(maker.numbers.chance(1, 8)),
                incremental: u8::from(maker.numbers.chance(1, 2)),
                index: maker.zero() as u32,
                buffer: GuestHandle::new(maker.room(4096)),
                count,
                ..ReadConsole::default()
            });
        }
        op::PERFORMANCE_COUNTER_OP => {
            let (counters, values) = (maker.number32(24), maker.number32(64));
            let bytes = 24 * size_of::<PerformanceCounterDescription>() as u64;
            let (descriptions, room) = (maker.room(bytes), maker.room(64 * 4));
            request.set_view(&PerformanceCounterOp {
                command: maker.number32(performance_counter::QUERY),
                number_of_counters: counters,
                number_of_values: values,
                descriptions: GuestHandle::new(descriptions),
                values: GuestHandle::new(room),
                ..PerformanceCounterOp::default()
            });
        }
        op::GET_DOMAIN_INFO_LIST => {
            let valid = maker.numbers.within(1, 16) as u32;
            let max_domains = maker.number32(valid);
            request.set_view(&GetDomainInfoList {
                first_domain: maker.domain(DomainId(0)),
                max_domains,
                buffer: GuestHandle::new(maker.room(16 * size_of::<DomainInfo>() as u64)),
                ..GetDomainInfoList::default()
            });
        }
        op::GET_CPU_INFO => request.set_view(&GetCpuInfo {
            max_cpus: maker.number32(8),
            info: GuestHandle::new(maker.room(8 * size_of::<CpuInfo>() as u64)),
            ..GetCpuInfo::default()
        }),
        op::AVAILABLE_HEAP => request.set_view(&AvailableHeap {
            node: maker.number32(u32::MAX) as i32,
            ..AvailableHeap::default()
        }),
        op::CPU_TOPOLOGY_INFO => {
            let topology = maker.room(8 * size_of::<CpuTopology>() as u64);
            request.set_view(&CpuTopologyInfo {
                number_of_cpus: maker.number32(8),
                topology: GuestHandle::new(sometimes_null(maker, topology)),
                ..CpuTopologyInfo::default()
            });
        }
        op::NUMA_INFO => {
            let (memory, distances) = (maker.room(64), maker.room(64));
            request.set_view(&NumaInfo {
                number_of_nodes: maker.number32(1),
                memory: GuestHandle::new(sometimes_null(maker, memory)),
                distances: GuestHandle::new(sometimes_null(maker, distances)),
                ..NumaInfo::default()
            });
        }
        op::CPUPOOL_OP => {
            let valid = maker.numbers.pick(&[
                cpupool::INFO,
                cpupool::FREE_INFO,
                cpupool::CREATE,
                cpupool::ADD_CPU,
                cpupool::ADD_CPU,
                cpupool::REMOVE_CPU,
                cpupool::MOVE_DOMAIN,
                cpupool::MOVE_DOMAIN,
                cpupool::DESTROY,
            ]);
            let operation = maker.number32(valid);
            let pool = maker.numbers.pick(&[0, 0, 1, 1, 2, cpupool::ANY]);
            let kind = maker.numbers.pick(&[scheduler::CREDIT2, scheduler::NULL]);
            let cpu = maker.numbers.pick(&[0, 1, 2, 3, cpupool::ANY]);
            let domain = maker.peer().0;
            let cpus = bitmap(maker, 0);
            request.set_view(&CpupoolOp {
                operation,
                pool: maker.number32(pool),
                scheduler: maker.number32(kind),
                domain: maker.number32(u32::from(domain)),
                cpu: maker.number32(cpu),
                cpus,
                ..CpupoolOp::default()
            });
        }
        op::SCHEDULER_OP => {
            let kind = maker
                .numbers
                .pick(&[scheduler::CREDIT2, scheduler::CREDIT2, scheduler::NULL]);
            let command = maker
                .numbers
                .pick(&[scheduler_command::GET_INFO, scheduler_command::PUT_INFO]);
            let rate_limit_us = maker.numbers.pick(&[0, 0, 100, 1000]);
            let parameters = SchedCredit2 {
                rate_limit_us: maker.number32(rate_limit_us),
            };
            let pool = maker.numbers.pick(&[0, 0, 0, 1]);
            request.set_view(&SchedulerOp {
                pool: maker.number32(pool),
                scheduler: maker.number32(kind),
                command: maker.number32(command),
                parameters: payload::of(&parameters),
                ..SchedulerOp::default()
            });
        }
        op::GET_CPU_FEATURESET => {
            let valid =
                maker
                    .numbers
                    .pick(&[featureset::RAW, featureset::HOST, featureset::HVM, featureset::PV]);
            let features = maker.room(128);
            request.set_view(&CpuFeatureset {
                index: maker.number32(valid),
                number_of_features: maker.number32(32),
                features: GuestHandle::new(sometimes_null(maker, features)),
            });
        }
        op::GET_CPU_POLICY => {
            let valid =
                maker
                    .numbers
                    .pick(&[policy::RAW, policy::HOST, policy::HVM_MAX, policy::HVM_DEFAULT]);
            let leaves = maker.room(128 * size_of::<CpuidLeaf>() as u64);
            let msrs = maker.room(128);
            request.set_view(&CpuPolicy {
                index: maker.number32(valid),
                number_of_leaves: maker.number32(128),
                number_of_msrs: maker.number32(8),
                leaves: GuestHandle::new(sometimes_null(maker, leaves)),
                msrs: GuestHandle::new(sometimes_null(maker, msrs)),
                ..CpuPolicy::default()
            });
        }
        op::PHYSICAL_INFO | op::SCHEDULER_ID => {}
        _ => request.payload = core::array::from_fn(|_| maker.numbers.word()),
    }
    let address = maker.structure(&request);
    maker.call(SYSCTL, command, &[address]);
}

/// A null pointer asks for sizes.
fn sometimes_null(maker: &mut Maker<'_>, address: u64) -> u64 {
    if maker.numbers.chance(1, 4) { 0 } else { address }
}
