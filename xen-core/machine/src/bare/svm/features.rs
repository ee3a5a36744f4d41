//! What this processor's SVM can do, and why it may not be usable.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use super::processor_state::efer;
use crate::memory::OutOfMemory;

/// Why no guest can run on a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsupported {
    /// CPUID does not report SVM.
    NoSvm,
    /// Firmware has switched SVM off (VM_CR.SVMDIS).
    DisabledByFirmware,
    /// No nested paging.
    NoNestedPaging,
    /// No memory for the per-processor areas.
    OutOfMemory,
}

impl From<OutOfMemory> for Unsupported {
    fn from(_: OutOfMemory) -> Self {
        Unsupported::OutOfMemory
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsupported::NoSvm => "the processor has no AMD-V (SVM)",
            Unsupported::DisabledByFirmware => "AMD-V (SVM) is switched off in the firmware's settings",
            Unsupported::NoNestedPaging => "the processor's AMD-V has no nested paging",
            Unsupported::OutOfMemory => "no memory for AMD-V's per-processor areas",
        })
    }
}

/// What the processors offer. All of a machine's processors are taken to be alike.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Address space identifiers, 0 (the host's) included.
    pub asids: u32,
    /// Exits save the address of the following instruction.
    pub next_rip: bool,
    /// Stage-two faults save the instruction's bytes.
    pub instruction_bytes: bool,
    /// Parts of the control block can be declared unchanged: the mask of those.
    pub clean: u32,
    /// DEBUGCTL can be the guest's own.
    pub debug_control: bool,
    /// VMRUN honours the interrupt shadow in the control block. Real processors do; some emulators do not, so under
    /// another hypervisor or emulator we keep interrupts from guests in a shadow ourselves.
    pub keeps_shadow: bool,
    /// Leaving a guest switches its breakpoints off. Real processors see to that; an emulator was seen to go on looking for
    /// them, in the core and in other guests, whatever DR7 says by then. There no guest may arm one.
    pub disarms_breakpoints: bool,
    /// Components that XSAVE switches; 0 when there is only FXSAVE.
    pub extended_states: u64,
    /// FXRSTOR and XRSTOR always load the x87 error pointers. Elsewhere those of the guest before would shine through.
    pub restores_error_pointers: bool,
    /// RDTSCP or RDPID: TSC_AUX is visible to guests.
    pub tsc_aux: bool,
    /// Indirect branch predictions can be dropped between guests.
    pub prediction_barrier: bool,
    /// Bits of EFER that a guest's may have.
    pub efer: u64,
    /// Bits of CR4 that a guest's may have.
    pub cr4: u64,
    /// Bits of a physical address.
    pub physical_bits: u32,
    /// Bits of a linear address.
    pub linear_bits: u32,
}

/// x87, SSE, AVX, AVX-512 (three) and protection keys: what we know to switch with XSAVE.
const KNOWN_STATES: u64 = 0x2e7;
/// The save area is one page.
const AREA_LIMIT: u32 = 4096;

impl Features {
    /// Ask the processor.
    ///
    /// # Errors
    /// What is missing; whether firmware allows SVM is asked elsewhere, per processor.
    pub fn detect() -> Result<Features, Unsupported> {
        if __cpuid(0x8000_0000).eax < 0x8000_000a || __cpuid(0x8000_0001).ecx & (1 << 2) == 0 {
            return Err(Unsupported::NoSvm);
        }
        let svm = __cpuid(0x8000_000a);
        if svm.edx & 1 == 0 || svm.ebx < 2 {
            return Err(Unsupported::NoNestedPaging);
        }
        let has = |bit: u32| svm.edx & (1 << bit) != 0;
        let basic = __cpuid(1);
        let extended = __cpuid(0x8000_0001);
        let sizes = __cpuid(0x8000_0008);
        // What CPUID says under another hypervisor or an emulator.
        let emulated = basic.ecx & (1 << 31) != 0;
        Ok(Features {
            asids: svm.ebx,
            next_rip: has(3),
            instruction_bytes: has(7),
            clean: if has(5) { super::vmcb::clean::ALL } else { 0 },
            debug_control: has(1),
            keeps_shadow: !emulated,
            disarms_breakpoints: !emulated,
            extended_states: if basic.ecx & (1 << 26) != 0 {
                switchable_states()
            } else {
                0
            },
            restores_error_pointers: sizes.ebx & (1 << 2) != 0,
            tsc_aux: extended.edx & (1 << 27) != 0,
            prediction_barrier: sizes.ebx & (1 << 12) != 0,
            efer: guest_efer(extended.edx, extended.ecx),
            cr4: guest_cr4(),
            physical_bits: (sizes.eax & 0xff).clamp(36, 52),
            linear_bits: ((sizes.eax >> 8) & 0xff).clamp(48, 57),
        })
    }
}

fn guest_efer(edx: u32, ecx: u32) -> u64 {
    let mut bits = efer::SYSCALL | efer::LONG_MODE_ENABLE | efer::LONG_MODE_ACTIVE;
    if edx & (1 << 20) != 0 {
        bits |= efer::NO_EXECUTE;
    }
    if edx & (1 << 25) != 0 {
        bits |= efer::FAST_FXSAVE;
    }
    if ecx & (1 << 17) != 0 {
        bits |= efer::TRANSLATION_CACHE;
    }
    bits
}

fn guest_cr4() -> u64 {
    let basic = __cpuid(1);
    let structured = if __cpuid(0).eax >= 7 {
        __cpuid_count(7, 0)
    } else {
        __cpuid_count(0x8000_0000, 0)
    };
    let known = __cpuid(0).eax >= 7;
    // VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT.
    let mut bits = 0x7ff;
    let mut add = |present: bool, bit: u32| {
        if present {
            bits |= 1 << bit;
        }
    };
    add(known && structured.ecx & (1 << 2) != 0, 11); // UMIP
    add(known && structured.ecx & (1 << 16) != 0, 12); // LA57
    add(known && structured.ebx & (1 << 0) != 0, 16); // FSGSBASE
    add(basic.ecx & (1 << 17) != 0, 17); // PCIDE
    add(basic.ecx & (1 << 26) != 0, 18); // OSXSAVE
    add(known && structured.ebx & (1 << 7) != 0, 20); // SMEP
    add(known && structured.ebx & (1 << 20) != 0, 21); // SMAP
    add(known && structured.ecx & (1 << 3) != 0, 22); // PKE
    add(known && structured.ecx & (1 << 7) != 0, 23); // CET
    bits
}

/// The components that the processor has, that we know, and that fit into the save area together.
fn switchable_states() -> u64 {
    let main = __cpuid_count(0xd, 0);
    let offered = (u64::from(main.edx) << 32 | u64::from(main.eax)) & KNOWN_STATES;
    let mut states = offered & 3;
    for component in 2..64 {
        if offered & (1 << component) != 0 {
            let place = __cpuid_count(0xd, component);
            if place.ebx.saturating_add(place.eax) <= AREA_LIMIT {
                states |= 1 << component;
            }
        }
    }
    states
}
