//! Event channels (`event_channel.h`): ports that carry one bit from one domain, device or virtual interrupt to
//! another. Two ABIs say which ports are pending: the 2-level bitmaps in the shared page, and FIFO queues.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::DomainId;

/// The number of an event channel within its domain. Zero is never valid.
#[doc(alias = "evtchn_port_t")]
pub type Port = u32;

/// Sub-operations of `event_channel_op`.
pub mod op {
    /// Connect to another domain's unbound port ([`super::BindInterdomain`]).
    #[doc(alias = "EVTCHNOP_bind_interdomain")]
    pub const BIND_INTERDOMAIN: u32 = 0;
    /// Receive a virtual interrupt ([`super::BindVirq`]).
    #[doc(alias = "EVTCHNOP_bind_virq")]
    pub const BIND_VIRQ: u32 = 1;
    /// Receive a physical interrupt ([`super::BindPirq`]).
    #[doc(alias = "EVTCHNOP_bind_pirq")]
    pub const BIND_PIRQ: u32 = 2;
    /// Free a port ([`super::Close`]).
    #[doc(alias = "EVTCHNOP_close")]
    pub const CLOSE: u32 = 3;
    /// Notify the other end ([`super::Send`]).
    #[doc(alias = "EVTCHNOP_send")]
    pub const SEND: u32 = 4;
    /// What a port is bound to ([`super::Status`]).
    #[doc(alias = "EVTCHNOP_status")]
    pub const STATUS: u32 = 5;
    /// A new port that a named domain may bind ([`super::AllocUnbound`]).
    #[doc(alias = "EVTCHNOP_alloc_unbound")]
    pub const ALLOC_UNBOUND: u32 = 6;
    /// A port that notifies an own vCPU ([`super::BindIpi`]).
    #[doc(alias = "EVTCHNOP_bind_ipi")]
    pub const BIND_IPI: u32 = 7;
    /// Choose the vCPU that a port notifies ([`super::BindVcpu`]).
    #[doc(alias = "EVTCHNOP_bind_vcpu")]
    pub const BIND_VCPU: u32 = 8;
    /// Unmask, and deliver what was held back ([`super::Unmask`]).
    #[doc(alias = "EVTCHNOP_unmask")]
    pub const UNMASK: u32 = 9;
    /// Close all ports and go back to the 2-level ABI ([`super::Reset`]).
    #[doc(alias = "EVTCHNOP_reset")]
    pub const RESET: u32 = 10;
    /// FIFO ABI: a vCPU's control block ([`super::InitControl`]).
    #[doc(alias = "EVTCHNOP_init_control")]
    pub const INIT_CONTROL: u32 = 11;
    /// FIFO ABI: one more page of event words ([`super::ExpandArray`]).
    #[doc(alias = "EVTCHNOP_expand_array")]
    pub const EXPAND_ARRAY: u32 = 12;
    /// FIFO ABI: a port's queue ([`super::SetPriority`]).
    #[doc(alias = "EVTCHNOP_set_priority")]
    pub const SET_PRIORITY: u32 = 13;
}

/// Argument of [`op::ALLOC_UNBOUND`].
#[doc(alias = "evtchn_alloc_unbound")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllocUnbound {
    /// Who gets the port.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Who may bind it.
    #[doc(alias = "remote_dom")]
    pub remote_domain: DomainId,
    /// Out.
    pub port: Port,
}

/// Argument of [`op::BIND_INTERDOMAIN`].
#[doc(alias = "evtchn_bind_interdomain")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindInterdomain {
    /// Whose port.
    #[doc(alias = "remote_dom")]
    pub remote_domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// The unbound port.
    pub remote_port: Port,
    /// Out.
    pub local_port: Port,
}

/// Argument of [`op::BIND_VIRQ`].
#[doc(alias = "evtchn_bind_virq")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVirq {
    /// See [`crate::xen::virq`].
    pub virq: u32,
    /// Which vCPU; zero for global ones.
    pub vcpu: u32,
    /// Out.
    pub port: Port,
}

/// Argument of [`op::BIND_PIRQ`].
#[doc(alias = "evtchn_bind_pirq")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindPirq {
    /// Which interrupt.
    pub pirq: u32,
    /// [`BIND_PIRQ_WILL_SHARE`] or zero.
    pub flags: u32,
    /// Out.
    pub port: Port,
}

/// Flag of [`BindPirq`]: the line may be shared.
#[doc(alias = "BIND_PIRQ__WILL_SHARE")]
pub const BIND_PIRQ_WILL_SHARE: u32 = 1;

/// Argument of [`op::BIND_IPI`].
#[doc(alias = "evtchn_bind_ipi")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindIpi {
    /// Which vCPU is notified.
    pub vcpu: u32,
    /// Out.
    pub port: Port,
}

/// Argument of [`op::CLOSE`].
#[doc(alias = "evtchn_close")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Close {
    /// Which port.
    pub port: Port,
}

/// Argument of [`op::SEND`].
#[doc(alias = "evtchn_send")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Send {
    /// Which port.
    pub port: Port,
}

/// Argument of [`op::STATUS`].
#[doc(alias = "evtchn_status")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// Whose port.
    #[doc(alias = "dom")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// Which port.
    pub port: Port,
    /// Out: see [`status`].
    pub status: u32,
    /// Out: the vCPU that is notified.
    pub vcpu: u32,
    /// Out: depends on the status; see the accessors.
    #[doc(alias = "u")]
    pub details: [u32; 2],
}

impl Status {
    /// For an unbound port: who may bind it. For an interdomain port: who is at the other end.
    pub const fn remote_domain(&self) -> DomainId {
        DomainId(self.details[0] as u16)
    }

    /// For an interdomain port: the port at the other end.
    pub const fn remote_port(&self) -> Port {
        self.details[1]
    }

    /// For a virtual or physical interrupt: its number.
    pub const fn interrupt(&self) -> u32 {
        self.details[0]
    }

    /// Fills in [`details`](Self::details) for an unbound port (`port` zero) or an interdomain one.
    pub const fn set_remote(&mut self, domain: DomainId, port: Port) {
        self.details = [domain.0 as u32, port];
    }

    /// Fills in [`details`](Self::details) for an interrupt.
    pub const fn set_interrupt(&mut self, number: u32) {
        self.details = [number, 0];
    }
}

/// Values of [`Status::status`].
pub mod status {
    /// Not in use.
    #[doc(alias = "EVTCHNSTAT_closed")]
    pub const CLOSED: u32 = 0;
    /// Waits for the other end.
    #[doc(alias = "EVTCHNSTAT_unbound")]
    pub const UNBOUND: u32 = 1;
    /// Connected to a domain.
    #[doc(alias = "EVTCHNSTAT_interdomain")]
    pub const INTERDOMAIN: u32 = 2;
    /// Bound to a physical interrupt.
    #[doc(alias = "EVTCHNSTAT_pirq")]
    pub const PIRQ: u32 = 3;
    /// Bound to a virtual interrupt.
    #[doc(alias = "EVTCHNSTAT_virq")]
    pub const VIRQ: u32 = 4;
    /// Notifies an own vCPU.
    #[doc(alias = "EVTCHNSTAT_ipi")]
    pub const IPI: u32 = 5;
}

/// Argument of [`op::BIND_VCPU`].
#[doc(alias = "evtchn_bind_vcpu")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVcpu {
    /// Which port.
    pub port: Port,
    /// Which vCPU.
    pub vcpu: u32,
}

/// Argument of [`op::UNMASK`].
#[doc(alias = "evtchn_unmask")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Unmask {
    /// Which port.
    pub port: Port,
}

/// Argument of [`op::RESET`].
#[doc(alias = "evtchn_reset")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reset {
    /// Whose ports.
    #[doc(alias = "dom")]
    pub domain: DomainId,
}

/// Argument of [`op::INIT_CONTROL`].
#[doc(alias = "evtchn_init_control")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitControl {
    /// Guest frame of the control block.
    #[doc(alias = "control_gfn")]
    pub control_frame: u64,
    /// Where in it, a multiple of 8.
    pub offset: u32,
    /// Whose block.
    pub vcpu: u32,
    /// Out: bits of a link, [`fifo::LINK_BITS`].
    pub link_bits: u8,
    /// Padding: zero.
    #[doc(alias = "_pad")]
    pub _padding: [u8; 7],
}

/// Argument of [`op::EXPAND_ARRAY`].
#[doc(alias = "evtchn_expand_array")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExpandArray {
    /// Guest frame of the next page of event words.
    #[doc(alias = "array_gfn")]
    pub array_frame: u64,
}

/// Argument of [`op::SET_PRIORITY`].
#[doc(alias = "evtchn_set_priority")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetPriority {
    /// Which port.
    pub port: Port,
    /// 0 (most urgent) to [`fifo::PRIORITY_MIN`].
    pub priority: u32,
}

/// Ports of the 2-level ABI in a 64-bit domain.
#[doc(alias = "EVTCHN_2L_NR_CHANNELS")]
pub const TWO_LEVEL_CHANNELS: u32 = 4096;

/// The FIFO ABI. Each port has a 32-bit word: three flags, a busy bit and the next port in its queue.
pub mod fifo {
    /// The most urgent queue.
    #[doc(alias = "EVTCHN_FIFO_PRIORITY_MAX")]
    pub const PRIORITY_MAX: u32 = 0;
    /// A port's queue at first.
    #[doc(alias = "EVTCHN_FIFO_PRIORITY_DEFAULT")]
    pub const PRIORITY_DEFAULT: u32 = 7;
    /// The least urgent queue.
    #[doc(alias = "EVTCHN_FIFO_PRIORITY_MIN")]
    pub const PRIORITY_MIN: u32 = 15;
    /// Queues per vCPU.
    #[doc(alias = "EVTCHN_FIFO_MAX_QUEUES")]
    pub const MAX_QUEUES: u32 = 16;
    /// Bit number: the event happened.
    #[doc(alias = "EVTCHN_FIFO_PENDING")]
    pub const PENDING: u32 = 31;
    /// Bit number: the guest holds it back.
    #[doc(alias = "EVTCHN_FIFO_MASKED")]
    pub const MASKED: u32 = 30;
    /// Bit number: the port is in a queue.
    #[doc(alias = "EVTCHN_FIFO_LINKED")]
    pub const LINKED: u32 = 29;
    /// Bit number: the word is being unmasked.
    #[doc(alias = "EVTCHN_FIFO_BUSY")]
    pub const BUSY: u32 = 28;
    /// Width of the link.
    #[doc(alias = "EVTCHN_FIFO_LINK_BITS")]
    pub const LINK_BITS: u32 = 17;
    /// The bits of the link.
    #[doc(alias = "EVTCHN_FIFO_LINK_MASK")]
    pub const LINK_MASK: u32 = (1 << LINK_BITS) - 1;
    /// Most ports of a domain.
    #[doc(alias = "EVTCHN_FIFO_NR_CHANNELS")]
    pub const CHANNELS: u32 = 1 << LINK_BITS;
    /// Event words in a page.
    pub const WORDS_PER_PAGE: u32 = 4096 / 4;
}

/// FIFO ABI: a vCPU's queues. The hypervisor sets a queue's bit in `ready` and, when the queue was empty, its head.
#[doc(alias = "evtchn_fifo_control_block")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FifoControlBlock {
    /// One bit per queue.
    pub ready: u32,
    /// Reserved: zero.
    #[doc(alias = "_rsvd")]
    pub _reserved: u32,
    /// The first port of each queue.
    pub head: [u32; 16],
}
