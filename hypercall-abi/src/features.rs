//! Feature bits that a domain may ask for (`features.h`), answered by [`crate::version::op::GET_FEATURES`].

/// Page tables need not be read-only.
#[doc(alias = "XENFEAT_writable_page_tables")]
pub const WRITABLE_PAGE_TABLES: u32 = 0;
/// Descriptor tables need not be read-only.
#[doc(alias = "XENFEAT_writable_descriptor_tables")]
pub const WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// The hypervisor translates guest-physical addresses.
#[doc(alias = "XENFEAT_auto_translated_physmap")]
pub const AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// The kernel runs in ring 0.
#[doc(alias = "XENFEAT_supervisor_mode_kernel")]
pub const SUPERVISOR_MODE_KERNEL: u32 = 3;
/// Classic 32-bit PV.
#[doc(alias = "XENFEAT_pae_pgdir_above_4gb")]
pub const PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// Classic PV page table updates keep accessed and dirty bits.
#[doc(alias = "XENFEAT_mmu_pt_update_preserve_ad")]
pub const MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// Classic 32-bit PV.
#[doc(alias = "XENFEAT_highmem_assist")]
pub const HIGHMEM_ASSIST: u32 = 6;
/// Classic PV grant mappings can set available bits.
#[doc(alias = "XENFEAT_gnttab_map_avail_bits")]
pub const GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// Events can come as an interrupt vector.
#[doc(alias = "XENFEAT_hvm_callback_vector")]
pub const HVM_CALLBACK_VECTOR: u32 = 8;
/// Time is usable by hardware-assisted guests.
#[doc(alias = "XENFEAT_hvm_safe_pvclock")]
pub const HVM_SAFE_PVCLOCK: u32 = 9;
/// Physical interrupts can come as events.
#[doc(alias = "XENFEAT_hvm_pirqs")]
pub const HVM_PIRQS: u32 = 10;
/// The caller is the initial domain.
#[doc(alias = "XENFEAT_dom0")]
pub const DOM0: u32 = 11;
/// Memory operations take virtual nodes.
#[doc(alias = "XENFEAT_memory_op_vnode_supported")]
pub const MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// Arm only.
#[doc(alias = "XENFEAT_ARM_SMCCC_supported")]
pub const ARM_SMCCC_SUPPORTED: u32 = 14;
/// ELF note only: the kernel takes the ACPI root from anywhere.
#[doc(alias = "XENFEAT_linux_rsdp_unrestricted")]
pub const LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// The domain's frames are not the host's.
#[doc(alias = "XENFEAT_not_direct_mapped")]
pub const NOT_DIRECT_MAPPED: u32 = 16;
/// The domain's frames are the host's.
#[doc(alias = "XENFEAT_direct_mapped")]
pub const DIRECT_MAPPED: u32 = 17;

/// How many words of features there are.
#[doc(alias = "XENFEAT_NR_SUBMAPS")]
pub const SUBMAPS: u32 = 1;
