//! Yield, block, poll, shut down; and the two short families of the privileged domain, console and platform.

use core::sync::atomic::Ordering;

use hypercall_abi::console;
use hypercall_abi::hypercall::number::{CONSOLE_IO, PLATFORM_OP, SCHED_OP};
use hypercall_abi::platform::{self, PhysicalCpuInfo, PlatformOp, SetTime32, SetTime64, cpu_flag};
use hypercall_abi::sched::*;
use hypercall_abi::{DomainId, Error, GuestHandle};
use machine::fake::set_processor;
use zerocopy::{Immutable, IntoBytes};

use crate::testing::{self, TestDomain, TestKernel};
use crate::vcpu::stop;

const ARGUMENT: u64 = 0x100;
const PORTS: u64 = 0x200;
const PAGES: u64 = 4;

struct Two {
    kernel: TestKernel,
    control: TestDomain,
    guest: TestDomain,
}

fn two() -> Two {
    set_processor(0);
    let kernel = testing::kernel();
    let control = testing::domain(&kernel, 0, 1, PAGES);
    let guest = testing::domain(&kernel, 1, 1, PAGES);
    Two {
        kernel,
        control,
        guest,
    }
}

impl Two {
    fn call<T: IntoBytes + Immutable>(&self, caller: &TestDomain, operation: u32, value: &T) -> i64 {
        testing::poke(caller, ARGUMENT, value);
        let arguments = [u64::from(operation), ARGUMENT];
        testing::hypercall(&self.kernel, &testing::vcpu(caller, 0), SCHED_OP, &arguments)
    }

    fn stops(&self) -> u32 {
        self.guest.vcpus[0].stops.load(Ordering::SeqCst)
    }

    fn platform(&self, caller: &TestDomain, request: &PlatformOp) -> (i64, PlatformOp) {
        testing::poke(caller, ARGUMENT, request);
        let result = testing::hypercall(&self.kernel, &testing::vcpu(caller, 0), PLATFORM_OP, &[ARGUMENT]);
        (result, testing::peek(caller, ARGUMENT))
    }
}

fn platform_op(command: u32) -> PlatformOp {
    PlatformOp {
        command,
        interface_version: platform::INTERFACE_VERSION,
        ..PlatformOp::default()
    }
}

fn poll(ports: u32, timeout: u64) -> Poll {
    Poll {
        ports: GuestHandle::new(PORTS),
        number_of_ports: ports,
        timeout,
        ..Poll::default()
    }
}

#[test]
fn blocking_ends_with_an_event_and_is_none_when_one_waits() {
    let two = two();
    let vcpu = testing::vcpu(&two.guest, 0);
    assert_eq!(two.call(&two.guest, op::YIELD, &0u64), 0);
    assert_eq!(two.stops(), 0);
    assert_eq!(two.call(&two.guest, op::BLOCK, &0u64), 0);
    assert_eq!(two.stops(), stop::BLOCKED);
    two.kernel.unblock(&vcpu);
    assert_eq!(two.stops(), 0);
    vcpu.nmi_pending.store(true, Ordering::SeqCst);
    assert_eq!(two.call(&two.guest, op::BLOCK, &0u64), 0);
    assert_eq!(two.stops(), 0);
}

#[test]
fn polls_end_with_their_port_or_their_time() {
    let two = two();
    let port = two
        .kernel
        .allocate_unbound(&two.guest, DomainId(0))
        .expect("a port");
    testing::poke(&two.guest, PORTS, &port);
    assert_eq!(two.call(&two.guest, op::POLL, &poll(1, 0)), 0);
    assert_eq!(two.stops(), stop::POLLING);
    let remote = two
        .kernel
        .bind_interdomain(&two.control, &two.guest, port)
        .expect("a port");
    two.kernel.send_event(&two.control, remote).expect("an event");
    assert_eq!(two.stops(), 0, "the event ended it");
    assert_eq!(two.call(&two.guest, op::POLL, &poll(1, 0)), 0);
    assert_eq!(two.stops(), 0, "it waits already");

    // By time, with no port at all.
    assert_eq!(two.call(&two.guest, op::POLL, &poll(0, 1000)), 0);
    assert_eq!(two.stops(), stop::POLLING);
    two.kernel.machine.advance(999);
    two.kernel.serve_interrupts();
    assert_eq!(two.stops(), stop::POLLING);
    two.kernel.machine.advance(1);
    two.kernel.serve_interrupts();
    assert_eq!(two.stops(), 0);

    testing::poke(&two.guest, PORTS, &[999_999, port]);
    assert_eq!(
        two.call(&two.guest, op::POLL, &poll(2, 0)),
        Error::EINVAL.as_result(),
        "no such port"
    );
    assert_eq!(
        two.call(&two.guest, op::POLL, &poll(129, 0)),
        Error::EINVAL.as_result()
    );
    let hole = Poll {
        ports: GuestHandle::new(PAGES << 12),
        ..poll(1, 0)
    };
    assert_eq!(two.call(&two.guest, op::POLL, &hole), Error::EFAULT.as_result());
    assert_eq!(two.stops(), 0, "a refused poll waits for nothing");
}

#[test]
fn an_old_timeout_does_not_end_a_new_poll() {
    let two = two();
    let vcpu = testing::vcpu(&two.guest, 0);
    assert_eq!(two.call(&two.guest, op::POLL, &poll(0, 1000)), 0);
    two.kernel.unblock(&vcpu);
    let port = two
        .kernel
        .allocate_unbound(&two.guest, DomainId(0))
        .expect("a port");
    testing::poke(&two.guest, PORTS, &port);
    assert_eq!(two.call(&two.guest, op::POLL, &poll(1, 0)), 0);
    two.kernel.machine.advance(5000);
    two.kernel.serve_interrupts();
    assert_eq!(two.stops(), stop::POLLING);
}

#[test]
fn a_domain_shuts_itself_down_and_the_privileged_one_others() {
    let two = two();
    let remote = |domain: u16| RemoteShutdown {
        domain: DomainId(domain),
        reason: 1,
        ..RemoteShutdown::default()
    };
    assert_eq!(
        two.call(&two.guest, op::REMOTE_SHUTDOWN, &remote(0)),
        Error::EPERM.as_result()
    );
    assert_eq!(
        two.call(&two.control, op::REMOTE_SHUTDOWN, &remote(9)),
        Error::ESRCH.as_result()
    );
    assert_eq!(
        two.call(&two.guest, op::WATCHDOG, &[0u64; 2]),
        Error::ENOSYS.as_result()
    );
    // The reason that was announced first is the one that counts.
    for reason in [3, 2] {
        assert_eq!(two.call(&two.guest, op::SHUTDOWN_CODE, &Shutdown { reason }), 0);
    }
    assert_eq!(two.guest.lifecycle.lock().shutdown, None);
    assert_eq!(two.call(&two.control, op::REMOTE_SHUTDOWN, &remote(1)), 0);
    assert_eq!(two.guest.lifecycle.lock().shutdown, Some(3));
    assert!(two.stops() & stop::SHUTDOWN != 0);
    let fault = [u64::from(op::SHUTDOWN), PAGES << 12];
    let caller = testing::vcpu(&two.guest, 0);
    assert_eq!(
        testing::hypercall(&two.kernel, &caller, SCHED_OP, &fault),
        Error::EFAULT.as_result()
    );
}

#[test]
fn the_console_is_the_privileged_domains() {
    let two = two();
    let call = |caller: &TestDomain, operation: u32, count: u64, buffer: u64| {
        let arguments = [u64::from(operation), count, buffer];
        testing::hypercall(&two.kernel, &testing::vcpu(caller, 0), CONSOLE_IO, &arguments)
    };
    testing::poke(&two.control, 0x1000, b"hello".as_slice());
    assert_eq!(call(&two.control, console::op::WRITE, 5, 0x1000), 0);
    assert_eq!(two.kernel.machine.take_console(), b"hello");
    assert_eq!(
        call(&two.guest, console::op::WRITE, 5, 0x1000),
        Error::EPERM.as_result()
    );
    assert_eq!(
        call(&two.control, console::op::WRITE, u64::from(u32::MAX), 0x1000),
        Error::EINVAL.as_result()
    );
    assert_eq!(
        call(&two.control, console::op::WRITE, 5, PAGES << 12),
        Error::EFAULT.as_result()
    );
    assert_eq!(call(&two.control, 7, 5, 0x1000), Error::ENOSYS.as_result());
    two.kernel.machine.type_console(b"abc");
    two.kernel.serve_interrupts();
    assert_eq!(call(&two.control, console::op::READ, 2, 0x1000), 2);
    assert_eq!(call(&two.control, console::op::READ, 9, 0x1002), 1);
    assert_eq!(testing::peek::<[u8; 3]>(&two.control, 0x1000), *b"abc");
    assert_eq!(call(&two.control, console::op::READ, 9, 0x1000), 0);
}

#[test]
fn the_wall_clock_is_set_for_all() {
    let two = two();
    let set = |seconds: u64, reserved: u32| {
        let mut request = platform_op(platform::op::SET_TIME64);
        let view = SetTime64 {
            seconds,
            nanoseconds: 5,
            system_time: 0,
            _reserved: reserved,
        };
        request.set_view(&view);
        request
    };
    assert_eq!(two.platform(&two.guest, &set(9, 0)).0, Error::EPERM.as_result());
    assert_eq!(
        two.platform(&two.control, &set(9, 1)).0,
        Error::EOPNOTSUPP.as_result()
    );
    assert_eq!(two.platform(&two.control, &set(9, 0)).0, 0);
    let clock = *two.kernel.wall_clock.lock();
    assert_eq!((clock.seconds, clock.nanoseconds), (9, 5));
    let mut old = platform_op(platform::op::SET_TIME32);
    old.set_view(&SetTime32 {
        seconds: 11,
        nanoseconds: 0,
        system_time: 1_000_000_000,
    });
    assert_eq!(two.platform(&two.control, &old).0, 0);
    assert_eq!(two.kernel.wall_clock.lock().seconds, 10);
    let page = &two.guest.shared_info;
    let wall = core::mem::offset_of!(hypercall_abi::xen::SharedInfo, wc_version);
    assert_eq!(page.load_u32(wall + 4), Ok(10));
}

#[test]
fn processors_are_counted_and_firmware_is_silent() {
    let two = two();
    let ask = |cpu: u32| {
        let mut request = platform_op(platform::op::GET_CPU_INFO);
        request.set_view(&PhysicalCpuInfo {
            cpu,
            ..PhysicalCpuInfo::default()
        });
        let (result, reply) = two.platform(&two.control, &request);
        assert_eq!(result, 0);
        reply.view::<PhysicalCpuInfo>()
    };
    assert_eq!((ask(1).max_present, ask(1).flags), (1, cpu_flag::ONLINE));
    assert_eq!(ask(2).flags, cpu_flag::INVALID);
    for command in [platform::op::FIRMWARE_INFO, 64] {
        assert_eq!(
            two.platform(&two.control, &platform_op(command)).0,
            Error::ENOSYS.as_result()
        );
    }
    let mut request = platform_op(platform::op::GET_CPU_INFO);
    request.interface_version = 1;
    assert_eq!(two.platform(&two.control, &request).0, Error::EACCES.as_result());
}
