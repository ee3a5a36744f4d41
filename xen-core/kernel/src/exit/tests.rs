//! Every way out of a guest: scripted exits through the scheduler, and what the guest finds afterwards.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hypercall_abi::Error;
use hypercall_abi::hypercall::number;
use machine::address::{GuestAddress, GuestFrame};
use machine::fake::{Ended, FakeVcpu, PortWrite, set_processor};
use machine::stage_two::Permissions;
use machine::virtual_cpu::{Exception, Exit, PortAccess, VirtualCpu, register};

use crate::cpu_policy::CpuPolicy;
use crate::testing::{self, TestDomain, TestKernel, TestVcpu};
use crate::vcpu::stop;
use crate::{io_apic, lapic};

/// Where the guest's instructions lie.
const CODE: u64 = 0x1000;
const GP: Exception = Exception::GENERAL_PROTECTION;
const UD: Exception = Exception::INVALID_OPCODE;

struct Guest {
    kernel: TestKernel,
    domain: TestDomain,
    vcpu: TestVcpu,
}

/// A guest in 64-bit code with interrupts enabled; number 0 is the privileged domain.
fn guest(id: u16) -> Guest {
    set_processor(0);
    let kernel = testing::kernel();
    let domain = testing::domain(&kernel, id, 1, 8);
    *domain.cpu_policy.lock() = Arc::new(CpuPolicy::of_machine(&kernel.machine).unwrap());
    let vcpu = testing::vcpu(&domain, 0);
    {
        let mut context = vcpu.context.lock();
        context.enter_flat_long_mode();
        context.set_interrupts_enabled(true);
        context.state.registers.rip = CODE;
    }
    Guest { kernel, domain, vcpu }
}

impl Guest {
    /// Let the guest exit so once, then halt; returns by how much it moved on, or the exception that it got.
    fn exit(&self, exit: Exit) -> Result<u64, Exception> {
        self.exit_with(exit, |_| {})
    }

    fn exit_with(&self, exit: Exit, prepare: impl FnOnce(&mut FakeVcpu)) -> Result<u64, Exception> {
        {
            let mut context = self.vcpu.context.lock();
            context.state.registers.rip = CODE;
            context.exceptions.clear();
            prepare(&mut context);
            context.push_exit(exit);
        }
        self.kernel.unblock(&self.vcpu);
        self.kernel.reconsider(&self.vcpu);
        self.kernel.step();
        let context = self.vcpu.context.lock();
        match context.exceptions.first() {
            Some(&exception) => Err(exception),
            // The HLT that ends the script is one byte.
            None => Ok(context.state.registers.rip - CODE - u64::from(self.is_blocked())),
        }
    }

    fn is_blocked(&self) -> bool {
        self.vcpu.stops.load(Ordering::SeqCst) & stop::BLOCKED != 0
    }

    fn register(&self, index: usize) -> u64 {
        self.vcpu.context.lock().state.registers.general[index]
    }

    fn with(&self, exit: Exit, values: &[(usize, u64)]) -> Result<u64, Exception> {
        self.exit_with(exit, |context| set(context, values))
    }

    fn read_msr(&self, number: u32) -> Result<u64, Exception> {
        self.with(Exit::ReadMsr, &[(register::RCX, u64::from(number))])?;
        Ok(self.register(register::RAX) | (self.register(register::RDX) << 32))
    }

    fn write_msr(&self, number: u32, value: u64) -> Result<u64, Exception> {
        let values = [
            (register::RCX, u64::from(number)),
            (register::RAX, value & 0xffff_ffff),
            (register::RDX, value >> 32),
        ];
        self.with(Exit::WriteMsr, &values)
    }

    fn shutdown(&self) -> Option<u8> {
        self.domain.lifecycle.lock().shutdown
    }

    /// Run one instruction that touches `address`.
    fn touch(&self, address: u64, write: bool, code: &[u8], rax: u64) -> Result<u64, Exception> {
        let fault = Exit::StageTwoFault {
            address: GuestAddress(address),
            write,
            fetch: false,
            present: false,
            table_walk: false,
        };
        testing::poke(&self.domain, CODE, code);
        self.with(fault, &[(register::RAX, rax)])
    }
}

fn set(context: &mut FakeVcpu, values: &[(usize, u64)]) {
    for &(index, value) in values {
        context.registers_mut().general[index] = value;
    }
}

fn port(port: u16, size: u8, read: bool) -> PortAccess {
    PortAccess {
        port,
        size,
        read,
        string: false,
        repeat: false,
    }
}

/// How the machine ended, if it did.
fn ending<T>(act: impl FnOnce() -> T) -> Option<Ended> {
    let payload = catch_unwind(AssertUnwindSafe(act)).err()?;
    payload.downcast_ref::<Ended>().copied()
}

#[test]
fn interrupts_and_cache_flushes_pass() {
    let guest = guest(1);
    assert_eq!(guest.exit(Exit::Interrupt), Ok(0));
    assert_eq!(guest.exit(Exit::WriteBackCaches), Ok(2));
    assert_eq!(guest.exit(Exit::Forbidden), Err(UD));
    let debug = Exception {
        vector: 1,
        error_code: None,
    };
    assert_eq!(
        guest.exit(Exit::Exception(debug)),
        Err(debug),
        "an intercepted exception is the guest's own"
    );
    let kinds: Vec<u64> = guest
        .vcpu
        .exits
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect();
    for exit in [
        Exit::Interrupt,
        Exit::WriteBackCaches,
        Exit::Forbidden,
        Exit::Exception(debug),
    ] {
        assert_eq!(kinds[exit.kind()], 1, "{exit:?} is counted");
    }
}

#[test]
fn hypercalls_are_for_kernels_in_64_bit_code() {
    let guest = guest(1);
    let call = [(register::RAX, number::XEN_VERSION), (register::RDI, 0)];
    assert_eq!(guest.with(Exit::Hypercall, &call), Ok(3));
    assert_eq!(guest.register(register::RAX), 0x0004_0011);
    let unknown = [(register::RAX, u64::MAX)];
    assert_eq!(guest.with(Exit::Hypercall, &unknown), Ok(3));
    assert_eq!(guest.register(register::RAX) as i64, Error::ENOSYS.as_result());
    let user = guest.exit_with(Exit::Hypercall, |context| {
        context.state.ss.attributes |= 3 << 5;
        set(context, &call);
    });
    assert_eq!(
        (user, guest.register(register::RAX) as i64),
        (Ok(3), Error::EPERM.as_result())
    );
    let narrow = guest.exit_with(Exit::Hypercall, |context| {
        context.state.ss.attributes &= !(3 << 5);
        context.state.cs.attributes &= !(1 << 9);
        set(context, &call);
    });
    assert_eq!(
        (narrow, guest.register(register::RAX) as i64),
        (Ok(3), Error::ENOSYS.as_result())
    );
}

#[test]
fn cpuid_is_answered_for_the_asker() {
    let guest = guest(1);
    let ask = |leaf: u64| {
        let result = guest.with(
            Exit::CpuId,
            &[(register::RAX, leaf | 7 << 32), (register::RCX, 0)],
        );
        assert_eq!(result, Ok(2));
        [register::RAX, register::RBX, register::RCX, register::RDX].map(|index| guest.register(index))
    };
    assert_eq!(
        ask(0x4000_0000),
        [0x4000_0005, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e]
    );
    assert_eq!(ask(0x4000_0001)[0], 0x0004_0011);
    assert_eq!(ask(0x4000_0004)[2], 1, "its domain");
    assert_eq!(ask(0x4000_0100), [0; 4]);
    assert_eq!(ask(0x1234), [0; 4]);
    assert_eq!(ask(1)[3] >> 9 & 1, 1, "the local APIC");
}

#[test]
fn halting_waits_and_with_interrupts_off_ends_the_domain() {
    let guest = guest(1);
    assert_eq!(guest.exit(Exit::Interrupt), Ok(0));
    assert!(guest.is_blocked());
    // STI; HLT: the shadow ends with the HLT.
    let shadowed = guest.exit_with(Exit::Interrupt, |context| {
        context.set_shadow();
        context.push_exit(Exit::Halt);
    });
    assert!(shadowed.is_ok());
    assert_eq!((guest.shutdown(), guest.is_blocked()), (None, true));
    let _ = guest.exit_with(Exit::Halt, |context| context.set_interrupts_enabled(false));
    assert_eq!(guest.shutdown(), Some(0), "a power-off: that is how Linux ends");
    assert!(!guest.vcpu.is_up());
}

#[test]
fn an_interrupt_that_waits_ends_a_halt() {
    let guest = guest(1);
    guest.write_msr(0x1b, 0xfee0_0d00).expect("x2APIC mode");
    guest.write_msr(0x80f, 0x1ff).expect("enabled");
    assert!(guest.is_blocked());
    guest.vcpu.lapic.post(0x40);
    guest.kernel.unblock(&guest.vcpu);
    guest.kernel.step();
    assert_eq!(guest.vcpu.context.lock().taken, [0x40]);
    guest.vcpu.nmi_pending.store(true, Ordering::SeqCst);
    guest.kernel.unblock(&guest.vcpu);
    guest.kernel.step();
    assert_eq!(guest.vcpu.context.lock().nmis, 1);
    assert!(guest.is_blocked());
}

#[test]
fn triple_faults_end_the_guest_alone() {
    let reboots = guest(1);
    let _ = reboots.exit(Exit::TripleFault);
    assert_eq!(reboots.shutdown(), Some(1));
    let crashes = guest(1);
    crashes.domain.hvm_parameters.lock()[31] = 3;
    let _ = crashes.exit(Exit::TripleFault);
    assert_eq!(crashes.shutdown(), Some(3));
    let refused = guest(1);
    let _ = refused.exit(Exit::Invalid { code: u64::MAX });
    assert_eq!(refused.shutdown(), Some(3));
    // Nothing of it runs again.
    let runs = refused.vcpu.context.lock().runs;
    refused.kernel.unblock(&refused.vcpu);
    refused.kernel.reconsider(&refused.vcpu);
    refused.kernel.step();
    assert_eq!(refused.vcpu.context.lock().runs, runs);
}

#[test]
fn the_privileged_domains_end_is_the_machines() {
    let end = |exit: Exit, options: &str| {
        let mut guest = guest(0);
        guest.kernel.options = crate::options::Options::parse(options);
        ending(|| guest.exit(exit))
    };
    assert_eq!(end(Exit::TripleFault, ""), Some(Ended::Rebooted));
    assert_eq!(end(Exit::TripleFault, "noreboot"), Some(Ended::PoweredOff));
    let off = guest(0);
    let ended = ending(|| off.exit_with(Exit::Halt, |context| context.set_interrupts_enabled(false)));
    assert_eq!(ended, Some(Ended::PoweredOff));
}

#[test]
fn guests_find_nothing_behind_ports() {
    let guest = guest(1);
    for (number, size, ones) in [(0x3f8, 1, 0xff), (0xcf8, 4, 0xffff_ffff), (0x604, 2, 0xffff)] {
        let before = [(register::RAX, 0x1234_5678_0000_0000)];
        guest
            .with(Exit::Port(port(number, size, true)), &before)
            .expect("a read");
        let kept = if size == 4 { 0 } else { 0x1234_5678_0000_0000 };
        assert_eq!(guest.register(register::RAX), kept | ones);
        guest
            .with(
                Exit::Port(port(number, size, false)),
                &[(register::RAX, u64::MAX)],
            )
            .expect("a write");
    }
    guest
        .with(Exit::Port(port(0x42, 1, true)), &[(register::RAX, 0xff)])
        .expect("a read");
    assert_eq!(guest.register(register::RAX), 0, "no timer to wait for");
    let string = PortAccess {
        string: true,
        repeat: true,
        ..port(0x3f8, 1, false)
    };
    assert_eq!(guest.exit(Exit::Port(string)), Err(GP));
    assert_eq!(guest.kernel.machine.take_port_writes(), []);
    assert_eq!(guest.shutdown(), None);
}

#[test]
fn the_privileged_domain_reaches_the_platform_and_its_switches() {
    let dom0 = guest(0);
    dom0.kernel.machine.set_port(0x71, 0x42);
    dom0.with(Exit::Port(port(0x70, 1, false)), &[(register::RAX, 9)])
        .expect("a write");
    dom0.with(Exit::Port(port(0x71, 1, true)), &[(register::RAX, 0)])
        .expect("a read");
    assert_eq!(dom0.register(register::RAX), 0x42);
    dom0.with(Exit::Port(port(0x604, 2, false)), &[(register::RAX, 1)])
        .expect("a write");
    let writes = [
        PortWrite {
            port: 0x70,
            size: 1,
            value: 9,
        },
        PortWrite {
            port: 0x604,
            size: 2,
            value: 1,
        },
    ];
    assert_eq!(dom0.kernel.machine.take_port_writes(), writes);
    // Ports that no one gave it.
    dom0.with(Exit::Port(port(0x3f8, 1, false)), &[(register::RAX, 1)])
        .expect("a write");
    assert_eq!(dom0.kernel.machine.take_port_writes(), []);
    let end = |number: u16, size: u8, value: u64| {
        let dom0 = guest(0);
        ending(|| dom0.with(Exit::Port(port(number, size, false)), &[(register::RAX, value)]))
    };
    assert_eq!(end(0x604, 2, 1 << 13), Some(Ended::PoweredOff));
    assert_eq!(end(0xcf9, 1, 6), Some(Ended::Rebooted));
    assert_eq!(end(0x64, 1, 0xfe), Some(Ended::Rebooted));
    assert_eq!(end(0x64, 1, 0xf0), None);
}

#[test]
fn model_specific_registers_are_those_that_linux_needs() {
    let guest = guest(1);
    for number in [
        0x17,
        0xfe,
        0x179,
        0x200,
        0x250,
        0x2ff,
        0x400,
        0xc001_0010,
        0xc001_0015,
        0xc001_001f,
        0xc001_1029,
    ] {
        assert!(guest.read_msr(number).is_ok(), "{number:#x}");
    }
    for number in [0, 0x1a0, 0x808, 0xc001_0058, 0xc001_1028, 0xc001_0114, u32::MAX] {
        assert_eq!(guest.read_msr(number), Err(GP), "{number:#x}");
        assert_eq!(guest.write_msr(number, 0), Err(GP), "{number:#x}");
    }
    // Kept for the guest.
    for number in [0x174, 0x277, 0xc000_0082, 0xc000_0102] {
        assert_eq!(guest.write_msr(number, 0x0006_0606), Ok(2));
        assert_eq!(guest.read_msr(number), Ok(0x0006_0606));
    }
    assert_eq!(guest.write_msr(0x277, 2), Err(GP), "no such memory type");
    assert_eq!(guest.write_msr(0xc000_0082, 1 << 50), Err(GP), "not canonical");
    assert_eq!(guest.write_msr(0xc000_0103, 1 << 32), Err(GP));
    // Accepted, and not kept: there is no such unit.
    assert_eq!(guest.write_msr(0xc001_0007, 0xffff), Ok(2));
    assert_eq!(guest.read_msr(0xc001_0007), Ok(0));
    guest.kernel.machine.advance(5000);
    assert!(guest.read_msr(0x10).expect("the TSC") >= 5000);
}

#[test]
fn efer_has_the_bits_that_are_offered() {
    let guest = guest(1);
    assert_eq!(guest.read_msr(0xc000_0080), Ok(0x500));
    assert_eq!(guest.write_msr(0xc000_0080, 0xd01), Ok(2));
    assert_eq!(guest.read_msr(0xc000_0080), Ok(0xd01));
    assert_eq!(
        guest.write_msr(0xc000_0080, 1 << 12),
        Err(GP),
        "virtualisation is not offered"
    );
    guest.vcpu.context.lock().state.cr0 |= 1 << 31;
    // The walk of page tables would need some; only the leaving of long mode is asked here.
    assert_eq!(guest.write_msr(0xc000_0080, 0x401), Err(GP), "not while it pages");
}

#[test]
fn the_hypercall_page_is_written() {
    let guest = guest(1);
    assert_eq!(guest.write_msr(0x4000_0000, 0x3000), Ok(2));
    let code = testing::peek::<[u8; 9]>(&guest.domain, 0x3000 + 32 * 32);
    assert_eq!(code, [0xb8, 32, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3]);
    for value in [0x3001, 8 << 12, u64::MAX << 12] {
        assert_eq!(guest.write_msr(0x4000_0000, value), Err(GP));
    }
    let read_only = Permissions {
        write: false,
        ..Permissions::ALL
    };
    guest
        .domain
        .physmap
        .protect(&guest.kernel.machine, GuestFrame(4), read_only)
        .expect("memory there");
    assert_eq!(guest.write_msr(0x4000_0000, 0x4000), Err(GP));
}

#[test]
fn extended_control_is_bounded_by_the_policy() {
    let guest = guest(1);
    let write = |index: u64, value: u64| {
        let values = [
            (register::RCX, index),
            (register::RAX, value & 0xffff_ffff),
            (register::RDX, value >> 32),
        ];
        guest.with(Exit::SetExtendedControl, &values)
    };
    assert_eq!(write(0, 7), Ok(3));
    assert_eq!(guest.vcpu.context.lock().extended_control(), 7);
    for (index, value) in [(0, 0), (0, 6), (0, 5), (0, 0xff), (1, 7), (0, 1 << 62 | 1)] {
        assert_eq!(write(index, value), Err(GP), "register {index}, value {value:#x}");
    }
    guest.vcpu.context.lock().state.ss.attributes |= 3 << 5;
    assert_eq!(write(0, 1), Err(GP), "kernels only");
}

/// mov eax, [rbx]; mov [rbx], eax; and others, by their bytes.
const LOAD: &[u8] = &[0x8b, 0x03];
const STORE: &[u8] = &[0x89, 0x03];

#[test]
fn the_local_apic_is_in_its_page() {
    let guest = guest(1);
    let at = |offset: u32| lapic::DEFAULT_BASE + u64::from(offset);
    assert_eq!(
        guest.touch(at(lapic::register::VERSION), false, LOAD, u64::MAX),
        Ok(2)
    );
    assert_eq!(guest.register(register::RAX), 0x0005_0014);
    assert_eq!(
        guest.touch(at(lapic::register::SPURIOUS_VECTOR), true, STORE, 0x1ff),
        Ok(2)
    );
    assert_eq!(
        guest.vcpu.lapic.read(lapic::register::SPURIOUS_VECTOR, 0),
        Ok(0x1ff)
    );
    // movzx eax, byte [rbx] sees a part; or [rbx], eax changes some bits; xchg returns what was there.
    assert_eq!(
        guest.touch(
            at(lapic::register::SPURIOUS_VECTOR),
            false,
            &[0x0f, 0xb6, 0x03],
            0
        ),
        Ok(3)
    );
    assert_eq!(guest.register(register::RAX), 0xff);
    let priority = at(lapic::register::TASK_PRIORITY);
    assert_eq!(
        guest.touch(priority, true, &[0xc7, 0x03, 0x20, 0, 0, 0], 0),
        Ok(6)
    );
    assert_eq!(guest.touch(priority, true, &[0x09, 0x03], 0x10), Ok(2));
    assert_eq!(guest.touch(priority, true, &[0x87, 0x03], 0x40), Ok(2));
    assert_eq!(guest.register(register::RAX), 0x30);
    assert_eq!(guest.vcpu.lapic.cr8(), 4);
    // As MSRs only after the switch.
    assert_eq!(guest.read_msr(0x802), Err(GP));
    assert_eq!(guest.write_msr(0x1b, 0xfee0_0d00), Ok(2));
    assert_eq!(guest.read_msr(0x803), Ok(0x0005_0014));
    assert_eq!(guest.write_msr(0x80b, 1), Err(GP), "completion takes zero only");
    assert_eq!(guest.touch(at(lapic::register::VERSION), false, LOAD, 0), Ok(2));
    assert_eq!(
        guest.register(register::RAX),
        0xffff_ffff,
        "the page is gone then"
    );
}

#[test]
fn holes_read_as_ones() {
    let guest = guest(1);
    assert_eq!(guest.touch(0xfed0_0000, false, LOAD, 0), Ok(2));
    assert_eq!(guest.register(register::RAX), 0xffff_ffff);
    // mov rax, [rbx]; movsx rax, byte [rbx]; test [rbx], eax
    assert_eq!(guest.touch(0xfed0_0000, false, &[0x48, 0x8b, 0x03], 0), Ok(3));
    assert_eq!(guest.register(register::RAX), u64::MAX);
    assert_eq!(
        guest.touch(0xfed0_0000, false, &[0x48, 0x0f, 0xbe, 0x03], 0),
        Ok(4)
    );
    assert_eq!(guest.register(register::RAX), u64::MAX);
    assert_eq!(guest.touch(0xfed0_0000, false, &[0x85, 0x03], 1 << 31), Ok(2));
    assert!(
        guest.vcpu.context.lock().state.registers.rflags & (1 << 7) != 0,
        "the sign"
    );
    assert_eq!(guest.touch(0xfed0_0000, true, STORE, 5), Ok(2));
    assert_eq!(guest.touch(io_apic::BASE, false, LOAD, 0), Ok(2));
    assert_eq!(
        guest.register(register::RAX),
        0xffff_ffff,
        "no I/O APIC for guests"
    );
    // A string copy, a floating-point load, garbage: not carried out.
    for code in [
        &[0xf3, 0xa4][..],
        &[0xd9, 0x03],
        &[0xff; 15],
        &[0x0f, 0x0b],
        &[0xc5, 0xf8, 0x28, 0x03],
    ] {
        assert_eq!(guest.touch(0xfed0_0000, false, code, 0), Err(UD), "{code:02x?}");
    }
    // Saved by the processor, so not fetched.
    let saved = guest.exit_with(
        Exit::StageTwoFault {
            address: GuestAddress(0xfed0_0000),
            write: false,
            fetch: false,
            present: false,
            table_walk: false,
        },
        |context| {
            context.instruction = LOAD.to_vec();
            set(context, &[(register::RAX, 0)]);
        },
    );
    assert_eq!((saved, guest.register(register::RAX)), (Ok(2), 0xffff_ffff));
}

#[test]
fn faults_on_memory_are_tried_again_or_forbidden() {
    let guest = guest(1);
    let fault = |frame: u64, write: bool, fetch: bool, present: bool, table_walk: bool| Exit::StageTwoFault {
        address: GuestAddress(frame << 12),
        write,
        fetch,
        present,
        table_walk,
    };
    assert_eq!(
        guest.exit(fault(2, true, false, false, false)),
        Ok(0),
        "mapped meanwhile"
    );
    let read_only = Permissions {
        write: false,
        ..Permissions::ALL
    };
    guest
        .domain
        .physmap
        .protect(&guest.kernel.machine, GuestFrame(3), read_only)
        .expect("memory there");
    assert_eq!(
        guest.exit(fault(3, true, false, true, false)),
        Err(GP),
        "a read-only page"
    );
    assert_eq!(guest.shutdown(), None);
    let _ = guest.exit(fault(100, false, true, false, false));
    assert_eq!(guest.shutdown(), Some(3), "no code in holes");
    let walker = self::guest(1);
    let _ = walker.exit(fault(100, false, false, false, true));
    assert_eq!(walker.shutdown(), Some(3), "no page tables in holes");
}

#[test]
fn a_store_of_a_segment_register_is_not_taken_for_one_of_a_general_register() {
    // mov [rax], ds: among the segment registers ds has the number that rbx has among the others.
    let guest = guest(1);
    assert_eq!(guest.touch(0xfed0_0000, true, &[0x8c, 0x18], 0), Err(UD));
    assert_eq!(guest.touch(0xfed0_0000, true, &[0x89, 0x18], 0), Ok(2));
}

#[test]
fn an_instruction_that_touches_no_memory_reads_no_device() {
    // movsxd ecx, esp and movzx ecx, dl, put there by another processor after the fault.
    let guest = guest(1);
    for code in [&[0x63u8, 0xcc][..], &[0x0f, 0xb6, 0xca]] {
        let before = guest.register(register::RCX);
        assert_eq!(guest.touch(0xfed0_0000, false, code, 0), Err(UD));
        assert_eq!(guest.register(register::RCX), before);
    }
}

#[test]
fn an_instruction_without_code_is_an_invalid_one() {
    let guest = guest(1);
    let fault = Exit::StageTwoFault {
        address: GuestAddress(0xfed0_0000),
        write: false,
        fetch: false,
        present: false,
        table_walk: false,
    };
    let result = guest.exit_with(fault, |context| context.state.registers.rip = 0x7fff_f000);
    assert_eq!(result, Err(UD));
    // The end of what is mapped cuts the fetch short, not the instruction.
    testing::poke(&guest.domain, 0x7ffe, &[0x8bu8, 0x03]);
    let result = guest.exit_with(fault, |context| {
        context.state.registers.rip = 0x7ffe;
        set(context, &[(register::RAX, 0)]);
    });
    assert!(result.is_ok());
    assert_eq!(guest.register(register::RAX), 0xffff_ffff);
}

#[test]
fn the_privileged_domain_programs_lines() {
    let dom0 = guest(0);
    dom0.write_msr(0x1b, 0xfee0_0d00).expect("x2APIC mode");
    dom0.write_msr(0x80f, 0x1ff).expect("enabled");
    let select = |register: u64| dom0.touch(io_apic::BASE, true, STORE, register).expect("a store");
    let write = |register: u64, value: u64| {
        select(register);
        dom0.touch(io_apic::BASE + 0x10, true, STORE, value)
            .expect("a store");
    };
    let read = |register: u64| {
        select(register);
        dom0.touch(io_apic::BASE + 0x10, false, LOAD, 0).expect("a load");
        dom0.register(register::RAX)
    };
    assert_eq!(read(1), 0x11 | 23 << 16);
    assert_eq!((read(0), read(2)), (0, 0));
    assert_eq!(read(0x10 + 2 * 9), 1 << 16, "masked at first");
    assert_eq!(read(0x10 + 2 * 24), 0, "no such pin");
    assert_eq!(dom0.kernel.machine.route(9), None);
    // Line 9: level-triggered, vector 0x39, to vCPU 0.
    write(0x11 + 2 * 9, 0);
    write(0x10 + 2 * 9, 0x39 | 1 << 15);
    let (mode, processor) = dom0.kernel.machine.route(9).expect("routed");
    assert_eq!((mode.level, mode.active_low, processor), (true, false, 0));
    assert!(dom0.kernel.machine.raise_line(9));
    dom0.kernel.step();
    assert_eq!(dom0.vcpu.context.lock().taken, [0x39]);
    assert_eq!(read(0x10 + 2 * 9), 0x39 | 1 << 15 | 1 << 14, "it is being served");
    assert_eq!(dom0.kernel.machine.take_completed_lines(), []);
    dom0.write_msr(0x80b, 0).expect("completion");
    assert_eq!(dom0.kernel.machine.take_completed_lines(), [9]);
    assert_eq!(read(0x10 + 2 * 9), 0x39 | 1 << 15);
    // Line 4: an edge completes at once; masked, it is routed no more.
    write(0x10 + 2 * 4, 0x34);
    assert!(dom0.kernel.machine.raise_line(4));
    dom0.kernel.step();
    assert_eq!(dom0.kernel.machine.take_completed_lines(), [4]);
    write(0x10 + 2 * 4, 0x34 | 1 << 16);
    assert_eq!(dom0.kernel.machine.route(4), None);
    // Beyond the end: swallowed.
    write(0xff, 5);
    write(0x10 + 2 * 24, 5);
}

#[test]
fn moves_to_dr7_that_exit_are_carried_out() {
    let guest = guest(1);
    let exit = |code: &[u8], rbx: u64, cr4: u64| {
        testing::poke(&guest.domain, CODE, code);
        guest.exit_with(Exit::SetBreakpoints, |context| {
            context.state.cr4 = context.state.cr4 & !(1 << 3) | cr4;
            set(context, &[(register::RBX, rbx)]);
        })
    };
    let dr7 = || guest.vcpu.context.lock().state.dr7;
    assert_eq!(exit(&[0x0f, 0x23, 0xfb], 0x700, 0), Ok(3)); // mov dr7, rbx
    assert_eq!(dr7(), 0x700);
    assert_eq!(exit(&[0x66, 0x0f, 0x23, 0xeb], 0x600, 0), Ok(4)); // mov dr5, rbx, with a prefix
    assert_eq!(dr7(), 0x600);
    assert_eq!(
        exit(&[0x0f, 0x23, 0xeb], 0x700, 1 << 3),
        Err(UD),
        "with debug extensions there is no DR5"
    );
    assert_eq!(
        exit(&[0x0f, 0x23, 0xfb], 1 << 32, 0),
        Err(GP),
        "the upper half is reserved"
    );
    // Another vCPU has changed the code since: nothing is done, and the guest tries again.
    assert_eq!(exit(&[0x90, 0x90, 0x90], 0x700, 0), Ok(0));
    assert_eq!(dr7(), 0x600);
}
