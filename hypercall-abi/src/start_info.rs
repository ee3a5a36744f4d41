//! What a PVH guest finds at its start (`arch-x86/hvm/start_info.h`): EBX holds the physical address of a
//! [`StartInfo`]. All addresses are guest-physical.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The start information.
#[doc(alias = "hvm_start_info")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`] or lower; the memory map is there from 1 on.
    pub version: u32,
    /// See [`crate::xen::start_flag`].
    pub flags: u32,
    /// Modules.
    #[doc(alias = "nr_modules")]
    pub number_of_modules: u32,
    /// Array of [`Module`].
    #[doc(alias = "modlist_paddr")]
    pub modules_address: u64,
    /// Zero-terminated text, or zero.
    #[doc(alias = "cmdline_paddr")]
    pub command_line_address: u64,
    /// ACPI's root pointer.
    #[doc(alias = "rsdp_paddr")]
    pub rsdp_address: u64,
    /// Array of [`MemoryMapEntry`], or zero.
    #[doc(alias = "memmap_paddr")]
    pub memory_map_address: u64,
    /// Its length.
    #[doc(alias = "memmap_entries")]
    pub memory_map_entries: u32,
    /// Reserved: zero.
    #[doc(alias = "reserved")]
    pub _reserved: u32,
}

/// [`StartInfo::magic`].
#[doc(alias = "XEN_HVM_START_MAGIC_VALUE")]
pub const MAGIC: u32 = 0x336e_c578;

/// [`StartInfo::version`] of this layout.
pub const VERSION: u32 = 1;

/// A module; the first is the initial RAM disk.
#[doc(alias = "hvm_modlist_entry")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Module {
    /// Where it is.
    #[doc(alias = "paddr")]
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Zero-terminated text, or zero.
    #[doc(alias = "cmdline_paddr")]
    pub command_line_address: u64,
    /// Reserved: zero.
    #[doc(alias = "reserved")]
    pub _reserved: u64,
}

/// A range of the memory map.
#[doc(alias = "hvm_memmap_table_entry")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMapEntry {
    /// Start.
    #[doc(alias = "addr")]
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// See [`memory_kind`].
    #[doc(alias = "type")]
    pub kind: u32,
    /// Reserved: zero.
    #[doc(alias = "reserved")]
    pub _reserved: u32,
}

/// Values of [`MemoryMapEntry::kind`].
pub mod memory_kind {
    /// Usable.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_RAM")]
    pub const RAM: u32 = 1;
    /// Not to be touched.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_RESERVED")]
    pub const RESERVED: u32 = 2;
    /// ACPI tables.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_ACPI")]
    pub const ACPI: u32 = 3;
    /// ACPI non-volatile storage.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_NVS")]
    pub const NVS: u32 = 4;
    /// Defective.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_UNUSABLE")]
    pub const UNUSABLE: u32 = 5;
    /// Disabled.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_DISABLED")]
    pub const DISABLED: u32 = 6;
    /// Persistent memory.
    #[doc(alias = "XEN_HVM_MEMMAP_TYPE_PMEM")]
    pub const PERSISTENT: u32 = 7;
}
