//! The races that are looked into.

mod domains;
mod events;
mod grants;
mod memory;
mod processors;

use std::sync::Arc;

use hypercall_abi::event_channel::{BindIpi, op as event};
use hypercall_abi::hypercall::number;
use kernel::lapic::register as apic;
use kernel::testing::{self, TestDomain, TestKernel};
use machine::Machine;

use super::{Act, BEGIN, Scene, Sight};

/// All of them.
pub const SCENES: &[Scene] = &[
    Scene {
        name: "a vCPU halts while another sends it an interrupt",
        processors: 2,
        preemptions: 2,
        build: events::halt_and_interrupt,
    },
    Scene {
        name: "a vCPU halts while another sends it an NMI",
        processors: 2,
        preemptions: 1,
        build: events::halt_and_nmi,
    },
    Scene {
        name: "a vCPU blocks while an event comes for it",
        processors: 2,
        preemptions: 2,
        build: events::block_and_event,
    },
    Scene {
        name: "a vCPU polls a port that becomes pending",
        processors: 2,
        preemptions: 2,
        build: events::poll_and_event,
    },
    Scene {
        name: "an interrupt comes while interrupts are off",
        processors: 2,
        preemptions: 1,
        build: events::interrupts_off,
    },
    Scene {
        name: "two domains bind each other's ports",
        processors: 2,
        preemptions: 2,
        build: events::bind_each_other,
    },
    Scene {
        name: "a processor goes idle while another wakes a vCPU",
        processors: 2,
        preemptions: 2,
        build: processors::idle_and_wake,
    },
    Scene {
        name: "a vCPU is moved while a processor takes it on",
        processors: 2,
        preemptions: 2,
        build: processors::move_and_take,
    },
    Scene {
        name: "a timer is set anew while it expires",
        processors: 2,
        preemptions: 1,
        build: processors::expire_and_set,
    },
    Scene {
        name: "a vCPU is taken up while it is put away",
        processors: 2,
        preemptions: 2,
        build: domains::down_and_up,
    },
    Scene {
        name: "an offer is taken back while it is taken up",
        processors: 2,
        preemptions: 2,
        build: grants::offer_taken_back,
    },
    Scene {
        name: "access to a page ends while it is written",
        processors: 2,
        preemptions: 2,
        build: grants::access_ends,
    },
    Scene {
        name: "access to a page ends while a processor further on writes it",
        processors: 3,
        preemptions: 1,
        build: grants::access_ends_further_on,
    },
    Scene {
        name: "a domain gets memory while it is destroyed",
        processors: 2,
        preemptions: 2,
        build: domains::destroy_and_populate,
    },
    Scene {
        name: "a domain gets memory while it is destroyed in pieces",
        processors: 2,
        preemptions: 1,
        build: domains::destroy_in_pieces_and_populate,
    },
    Scene {
        name: "memory is claimed for a domain while it is destroyed",
        processors: 2,
        preemptions: 1,
        build: domains::destroy_and_claim,
    },
    Scene {
        name: "a domain gets a port while it is destroyed",
        processors: 2,
        preemptions: 1,
        build: domains::destroy_and_open,
    },
    Scene {
        name: "a domain with many ports is destroyed",
        processors: 2,
        preemptions: 0,
        build: domains::many_ports_end,
    },
    Scene {
        name: "two vCPUs ask for the last page",
        processors: 2,
        preemptions: 2,
        build: memory::populate_twice,
    },
    Scene {
        name: "a list of calls is changed while it is carried out",
        processors: 2,
        preemptions: 1,
        build: memory::list_changed,
    },
    Scene {
        name: "a guest's tables forbid what the core would write for it",
        processors: 1,
        preemptions: 0,
        build: memory::read_only_tables,
    },
];

/// Pages of each domain.
const PAGES: u64 = 8;
/// What x2APIC mode is, in the register of the APIC's base.
const X2APIC_MODE: u64 = 0xfee0_0c00;
/// x2APIC's register for commands.
const COMMAND: u32 = 0x830;
/// Enabled, and the vector of spurious interrupts.
const ENABLED: u32 = 0x1ff;

/// A domain whose vCPUs take interrupts.
fn domain(kernel: &TestKernel, id: u16, vcpus: u32) -> TestDomain {
    let domain = testing::domain(kernel, id, vcpus, PAGES);
    for vcpu in &domain.vcpus {
        let boot = vcpu.lapic.base() & 0x100;
        assert!(vcpu.lapic.set_base(X2APIC_MODE | boot));
        let enabled = vcpu
            .lapic
            .write_msr(apic::SPURIOUS_VECTOR, u64::from(ENABLED), kernel.machine.now());
        assert!(enabled.is_ok());
    }
    domain
}

/// Send a vCPU of one's own domain an interrupt.
fn send_interrupt(vcpu: u32, vector: u8) -> Act {
    let destination = u64::from(kernel::lapic::apic_id(vcpu)) << 32;
    Act::WriteMsr(COMMAND, destination | 1 << 14 | u64::from(vector))
}

/// A port by which the vCPUs of a domain send one of them an event, with this vector; the argument of the call that sends
/// lies at `address` from then on.
fn interprocessor_port(kernel: &TestKernel, domain: &TestDomain, vcpu: u32, vector: u8, address: u64) -> u32 {
    domain.vcpus[vcpu as usize]
        .upcall_vector
        .store(vector, machine::sync::atomic::Ordering::SeqCst);
    let request = BindIpi { vcpu, port: 0 };
    let (result, answer) = testing::hypercall_with(
        kernel,
        &testing::vcpu(domain, 0),
        number::EVENT_CHANNEL_OP,
        event::BIND_IPI,
        request,
    );
    assert_eq!(result, 0);
    testing::poke(domain, address, &answer.port);
    answer.port
}

/// Send the event of the port that lies at an address.
fn send_event(address: u64) -> Act {
    Act::Call(
        number::EVENT_CHANNEL_OP,
        [u64::from(event::SEND), address, 0, 0, 0, 0],
    )
}

/// The race begins.
fn begin() -> Act {
    Act::Do(Box::new(|sight| sight.flags.set(BEGIN, 1)))
}

/// Work on until the race begins.
fn until_begin() -> Act {
    Act::Until(Box::new(|sight| sight.flags.get(BEGIN) != 0))
}

/// Whether a vector was taken.
fn took(vector: u8) -> Box<dyn Fn(&Sight<'_>) -> bool + Send> {
    Box::new(move |sight| sight.taken.contains(&vector))
}

/// The last call was answered with success.
fn succeeded() -> Act {
    Act::Do(Box::new(|sight| {
        assert_eq!(sight.result, 0, "a call of this scene is refused");
    }))
}

/// Nothing but `vector` was taken, and that once.
fn took_once(vector: u8) -> Act {
    Act::Do(Box::new(move |sight| {
        assert_eq!(sight.taken, [vector], "interrupts that a guest took");
    }))
}

type Kernel = Arc<TestKernel>;
