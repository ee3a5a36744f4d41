//! A domain's beginning, end, limits and state.

use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;

use hypercall_abi::domctl::{
    CreateDomain, DomainInfo, Domctl, GRANT_VERSION_MASK, INVALID_MAX_VCPU_ID, MaxMemory, MaxVcpus,
    NodeAffinity, PagingMempool, SetDomainHandle, create_flag, info_flag,
};
use hypercall_abi::vcpu::runstate;
use hypercall_abi::xen::{ArchDomainConfig, emulation};
use hypercall_abi::{DomainId, Error};
use machine::{Machine, fallible};

use super::bitmap::{read_bitmap, write_bitmap};
use super::{Handled, Reply};
use crate::Kernel;
use crate::cpu_policy::CpuPolicy;
use crate::domain::{Domain, DomainConfig, MAX_VCPUS};
use crate::hypercall::Call;
use crate::lifecycle::Destruction;
use crate::schedule::ProcessorSet;
use crate::vcpu::{Place, stop};

/// Frames of grant table, and of maptrack, when the toolstack leaves it to us.
const DEFAULT_GRANT_FRAMES: u32 = 64;
const DEFAULT_MAPTRACK_FRAMES: u32 = 1024;
/// The most that it may ask for.
const MOST_GRANT_FRAMES: u32 = 1024;
const MOST_MAPTRACK_FRAMES: u32 = 4096;
/// Ports that only delay: nothing listens there.
const DELAY_PORTS: [(u16, u16); 2] = [(0x80, 0x80), (0xed, 0xed)];
/// Pauses of the toolstack's that are counted: Xen's limit.
const MOST_PAUSES: u32 = 255;

pub fn create<M: Machine>(call: &Call<'_, M>, request: &mut Domctl) -> Handled {
    let wanted: CreateDomain = request.view();
    let config = check_create(&wanted)?;
    let pool = call.kernel.pools.get(config.pool);
    if pool.is_none_or(|pool| pool.processors.load().is_empty()) {
        return Err(Error::ENOENT);
    }
    let id = match request.domain {
        DomainId(0) | DomainId::INVALID => None,
        id if id.is_reserved() => None,
        id => Some(id),
    };
    // The answer has its place, or nothing is made: a domain whose number nobody learnt would stay for ever.
    call.write(call.arguments[0], request)?;
    let policy = fallible::arc(CpuPolicy::of_machine(call.machine())?).map_err(|_| Error::ENOMEM)?;
    let domain = call.kernel.create_domain(id, &config, policy)?;
    request.domain = domain.id;
    request.set_view(&wanted);
    Ok(Reply::Structure)
}

/// A limit in frames; negative ones leave it to us.
fn limit(wanted: i32, default: u32, least: u32, most: u32) -> Result<u32, Error> {
    match u32::try_from(wanted) {
        Err(_) => Ok(default),
        Ok(frames) if (least..=most).contains(&frames) => Ok(frames),
        Ok(_) => Err(Error::EINVAL),
    }
}

fn check_create(wanted: &CreateDomain) -> Result<DomainConfig, Error> {
    const OFFERED: u32 = create_flag::HVM | create_flag::HAP;
    // Flags that only say where a domain's duties lie change nothing here.
    const HARMLESS: u32 = create_flag::STORE_DOMAIN | create_flag::OUT_OF_SYNC_OFF;
    if wanted.flags & OFFERED != OFFERED || wanted.flags & !(OFFERED | HARMLESS) != 0 {
        return Err(Error::EINVAL);
    }
    // PVH: a local APIC and nothing else.
    if wanted.arch.emulation_flags != emulation::LAPIC || wanted.arch.misc_flags != 0 {
        return Err(Error::EINVAL);
    }
    if wanted.max_vcpus == 0
        || wanted.max_vcpus > MAX_VCPUS
        || wanted.iommu_options != 0
        || wanted.vmtrace_size != 0
    {
        return Err(Error::EINVAL);
    }
    // The highest version that the guest may ask for: a limit, and version 1 is within both.
    let version = wanted.grant_options & GRANT_VERSION_MASK;
    if !(1..=2).contains(&version) || wanted.grant_options & !GRANT_VERSION_MASK != 0 {
        return Err(Error::EINVAL);
    }
    let mut direct_ports = Vec::new();
    direct_ports
        .try_reserve_exact(DELAY_PORTS.len())
        .map_err(|_| Error::ENOMEM)?;
    direct_ports.extend(DELAY_PORTS);
    Ok(DomainConfig {
        handle: wanted.handle,
        max_vcpus: wanted.max_vcpus,
        max_event_port: wanted.max_event_channel_port,
        max_grant_frames: limit(
            wanted.max_grant_frames,
            DEFAULT_GRANT_FRAMES,
            1,
            MOST_GRANT_FRAMES,
        )?,
        max_maptrack_frames: limit(
            wanted.max_maptrack_frames,
            DEFAULT_MAPTRACK_FRAMES,
            0,
            MOST_MAPTRACK_FRAMES,
        )?,
        privileged: false,
        pool: wanted.cpupool_id,
        direct_ports,
    })
}

pub fn destroy<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>) -> Handled {
    // The caller cannot be taken apart while it calls; the privileged domain ends with the machine.
    if target.id == call.domain().id || target.privileged {
        return Err(Error::EINVAL);
    }
    loop {
        match call.kernel.destroy_domain(target) {
            Destruction::Done => return Ok(Reply::Nothing),
            Destruction::More if call.spent() => return Ok(Reply::Again),
            Destruction::More => {}
        }
    }
}

fn another<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>) -> Result<(), Error> {
    if target.id == call.domain().id {
        Err(Error::EINVAL)
    } else {
        Ok(())
    }
}

pub fn pause<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>) -> Handled {
    another(call, target)?;
    target
        .toolstack_pauses
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (count < MOST_PAUSES).then_some(count.saturating_add(1))
        })
        .map_err(|_| Error::EOVERFLOW)?;
    call.kernel.pause_domain(target);
    Ok(Reply::Nothing)
}

pub fn unpause<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>) -> Handled {
    target
        .toolstack_pauses
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1))
        .map_err(|_| Error::EINVAL)?;
    target.creation_finished.store(true, Ordering::SeqCst);
    call.kernel.unpause_domain(target);
    Ok(Reply::Nothing)
}

pub fn max_vcpus<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    another(call, target)?;
    let wanted: MaxVcpus = request.view();
    // What was promised at creation, as Xen insists; again is no error.
    if wanted.max as usize != target.vcpus.len() {
        return Err(Error::EINVAL);
    }
    target.allotted_vcpus.store(wanted.max, Ordering::SeqCst);
    Ok(Reply::Nothing)
}

pub fn max_memory<M: Machine>(target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    let wanted: MaxMemory = request.view();
    target.max_pages.store(wanted.kibibytes / 4, Ordering::SeqCst);
    Ok(Reply::Nothing)
}

pub fn set_handle<M: Machine>(target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    let wanted: SetDomainHandle = request.view();
    *target.handle.lock() = wanted.handle;
    Ok(Reply::Nothing)
}

/// There is one node; a domain that may use it may run.
pub fn set_node_affinity<M: Machine>(call: &Call<'_, M>, request: &Domctl) -> Handled {
    let wanted: NodeAffinity = request.view();
    if !read_bitmap(call, &wanted.nodes)?.contains(0) {
        return Err(Error::EINVAL);
    }
    Ok(Reply::Nothing)
}

pub fn get_node_affinity<M: Machine>(call: &Call<'_, M>, request: &Domctl) -> Handled {
    let wanted: NodeAffinity = request.view();
    write_bitmap(call, &wanted.nodes, &ProcessorSet::one(0))?;
    Ok(Reply::Nothing)
}

/// Tables come from the core's own memory as they are needed: the size is noted and answered.
pub fn set_paging_pool<M: Machine>(target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    let wanted: PagingMempool = request.view();
    // Whole pages, as many as 32 bits can count.
    if !wanted.bytes.is_multiple_of(4096) || wanted.bytes >> 44 != 0 {
        return Err(Error::EINVAL);
    }
    target.paging_pool.store(wanted.bytes, Ordering::SeqCst);
    Ok(Reply::Nothing)
}

pub fn get_paging_pool<M: Machine>(target: &Arc<Domain<M>>, request: &mut Domctl) -> Handled {
    request.set_view(&PagingMempool {
        bytes: target.paging_pool.load(Ordering::SeqCst),
    });
    Ok(Reply::Structure)
}

/// The domain asked for, or the next one that exists.
pub fn get_info<M: Machine>(call: &Call<'_, M>, request: &mut Domctl) -> Handled {
    if request.domain.is_reserved() {
        return Err(Error::EINVAL);
    }
    let target = call
        .kernel
        .domains
        .at_or_after(request.domain)
        .ok_or(Error::ESRCH)?;
    let info = info_of(call.kernel, &target);
    request.domain = target.id;
    request.set_view(&info);
    Ok(Reply::Structure)
}

/// A domain's state as the toolstack sees it.
pub fn info_of<M: Machine>(kernel: &Kernel<M>, domain: &Arc<Domain<M>>) -> DomainInfo {
    let now = kernel.machine.now();
    let lifecycle = *domain.lifecycle.lock();
    let (mut online, mut cpu_time, mut running, mut blocked) = (0, 0, false, true);
    kernel.each_vcpu(domain, |vcpu| {
        let ran = vcpu.runstate.lock().at(now).time[runstate::RUNNING as usize];
        cpu_time = u64::saturating_add(cpu_time, ran);
        if vcpu.is_up() {
            online = u32::saturating_add(online, 1);
            blocked &= vcpu.stops.load(Ordering::Relaxed) & (stop::BLOCKED | stop::POLLING) != 0;
            running |= matches!(*vcpu.place.lock(), Place::Running(_));
        }
    });
    let mut flags = info_flag::HVM_GUEST | info_flag::HAP;
    let mut note = |when: bool, flag: u32| flags |= if when { flag } else { 0 };
    note(lifecycle.dying, info_flag::DYING);
    note(lifecycle.shutdown.is_some(), info_flag::SHUTDOWN);
    note(
        domain.toolstack_pauses.load(Ordering::Relaxed) != 0,
        info_flag::PAUSED,
    );
    note(running, info_flag::RUNNING);
    note(blocked && !running && online != 0, info_flag::BLOCKED);
    // All ones while there is no reason yet, as Xen has it; one that was announced shows already.
    let reason = lifecycle.shutdown.or(lifecycle.shutdown_code);
    flags |= reason.map_or(u32::MAX, u32::from) << info_flag::SHUTDOWN_SHIFT;
    let allotted = domain.allotted_vcpus.load(Ordering::Relaxed);
    // One lock after the other.
    let handle = *domain.handle.lock();
    let address_bits = domain.cpu_policy.lock().address_bits();
    DomainInfo {
        domain: domain.id,
        flags,
        total_pages: domain.owned_pages(&kernel.machine),
        max_pages: domain.max_pages.load(Ordering::Relaxed),
        outstanding_pages: domain.claimed.load(Ordering::Relaxed),
        shared_info_frame: domain.shared_info.frame().0,
        cpu_time,
        number_of_online_vcpus: online,
        max_vcpu_id: allotted.checked_sub(1).unwrap_or(INVALID_MAX_VCPU_ID),
        handle,
        cpupool: domain.pool.load(Ordering::Relaxed),
        guest_physical_address_bits: address_bits as u8,
        arch_config: ArchDomainConfig {
            emulation_flags: emulation::LAPIC
                | if domain.io_apic.is_some() {
                    emulation::IOAPIC
                } else {
                    0
                },
            misc_flags: 0,
        },
        ..DomainInfo::default()
    }
}
