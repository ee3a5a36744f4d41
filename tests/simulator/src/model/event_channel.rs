//! Event channels: ports, and the 2-level ABI's bitmaps in the shared page.

use hypercall_abi::event_channel::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, ExpandArray, InitControl,
    Reset, Send, SetPriority, Status, TWO_LEVEL_CHANNELS, Unmask, fifo as abi, op, status,
};
use hypercall_abi::xen::virq;
use hypercall_abi::{DomainId, Error};

use super::fifo::Fifo;
use super::{Answer, DONE, Model};

/// Ports come so many at a time.
const BUCKET: usize = 64;
/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Binding {
    /// Not in use.
    #[default]
    Closed,
    /// Waits for a domain.
    Unbound(u16),
    /// Another domain's port.
    Interdomain(u16, u32),
    /// A virtual interrupt.
    Virq(u32),
    /// An own vCPU.
    Ipi,
}

/// A port.
#[derive(Clone, Copy, Debug, Default)]
pub struct Port {
    /// What it is bound to.
    pub binding: Binding,
    /// The vCPU that it notifies.
    pub vcpu: u32,
    /// FIFO: its queue.
    pub priority: u32,
    /// FIFO: it is pending, and has no event word yet.
    pub deferred: bool,
    /// FIFO: vCPU and queue that it joined last.
    pub last_queue: (u32, u32),
}

/// A domain's ports.
#[derive(Default)]
pub struct Events {
    /// All that exist, closed ones included; number 0 is never used.
    pub ports: Vec<Port>,
    /// The highest that the domain may use.
    pub max_port: u32,
    /// The FIFO ABI, once the domain uses it.
    pub fifo: Option<Fifo>,
}

/// Virtual interrupts of the machine rather than of a vCPU.
fn is_global(number: u32) -> bool {
    !matches!(
        number,
        virq::TIMER | virq::DEBUG | virq::XENOPROF | virq::PERFORMANCE_COUNTER
    )
}

impl Events {
    /// None in use.
    pub fn new(max_port: u32) -> Events {
        Events {
            ports: vec![Port::default(); BUCKET],
            max_port,
            fifo: None,
        }
    }

    /// A port that exists.
    pub fn port(&self, port: u32) -> Result<&Port, Error> {
        self.ports.get(port as usize).ok_or(Error::EINVAL)
    }

    fn is_open(&self, port: u32) -> bool {
        self.port(port).is_ok_and(|port| port.binding != Binding::Closed)
    }

    /// The port of a vCPU's virtual interrupt.
    pub(super) fn virq(&self, vcpu: u32, number: u32) -> Option<u32> {
        let bound =
            |port: &Port| port.binding == Binding::Virq(number) && (is_global(number) || port.vcpu == vcpu);
        self.ports.iter().position(bound).map(|port| port as u32)
    }

    /// Open the lowest port that is free. One that the guest has not taken off its queue yet is not.
    fn open(&mut self, binding: Binding, vcpu: u32) -> Result<u32, Error> {
        let channels = if self.fifo.is_some() {
            abi::CHANNELS
        } else {
            TWO_LEVEL_CHANNELS
        };
        for port in 1..channels.min(self.max_port.saturating_add(1)) {
            if port as usize >= self.ports.len() {
                self.ports.resize(self.ports.len() + BUCKET, Port::default());
            }
            let linked = self.fifo.as_ref().is_some_and(|fifo| fifo.is_linked(port));
            if self.is_open(port) || linked {
                continue;
            }
            self.ports[port as usize] = Port {
                binding,
                vcpu,
                priority: abi::PRIORITY_DEFAULT,
                deferred: false,
                last_queue: self.ports[port as usize].last_queue,
            };
            return Ok(port);
        }
        Err(Error::ENOSPC)
    }
}

impl Model {
    pub(super) fn event_channel_op(&mut self, [operation, argument, ..]: [u64; 6]) -> Answer {
        let me = self.caller.domain;
        match operation as u32 {
            op::SEND => {
                let Send { port } = self.read(argument)?;
                self.send(port)?;
            }
            op::UNMASK => {
                let Unmask { port } = self.read(argument)?;
                self.unmask(port)?;
            }
            op::ALLOC_UNBOUND => {
                let mut request: AllocUnbound = self.read(argument)?;
                let target = self.target(request.domain)?;
                let remote = match request.remote_domain {
                    DomainId::SELF => me,
                    DomainId(remote) => remote,
                };
                request.port = self.at_mut(target).events.open(Binding::Unbound(remote), 0)?;
                let written = self.write(argument, &request);
                self.keep_if(written, target, request.port)?;
            }
            op::BIND_INTERDOMAIN => {
                let mut request: BindInterdomain = self.read(argument)?;
                request.local_port = self.bind_interdomain(request.remote_domain, request.remote_port)?;
                let written = self.write(argument, &request);
                self.keep_if(written, me, request.local_port)?;
            }
            op::BIND_VIRQ => {
                let mut request: BindVirq = self.read(argument)?;
                if request.virq >= virq::COUNT || (is_global(request.virq) && request.vcpu != 0) {
                    return Err(Error::EINVAL.into());
                }
                self.check_vcpu(request.vcpu)?;
                let events = &mut self.me_mut().events;
                if events.virq(request.vcpu, request.virq).is_some() {
                    return Err(Error::EEXIST.into());
                }
                request.port = events.open(Binding::Virq(request.virq), request.vcpu)?;
                let written = self.write(argument, &request);
                self.keep_if(written, me, request.port)?;
            }
            op::BIND_IPI => {
                let mut request: BindIpi = self.read(argument)?;
                self.check_vcpu(request.vcpu)?;
                request.port = self.me_mut().events.open(Binding::Ipi, request.vcpu)?;
                let written = self.write(argument, &request);
                self.keep_if(written, me, request.port)?;
            }
            op::BIND_PIRQ => {
                let _: BindPirq = self.read(argument)?;
                return Err(Error::EINVAL.into());
            }
            op::CLOSE => {
                let Close { port } = self.read(argument)?;
                self.close(me, port)?;
            }
            op::STATUS => {
                let request: Status = self.read(argument)?;
                let target = self.target(request.domain)?;
                let mut answer = self.status(target, request.port)?;
                answer.domain = request.domain;
                self.write(argument, &answer)?;
            }
            op::BIND_VCPU => {
                let BindVcpu { port, vcpu } = self.read(argument)?;
                self.check_vcpu(vcpu)?;
                match self.me().events.port(port)?.binding {
                    Binding::Unbound(_) | Binding::Interdomain(..) => {}
                    Binding::Virq(number) if is_global(number) => {}
                    _ => return Err(Error::EINVAL.into()),
                }
                self.me_mut().events.ports[port as usize].vcpu = vcpu;
            }
            op::RESET => {
                let Reset { domain } = self.read(argument)?;
                let target = self.target(domain)?;
                if target != me && self.at(target).toolstack_pauses == 0 {
                    return Err(Error::EINVAL.into());
                }
                self.close_all_ports(target);
            }
            op::INIT_CONTROL => {
                let mut request: InitControl = self.read(argument)?;
                self.init_control(request.vcpu, request.control_frame, request.offset)?;
                request.link_bits = abi::LINK_BITS as u8;
                self.write(argument, &request)?;
            }
            op::EXPAND_ARRAY => {
                let ExpandArray { array_frame } = self.read(argument)?;
                self.expand_array(array_frame)?;
            }
            op::SET_PRIORITY => {
                let SetPriority { port, priority } = self.read(argument)?;
                let events = &mut self.me_mut().events;
                events.port(port)?;
                if events.fifo.is_none() {
                    return Err(Error::ENOSYS.into());
                }
                if !events.is_open(port) {
                    return Err(Error::EACCES.into());
                }
                if priority > abi::PRIORITY_MIN {
                    return Err(Error::EINVAL.into());
                }
                events.ports[port as usize].priority = priority;
            }
            _ => return Err(Error::ENOSYS.into()),
        }
        DONE
    }

    pub(super) fn check_vcpu(&self, vcpu: u32) -> Result<(), Error> {
        if self.me().has_vcpu(vcpu) {
            Ok(())
        } else {
            Err(Error::ENOENT)
        }
    }

    /// A new port whose number could not be told is not kept.
    fn keep_if(&mut self, written: Result<(), Error>, domain: u16, port: u32) -> Result<(), Error> {
        if written.is_err() {
            self.close(domain, port)?;
        }
        written
    }

    fn bind_interdomain(&mut self, remote: DomainId, remote_port: u32) -> Result<u32, Error> {
        let me = self.caller.domain;
        let remote = match remote {
            DomainId::SELF => me,
            id if self.exists(id) => id.0,
            _ => return Err(Error::ESRCH),
        };
        if self.at(remote).events.port(remote_port)?.binding != Binding::Unbound(me) {
            return Err(Error::EINVAL);
        }
        let port = self
            .me_mut()
            .events
            .open(Binding::Interdomain(remote, remote_port), 0)?;
        self.at_mut(remote).events.ports[remote_port as usize].binding = Binding::Interdomain(me, port);
        // The guest looks once: what was sent before is lost.
        self.raise(me, port);
        Ok(port)
    }

    fn send(&mut self, port: u32) -> Result<(), Error> {
        let me = self.caller.domain;
        match self.me().events.port(port)?.binding {
            Binding::Interdomain(remote, peer) => self.raise(remote, peer),
            Binding::Ipi => self.raise(me, port),
            Binding::Unbound(_) => {}
            Binding::Closed | Binding::Virq(_) => return Err(Error::EINVAL),
        }
        Ok(())
    }

    /// Close a port. Its other end waits for this domain again.
    fn close(&mut self, domain: u16, port: u32) -> Result<(), Error> {
        let binding = self.at(domain).events.port(port)?.binding;
        if binding == Binding::Closed {
            return Err(Error::EINVAL);
        }
        self.clear_pending(domain, port);
        let slot = &mut self.at_mut(domain).events.ports[port as usize];
        (slot.binding, slot.vcpu, slot.deferred) = (Binding::Closed, 0, false);
        if let Binding::Interdomain(remote, peer) = binding {
            self.at_mut(remote).events.ports[peer as usize].binding = Binding::Unbound(domain);
        }
        Ok(())
    }

    /// Close all ports, and go back to the 2-level ABI.
    pub(super) fn close_all_ports(&mut self, domain: u16) {
        for port in 0..self.at(domain).events.ports.len() as u32 {
            let _ = self.close(domain, port);
        }
        self.at_mut(domain).events.fifo = None;
    }

    fn status(&self, domain: u16, port: u32) -> Result<Status, Error> {
        let slot = self.at(domain).events.port(port)?;
        let mut answer = Status {
            port,
            vcpu: slot.vcpu,
            ..Status::default()
        };
        answer.status = match slot.binding {
            Binding::Closed => status::CLOSED,
            Binding::Unbound(remote) => {
                answer.set_remote(DomainId(remote), 0);
                status::UNBOUND
            }
            Binding::Interdomain(remote, port) => {
                answer.set_remote(DomainId(remote), port);
                status::INTERDOMAIN
            }
            Binding::Virq(number) => {
                answer.set_interrupt(number);
                status::VIRQ
            }
            Binding::Ipi => status::IPI,
        };
        Ok(answer)
    }

    /// A port's state, for comparison.
    pub fn port_status(&self, domain: u16, port: u32) -> Option<Status> {
        let answer = self.status(domain, port).ok()?;
        Some(Status {
            domain: DomainId(domain),
            ..answer
        })
    }
}
