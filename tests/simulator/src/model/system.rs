//! The machine as the toolstack sees it.

use hypercall_abi::Error;
use hypercall_abi::console::op as console;
use hypercall_abi::domctl::scheduler;
use hypercall_abi::platform::{self, PhysicalCpuInfo, PlatformOp, SetTime32, SetTime64, cpu_flag};
use hypercall_abi::sysctl::{
    AvailableHeap, CpuInfo, CpuTopology, CpuTopologyInfo, GetCpuInfo, GetDomainInfoList, INTERFACE_VERSION,
    MemoryInfo, NumaInfo, SchedulerId, Sysctl, op,
};

use super::{Answer, DONE, Model, Refusal};

const PAGE_BYTES: u64 = 4096;
const NANOSECONDS: u128 = 1_000_000_000;

impl Model {
    pub(super) fn sysctl(&mut self, [argument, ..]: [u64; 6]) -> Answer {
        self.privileged()?;
        let mut request: Sysctl = self.read(argument)?;
        if request.interface_version != INTERFACE_VERSION {
            return Err(Error::EACCES.into());
        }
        match request.command {
            op::READ_CONSOLE => return Err(Refusal::Unjudged("sysctl readconsole")),
            op::PERFORMANCE_COUNTER_OP => return Err(Refusal::Unjudged("sysctl perfc_op")),
            op::PHYSICAL_INFO => return Err(Refusal::Unjudged("sysctl physinfo")),
            op::GET_CPU_FEATURESET => return Err(Refusal::Unjudged("sysctl get_cpu_featureset")),
            op::GET_CPU_POLICY => return Err(Refusal::Unjudged("sysctl get_cpu_policy")),
            op::SCHEDULER_ID => request.set_view(&SchedulerId {
                scheduler: scheduler::CREDIT2,
            }),
            op::GET_DOMAIN_INFO_LIST => {
                let mut wanted: GetDomainInfoList = request.view();
                let domains = self.domains.range(wanted.first_domain.0..);
                let numbers: Vec<u16> = domains
                    .map(|(number, _)| *number)
                    .take(wanted.max_domains as usize)
                    .collect();
                for (index, number) in numbers.iter().enumerate() {
                    let info = self.domain_info(*number);
                    self.write_element(wanted.buffer.address(), index as u64, &info)?;
                }
                wanted.number_of_domains = numbers.len() as u32;
                request.set_view(&wanted);
            }
            op::GET_CPU_INFO => {
                let mut wanted: GetCpuInfo = request.view();
                wanted.number_of_cpus = wanted.max_cpus.min(self.told.processors);
                // Nobody ever idles while only calls are made.
                for index in 0..wanted.number_of_cpus {
                    let idle = CpuInfo { idle_time: 0 };
                    self.write_element(wanted.info.address(), u64::from(index), &idle)?;
                }
                request.set_view(&wanted);
            }
            op::AVAILABLE_HEAP => {
                let mut wanted: AvailableHeap = request.view();
                wanted.available_bytes = self.free_frames() * PAGE_BYTES;
                request.set_view(&wanted);
            }
            op::CPU_TOPOLOGY_INFO => {
                let mut wanted: CpuTopologyInfo = request.view();
                let mut count = self.told.processors;
                if !wanted.topology.is_null() {
                    count = count.min(wanted.number_of_cpus);
                    for core in 0..count {
                        let (socket, node) = (0, 0);
                        let entry = CpuTopology { core, socket, node };
                        self.write_element(wanted.topology.address(), u64::from(core), &entry)?;
                    }
                }
                wanted.number_of_cpus = count;
                request.set_view(&wanted);
            }
            op::NUMA_INFO => {
                let wanted = self.numa(request.view())?;
                request.set_view(&wanted);
            }
            op::CPUPOOL_OP => {
                let told = self.cpupool_op(argument, &request)?;
                request.set_view(&told);
            }
            op::SCHEDULER_OP => {
                let told = self.pool_scheduler_op(request.view())?;
                request.set_view(&told);
            }
            _ => return Err(Error::ENOSYS.into()),
        }
        self.write(argument, &request)?;
        DONE
    }

    /// One node, with all memory.
    fn numa(&self, mut wanted: NumaInfo) -> Result<NumaInfo, Error> {
        const LOCAL: u32 = 10;
        if wanted.memory.is_null() && wanted.distances.is_null() {
            wanted.number_of_nodes = 1;
            return Ok(wanted);
        }
        wanted.number_of_nodes = wanted.number_of_nodes.min(1);
        if wanted.number_of_nodes == 0 {
            return Ok(wanted);
        }
        if !wanted.memory.is_null() {
            let memory = MemoryInfo {
                size: self.told.installed_frames * PAGE_BYTES,
                free: self.free_frames() * PAGE_BYTES,
            };
            self.write(wanted.memory.address(), &memory)?;
        }
        if !wanted.distances.is_null() {
            self.write(wanted.distances.address(), &LOCAL)?;
        }
        Ok(wanted)
    }

    pub(super) fn platform_op(&mut self, [argument, ..]: [u64; 6]) -> Answer {
        self.privileged()?;
        let mut request: PlatformOp = self.read(argument)?;
        if request.interface_version != platform::INTERFACE_VERSION {
            return Err(Error::EACCES.into());
        }
        match request.command {
            platform::op::SET_TIME64 => {
                let time: SetTime64 = request.view();
                if time._reserved != 0 {
                    return Err(Error::EOPNOTSUPP.into());
                }
                self.set_wall_clock(time.seconds, time.nanoseconds, time.system_time);
            }
            platform::op::SET_TIME32 => {
                let time: SetTime32 = request.view();
                self.set_wall_clock(u64::from(time.seconds), time.nanoseconds, time.system_time);
            }
            platform::op::GET_CPU_INFO => {
                let mut info: PhysicalCpuInfo = request.view();
                info.max_present = self.told.processors - 1;
                if info.cpu > info.max_present {
                    info.flags = cpu_flag::INVALID;
                } else {
                    (info.flags, info.apic_id, info.acpi_id) = (cpu_flag::ONLINE, info.cpu, info.cpu);
                }
                request.set_view(&info);
                self.write(argument, &request)?;
            }
            _ => return Err(Error::ENOSYS.into()),
        }
        DONE
    }

    /// The wall clock shows this at a system time: everybody is told what it showed at 0.
    fn set_wall_clock(&mut self, seconds: u64, nanoseconds: u32, system_time: u64) {
        let now = u128::from(seconds) * NANOSECONDS + u128::from(nanoseconds);
        let start = now.saturating_sub(u128::from(system_time));
        self.told.wall_clock = ((start / NANOSECONDS) as u64, (start % NANOSECONDS) as u32);
        let numbers: Vec<u16> = self.domains.keys().copied().collect();
        for number in numbers {
            self.publish_wall_clock(number);
        }
    }

    /// The serial line, on which nobody types here.
    pub(super) fn console_io(&mut self, [operation, count, buffer, ..]: [u64; 6]) -> Answer {
        const PIECE: u64 = 256;
        self.privileged()?;
        let count = u64::try_from(count as u32 as i32).map_err(|_| Error::EINVAL)?;
        match operation as u32 {
            console::WRITE => {
                for done in (0..count).step_by(PIECE as usize) {
                    let mut piece = vec![0; PIECE.min(count - done) as usize];
                    self.read_bytes(buffer.checked_add(done).ok_or(Error::EFAULT)?, &mut piece)?;
                }
                DONE
            }
            console::READ => Ok(0),
            _ => Err(Error::ENOSYS.into()),
        }
    }
}
