//! Physical devices (`physdev.h`), for dom0 and for domains with devices.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::DomainId;

/// Sub-operations of `physdev_op`.
pub mod op {
    /// Obsolete.
    #[doc(alias = "PHYSDEVOP_IRQ_UNMASK_NOTIFY")]
    pub const IRQ_UNMASK_NOTIFY: u32 = 4;
    /// State of an interrupt ([`super::IrqStatusQuery`]).
    #[doc(alias = "PHYSDEVOP_irq_status_query")]
    pub const IRQ_STATUS_QUERY: u32 = 5;
    /// Classic PV only ([`super::SetIopl`]).
    #[doc(alias = "PHYSDEVOP_set_iopl")]
    pub const SET_IOPL: u32 = 6;
    /// Classic PV only.
    #[doc(alias = "PHYSDEVOP_set_iobitmap")]
    pub const SET_IOBITMAP: u32 = 7;
    /// Classic PV dom0: read an I/O APIC ([`super::Apic`]).
    #[doc(alias = "PHYSDEVOP_apic_read")]
    pub const APIC_READ: u32 = 8;
    /// Classic PV dom0: write an I/O APIC ([`super::Apic`]).
    #[doc(alias = "PHYSDEVOP_apic_write")]
    pub const APIC_WRITE: u32 = 9;
    /// Classic PV dom0 ([`super::Irq`]).
    #[doc(alias = "PHYSDEVOP_alloc_irq_vector")]
    pub const ALLOC_IRQ_VECTOR: u32 = 10;
    /// Obsolete.
    #[doc(alias = "PHYSDEVOP_free_irq_vector")]
    pub const FREE_IRQ_VECTOR: u32 = 11;
    /// End of interrupt ([`super::Eoi`]).
    #[doc(alias = "PHYSDEVOP_eoi")]
    pub const EOI: u32 = 12;
    /// Make an interrupt a PIRQ ([`super::MapPirq`]).
    #[doc(alias = "PHYSDEVOP_map_pirq")]
    pub const MAP_PIRQ: u32 = 13;
    /// Undo it ([`super::UnmapPirq`]).
    #[doc(alias = "PHYSDEVOP_unmap_pirq")]
    pub const UNMAP_PIRQ: u32 = 14;
    /// Older form of adding a device ([`super::ManagePci`]).
    #[doc(alias = "PHYSDEVOP_manage_pci_add")]
    pub const MANAGE_PCI_ADD: u32 = 15;
    /// Older form of removing a device ([`super::ManagePci`]).
    #[doc(alias = "PHYSDEVOP_manage_pci_remove")]
    pub const MANAGE_PCI_REMOVE: u32 = 16;
    /// Shared end-of-interrupt page ([`super::PirqEoiFrame`]).
    #[doc(alias = "PHYSDEVOP_pirq_eoi_gmfn_v1")]
    pub const PIRQ_EOI_GMFN_V1: u32 = 17;
    /// After a reset ([`super::ManagePci`]).
    #[doc(alias = "PHYSDEVOP_restore_msi")]
    pub const RESTORE_MSI: u32 = 19;
    /// Older form of adding a device ([`super::ManagePciExt`]).
    #[doc(alias = "PHYSDEVOP_manage_pci_add_ext")]
    pub const MANAGE_PCI_ADD_EXT: u32 = 20;
    /// Trigger and polarity of a line ([`super::SetupGsi`]).
    #[doc(alias = "PHYSDEVOP_setup_gsi")]
    pub const SETUP_GSI: u32 = 21;
    /// A free PIRQ ([`super::GetFreePirq`]).
    #[doc(alias = "PHYSDEVOP_get_free_pirq")]
    pub const GET_FREE_PIRQ: u32 = 23;
    /// A PCI configuration window ([`super::PciMmcfgReserved`]).
    #[doc(alias = "PHYSDEVOP_pci_mmcfg_reserved")]
    pub const PCI_MMCFG_RESERVED: u32 = 24;
    /// dom0 found a device ([`super::PciDeviceAdd`]).
    #[doc(alias = "PHYSDEVOP_pci_device_add")]
    pub const PCI_DEVICE_ADD: u32 = 25;
    /// A device is gone ([`super::PciDevice`]).
    #[doc(alias = "PHYSDEVOP_pci_device_remove")]
    pub const PCI_DEVICE_REMOVE: u32 = 26;
    /// After a reset ([`super::PciDevice`]).
    #[doc(alias = "PHYSDEVOP_restore_msi_ext")]
    pub const RESTORE_MSI_EXT: u32 = 27;
    /// Shared end-of-interrupt page ([`super::PirqEoiFrame`]).
    #[doc(alias = "PHYSDEVOP_pirq_eoi_gmfn_v2")]
    pub const PIRQ_EOI_GMFN_V2: u32 = 28;
    /// USB debug port ([`super::DebugPortOp`]).
    #[doc(alias = "PHYSDEVOP_dbgp_op")]
    pub const DBGP_OP: u32 = 29;
    /// Before MSI-X is handed on ([`super::PciDevice`]).
    #[doc(alias = "PHYSDEVOP_prepare_msix")]
    pub const PREPARE_MSIX: u32 = 30;
    /// After it came back ([`super::PciDevice`]).
    #[doc(alias = "PHYSDEVOP_release_msix")]
    pub const RELEASE_MSIX: u32 = 31;
}

/// Argument of [`op::EOI`].
#[doc(alias = "physdev_eoi")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Eoi {
    /// Which interrupt.
    pub irq: u32,
}

/// Argument of the shared end-of-interrupt operations.
#[doc(alias = "physdev_pirq_eoi_gmfn")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PirqEoiFrame {
    /// Frame of the page.
    #[doc(alias = "gmfn")]
    pub guest_frame: u64,
}

/// Argument of [`op::IRQ_STATUS_QUERY`].
#[doc(alias = "physdev_irq_status_query")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqStatusQuery {
    /// Which interrupt.
    pub irq: u32,
    /// Out: bit 0 needs an end of interrupt, bit 1 shared.
    pub flags: u32,
}

/// Argument of [`op::SET_IOPL`].
#[doc(alias = "physdev_set_iopl")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetIopl {
    /// Privilege level.
    pub iopl: u32,
}

/// Argument of the I/O APIC operations.
#[doc(alias = "physdev_apic")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Apic {
    /// Address of the I/O APIC.
    #[doc(alias = "apic_physbase")]
    pub physical_base: u64,
    /// Register.
    #[doc(alias = "reg")]
    pub register: u32,
    /// In or out.
    pub value: u32,
}

/// Argument of [`op::ALLOC_IRQ_VECTOR`].
#[doc(alias = "physdev_irq")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Irq {
    /// Which interrupt.
    pub irq: u32,
    /// Out.
    pub vector: u32,
}

/// Values of [`MapPirq::kind`].
pub mod pirq_type {
    /// Message.
    #[doc(alias = "MAP_PIRQ_TYPE_MSI")]
    pub const MSI: i32 = 0;
    /// Line.
    #[doc(alias = "MAP_PIRQ_TYPE_GSI")]
    pub const GSI: i32 = 1;
    /// Unknown.
    #[doc(alias = "MAP_PIRQ_TYPE_UNKNOWN")]
    pub const UNKNOWN: i32 = 2;
    /// Message, with the segment in the bus number.
    #[doc(alias = "MAP_PIRQ_TYPE_MSI_SEG")]
    pub const MSI_SEGMENT: i32 = 3;
    /// Several messages.
    #[doc(alias = "MAP_PIRQ_TYPE_MULTI_MSI")]
    pub const MULTI_MSI: i32 = 4;
}

/// Argument of [`op::MAP_PIRQ`].
#[doc(alias = "physdev_map_pirq")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapPirq {
    /// For whom.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// See [`pirq_type`].
    #[doc(alias = "type")]
    pub kind: i32,
    /// Line or vector.
    pub index: i32,
    /// In: wanted, or negative; out: given.
    pub pirq: i32,
    /// PCI bus, with the segment in the upper half for [`pirq_type::MSI_SEGMENT`].
    pub bus: i32,
    /// PCI device and function.
    #[doc(alias = "devfn")]
    pub device_function: i32,
    /// MSI-X entry, or number of messages.
    #[doc(alias = "entry_nr")]
    pub entry: i32,
    /// Padding: zero.
    pub _padding1: u32,
    /// Address of the MSI-X table, or zero for MSI.
    pub table_base: u64,
}

/// Argument of [`op::UNMAP_PIRQ`].
#[doc(alias = "physdev_unmap_pirq")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapPirq {
    /// For whom.
    #[doc(alias = "domid")]
    pub domain: DomainId,
    /// Padding: zero.
    pub _padding: u16,
    /// Which.
    pub pirq: i32,
}

/// Argument of the older PCI operations.
#[doc(alias = "physdev_manage_pci")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ManagePci {
    /// Bus.
    pub bus: u8,
    /// Device and function.
    #[doc(alias = "devfn")]
    pub device_function: u8,
}

/// Argument of [`op::MANAGE_PCI_ADD_EXT`].
#[doc(alias = "physdev_manage_pci_ext")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ManagePciExt {
    /// Bus.
    pub bus: u8,
    /// Device and function.
    #[doc(alias = "devfn")]
    pub device_function: u8,
    /// Padding: zero.
    pub _padding: u16,
    /// Nonzero: an extended function.
    #[doc(alias = "is_extfn")]
    pub is_extended_function: u32,
    /// Nonzero: a virtual function.
    #[doc(alias = "is_virtfn")]
    pub is_virtual_function: u32,
    /// Its physical function.
    #[doc(alias = "physfn.bus")]
    pub physical_function_bus: u8,
    /// Its physical function.
    #[doc(alias = "physfn.devfn")]
    pub physical_function_device: u8,
    /// Padding: zero.
    pub _padding1: u16,
}

/// Argument of [`op::SETUP_GSI`].
#[doc(alias = "physdev_setup_gsi")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetupGsi {
    /// Which line.
    pub gsi: i32,
    /// 0 edge, 1 level.
    pub triggering: u8,
    /// 0 active high, 1 active low.
    pub polarity: u8,
    /// Padding: zero.
    pub _padding: u16,
}

/// Argument of [`op::GET_FREE_PIRQ`].
#[doc(alias = "physdev_get_free_pirq")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetFreePirq {
    /// See [`pirq_type`].
    #[doc(alias = "type")]
    pub kind: i32,
    /// Out.
    pub pirq: u32,
}

/// Argument of [`op::PCI_MMCFG_RESERVED`].
#[doc(alias = "physdev_pci_mmcfg_reserved")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciMmcfgReserved {
    /// Of bus 0.
    pub address: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// Bit 0: the firmware reserved it.
    pub flags: u32,
}

/// Head of the argument of [`op::PCI_DEVICE_ADD`]; optional words follow.
#[doc(alias = "physdev_pci_device_add")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciDeviceAdd {
    /// PCI segment.
    #[doc(alias = "seg")]
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device and function.
    #[doc(alias = "devfn")]
    pub device_function: u8,
    /// See [`pci_device_flag`].
    pub flags: u32,
    /// Its physical function.
    #[doc(alias = "physfn.bus")]
    pub physical_function_bus: u8,
    /// Its physical function.
    #[doc(alias = "physfn.devfn")]
    pub physical_function_device: u8,
    /// Padding: zero.
    pub _padding: u16,
}

/// Bits of [`PciDeviceAdd::flags`].
pub mod pci_device_flag {
    /// An extended function.
    #[doc(alias = "XEN_PCI_DEV_EXTFN")]
    pub const EXTENDED_FUNCTION: u32 = 1;
    /// A virtual function.
    #[doc(alias = "XEN_PCI_DEV_VIRTFN")]
    pub const VIRTUAL_FUNCTION: u32 = 2;
    /// The first optional word is the NUMA proximity.
    #[doc(alias = "XEN_PCI_DEV_PXM")]
    pub const PROXIMITY: u32 = 4;
}

/// A PCI function.
#[doc(alias = "physdev_pci_device")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciDevice {
    /// PCI segment.
    #[doc(alias = "seg")]
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device and function.
    #[doc(alias = "devfn")]
    pub device_function: u8,
}

/// Argument of [`op::DBGP_OP`].
#[doc(alias = "physdev_dbgp_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DebugPortOp {
    /// 1 before a reset, 2 after it.
    #[doc(alias = "op")]
    pub operation: u8,
    /// 0 unknown, 1 PCI.
    pub bus: u8,
    /// The controller.
    #[doc(alias = "u")]
    pub pci: PciDevice,
}
