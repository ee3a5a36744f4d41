//! One vCPU as the toolstack sees and places it.

use alloc::sync::Arc;
use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::domctl::{Domctl, SendTrigger, VcpuAffinity, VcpuInfo, affinity_flag, trigger};
use hypercall_abi::vcpu::runstate;
use hypercall_abi::xen::ControlBitmap;
use machine::Machine;

use super::bitmap::{read_bitmap, write_bitmap};
use super::{Handled, Reply};
use crate::domain::{Domain, VcpuHandle};
use crate::hypercall::Call;
use crate::schedule::ProcessorSet;
use crate::vcpu::{Place, stop};

/// EINVAL for one that the domain can never have, ESRCH for one that it has not been given.
fn existing<M: Machine>(target: &Arc<Domain<M>>, index: u32) -> Result<VcpuHandle<M>, Error> {
    if index as usize >= target.vcpus.len() {
        return Err(Error::EINVAL);
    }
    VcpuHandle::new(target, index).ok_or(Error::ESRCH)
}

/// Sets that are meant must be there.
fn check_affinity(wanted: &VcpuAffinity) -> Result<(), Error> {
    let missing = |flag: u32, bitmap: &ControlBitmap| wanted.flags & flag != 0 && bitmap.bitmap.is_null();
    if wanted.flags & (affinity_flag::HARD | affinity_flag::SOFT) == 0
        || missing(affinity_flag::HARD, &wanted.hard)
        || missing(affinity_flag::SOFT, &wanted.soft)
    {
        return Err(Error::EINVAL);
    }
    Ok(())
}

pub fn set_affinity<M: Machine>(
    call: &Call<'_, M>,
    target: &Arc<Domain<M>>,
    request: &mut Domctl,
) -> Handled {
    let wanted: VcpuAffinity = request.view();
    let vcpu = existing(target, wanted.vcpu)?;
    check_affinity(&wanted)?;
    let meant = |flag: u32| wanted.flags & flag != 0;
    let hard = if meant(affinity_flag::HARD) {
        let wanted = read_bitmap(call, &wanted.hard)?;
        call.kernel.check_affinity(&vcpu, &wanted)?;
        Some(wanted)
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
        call.kernel.set_affinity(&vcpu, hard)?;
        let online = call.kernel.processors_of(target);
        write_bitmap(call, &wanted.hard, &hard.and(&online))?;
    }
    if let Some(soft) = soft {
        vcpu.soft_affinity.store(soft);
        let online = call.kernel.processors_of(target);
        write_bitmap(call, &wanted.soft, &soft.and(&online))?;
    }
    Ok(Reply::Nothing)
}

pub fn get_affinity<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    let wanted: VcpuAffinity = request.view();
    let vcpu = existing(target, wanted.vcpu)?;
    check_affinity(&wanted)?;
    let online = ProcessorSet::first_ones(call.machine().processors());
    if wanted.flags & affinity_flag::HARD != 0 {
        write_bitmap(call, &wanted.hard, &vcpu.hard_affinity.load().and(&online))?;
    }
    if wanted.flags & affinity_flag::SOFT != 0 {
        write_bitmap(call, &wanted.soft, &vcpu.soft_affinity.load().and(&online))?;
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
    let wanted: SendTrigger = request.view();
    let vcpu = VcpuHandle::new(target, wanted.vcpu).ok_or(Error::ESRCH)?;
    if wanted.trigger != trigger::NMI {
        return Err(Error::ENOSYS);
    }
    vcpu.nmi_pending.store(true, Ordering::SeqCst);
    call.kernel.unblock(&vcpu);
    Ok(Reply::Nothing)
}
