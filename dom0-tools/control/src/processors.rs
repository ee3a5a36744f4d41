//! The machine's processors: where each is, how long it had nothing to do, and what the hypervisor counts.

use crate::buffer::{Arguments, zeroed};
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use crate::system::SYSCTL_ROOM;
use hypercall_abi::GuestHandle;
use hypercall_abi::sysctl::{
    CpuInfo, CpuTopology, CpuTopologyInfo, GetCpuInfo, INVALID_TOPOLOGY_ID, PerformanceCounterDescription,
    PerformanceCounterOp, op, performance_counter,
};
use rustix::io::Errno;

/// Processors asked for at once: as many as Xen 4.17 can drive.
const CPUS_MAX: usize = 4096;

/// Where a processor is. What the hypervisor does not know is nothing.
#[doc(alias = "xen_sysctl_cputopo")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuPlace {
    /// Its number.
    pub cpu: u32,
    /// Core.
    pub core: Option<u32>,
    /// Socket.
    pub socket: Option<u32>,
    /// NUMA node.
    pub node: Option<u32>,
}

/// Something that the hypervisor counts. The values are 32 bits wide and start anew when they are full.
#[doc(alias = "xen_sysctl_perfc_desc")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What is counted.
    pub name: String,
    /// One number, or one for each of several cases.
    pub values: Vec<u32>,
}

impl Hypervisor {
    /// Nanoseconds that each processor, by number, had nothing to do.
    #[doc(alias = "XEN_SYSCTL_getcpuinfo")]
    pub fn idle_times(&self) -> Result<Vec<u64>> {
        let mut infos: Vec<CpuInfo> = zeroed(CPUS_MAX);
        let room = Arguments::room_for::<CpuInfo>(infos.len()) + SYSCTL_ROOM;
        self.with_arguments(room, |arguments| {
            let buffer = arguments.place(infos.as_slice());
            let mut request = GetCpuInfo {
                max_cpus: infos.len() as u32,
                info: GuestHandle::new(buffer.address),
                ..Default::default()
            };
            // SAFETY: the structure is this command's; the buffer has room for `max_cpus` entries.
            unsafe { self.sysctl("get CPU info", op::GET_CPU_INFO, &mut request, arguments) }?;
            arguments.get_slice(buffer, &mut infos);
            infos.truncate(request.number_of_cpus as usize);
            Ok(())
        })?;
        Ok(infos.iter().map(|info| info.idle_time).collect())
    }

    /// Where each processor is, by number. One that is offline is nowhere; of one that is online, too, nothing may be known: Xen on an emulated
    /// machine does not find its core.
    #[doc(alias = "XEN_SYSCTL_cputopoinfo")]
    pub fn cpu_places(&self) -> Result<Vec<CpuPlace>> {
        let mut places: Vec<CpuTopology> = zeroed(CPUS_MAX);
        let room = Arguments::room_for::<CpuTopology>(places.len()) + SYSCTL_ROOM;
        self.with_arguments(room, |arguments| {
            let buffer = arguments.place(places.as_slice());
            let mut request = CpuTopologyInfo {
                number_of_cpus: places.len() as u32,
                topology: GuestHandle::new(buffer.address),
                ..Default::default()
            };
            // SAFETY: the structure is this command's; the buffer has room for the number of entries given.
            unsafe { self.sysctl("get CPU topology", op::CPU_TOPOLOGY_INFO, &mut request, arguments) }?;
            arguments.get_slice(buffer, &mut places);
            places.truncate(request.number_of_cpus as usize);
            Ok(())
        })?;
        let known = |id: u32| (id != INVALID_TOPOLOGY_ID).then_some(id);
        let all = (0..).zip(places).map(|(cpu, place)| CpuPlace {
            cpu,
            core: known(place.core),
            socket: known(place.socket),
            node: known(place.node),
        });
        Ok(all.collect())
    }

    /// What the hypervisor counts; nothing when it does not publish that, as Debian's Xen does not.
    #[doc(alias = "XEN_SYSCTL_perfc_op")]
    pub fn counters(&self) -> Result<Option<Vec<Counter>>> {
        let operation = "get performance counters";
        let mut request = PerformanceCounterOp {
            command: performance_counter::QUERY,
            ..Default::default()
        };
        let size = self.with_arguments(SYSCTL_ROOM, |arguments| {
            // SAFETY: the structure is this command's; without buffers it only learns the counts.
            unsafe { self.sysctl(operation, op::PERFORMANCE_COUNTER_OP, &mut request, arguments) }
        });
        match size {
            Err(error) if matches!(error.errno, Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(None),
            size => size?,
        }
        // Domains may come between the two calls: then the second gives what there is room for.
        let mut descriptions: Vec<PerformanceCounterDescription> =
            zeroed(request.number_of_counters as usize + SPARE_COUNTERS);
        let mut values: Vec<u32> = zeroed(request.number_of_values as usize + SPARE_VALUES);
        let room = Arguments::room_for::<PerformanceCounterDescription>(descriptions.len())
            + Arguments::room_for::<u32>(values.len())
            + SYSCTL_ROOM;
        self.with_arguments(room, |arguments| {
            let placed_descriptions = arguments.place(descriptions.as_slice());
            let placed_values = arguments.place(values.as_slice());
            request.number_of_counters = descriptions.len() as u32;
            request.number_of_values = values.len() as u32;
            request.descriptions = GuestHandle::new(placed_descriptions.address);
            request.values = GuestHandle::new(placed_values.address);
            // SAFETY: the structure is this command's; both buffers have room for the counts given.
            unsafe { self.sysctl(operation, op::PERFORMANCE_COUNTER_OP, &mut request, arguments) }?;
            arguments.get_slice(placed_descriptions, &mut descriptions);
            arguments.get_slice(placed_values, &mut values);
            descriptions.truncate(request.number_of_counters as usize);
            values.truncate(request.number_of_values as usize);
            Ok(())
        })?;
        Ok(Some(assemble(&descriptions, &values)))
    }
}

const SPARE_COUNTERS: usize = 64;
const SPARE_VALUES: usize = 64 * 32;

/// Gives each counter its values; one whose values are not all there is left out.
fn assemble(descriptions: &[PerformanceCounterDescription], mut values: &[u32]) -> Vec<Counter> {
    let mut counters = Vec::new();
    for description in descriptions {
        let Some((own, rest)) = values.split_at_checked(description.number_of_values as usize) else {
            break;
        };
        values = rest;
        let name = description
            .name
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        counters.push(Counter {
            name: String::from_utf8_lossy(name).into_owned(),
            values: own.to_vec(),
        });
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, number_of_values: u32) -> PerformanceCounterDescription {
        let mut description = PerformanceCounterDescription {
            number_of_values,
            ..Default::default()
        };
        description.name[..name.len()].copy_from_slice(name.as_bytes());
        description
    }

    #[test]
    fn counters_get_their_own_values() {
        let descriptions = [description("a", 1), description("b", 2), description("c", 0)];
        let counters = assemble(&descriptions, &[1, 2, 3]);
        let found: Vec<(&str, &[u32])> = counters
            .iter()
            .map(|counter| (counter.name.as_str(), counter.values.as_slice()))
            .collect();
        assert_eq!(found, [("a", &[1][..]), ("b", &[2, 3]), ("c", &[])]);
    }

    #[test]
    fn a_counter_whose_values_are_missing_is_left_out() {
        assert_eq!(
            assemble(&[description("a", 1), description("b", u32::MAX)], &[1, 2]).len(),
            1
        );
    }
}
