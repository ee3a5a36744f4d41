//! Operations and state of hardware-assisted guests (`hvm/hvm_op.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub mod param;
pub mod save;
pub mod vcpu_context;

pub use vcpu_context::VcpuContext;

use crate::DomainId;

/// Sub-operations of `hvm_op`.
pub mod op {
    /// Set a parameter ([`super::Param`]).
    #[doc(alias = "HVMOP_set_param")]
    pub const SET_PARAM: u32 = 0;
    /// Read a parameter ([`super::Param`]).
    #[doc(alias = "HVMOP_get_param")]
    pub const GET_PARAM: u32 = 1;
    /// Moved to dm_op.
    #[doc(alias = "HVMOP_set_pci_intx_level")]
    pub const SET_PCI_INTX_LEVEL: u32 = 2;
    /// Moved to dm_op.
    #[doc(alias = "HVMOP_set_isa_irq_level")]
    pub const SET_ISA_IRQ_LEVEL: u32 = 3;
    /// Moved to dm_op.
    #[doc(alias = "HVMOP_set_pci_link_route")]
    pub const SET_PCI_LINK_ROUTE: u32 = 4;
    /// Flush the TLBs of all vCPUs.
    #[doc(alias = "HVMOP_flush_tlbs")]
    pub const FLUSH_TLBS: u32 = 5;
    /// Hint for shadow paging ([`super::PagetableDying`]).
    #[doc(alias = "HVMOP_pagetable_dying")]
    pub const PAGETABLE_DYING: u32 = 9;
    /// System time ([`super::GetTime`]).
    #[doc(alias = "HVMOP_get_time")]
    pub const GET_TIME: u32 = 10;
    /// A guest's trace record.
    #[doc(alias = "HVMOP_xentrace")]
    pub const XENTRACE: u32 = 11;
    /// Removed.
    #[doc(alias = "HVMOP_set_mem_access")]
    pub const SET_MEM_ACCESS: u32 = 12;
    /// Removed.
    #[doc(alias = "HVMOP_get_mem_access")]
    pub const GET_MEM_ACCESS: u32 = 13;
    /// Kind of a guest frame ([`super::GetMemType`]).
    #[doc(alias = "HVMOP_get_mem_type")]
    pub const GET_MEM_TYPE: u32 = 15;
    /// A vCPU's vector for events ([`super::EventUpcallVector`]).
    #[doc(alias = "HVMOP_set_evtchn_upcall_vector")]
    pub const SET_EVTCHN_UPCALL_VECTOR: u32 = 23;
    /// Introspection.
    #[doc(alias = "HVMOP_guest_request_vm_event")]
    pub const GUEST_REQUEST_VM_EVENT: u32 = 24;
    /// Alternate physmaps.
    #[doc(alias = "HVMOP_altp2m")]
    pub const ALTP2M: u32 = 25;
}

/// Argument of the parameter operations.
#[doc(alias = "xen_hvm_param")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Param {
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: u16,
    /// See [`param`].
    pub index: u32,
    /// Its value.
    pub value: u64,
}

/// Argument of [`op::PAGETABLE_DYING`].
#[doc(alias = "xen_hvm_pagetable_dying")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PagetableDying {
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: [u16; 3],
    /// The table's top level.
    #[doc(alias = "gpa")]
    pub guest_physical_address: u64,
}

/// Argument of [`op::GET_TIME`].
#[doc(alias = "xen_hvm_get_time")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetTime {
    /// Out: nanoseconds.
    pub now: u64,
}

/// Argument of [`op::GET_MEM_TYPE`].
#[doc(alias = "xen_hvm_get_mem_type")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetMemType {
    /// Whose.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Out: see [`memory_type`].
    #[doc(alias = "mem_type")]
    pub memory_type: u16,
    /// Padding: zero.
    #[doc(alias = "pad")]
    pub _padding: [u16; 2],
    /// Which frame.
    #[doc(alias = "pfn")]
    pub guest_frame: u64,
}

/// Answers of [`op::GET_MEM_TYPE`].
pub mod memory_type {
    /// Memory.
    #[doc(alias = "HVMMEM_ram_rw")]
    pub const RAM_READ_WRITE: u16 = 0;
    /// Memory whose writes are dropped.
    #[doc(alias = "HVMMEM_ram_ro")]
    pub const RAM_READ_ONLY: u16 = 1;
    /// Nothing, or the device model's.
    #[doc(alias = "HVMMEM_mmio_dm")]
    pub const MMIO_DEVICE_MODEL: u16 = 2;
    /// Memory whose writes a device model sees.
    #[doc(alias = "HVMMEM_ioreq_server")]
    pub const IOREQ_SERVER: u16 = 4;
}

/// Argument of [`op::SET_EVTCHN_UPCALL_VECTOR`].
#[doc(alias = "xen_hvm_evtchn_upcall_vector")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EventUpcallVector {
    /// Which vCPU.
    pub vcpu: u32,
    /// From 16 on.
    pub vector: u8,
    /// Padding: zero.
    pub _padding: [u8; 3],
}
