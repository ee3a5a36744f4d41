//! ELF notes of guest kernels (`elfnote.h`), under the owner name `Xen`.

/// Owner name of the notes, with its terminator.
pub const OWNER: &[u8; 4] = b"Xen\0";

/// Text of the old format.
#[doc(alias = "XEN_ELFNOTE_INFO")]
pub const INFO: u32 = 0;
/// Classic PV: entry point.
#[doc(alias = "XEN_ELFNOTE_ENTRY")]
pub const ENTRY: u32 = 1;
/// Virtual address of the hypercall page.
#[doc(alias = "XEN_ELFNOTE_HYPERCALL_PAGE")]
pub const HYPERCALL_PAGE: u32 = 2;
/// Classic PV: virtual address of frame 0.
#[doc(alias = "XEN_ELFNOTE_VIRT_BASE")]
pub const VIRT_BASE: u32 = 3;
/// Classic PV: offset of the physical addresses.
#[doc(alias = "XEN_ELFNOTE_PADDR_OFFSET")]
pub const PADDR_OFFSET: u32 = 4;
/// Version the kernel was made for.
#[doc(alias = "XEN_ELFNOTE_XEN_VERSION")]
pub const XEN_VERSION: u32 = 5;
/// Name of the operating system.
#[doc(alias = "XEN_ELFNOTE_GUEST_OS")]
pub const GUEST_OS: u32 = 6;
/// Its version.
#[doc(alias = "XEN_ELFNOTE_GUEST_VERSION")]
pub const GUEST_VERSION: u32 = 7;
/// Loader type.
#[doc(alias = "XEN_ELFNOTE_LOADER")]
pub const LOADER: u32 = 8;
/// Classic 32-bit PV.
#[doc(alias = "XEN_ELFNOTE_PAE_MODE")]
pub const PAE_MODE: u32 = 9;
/// Features as text.
#[doc(alias = "XEN_ELFNOTE_FEATURES")]
pub const FEATURES: u32 = 10;
/// Wants its symbol table.
#[doc(alias = "XEN_ELFNOTE_BSD_SYMTAB")]
pub const BSD_SYMTAB: u32 = 11;
/// Classic PV: lowest address the hypervisor may use.
#[doc(alias = "XEN_ELFNOTE_HV_START_LOW")]
pub const HV_START_LOW: u32 = 12;
/// Classic PV: mask and value of valid entries.
#[doc(alias = "XEN_ELFNOTE_L1_MFN_VALID")]
pub const L1_MFN_VALID: u32 = 13;
/// Knows that a suspend can be cancelled.
#[doc(alias = "XEN_ELFNOTE_SUSPEND_CANCEL")]
pub const SUSPEND_CANCEL: u32 = 14;
/// Classic PV: where the physical-to-machine list goes.
#[doc(alias = "XEN_ELFNOTE_INIT_P2M")]
pub const INIT_P2M: u32 = 15;
/// Classic PV: modules by frame number.
#[doc(alias = "XEN_ELFNOTE_MOD_START_PFN")]
pub const MOD_START_PFN: u32 = 16;
/// Features as a bitmap: [`crate::features`].
#[doc(alias = "XEN_ELFNOTE_SUPPORTED_FEATURES")]
pub const SUPPORTED_FEATURES: u32 = 17;
/// PVH: physical address of the 32-bit entry point.
#[doc(alias = "XEN_ELFNOTE_PHYS32_ENTRY")]
pub const PHYS32_ENTRY: u32 = 18;
/// The highest ordinary note.
#[doc(alias = "XEN_ELFNOTE_MAX")]
pub const MAX: u32 = 18;
