//! `sysctl`: the machine as the toolstack sees it. Privileged callers only, interface version 0x15.

mod counters;
mod scheduling;

use machine::sync::atomic::Ordering;

use hypercall_abi::domctl::scheduler;
use hypercall_abi::sysctl::{
    AvailableHeap, CpuFeatureset, CpuInfo, CpuPolicy as PolicyArgument, CpuTopology, CpuTopologyInfo,
    GetCpuInfo, GetDomainInfoList, INTERFACE_VERSION, MemoryInfo, NumaInfo, PhysicalInfo, ReadConsole,
    SchedulerId, Sysctl, featureset, op, physical_capability,
};
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::PAGE_SIZE;

use super::domctl::info_of;
use super::{Answer, Call, DONE};
use crate::cpu_policy::{CpuPolicy, NO_SUBLEAF};

/// Words of a feature set that we can fill; the ABI's order.
const FEATURE_WORDS: usize = 19;
/// Bytes of the console's memory copied at a time.
const PIECE: usize = 1024;

/// `sysctl(argument)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    call.require_privilege()?;
    let address = call.arguments[0];
    let mut request: Sysctl = call.read(address)?;
    if request.interface_version != INTERFACE_VERSION {
        return Err(Error::EACCES);
    }
    match request.command {
        op::READ_CONSOLE => read_console(call, &mut request)?,
        op::PHYSICAL_INFO => request.set_view(&physical_info(call)),
        op::SCHEDULER_ID => request.set_view(&SchedulerId {
            scheduler: scheduler::CREDIT2,
        }),
        op::SCHEDULER_OP => scheduling::parameters(call, &mut request)?,
        op::PERFORMANCE_COUNTER_OP => counters::query(call, &mut request)?,
        op::GET_DOMAIN_INFO_LIST => domain_list(call, &mut request)?,
        op::GET_CPU_INFO => cpu_info(call, &mut request)?,
        op::AVAILABLE_HEAP => available_heap(call, &mut request),
        op::CPU_TOPOLOGY_INFO => topology(call, &mut request)?,
        op::NUMA_INFO => numa(call, &mut request)?,
        op::CPUPOOL_OP => scheduling::pools(call, &mut request)?,
        op::GET_CPU_FEATURESET => return features(call, &mut request),
        op::GET_CPU_POLICY => policy(call, &mut request)?,
        _ => return Err(Error::ENOSYS),
    }
    call.write(address, &request)?;
    DONE
}

fn read_console<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: ReadConsole = request.view();
    let mut piece = [0; PIECE];
    let mut position = (wanted.incremental != 0).then_some(wanted.index);
    let mut done = 0;
    while done < wanted.count {
        let size = (wanted.count - done).min(PIECE as u32) as usize;
        let (count, next) = call.kernel.console.read_log(position, &mut piece[..size]);
        let to = wanted
            .buffer
            .address()
            .checked_add(u64::from(done))
            .ok_or(Error::EFAULT)?;
        call.memory().write(to, piece.get(..count).unwrap_or_default())?;
        position = Some(next);
        wanted.index = next;
        done = done.saturating_add(count as u32);
        if count < size {
            break;
        }
    }
    wanted.count = done;
    if wanted.clear != 0 {
        call.kernel.console.clear_log();
    }
    request.set_view(&wanted);
    Ok(())
}

fn physical_info<M: Machine>(call: &Call<'_, M>) -> PhysicalInfo {
    let machine = call.machine();
    let memory = machine.memory();
    let processors = machine.processors() as u32;
    PhysicalInfo {
        threads_per_core: 1,
        cores_per_socket: processors,
        number_of_cpus: processors,
        max_cpu_id: processors.saturating_sub(1),
        number_of_nodes: 1,
        max_node_id: 0,
        cpu_khz: machine.platform().tsc_khz,
        capabilities: physical_capability::HVM
            | physical_capability::HAP
            | physical_capability::GRANT_TABLE_V1,
        total_pages: call.kernel.installed_frames(),
        free_pages: memory.free_frames(),
        outstanding_pages: *call.kernel.domains.claims.lock(),
        max_frame: memory.frame_count(),
        hardware_capabilities: hardware_capabilities(machine),
        ..PhysicalInfo::default()
    }
}

/// The processor's own features, in the order of the first eight words of a feature set.
fn hardware_capabilities<M: Machine>(machine: &M) -> [u32; 8] {
    let [_, _, ecx, edx] = machine.cpuid(1, 0);
    let [_, _, extended_ecx, extended_edx] = machine.cpuid(0x8000_0001, 0);
    let [_, structured_ebx, structured_ecx, _] = machine.cpuid(7, 0);
    let [state, ..] = machine.cpuid(0xd, 1);
    let [.., power] = machine.cpuid(0x8000_0007, 0);
    [
        edx,
        ecx,
        extended_edx,
        extended_ecx,
        state,
        structured_ebx,
        structured_ecx,
        power,
    ]
}

fn domain_list<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: GetDomainInfoList = request.view();
    let mut count = 0;
    let mut next = wanted.first_domain;
    while count < wanted.max_domains {
        let Some(domain) = call.kernel.domains.at_or_after(next) else {
            break;
        };
        let info = info_of(call.kernel, &domain);
        call.write_element(wanted.buffer.address(), u64::from(count), &info)?;
        count += 1;
        next = DomainId(domain.id.0.saturating_add(1));
    }
    wanted.number_of_domains = count;
    request.set_view(&wanted);
    Ok(())
}

fn cpu_info<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: GetCpuInfo = request.view();
    let count = (wanted.max_cpus as usize).min(call.kernel.processors.len());
    for (index, processor) in call.kernel.processors.iter().take(count).enumerate() {
        let info = CpuInfo {
            idle_time: processor.idle_time.load(Ordering::Relaxed),
        };
        call.write_element(wanted.info.address(), index as u64, &info)?;
    }
    wanted.number_of_cpus = count as u32;
    request.set_view(&wanted);
    Ok(())
}

fn available_heap<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) {
    let mut wanted: AvailableHeap = request.view();
    wanted.available_bytes = bytes(call.machine().memory().free_frames());
    request.set_view(&wanted);
}

fn topology<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: CpuTopologyInfo = request.view();
    let mut count = call.machine().processors() as u32;
    if !wanted.topology.is_null() {
        count = count.min(wanted.number_of_cpus);
        for core in 0..count {
            let entry = CpuTopology {
                core,
                socket: 0,
                node: 0,
            };
            call.write_element(wanted.topology.address(), u64::from(core), &entry)?;
        }
    }
    wanted.number_of_cpus = count;
    request.set_view(&wanted);
    Ok(())
}

fn bytes(frames: u64) -> u64 {
    frames.saturating_mul(PAGE_SIZE as u64)
}

/// One node, with all memory.
fn numa<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    const LOCAL: u32 = 10;
    let mut wanted: NumaInfo = request.view();
    let memory = call.machine().memory();
    let asks = !wanted.memory.is_null() || !wanted.distances.is_null();
    if asks && wanted.number_of_nodes != 0 {
        if !wanted.memory.is_null() {
            let size = bytes(call.kernel.installed_frames());
            let free = bytes(memory.free_frames());
            call.write(wanted.memory.address(), &MemoryInfo { size, free })?;
        }
        if !wanted.distances.is_null() {
            call.write(wanted.distances.address(), &LOCAL)?;
        }
    }
    wanted.number_of_nodes = if asks { wanted.number_of_nodes.min(1) } else { 1 };
    request.set_view(&wanted);
    Ok(())
}

fn features<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Answer {
    let mut wanted: CpuFeatureset = request.view();
    let words = match wanted.index {
        featureset::RAW | featureset::HOST | featureset::HVM | featureset::HVM_MAX => {
            feature_words(call.machine())?
        }
        // There are no PV guests.
        featureset::PV | featureset::PV_MAX => return Err(Error::EOPNOTSUPP),
        _ => return Err(Error::EINVAL),
    };
    let mut count = FEATURE_WORDS;
    if !wanted.features.is_null() {
        count = count.min(wanted.number_of_features as usize);
        for (index, word) in words.iter().take(count).enumerate() {
            call.write_element(wanted.features.address(), index as u64, word)?;
        }
    }
    // Told also when there was too little room for all.
    wanted.number_of_features = count as u32;
    request.set_view(&wanted);
    call.write(call.arguments[0], request)?;
    if count < FEATURE_WORDS {
        Err(Error::ENOBUFS)
    } else {
        DONE
    }
}

/// The words in the ABI's order: leaf 1 edx and ecx, 0x80000001 edx and ecx, 0xd/1 eax, 7/0 ebx and ecx, 0x80000007 edx,
/// 0x80000008 ebx, 7/0 edx, 7/1 eax, and so on; those that we offer nothing of are zero.
fn feature_words<M: Machine>(machine: &M) -> Result<[u32; FEATURE_WORDS], Error> {
    let policy = CpuPolicy::of_machine(machine)?;
    let word = |leaf: u32, subleaf: u32, index: usize| {
        let entry = policy.leaves().iter().find(|entry| {
            entry.leaf == leaf && matches!(entry.subleaf, NO_SUBLEAF)
                || (entry.leaf, entry.subleaf) == (leaf, subleaf)
        });
        entry.map_or(0, |entry| entry.values[index])
    };
    let mut words = [0; FEATURE_WORDS];
    words[..10].copy_from_slice(&[
        word(1, 0, 3),
        word(1, 0, 2),
        word(0x8000_0001, 0, 3),
        word(0x8000_0001, 0, 2),
        word(0xd, 1, 0),
        word(7, 0, 1),
        word(7, 0, 2),
        word(0x8000_0007, 0, 3),
        word(0x8000_0008, 0, 1),
        word(7, 0, 3),
    ]);
    Ok(words)
}

fn policy<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let mut wanted: PolicyArgument = request.view();
    use hypercall_abi::sysctl::policy as index;
    let policy = match wanted.index {
        index::RAW | index::HOST | index::HVM_MAX | index::HVM_DEFAULT => {
            CpuPolicy::of_machine(call.machine())?
        }
        index::PV_MAX | index::PV_DEFAULT => return Err(Error::EOPNOTSUPP),
        _ => return Err(Error::EINVAL),
    };
    let room = wanted.number_of_leaves;
    wanted.number_of_leaves = super::domctl::write_leaves(call, &policy, wanted.leaves.address(), room)?;
    wanted.number_of_msrs = if wanted.msrs.is_null() {
        super::domctl::ROOM_FOR_MSRS
    } else {
        0
    };
    request.set_view(&wanted);
    Ok(())
}

#[cfg(test)]
mod tests;
