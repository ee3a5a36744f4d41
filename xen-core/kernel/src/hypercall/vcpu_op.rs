//! `vcpu_op`: a domain's own vCPUs: their info, run state, timers.

use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::sched::shutdown;
use hypercall_abi::vcpu::{
    GetPhysicalId, RegisterMemoryArea, RegisterVcpuInfo, RunstateInfo, SINGLESHOT_FUTURE, SetPeriodicTimer,
    SetSingleshotTimer, op,
};
use hypercall_abi::xen::{VcpuTimeInfo, vm_assist};
use machine::Machine;
use machine::address::{GuestFrame, LinearAddress, PAGE_SIZE};
use machine::memory::FrameReference;
use machine::stage_two::EntryKind;

use super::{Answer, Call, DONE, Outcome};
use crate::domain::VcpuHandle;
use crate::guest_memory::Access;
use crate::runstate::RunstateArea;
use crate::vcpu::{InfoPlace, VCPU_INFO_SIZE, stop};

/// Shortest period of a periodic timer: 1 ms, Xen's limit.
const SHORTEST_PERIOD: u64 = 1_000_000;

/// `vcpu_op(op, vcpu, argument)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [operation, index, argument, ..] = call.arguments;
    let index = u32::try_from(index).map_err(|_| Error::ENOENT)?;
    let target = VcpuHandle::new(call.domain(), index).ok_or(Error::ENOENT)?;
    let itself = target.index == call.vcpu.index;
    match operation as u32 {
        op::IS_UP => Ok(Outcome::Value(u64::from(target.is_up()))),
        op::GET_RUNSTATE_INFO => {
            let info = target.runstate.lock().at(call.machine().now());
            call.write::<RunstateInfo>(argument, &info)?;
            DONE
        }
        op::REGISTER_RUNSTATE_MEMORY_AREA => register_runstate(call, &target, argument),
        op::REGISTER_VCPU_TIME_MEMORY_AREA => register_time(call, &target, argument),
        op::REGISTER_VCPU_INFO => register_info(call, &target, argument),
        op::SET_PERIODIC_TIMER => {
            let request: SetPeriodicTimer = call.read(argument)?;
            if request.period_ns < SHORTEST_PERIOD {
                return Err(Error::EINVAL);
            }
            let next = call.machine().now().saturating_add(request.period_ns);
            call.kernel.change_deadlines(&target, |deadlines| {
                deadlines.period = request.period_ns;
                deadlines.periodic = Some(next);
            });
            DONE
        }
        op::STOP_PERIODIC_TIMER => {
            call.kernel
                .change_deadlines(&target, |deadlines| deadlines.periodic = None);
            DONE
        }
        // One vCPU's one-shot timer is its own.
        op::SET_SINGLESHOT_TIMER | op::STOP_SINGLESHOT_TIMER if !itself => Err(Error::EINVAL),
        op::SET_SINGLESHOT_TIMER => {
            let request: SetSingleshotTimer = call.read(argument)?;
            if request.flags & SINGLESHOT_FUTURE != 0 && request.timeout_abs_ns < call.machine().now() {
                return Err(Error::ETIME);
            }
            call.kernel.change_deadlines(&target, |deadlines| {
                deadlines.singleshot = Some(request.timeout_abs_ns)
            });
            DONE
        }
        op::STOP_SINGLESHOT_TIMER => {
            call.kernel
                .change_deadlines(&target, |deadlines| deadlines.singleshot = None);
            DONE
        }
        op::SEND_NMI => {
            target.nmi_pending.store(true, Ordering::SeqCst);
            call.kernel.unblock(&target);
            DONE
        }
        op::DOWN => {
            let mut others = false;
            call.kernel.each_vcpu(call.domain(), |other| {
                others |= other.index != target.index && other.is_up();
            });
            // The last one to go takes the domain with it: nobody could bring one up again.
            if !others {
                call.kernel
                    .shutdown_domain(call.domain(), shutdown::POWEROFF as u8);
                return DONE;
            }
            target.stops.fetch_or(stop::DOWN, Ordering::SeqCst);
            call.kernel.make_look(&target);
            DONE
        }
        op::UP => {
            // INIT and start-up are how a PVH vCPU gets its state; one that never had any stays down.
            if !target.initialised.load(Ordering::SeqCst) {
                return Err(Error::EINVAL);
            }
            target.stops.fetch_and(!stop::DOWN, Ordering::SeqCst);
            call.kernel.reconsider(&target);
            DONE
        }
        op::GET_PHYSICAL_ID => {
            call.require_privilege()?;
            let id = u64::from(target.lapic.id()) | (u64::from(target.index) << 32);
            call.write(argument, &GetPhysicalId { physical_id: id })?;
            DONE
        }
        // INITIALISE takes the context of classic PV or a form that no guest here was seen to use.
        _ => Err(Error::ENOSYS),
    }
}

fn register_info<M: Machine>(call: &mut Call<'_, M>, target: &VcpuHandle<M>, argument: u64) -> Answer {
    let request: RegisterVcpuInfo = call.read(argument)?;
    let offset = request.offset as usize;
    if offset > PAGE_SIZE - VCPU_INFO_SIZE || !offset.is_multiple_of(8) {
        return Err(Error::EINVAL);
    }
    let (page, leaf) = call
        .domain()
        .physmap
        .get(GuestFrame(request.guest_frame))
        .ok_or(Error::EINVAL)?;
    // Its own memory or the shared page; never what others lent it.
    if !matches!(leaf.kind, EntryKind::Populated | EntryKind::Shared) || !leaf.permissions.write {
        return Err(Error::EINVAL);
    }
    let itself = target.index == call.vcpu.index;
    if !itself && target.is_up() {
        return Err(Error::EINVAL);
    }
    {
        let mut info = target.info.lock();
        if info.registered {
            return Err(Error::EINVAL);
        }
        // What was there moves along, so that no event is lost.
        let mut contents = [0; VCPU_INFO_SIZE];
        if (target.index as usize) < hypercall_abi::xen::limit::LEGACY_VCPUS {
            info.page
                .read(info.offset, &mut contents)
                .map_err(|_| Error::EINVAL)?;
        }
        page.write(offset, &contents).map_err(|_| Error::EINVAL)?;
        *info = InfoPlace {
            page,
            offset,
            registered: true,
        };
    }
    call.kernel.publish_time(target);
    if (target.index as usize) >= hypercall_abi::xen::limit::LEGACY_VCPUS {
        // Until now there was no place to note events in: let the guest look at all of them once.
        call.kernel.raise_upcall(target);
    }
    DONE
}

fn register_runstate<M: Machine>(call: &mut Call<'_, M>, target: &VcpuHandle<M>, argument: u64) -> Answer {
    let request: RegisterMemoryArea = call.read(argument)?;
    let area = if request.address == 0 {
        None
    } else {
        Some(pin_runstate(call, request.address)?)
    };
    let mark =
        call.domain().assists.load(Ordering::Relaxed) & (1 << vm_assist::TYPE_RUNSTATE_UPDATE_FLAG) != 0;
    let mut runstate = target.runstate.lock();
    let old = core::mem::replace(&mut runstate.area, area);
    runstate.publish(mark);
    drop(runstate);
    drop(old);
    DONE
}

/// A page that the core goes on writing to after the call: the domain's own. What others lend it, they get back whole.
fn own_page<M: Machine>(call: &Call<'_, M>, address: u64) -> Result<(FrameReference, usize), Error> {
    let access = Access {
        write: true,
        user: false,
    };
    let (page, offset) = call.memory().page(LinearAddress(address), access)?;
    if page.owner() != call.domain().id.0 {
        return Err(Error::EFAULT);
    }
    Ok((page, offset))
}

fn pin_runstate<M: Machine>(call: &Call<'_, M>, address: u64) -> Result<RunstateArea, Error> {
    let (first, offset) = own_page(call, address)?;
    let in_first = PAGE_SIZE.saturating_sub(offset);
    let second = if in_first < size_of::<RunstateInfo>() {
        let next = address.checked_add(in_first as u64).ok_or(Error::EFAULT)?;
        Some(own_page(call, next)?.0)
    } else {
        None
    };
    Ok(RunstateArea {
        first,
        second,
        offset,
    })
}

fn register_time<M: Machine>(call: &mut Call<'_, M>, target: &VcpuHandle<M>, argument: u64) -> Answer {
    let request: RegisterMemoryArea = call.read(argument)?;
    let (page, offset) = own_page(call, request.address)?;
    // One that straddles pages is refused: the clock is read without a lock, and its version guards one page.
    if PAGE_SIZE.saturating_sub(offset) < size_of::<VcpuTimeInfo>() || offset % 8 != 0 {
        return Err(Error::EINVAL);
    }
    let old = target.time_area.lock().replace(InfoPlace {
        page,
        offset,
        registered: true,
    });
    drop(old);
    call.kernel.publish_time(target);
    DONE
}

#[cfg(test)]
mod tests;
