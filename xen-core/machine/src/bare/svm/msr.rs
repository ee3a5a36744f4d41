//! Model-specific registers that hardware keeps for the guest in its control block.

use super::instructions::{self, msr};
use super::vcpu::Vcpu;
use super::vmcb::{SWITCH_DEBUG_CONTROL, clean};

/// Bits of DEBUGCTL that exist.
const DEBUG_CONTROL_BITS: u64 = 0x3f;

/// Whether `value` is a linear address that a processor with `bits` of them can form.
pub fn canonical(value: u64, bits: u32) -> bool {
    let shift = 64u32.saturating_sub(bits);
    ((value.unbounded_shl(shift)) as i64).unbounded_shr(shift) as u64 == value
}

/// Whether each of the eight memory types in a PAT value exists.
pub fn valid_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .iter()
        .all(|memory_type| matches!(memory_type, 0 | 1 | 4..=7))
}

impl Vcpu {
    pub(super) fn read_kept_msr(&self, number: u32) -> Option<u64> {
        let vmcb = self.vmcb();
        Some(match number {
            msr::SYSENTER_CS => vmcb.sysenter_cs,
            msr::SYSENTER_ESP => vmcb.sysenter_esp,
            msr::SYSENTER_EIP => vmcb.sysenter_eip,
            msr::DEBUG_CONTROL => vmcb.debug_control,
            msr::PAT => vmcb.pat,
            msr::STAR => vmcb.star,
            msr::LSTAR => vmcb.lstar,
            msr::CSTAR => vmcb.cstar,
            msr::SYSCALL_MASK => vmcb.syscall_mask,
            msr::FS_BASE => vmcb.fs.base,
            msr::GS_BASE => vmcb.gs.base,
            msr::KERNEL_GS_BASE => vmcb.kernel_gs_base,
            msr::TSC_AUX if self.features.tsc_aux => self.tsc_aux,
            _ => return None,
        })
    }

    pub(super) fn write_kept_msr(&mut self, number: u32, value: u64) -> bool {
        let address_ok = canonical(value, self.features.linear_bits);
        let vmcb = self.vmcb_mut();
        match number {
            msr::SYSENTER_CS => vmcb.sysenter_cs = value & 0xffff_ffff,
            msr::SYSENTER_ESP if address_ok => vmcb.sysenter_esp = value,
            msr::SYSENTER_EIP if address_ok => vmcb.sysenter_eip = value,
            msr::DEBUG_CONTROL => return self.write_debug_control(value),
            msr::PAT if valid_pat(value) => {
                vmcb.pat = value;
                self.changed(clean::NESTED_PAGING);
            }
            msr::STAR => vmcb.star = value,
            msr::LSTAR if address_ok => vmcb.lstar = value,
            msr::CSTAR if address_ok => vmcb.cstar = value,
            msr::SYSCALL_MASK => vmcb.syscall_mask = value & 0xffff_ffff,
            msr::FS_BASE if address_ok => vmcb.fs.base = value,
            msr::GS_BASE if address_ok => vmcb.gs.base = value,
            msr::KERNEL_GS_BASE if address_ok => vmcb.kernel_gs_base = value,
            msr::TSC_AUX if self.features.tsc_aux && value >> 32 == 0 => self.write_tsc_aux(value),
            _ => return false,
        }
        true
    }

    fn write_tsc_aux(&mut self, value: u64) {
        self.tsc_aux = value;
        if self.loaded() {
            // SAFETY: the register exists, takes 32-bit values, and the core does not use it.
            unsafe { instructions::write_msr(msr::TSC_AUX, value) };
        }
    }

    fn write_debug_control(&mut self, value: u64) -> bool {
        if value & !DEBUG_CONTROL_BITS != 0 || value != 0 && !self.features.debug_control {
            return false;
        }
        let vmcb = self.vmcb_mut();
        vmcb.debug_control = value;
        if value != 0 {
            vmcb.extended_control |= SWITCH_DEBUG_CONTROL;
        } else {
            vmcb.extended_control &= !SWITCH_DEBUG_CONTROL;
        }
        self.changed(clean::DEBUG_CONTROL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_memory_types() {
        assert!(canonical(0x7fff_ffff_ffff, 48) && canonical(0xffff_8000_0000_0000, 48));
        assert!(!canonical(0x8000_0000_0000, 48) && canonical(0x8000_0000_0000, 57));
        assert!(valid_pat(0x0007_0406_0007_0406) && !valid_pat(0x0007_0406_0002_0406));
    }
}
