//! Event channels of others: sends to every port, binds to everybody, and the doors of dom0's daemons without end.
#![no_std]
#![no_main]

use guests::attack::{self, Attacker};
use guests::console::parameter;
use guests::{Page, hypercall, shared};
use hypercall_abi::DomainId;
use hypercall_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, ExpandArray, InitControl, SetPriority,
    Status, Unmask, op,
};
use hypercall_abi::hypercall::number::EVENT_CHANNEL_OP;

guests::micro_guest!(main);

const STORE_PORT: u32 = 2;
const CONSOLE_PORT: u32 = 18;
/// Domains that may be there: dom0, the neighbour, ourselves, those who are not.
const DOMAINS: [u16; 10] = [0, 1, 2, 3, 4, 5, 0x7ff0, 0x7ff1, 0x7ff2, 0x7ff4];

/// Pages that the FIFO's words may be put in.
static WORDS: [Page; 4] = [const { Page::new() }; 4];

fn main(_: u64) -> ! {
    attack::both("events", round)
}

fn round(attacker: &mut Attacker) {
    for _ in 0..16 {
        if attacker.random.one_in(2) {
            flood(attacker);
        } else {
            ask(attacker);
        }
    }
    attacker.done(16);
}

/// Sends: to the daemons, to what may be open, to anything.
fn flood(attacker: &mut Attacker) {
    let port = match attacker.random.below(6) {
        0 | 1 => parameter(STORE_PORT) as u32,
        2 => parameter(CONSOLE_PORT) as u32,
        3 => attacker.random.below(131_072) as u32,
        4 => attacker.random.number() as u32,
        _ => attacker.random.below(64) as u32,
    };
    shared::send(port);
}

fn call<T: zerocopy::IntoBytes>(operation: u32, mut argument: T) -> i64 {
    hypercall::with(EVENT_CHANNEL_OP, operation, &mut argument)
}

fn ask(attacker: &mut Attacker) {
    let random = &mut attacker.random;
    let domain = DomainId(random.pick(&DOMAINS));
    let remote = DomainId(random.pick(&DOMAINS));
    let vcpu = random.pick(&[0, 1, 2, u32::MAX]);
    let port = match random.below(3) {
        0 => random.number() as u32,
        _ => random.below(256) as u32,
    };
    // The first ports are the daemons': they shall be flooded, not closed.
    let own_port = port.max(16);
    let refused_for_others = match random.below(13) {
        0 | 1 => {
            let result = call(
                op::ALLOC_UNBOUND,
                AllocUnbound {
                    domain,
                    remote_domain: remote,
                    ..AllocUnbound::default()
                },
            );
            (domain.0 < 6 && domain.0 != own_domain()).then_some(("a port in another domain", result))
        }
        2..=4 => {
            let mut request = BindInterdomain {
                remote_domain: domain,
                remote_port: port,
                ..BindInterdomain::default()
            };
            let result = hypercall::with(EVENT_CHANNEL_OP, op::BIND_INTERDOMAIN, &mut request);
            if result == 0 {
                shared::send(request.local_port);
            }
            None
        }
        5 => {
            let virq = random.below(32) as u32;
            call(
                op::BIND_VIRQ,
                BindVirq {
                    virq,
                    vcpu,
                    ..BindVirq::default()
                },
            );
            None
        }
        6 => {
            call(
                op::BIND_IPI,
                BindIpi {
                    vcpu,
                    ..BindIpi::default()
                },
            );
            None
        }
        7 => {
            call(op::CLOSE, Close { port: own_port });
            None
        }
        8 => {
            let result = call(
                op::STATUS,
                Status {
                    domain,
                    port,
                    ..Status::default()
                },
            );
            (domain.0 < 6 && domain.0 != own_domain()).then_some(("another's status", result))
        }
        9 => {
            call(op::UNMASK, Unmask { port });
            call(op::BIND_VCPU, BindVcpu { port, vcpu });
            None
        }
        10 => {
            let priority = random.below(20) as u32;
            call(op::SET_PRIORITY, SetPriority { port, priority });
            None
        }
        11 => {
            let frame = random.pick(&[WORDS[0].frame(), WORDS[1].frame(), 0, 0xa0, 0xfee00, u64::MAX]);
            call(op::EXPAND_ARRAY, ExpandArray { array_frame: frame });
            None
        }
        _ => {
            let control_frame = random.pick(&[WORDS[2].frame(), WORDS[3].frame(), 0xfee00, u64::MAX]);
            let offset = random.pick(&[0, 8, 0xff8, 4]);
            call(
                op::INIT_CONTROL,
                InitControl {
                    control_frame,
                    offset,
                    vcpu,
                    ..InitControl::default()
                },
            );
            scribble(attacker);
            None
        }
    };
    if let Some((what, 0)) = refused_for_others {
        attacker.got_through(format_args!("{what}, in domain {}", domain.0));
    }
}

/// Garbage where the FIFO's words would be.
fn scribble(attacker: &mut Attacker) {
    let page = attacker.random.below(4) as usize;
    for offset in (0..256).step_by(4) {
        WORDS[page].write(offset, attacker.random.next() as u32);
    }
}

/// This domain's number, as the hypervisor's CPUID leaf tells.
fn own_domain() -> u16 {
    core::arch::x86_64::__cpuid_count(0x4000_0004, 0).ecx as u16
}
