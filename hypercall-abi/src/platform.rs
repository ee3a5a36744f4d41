//! The physical platform, for dom0 (`platform.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{GuestHandle, payload};

/// The version that both sides must name; another one is answered with `EACCES`.
#[doc(alias = "XENPF_INTERFACE_VERSION")]
pub const INTERFACE_VERSION: u32 = 0x0300_0001;

/// The argument of every platform call.
#[doc(alias = "xen_platform_op")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlatformOp {
    /// See [`op`].
    #[doc(alias = "cmd")]
    pub command: u32,
    /// [`INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The sub-operation's structure.
    #[doc(alias = "u")]
    pub payload: [u64; 16],
}

impl PlatformOp {
    /// The payload as one of its views.
    pub fn view<T: FromBytes>(&self) -> T {
        payload::read(&self.payload)
    }

    /// Writes a view into the payload.
    pub fn set_view<T: IntoBytes + Immutable>(&mut self, view: &T) {
        payload::write(&mut self.payload, view);
    }
}

/// Sub-operations; where a structure is named it is the payload.
pub mod op {
    /// Set the wall clock ([`super::SetTime32`]).
    #[doc(alias = "XENPF_settime32")]
    pub const SET_TIME32: u32 = 17;
    /// Memory type ranges.
    #[doc(alias = "XENPF_add_memtype")]
    pub const ADD_MEMTYPE: u32 = 31;
    /// Memory type ranges.
    #[doc(alias = "XENPF_del_memtype")]
    pub const DEL_MEMTYPE: u32 = 32;
    /// Memory type ranges.
    #[doc(alias = "XENPF_read_memtype")]
    pub const READ_MEMTYPE: u32 = 33;
    /// Load microcode.
    #[doc(alias = "XENPF_microcode_update")]
    pub const MICROCODE_UPDATE: u32 = 35;
    /// A quirk dom0 knows of.
    #[doc(alias = "XENPF_platform_quirk")]
    pub const PLATFORM_QUIRK: u32 = 39;
    /// A CPU's model ([`super::CpuVersion`]).
    #[doc(alias = "XENPF_get_cpu_version")]
    pub const GET_CPU_VERSION: u32 = 48;
    /// Call the firmware.
    #[doc(alias = "XENPF_efi_runtime_call")]
    pub const EFI_RUNTIME_CALL: u32 = 49;
    /// What the firmware said at boot ([`super::FirmwareInfo`]).
    #[doc(alias = "XENPF_firmware_info")]
    pub const FIRMWARE_INFO: u32 = 50;
    /// Sleep or power off ([`super::EnterAcpiSleep`]).
    #[doc(alias = "XENPF_enter_acpi_sleep")]
    pub const ENTER_ACPI_SLEEP: u32 = 51;
    /// A CPU's frequency changed.
    #[doc(alias = "XENPF_change_freq")]
    pub const CHANGE_FREQ: u32 = 52;
    /// Idle times.
    #[doc(alias = "XENPF_getidletime")]
    pub const GET_IDLE_TIME: u32 = 53;
    /// Power states that ACPI lists.
    #[doc(alias = "XENPF_set_processor_pminfo")]
    pub const SET_PROCESSOR_PM_INFO: u32 = 54;
    /// A CPU's state ([`super::PhysicalCpuInfo`]).
    #[doc(alias = "XENPF_get_cpuinfo")]
    pub const GET_CPU_INFO: u32 = 55;
    /// Bring a CPU up ([`super::CpuOnline`]).
    #[doc(alias = "XENPF_cpu_online")]
    pub const CPU_ONLINE: u32 = 56;
    /// Take a CPU down ([`super::CpuOnline`]).
    #[doc(alias = "XENPF_cpu_offline")]
    pub const CPU_OFFLINE: u32 = 57;
    /// A CPU was added.
    #[doc(alias = "XENPF_cpu_hotadd")]
    pub const CPU_HOTADD: u32 = 58;
    /// Memory was added.
    #[doc(alias = "XENPF_mem_hotadd")]
    pub const MEM_HOTADD: u32 = 59;
    /// Idle CPUs on request.
    #[doc(alias = "XENPF_core_parking")]
    pub const CORE_PARKING: u32 = 60;
    /// Access to MSRs.
    #[doc(alias = "XENPF_resource_op")]
    pub const RESOURCE_OP: u32 = 61;
    /// Set the wall clock ([`super::SetTime64`]).
    #[doc(alias = "XENPF_settime64")]
    pub const SET_TIME64: u32 = 62;
    /// Symbols of the hypervisor.
    #[doc(alias = "XENPF_get_symbol")]
    pub const GET_SYMBOL: u32 = 63;
}

/// Payload of [`op::SET_TIME32`].
#[doc(alias = "xenpf_settime32")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTime32 {
    /// Since 1970.
    #[doc(alias = "secs")]
    pub seconds: u32,
    /// Of the second.
    #[doc(alias = "nsecs")]
    pub nanoseconds: u32,
    /// The system time in ns at which that was so.
    pub system_time: u64,
}

/// Payload of [`op::SET_TIME64`].
#[doc(alias = "xenpf_settime64")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTime64 {
    /// Since 1970.
    #[doc(alias = "secs")]
    pub seconds: u64,
    /// Of the second.
    #[doc(alias = "nsecs")]
    pub nanoseconds: u32,
    /// Reserved: zero.
    #[doc(alias = "mbz")]
    pub _reserved: u32,
    /// The system time in ns at which that was so.
    pub system_time: u64,
}

/// Payload of [`op::GET_CPU_INFO`].
#[doc(alias = "xenpf_pcpuinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysicalCpuInfo {
    /// In: which CPU; out: the next one that exists.
    #[doc(alias = "xen_cpuid")]
    pub cpu: u32,
    /// Out: highest CPU number.
    pub max_present: u32,
    /// Out: see [`cpu_flag`].
    pub flags: u32,
    /// Out.
    pub apic_id: u32,
    /// Out.
    pub acpi_id: u32,
}

/// Bits of [`PhysicalCpuInfo::flags`].
pub mod cpu_flag {
    /// It is up.
    #[doc(alias = "XEN_PCPU_FLAGS_ONLINE")]
    pub const ONLINE: u32 = 1;
    /// There is no such CPU.
    #[doc(alias = "XEN_PCPU_FLAGS_INVALID")]
    pub const INVALID: u32 = 2;
}

/// Payload of [`op::GET_CPU_VERSION`].
#[doc(alias = "xenpf_pcpu_version")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuVersion {
    /// In: which CPU; out: the next one that exists.
    #[doc(alias = "xen_cpuid")]
    pub cpu: u32,
    /// Out: highest CPU number.
    pub max_present: u32,
    /// Out: CPUID's text.
    #[doc(alias = "vendor_id")]
    pub vendor: [u8; 12],
    /// Out.
    pub family: u32,
    /// Out.
    pub model: u32,
    /// Out.
    pub stepping: u32,
}

/// Payload of [`op::CPU_ONLINE`] and [`op::CPU_OFFLINE`].
#[doc(alias = "xenpf_cpu_ol")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuOnline {
    /// Which CPU.
    #[doc(alias = "cpuid")]
    pub cpu: u32,
}

/// Payload of [`op::ENTER_ACPI_SLEEP`].
#[doc(alias = "xenpf_enter_acpi_sleep")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EnterAcpiSleep {
    /// For PM1a control, or the sleep control register.
    #[doc(alias = "val_a")]
    pub value_a: u16,
    /// For PM1b control, or the sleep status register.
    #[doc(alias = "val_b")]
    pub value_b: u16,
    /// 1 to 5.
    pub sleep_state: u32,
    /// [`ACPI_SLEEP_EXTENDED`] or zero.
    pub flags: u32,
}

/// Flag of [`EnterAcpiSleep`]: the values are for the extended sleep registers.
#[doc(alias = "XENPF_ACPI_SLEEP_EXTENDED")]
pub const ACPI_SLEEP_EXTENDED: u32 = 1;

/// Payload of [`op::FIRMWARE_INFO`].
#[doc(alias = "xenpf_firmware_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FirmwareInfo {
    /// See [`firmware`].
    #[doc(alias = "type")]
    pub kind: u32,
    /// Which one of its kind.
    pub index: u32,
    /// Depends on the kind.
    #[doc(alias = "u")]
    pub information: [u64; 4],
}

/// Values of [`FirmwareInfo::kind`].
pub mod firmware {
    /// BIOS disks.
    #[doc(alias = "XEN_FW_DISK_INFO")]
    pub const DISK_INFO: u32 = 1;
    /// Their signatures.
    #[doc(alias = "XEN_FW_DISK_MBR_SIGNATURE")]
    pub const DISK_MBR_SIGNATURE: u32 = 2;
    /// The monitor.
    #[doc(alias = "XEN_FW_VBEDDC_INFO")]
    pub const VBE_DDC_INFO: u32 = 3;
    /// EFI.
    #[doc(alias = "XEN_FW_EFI_INFO")]
    pub const EFI_INFO: u32 = 4;
    /// Shift state of the keyboard.
    #[doc(alias = "XEN_FW_KBD_SHIFT_FLAGS")]
    pub const KEYBOARD_SHIFT_FLAGS: u32 = 5;
}

/// Payload of [`op::MICROCODE_UPDATE`].
#[doc(alias = "xenpf_microcode_update")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MicrocodeUpdate {
    /// The update.
    pub data: GuestHandle<u8>,
    /// Bytes.
    pub length: u32,
    /// Padding: zero.
    pub _padding: u32,
}
