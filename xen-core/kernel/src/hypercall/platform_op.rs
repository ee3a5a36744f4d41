//! `platform_op`: the privileged domain's say in the machine: the wall clock, and what processors there are.

use hypercall_abi::Error;
use hypercall_abi::platform::{
    FirmwareInfo, INTERFACE_VERSION, PhysicalCpuInfo, PlatformOp, SetTime32, SetTime64, cpu_flag, op,
};
use machine::Machine;

use super::{Answer, Call, DONE};
use crate::time::WallClock;

/// `platform_op(argument)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    call.require_privilege()?;
    let address = call.arguments[0];
    let mut request: PlatformOp = call.read(address)?;
    if request.interface_version != INTERFACE_VERSION {
        return Err(Error::EACCES);
    }
    match request.command {
        op::SET_TIME64 => {
            let time: SetTime64 = request.view();
            if time._reserved != 0 {
                return Err(Error::EOPNOTSUPP);
            }
            call.kernel.set_wall_clock(WallClock::from_now(
                time.seconds,
                time.nanoseconds,
                time.system_time,
            ));
            DONE
        }
        op::SET_TIME32 => {
            let time: SetTime32 = request.view();
            let seconds = u64::from(time.seconds);
            call.kernel
                .set_wall_clock(WallClock::from_now(seconds, time.nanoseconds, time.system_time));
            DONE
        }
        op::GET_CPU_INFO => {
            let mut info: PhysicalCpuInfo = request.view();
            let last = (call.machine().processors() as u32).saturating_sub(1);
            info.max_present = last;
            if info.cpu > last {
                info.flags = cpu_flag::INVALID;
            } else {
                (info.flags, info.apic_id, info.acpi_id) = (cpu_flag::ONLINE, info.cpu, info.cpu);
            }
            request.set_view(&info);
            call.write(address, &request)?;
            DONE
        }
        op::FIRMWARE_INFO => {
            // A BIOS's tables of disks are for real mode's time, and there is no EFI here.
            let _: FirmwareInfo = request.view();
            Err(Error::ENOSYS)
        }
        _ => Err(Error::ENOSYS),
    }
}
