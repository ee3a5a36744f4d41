//! One vCPU as the toolstack sees and places it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::domctl::{Domctl, SendTrigger, VcpuAffinity, VcpuInfo, affinity_flag};
use hypercall_abi::vcpu::runstate;
use machine::Machine;

use super::bitmap::{read_bitmap, write_bitmap};
use super::{Handled, Reply};
use crate::domain::{Domain, VcpuHandle};
use crate::hypercall::Call;
use crate::vcpu::{Place, stop};

fn existing<M: Machine>(target: &Arc<Domain<M>>, index: u32) -> Result<VcpuHandle<M>, Error> {
    VcpuHandle::new(target, index).ok_or(Error::ESRCH)
}

fn all_processors<M: Machine>(call: &Call<'_, M>) -> u64 {
    let count = call.machine().processors();
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

pub fn set_affinity<M: Machine>(
    call: &Call<'_, M>,
    target: &Arc<Domain<M>>,
    request: &mut Domctl,
) -> Handled {
    let wanted: VcpuAffinity = request.view();
    let vcpu = existing(target, wanted.vcpu)?;
    let meant = |flag: u32| wanted.flags & flag != 0;
    if !meant(affinity_flag::HARD | affinity_flag::SOFT) {
        return Err(Error::EINVAL);
    }
    let online = all_processors(call);
    let hard = if meant(affinity_flag::HARD) {
        let bits = read_bitmap(call, &wanted.hard)?;
        if bits & online == 0 {
            return Err(Error::EINVAL);
        }
        Some(bits)
    } else {
        None
    };
    let soft = if meant(affinity_flag::SOFT) {
        Some(read_bitmap(call, &wanted.soft)?)
    } else {
        None
    };
    if let Some(hard) = hard {
        // Everything that exists is everywhere, also when more processors come.
        vcpu.hard_affinity.store(
            if hard & online == online { u64::MAX } else { hard },
            Ordering::SeqCst,
        );
        if vcpu.index != call.vcpu.index || target.id != call.domain().id {
            // Off its processor and on again: where it may run is looked at then.
            call.kernel.pause_vcpu(&vcpu);
            call.kernel.unpause_vcpu(&vcpu);
        }
        write_bitmap(call, &wanted.hard, hard & online)?;
    }
    if let Some(soft) = soft {
        vcpu.soft_affinity.store(soft, Ordering::SeqCst);
        write_bitmap(call, &wanted.soft, soft & online)?;
    }
    Ok(Reply::Nothing)
}

pub fn get_affinity<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    let wanted: VcpuAffinity = request.view();
    let vcpu = existing(target, wanted.vcpu)?;
    let online = all_processors(call);
    if wanted.flags & affinity_flag::HARD != 0 {
        write_bitmap(
            call,
            &wanted.hard,
            vcpu.hard_affinity.load(Ordering::SeqCst) & online,
        )?;
    }
    if wanted.flags & affinity_flag::SOFT != 0 {
        write_bitmap(
            call,
            &wanted.soft,
            vcpu.soft_affinity.load(Ordering::SeqCst) & online,
        )?;
    }
    Ok(Reply::Nothing)
}

pub fn info<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &mut Domctl) -> Handled {
    let wanted: VcpuInfo = request.view();
    let vcpu = existing(target, wanted.vcpu)?;
    let place = *vcpu.place.lock();
    let blocked = vcpu.stops.load(Ordering::SeqCst) & (stop::BLOCKED | stop::POLLING) != 0;
    request.set_view(&VcpuInfo {
        vcpu: wanted.vcpu,
        online: u8::from(vcpu.is_up()),
        blocked: u8::from(blocked),
        running: u8::from(matches!(place, Place::Running(_))),
        cpu_time: vcpu.runstate.lock().at(call.machine().now()).time[runstate::RUNNING as usize],
        cpu: vcpu.last_processor.load(Ordering::SeqCst),
        ..VcpuInfo::default()
    });
    Ok(Reply::Structure)
}

/// Of the triggers, a non-maskable interrupt is the one that a PVH guest has hardware for.
pub fn trigger<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    const NMI: u32 = 0;
    let wanted: SendTrigger = request.view();
    let vcpu = existing(target, wanted.vcpu)?;
    if wanted.trigger != NMI {
        return Err(Error::ENOSYS);
    }
    vcpu.nmi_pending.store(true, Ordering::SeqCst);
    call.kernel.unblock(&vcpu);
    Ok(Reply::Nothing)
}
