//! Event channels: the device that delivers them, and the calls that make them for others.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::device;
use crate::error::{Result, failed};
use crate::hypervisor::Hypervisor;
use hypercall_abi::event_channel::{AllocUnbound, Status, op, status};
use hypercall_abi::hypercall::number;
use hypercall_abi::xen::virq;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// One end of an event channel, in the domain that owns it.
#[doc(alias = "evtchn_port_t")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);

/// The hypervisor's own signals to dom0.
#[doc(alias = "VIRQ")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtualInterrupt {
    /// New text in the hypervisor's console ring.
    #[doc(alias = "VIRQ_CON_RING")]
    ConsoleRing = virq::CONSOLE_RING as isize,
    /// A domain shut down, crashed or went away.
    #[doc(alias = "VIRQ_DOM_EXC")]
    DomainException = virq::DOMAIN_EXCEPTION as isize,
}

/// `/dev/xen/evtchn`: ports of this process. Usable with `poll`: readable when an event is pending.
///
/// A port is masked when it has been read from [`pending`](Self::pending), until [`unmask`](Self::unmask).
pub struct EventChannels {
    device: OwnedFd,
}

impl EventChannels {
    /// Opens the driver; ports close with it.
    pub fn open() -> Result<Self> {
        let device = device::open("/dev/xen/evtchn")?;
        rustix::io::ioctl_fionbio(&device, true).map_err(failed("/dev/xen/evtchn"))?;
        Ok(Self { device })
    }

    /// Connects to the unbound port that `remote` holds open for us.
    #[doc(alias = "EVTCHNOP_bind_interdomain")]
    pub fn bind_interdomain(&self, remote: DomainId, remote_port: Port) -> Result<Port> {
        self.bind(
            1,
            "bind interdomain event channel",
            [u32::from(remote.0), remote_port.0],
        )
    }

    /// Receives one of the hypervisor's own signals.
    #[doc(alias = "EVTCHNOP_bind_virq")]
    pub fn bind_virtual_interrupt(&self, interrupt: VirtualInterrupt) -> Result<Port> {
        self.bind(0, "bind virtual interrupt", [interrupt as u32])
    }

    /// Opens a port of ours that `remote` may connect to.
    #[doc(alias = "EVTCHNOP_alloc_unbound")]
    pub fn bind_unbound(&self, remote: DomainId) -> Result<Port> {
        self.bind(2, "open event channel", [u32::from(remote.0)])
    }

    /// Closes a port.
    pub fn unbind(&self, port: Port) -> Result<()> {
        self.simple(3, "close event channel", [port.0]).map(drop)
    }

    /// Signals the other end.
    #[doc(alias = "EVTCHNOP_send")]
    pub fn notify(&self, port: Port) -> Result<()> {
        self.simple(4, "notify event channel", [port.0]).map(drop)
    }

    /// The next port with an event, or nothing. The port stays masked until [`unmask`](Self::unmask).
    pub fn pending(&self) -> Result<Option<Port>> {
        let mut bytes = [0; 4];
        match rustix::io::read(&self.device, &mut bytes) {
            Ok(4) => Ok(Some(Port(u32::from_ne_bytes(bytes)))),
            Ok(_) | Err(Errno::AGAIN) | Err(Errno::INTR) => Ok(None),
            Err(errno) => Err(failed("read event channels")(errno)),
        }
    }

    /// Lets a port that was read deliver events again.
    pub fn unmask(&self, port: Port) -> Result<()> {
        rustix::io::write(&self.device, &port.0.to_ne_bytes()).map_err(failed("unmask event channel"))?;
        Ok(())
    }

    fn bind<const WORDS: usize>(
        &self,
        index: u8,
        operation: &'static str,
        words: [u32; WORDS],
    ) -> Result<Port> {
        self.simple(index, operation, words).map(|port| Port(port as u32))
    }

    fn simple<const WORDS: usize>(
        &self,
        index: u8,
        operation: &'static str,
        mut words: [u32; WORDS],
    ) -> Result<i32> {
        let number = device::number(b'E', index, size_of_val(&words));
        // SAFETY: the driver's structures for these ioctls are exactly these words, and hold no addresses.
        unsafe { device::call(&self.device, number, &mut words) }.map_err(failed(operation))
    }
}

impl AsFd for EventChannels {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// What a port of some domain is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Not in use.
    Closed,
    /// Waiting for `remote` to connect.
    Unbound {
        /// Who may connect.
        remote: DomainId,
    },
    /// Connected.
    Interdomain {
        /// The other end's domain.
        remote: DomainId,
        /// The other end's port there.
        remote_port: Port,
    },
    /// Anything else (virtual or physical interrupt, inter-processor).
    Other(u32),
}

/// A port's state and the virtual CPU it is delivered to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// What it is connected to.
    pub state: ChannelState,
    /// Which virtual CPU gets its events.
    pub vcpu: u32,
}

impl Hypervisor {
    /// Opens a port in `domain` that `remote` may connect to.
    #[doc(alias = "EVTCHNOP_alloc_unbound")]
    pub fn allocate_unbound(&self, domain: DomainId, remote: DomainId) -> Result<Port> {
        let request = AllocUnbound {
            domain,
            remote_domain: remote,
            port: 0,
        };
        self.with_arguments(Arguments::room_for::<AllocUnbound>(1), |arguments| {
            let placed = arguments.place(&request);
            let call = [op::ALLOC_UNBOUND.into(), placed.address];
            // SAFETY: this sub-operation takes this structure.
            unsafe { self.call("open event channel", number::EVENT_CHANNEL_OP, &call) }?;
            Ok(Port(arguments.get(placed).port))
        })
    }

    /// The state of a domain's port.
    #[doc(alias = "EVTCHNOP_status")]
    pub fn event_channel_status(&self, domain: DomainId, port: Port) -> Result<ChannelStatus> {
        let request = Status {
            domain,
            port: port.0,
            ..Status::default()
        };
        let reply = self.with_arguments(Arguments::room_for::<Status>(1), |arguments| {
            let placed = arguments.place(&request);
            let call = [op::STATUS.into(), placed.address];
            // SAFETY: this sub-operation takes this structure.
            unsafe { self.call("event channel status", number::EVENT_CHANNEL_OP, &call) }?;
            Ok(arguments.get(placed))
        })?;
        let remote = reply.remote_domain();
        let state = match reply.status {
            status::CLOSED => ChannelState::Closed,
            status::UNBOUND => ChannelState::Unbound { remote },
            status::INTERDOMAIN => ChannelState::Interdomain {
                remote,
                remote_port: Port(reply.remote_port()),
            },
            other => ChannelState::Other(other),
        };
        Ok(ChannelStatus {
            state,
            vcpu: reply.vcpu,
        })
    }
}
