//! `platform_op`: the wall clock and the processors, for the privileged.

use hypercall_abi::hypercall::number::PLATFORM_OP;
use hypercall_abi::platform::{INTERFACE_VERSION, PhysicalCpuInfo, PlatformOp, SetTime32, SetTime64, op};

use super::Maker;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let command = maker.numbers.weighted(&[
        (op::SET_TIME32, 8),
        (op::SET_TIME64, 8),
        (op::GET_CPU_INFO, 8),
        (op::FIRMWARE_INFO, 3),
        (op::MICROCODE_UPDATE, 1),
        (op::ENTER_ACPI_SLEEP, 1),
        (op::GET_IDLE_TIME, 1),
        (op::CPU_OFFLINE, 1),
        (66, 1),
    ]);
    let mut request = PlatformOp {
        command,
        interface_version: maker.number32(INTERFACE_VERSION),
        payload: [0; 16],
    };
    let (seconds, system_time) = (maker.number(1_700_000_000), maker.number(maker.now));
    let valid = maker.numbers.below(1_000_000_000) as u32;
    let nanoseconds = maker.number32(valid);
    match command {
        op::SET_TIME32 => request.set_view(&SetTime32 {
            seconds: seconds as u32,
            nanoseconds,
            system_time,
        }),
        op::SET_TIME64 => request.set_view(&SetTime64 {
            seconds,
            nanoseconds,
            _reserved: maker.zero() as u32,
            system_time,
        }),
        op::GET_CPU_INFO => {
            let valid = maker.numbers.below(2) as u32;
            request.set_view(&PhysicalCpuInfo {
                cpu: maker.number32(valid),
                ..PhysicalCpuInfo::default()
            });
        }
        _ => request.payload = core::array::from_fn(|_| maker.numbers.word()),
    }
    let address = maker.structure(&request);
    maker.call(PLATFORM_OP, command, &[address]);
}
