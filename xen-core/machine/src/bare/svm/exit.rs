//! From hardware's exit codes to the kernel's [`Exit`].

use super::inject::Event;
use super::vmcb::Vmcb;
use crate::address::GuestAddress;
use crate::virtual_cpu::{Exception, Exit, PortAccess};

/// Exit codes (APM volume 2, appendix C).
pub mod code {
    pub const WRITE_CR3: u64 = 0x13;
    pub const WRITE_DR5: u64 = 0x35;
    pub const WRITE_DR7: u64 = 0x37;
    pub const EXCEPTION_FIRST: u64 = 0x40;
    pub const EXCEPTION_LAST: u64 = 0x5f;
    pub const INTERRUPT: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const SMI: u64 = 0x62;
    pub const INIT: u64 = 0x63;
    pub const RDTSC: u64 = 0x6e;
    pub const RDPMC: u64 = 0x6f;
    pub const PUSHF: u64 = 0x70;
    pub const POPF: u64 = 0x71;
    pub const CPUID: u64 = 0x72;
    pub const IRET: u64 = 0x74;
    pub const SOFTWARE_INTERRUPT: u64 = 0x75;
    pub const INVD: u64 = 0x76;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const INVLPGA: u64 = 0x7a;
    pub const PORT: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const SKINIT: u64 = 0x86;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT_ARMED: u64 = 0x8c;
    pub const XSETBV: u64 = 0x8d;
    pub const RDPRU: u64 = 0x8e;
    pub const NESTED_FAULT: u64 = 0x400;
}

/// Exceptions that are intercepted: #DB and #AC, because a guest can make their delivery raise them again forever, with
/// no instruction boundary at which anything could stop it; #MC, because it is about the machine.
pub const INTERCEPTED_EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;
const ALIGNMENT_CHECK: u8 = 17;

/// Why the guest stopped.
pub fn decode(vmcb: &Vmcb) -> Exit {
    match vmcb.exit_code {
        code::VMMCALL => Exit::Hypercall,
        code::INTERRUPT | code::NMI | code::SMI | code::INIT => Exit::Interrupt,
        code::NESTED_FAULT => {
            let delivering = Event::interrupted(vmcb.exit_interrupt_info).is_some();
            nested_fault(vmcb.exit_info_1, vmcb.exit_info_2, delivering)
        }
        code::PORT => Exit::Port(port_access(vmcb.exit_info_1)),
        code::MSR if vmcb.exit_info_1 & 1 != 0 => Exit::WriteMsr,
        code::MSR => Exit::ReadMsr,
        code::CPUID => Exit::CpuId,
        code::HLT => Exit::Halt,
        code::XSETBV => Exit::SetExtendedControl,
        code::WRITE_DR5 | code::WRITE_DR7 => Exit::SetBreakpoints,
        code::WBINVD | code::INVD => Exit::WriteBackCaches,
        code::SHUTDOWN => Exit::TripleFault,
        number @ code::EXCEPTION_FIRST..=code::EXCEPTION_LAST => {
            let vector = (number - code::EXCEPTION_FIRST) as u8;
            let error_code = (vector == ALIGNMENT_CHECK).then_some(vmcb.exit_info_1 as u32);
            Exit::Exception(Exception { vector, error_code })
        }
        // Intercepted only to get the guest out soon after an interrupt shadow: the instruction simply runs again.
        code::WRITE_CR3
        | code::RDTSC
        | code::PUSHF
        | code::POPF
        | code::IRET
        | code::SOFTWARE_INTERRUPT
        | code::PAUSE => Exit::Interrupt,
        code::RDPMC | code::INVLPGA | code::TASK_SWITCH | code::RDPRU => Exit::Forbidden,
        code::VMRUN..=code::SKINIT | code::MONITOR..=code::MWAIT_ARMED => Exit::Forbidden,
        code => Exit::Invalid { code },
    }
}

/// Whether the processor refused to run the guest at all (VMEXIT_INVALID, which some store as 32 bits).
pub fn refused(vmcb: &Vmcb) -> bool {
    vmcb.exit_code as i32 == -1
}

/// The length of the instruction that exited, where it is the same in each use that compilers make of it: no prefixes.
pub fn known_length(exit_code: u64) -> u64 {
    match exit_code {
        code::HLT => 1,
        code::VMRUN..=code::SKINIT | code::MONITOR..=code::RDPRU | code::INVLPGA => 3,
        code::CPUID | code::MSR | code::WBINVD | code::INVD | code::RDPMC => 2,
        _ => 0,
    }
}

fn nested_fault(info: u64, address: u64, delivering: bool) -> Exit {
    let bit = |number: u32| info & (1 << number) != 0;
    Exit::StageTwoFault {
        address: GuestAddress(address),
        present: bit(0),
        write: bit(1),
        fetch: bit(4),
        table_walk: bit(33) || delivering,
    }
}

fn port_access(info: u64) -> PortAccess {
    let bit = |number: u32| info & (1 << number) != 0;
    let size = if bit(4) {
        1
    } else if bit(5) {
        2
    } else {
        4
    };
    PortAccess {
        port: (info >> 16) as u16,
        size,
        read: bit(0),
        string: bit(2),
        repeat: bit(3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_accesses() {
        let read = port_access(0x3fd_0011);
        assert_eq!(
            read,
            PortAccess {
                port: 0x3fd,
                size: 1,
                read: true,
                string: false,
                repeat: false
            }
        );
        let write = port_access(0xcf8_004c);
        assert_eq!(
            write,
            PortAccess {
                port: 0xcf8,
                size: 4,
                read: false,
                string: true,
                repeat: true
            }
        );
    }

    #[test]
    fn faults() {
        let Exit::StageTwoFault {
            address,
            write,
            fetch,
            present,
            table_walk,
        } = nested_fault(0x1_0000_0006, 0xfee0_0020, false)
        else {
            panic!("not a fault");
        };
        assert_eq!(address, GuestAddress(0xfee0_0020));
        assert!(write && !fetch && !present && !table_walk);
    }

    #[test]
    fn what_delivers_an_event_is_not_the_instruction_at_rip() {
        for (info, delivering) in [(0x1_0000_0006, true), (0x2_0000_0004, false)] {
            let exit = nested_fault(info, 0x8000_0000, delivering);
            assert!(matches!(exit, Exit::StageTwoFault { table_walk: true, .. }));
        }
    }
}
