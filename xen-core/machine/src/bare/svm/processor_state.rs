//! What SVM needs on each physical processor: the save areas, its own address space identifiers, and being switched on.

use core::sync::atomic::{AtomicU64, Ordering};

use super::asid::AsidAllocator;
use super::features::{Features, Unsupported};
use super::instructions::{self, msr};
use super::vmcb::Vmcb;
use crate::address::Order;
use crate::memory::{Memory, OutOfMemory};

/// Bits of EFER.
pub mod efer {
    pub const SYSCALL: u64 = 1 << 0;
    pub const LONG_MODE_ENABLE: u64 = 1 << 8;
    pub const LONG_MODE_ACTIVE: u64 = 1 << 10;
    pub const NO_EXECUTE: u64 = 1 << 11;
    pub const SVM: u64 = 1 << 12;
    pub const FAST_FXSAVE: u64 = 1 << 14;
    pub const TRANSLATION_CACHE: u64 = 1 << 15;
}

/// Two pages: one for VMRUN's own use, one for VMSAVE.
const AREAS: Order = Order::new(1).unwrap();
/// VM_CR: SVM is switched off.
const SVM_DISABLED: u64 = 1 << 4;
const CR0_MONITOR: u64 = 1 << 1;
const CR0_EMULATE: u64 = 1 << 2;
const CR0_TASK_SWITCHED: u64 = 1 << 3;
const CR4_FXSAVE: u64 = 1 << 9;
const CR4_SIMD_EXCEPTIONS: u64 = 1 << 10;
const CR4_XSAVE: u64 = 1 << 18;

/// What virtualisation keeps per processor. Only that processor uses it.
#[derive(Default)]
pub struct ProcessorState {
    /// Physical address of the control block that holds the host's own VMSAVE state; 0 until SVM is on. As no two
    /// processors share one it is also how a vCPU knows the processor again that it was on.
    host_area: AtomicU64,
    pub(super) asids: AsidAllocator,
    /// The number of the vCPU that was loaded here last, for the branch prediction barrier.
    pub(super) last_vcpu: AtomicU64,
}

impl ProcessorState {
    /// Physical address of the host's VMSAVE area.
    #[inline]
    pub(super) fn host_area(&self) -> u64 {
        self.host_area.load(Ordering::Relaxed)
    }

    /// Switch SVM on, on the processor that calls and whose state this is. Its GDT, TSS and GS base must be the final
    /// ones: they come back with every exit as they are now. (Called again, it takes note of new ones.)
    ///
    /// # Errors
    /// Why not. Nothing but the FPU's switches has changed then.
    pub fn enable(&self, memory: &Memory, features: &Features) -> Result<(), Unsupported> {
        // SAFETY: VM_CR exists wherever CPUID reports SVM, which `Features` attests.
        if unsafe { instructions::read_msr(msr::VM_CR) } & SVM_DISABLED != 0 {
            return Err(Unsupported::DisabledByFirmware);
        }
        enable_fpu(features);
        if self.host_area() == 0 {
            let areas = memory.allocate_core(AREAS).ok_or(OutOfMemory)?.address().0;
            // SAFETY: SVM exists, and the page is ours forever. NXE serves the nested tables' execute permission.
            unsafe {
                let bits = instructions::read_msr(msr::EFER) | efer::SVM | efer::NO_EXECUTE;
                instructions::write_msr(msr::EFER, bits);
                instructions::write_msr(msr::VM_HSAVE_PA, areas);
            }
            self.host_area
                .store(areas.saturating_add(size_of::<Vmcb>() as u64), Ordering::Relaxed);
            self.asids.set_limit(features.asids);
        }
        // SAFETY: SVM is on, and the area is a page of ours for this processor alone.
        unsafe { instructions::vmsave(self.host_area()) };
        Ok(())
    }
}

/// Make the FPU's instructions usable: the core uses none, but it switches the guests' registers.
fn enable_fpu(features: &Features) {
    let mut cr4 = instructions::read_cr4() | CR4_FXSAVE | CR4_SIMD_EXCEPTIONS;
    if features.extended_states != 0 {
        cr4 |= CR4_XSAVE;
    }
    let cr0 = (instructions::read_cr0() | CR0_MONITOR) & !(CR0_EMULATE | CR0_TASK_SWITCHED);
    // SAFETY: these bits only unlock FPU state, which compiled code of the core does not touch; XCR0 gets components
    // that CPUID reports.
    unsafe {
        instructions::write_cr0(cr0);
        instructions::write_cr4(cr4);
        if features.extended_states != 0 {
            instructions::write_extended_control(features.extended_states);
        }
    }
}
