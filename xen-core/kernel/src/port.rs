//! Port accesses that exit. For guests there is nothing behind any port; the privileged domain finds the platform's
//! power control, clock memory and reset, each watched because the hypervisor must know when the machine goes down.

use hypercall_abi::sched::shutdown;
use machine::Machine;
use machine::virtual_cpu::{Exception, PortAccess, VirtualCpu, register};

use crate::Kernel;
use crate::domain::VcpuHandle;

/// The PIT's channel 2: Linux waits for its high byte to change and gives up only after 50,000 reads of ones. Zero ends
/// that at once; there is no PIT either way.
const PIT_CHANNEL_2: u16 = 0x42;
const CLOCK_INDEX: u16 = 0x70;
const CLOCK_DATA: u16 = 0x71;
const KEYBOARD_COMMAND: u16 = 0x64;
const KEYBOARD_RESET: u32 = 0xfe;
const RESET_CONTROL: u16 = 0xcf9;
const RESET_NOW: u32 = 1 << 2;
/// SLP_EN in PM1 control: the machine goes to the state in SLP_TYP.
const SLEEP_ENABLE: u32 = 1 << 13;

fn ones(size: u8) -> u32 {
    match size {
        1 => 0xff,
        2 => 0xffff,
        _ => u32::MAX,
    }
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn port_access(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu, access: PortAccess) {
        // There is nothing that a string instruction would move to or from.
        if access.string {
            context.inject(Exception::GENERAL_PROTECTION);
            return;
        }
        let privileged = vcpu.domain().privileged;
        let value = if access.read {
            match access.port {
                PIT_CHANNEL_2 => 0,
                port if privileged && self.is_platform_port(port) => {
                    self.machine.read_port(port, access.size)
                }
                _ => ones(access.size),
            }
        } else {
            let value = context.registers().general[register::RAX] as u32 & ones(access.size);
            if privileged {
                self.platform_write(vcpu, access.port, access.size, value);
            }
            0
        };
        context.complete_port(&access, value);
    }

    fn is_platform_port(&self, port: u16) -> bool {
        let platform = self.machine.platform();
        matches!(port, CLOCK_INDEX | CLOCK_DATA | KEYBOARD_COMMAND)
            || platform.power_control.contains(&port)
            || platform
                .power_control
                .iter()
                .any(|&base| base != 0 && base.checked_add(1) == Some(port))
    }

    fn platform_write(&self, vcpu: &VcpuHandle<M>, port: u16, size: u8, value: u32) {
        let platform = self.machine.platform();
        let resets = platform
            .reset
            .is_some_and(|(reset, command)| reset == port && u32::from(command) == value)
            || (port == RESET_CONTROL && value & RESET_NOW != 0)
            || (port == KEYBOARD_COMMAND && value == KEYBOARD_RESET);
        if resets {
            self.shutdown_domain(vcpu.domain(), shutdown::REBOOT as u8);
        } else if platform.power_control.contains(&port) && port != 0 && value & SLEEP_ENABLE != 0 {
            // Sleep states other than off are not offered; Linux asks for S5 alone when it powers off.
            self.shutdown_domain(vcpu.domain(), shutdown::POWEROFF as u8);
        } else if self.is_platform_port(port) {
            self.machine.write_port(port, size, value);
        }
    }
}
