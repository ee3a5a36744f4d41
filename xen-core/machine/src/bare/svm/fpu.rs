//! The guest's floating-point and vector registers.
//!
//! The core is compiled without them, so a loaded vCPU's stay in the processor across its exits. They move only when the
//! vCPU does. While none is loaded XCR0 has every component that we switch: restoring all of them is what keeps one
//! guest's registers from another that enables a component later.

use core::arch::asm;
use core::ptr::NonNull;

use super::features::Features;
use super::instructions;
use crate::address::{HostFrame, Order};
use crate::memory::{Memory, OutOfMemory};

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const AVX_512: u64 = 0xe0;

/// Offsets in the save area.
const X87_CONTROL: usize = 0;
const MXCSR: usize = 24;
const STATES_PRESENT: usize = 512;
/// Everything masked, as after FNINIT and after reset.
const X87_CONTROL_INITIAL: u16 = 0x37f;
const MXCSR_INITIAL: u32 = 0x1f80;

/// The registers while they are not in a processor, and the guest's XCR0.
pub struct Fpu {
    area: NonNull<u8>,
    frame: HostFrame,
    states: u64,
    restores_error_pointers: bool,
    /// XCR0 as the guest has it; while loaded, the processor's is the truth.
    control: u64,
}

impl Fpu {
    /// Registers in their initial state.
    pub fn new(memory: &Memory, features: &Features) -> Result<Fpu, OutOfMemory> {
        let frame = memory.allocate_core(Order::PAGE).ok_or(OutOfMemory)?;
        let area = NonNull::new(memory.pointer(frame.address())).ok_or(OutOfMemory)?;
        let mut fpu = Fpu {
            area,
            frame,
            states: features.extended_states,
            restores_error_pointers: features.restores_error_pointers,
            control: X87,
        };
        fpu.reset();
        Ok(fpu)
    }

    /// The save area's frame, for its owner to free.
    pub fn frame(&self) -> HostFrame {
        self.frame
    }

    /// Back to the initial state. Only while not loaded.
    pub fn reset(&mut self) {
        // SAFETY: the area is a page of ours.
        unsafe {
            self.area.write_bytes(0, crate::address::PAGE_SIZE);
            self.area
                .add(X87_CONTROL)
                .cast::<u16>()
                .write(X87_CONTROL_INITIAL);
            self.area.add(MXCSR).cast::<u32>().write(MXCSR_INITIAL);
            // No component is present in the area: XRSTOR gives all of them their initial values.
            self.area.add(STATES_PRESENT).cast::<u64>().write(0);
        }
        self.control = X87;
    }

    /// XCR0 as the guest has it.
    pub fn control(&self, loaded: bool) -> u64 {
        if loaded && self.states != 0 {
            instructions::read_extended_control()
        } else {
            self.control
        }
    }

    /// Set the guest's XCR0; `false` when the processor would refuse it.
    pub fn set_control(&mut self, value: u64, loaded: bool) -> bool {
        if !valid_control(value, self.states) {
            return false;
        }
        self.control = value;
        if loaded {
            // SAFETY: just checked against what the processor has.
            unsafe { instructions::write_extended_control(value) };
        }
        true
    }

    /// Bring the registers into this processor.
    pub fn load(&mut self) {
        if !self.restores_error_pointers {
            forget_error_pointers();
        }
        let area = self.area.as_ptr();
        // SAFETY: the area is a page of ours, 64-byte aligned, and holds what `reset` or `unload` left there: the
        // restoring instructions accept it. Compiled code of the core uses none of these registers.
        unsafe {
            if self.states == 0 {
                asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
                return;
            }
            asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
            if self.control != self.states {
                instructions::write_extended_control(self.control);
            }
        }
    }

    /// Take the registers back from this processor.
    pub fn unload(&mut self) {
        let area = self.area.as_ptr();
        // SAFETY: the area is a page of ours that is large enough for every component in `states`.
        unsafe {
            if self.states == 0 {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
                return;
            }
            // Not every implementation lets XSETBV exit, so the guest's XCR0 is read back.
            self.control = instructions::read_extended_control();
            if self.control != self.states {
                instructions::write_extended_control(self.states);
            }
            asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
        }
    }
}

/// Processors that keep the x87 error pointers across a restore without a pending exception would show the last guest's
/// to the next: make them ours.
fn forget_error_pointers() {
    let zero = 0u32;
    // SAFETY: changes x87 state only, all of which is loaded next. A pending exception is cleared first.
    unsafe {
        asm!("fnclex", "emms", "fild dword ptr [{}]", in(reg) &raw const zero, options(nostack, preserves_flags))
    };
}

/// XSETBV's own rules, within the components that we switch.
fn valid_control(value: u64, states: u64) -> bool {
    let avx_512 = value & AVX_512;
    value & X87 != 0
        && value & !states == 0
        && (value & AVX == 0 || value & SSE != 0)
        && (avx_512 == 0 || avx_512 == AVX_512 && value & AVX != 0)
}

#[cfg(test)]
mod tests {
    use super::valid_control;

    #[test]
    fn control_values() {
        assert!(valid_control(1, 7) && valid_control(7, 7) && valid_control(0xe7, 0xe7));
        for bad in [0, 2, 5, 0xf, 0x27, 0x1_0000_0007] {
            assert!(!valid_control(bad, 0xe7), "{bad:#x}");
        }
        assert!(!valid_control(1, 0), "without XSAVE there is no XCR0");
    }
}
