//! Model-specific registers that exit: what each reads as, which writes are allowed, #GP for all others.
//!
//! Offered is what a PVH Linux was seen to need on real Xen, no more: the local APIC's, those that hardware keeps for the
//! guest, and a few that must read as something harmless.

use hypercall_abi::hypercall::PAGE_ENTRY_SIZE;
use machine::Machine;
use machine::address::{GuestFrame, PAGE_SIZE};
use machine::virtual_cpu::{Exception, VirtualCpu, register};

use crate::Kernel;
use crate::cpu_policy::HYPERCALL_PAGE_MSR;
use crate::domain::VcpuHandle;

const APIC_BASE: u32 = 0x1b;
const MICROCODE_REVISION: u32 = 0x8b;
const MTRR_CAPABILITIES: u32 = 0xfe;
const MACHINE_CHECK_CAPABILITIES: u32 = 0x179;
const MACHINE_CHECK_STATUS: u32 = 0x17a;
const MTRR_VARIABLE: core::ops::RangeInclusive<u32> = 0x200..=0x20f;
const MTRR_FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
const MTRR_DEFAULT: u32 = 0x2ff;
const MACHINE_CHECK_BANKS: core::ops::RangeInclusive<u32> = 0x400..=0x407;
const X2APIC: core::ops::RangeInclusive<u32> = 0x800..=0x8ff;
const EFER: u32 = 0xc000_0080;
const PERFORMANCE: core::ops::RangeInclusive<u32> = 0xc001_0000..=0xc001_0007;
const SYSTEM_CONFIGURATION: u32 = 0xc001_0010;
const HARDWARE_CONFIGURATION: u32 = 0xc001_0015;
const NORTH_BRIDGE_CONFIGURATION: u32 = 0xc001_001f;
const PATCH_LOADER: u32 = 0xc001_0020;
const DECODE_CONFIGURATION: u32 = 0xc001_1029;
const TSC: u32 = 0x10;
const TSC_AUX: u32 = 0xc000_0103;
const PLATFORM_ID: u32 = 0x17;

/// EFER bits that a guest may see and set: SCE, LME, LMA (read-only), NXE; FFXSR where the processor has it.
const EFER_OFFERED: u64 = (1 << 0) | (1 << 8) | (1 << 10) | (1 << 11);
const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
const CR0_PAGING: u64 = 1 << 31;
/// LFENCE serialises: the mitigation that Linux wants is on.
const LFENCE_SERIALISES: u64 = 1 << 1;

fn split(value: u64) -> (u64, u64) {
    (value & 0xffff_ffff, value >> 32)
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn read_msr(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        let number = context.registers().general[register::RCX] as u32;
        match self.msr_value(vcpu, context, number) {
            Some(value) => {
                let (low, high) = split(value);
                let registers = context.registers_mut();
                registers.general[register::RAX] = low;
                registers.general[register::RDX] = high;
                context.advance();
            }
            None => context.inject(Exception::GENERAL_PROTECTION),
        }
    }

    fn msr_value(&self, vcpu: &VcpuHandle<M>, context: &M::Vcpu, number: u32) -> Option<u64> {
        match number {
            APIC_BASE => Some(vcpu.lapic.base()),
            EFER => Some(context.efer() & EFER_OFFERED),
            TSC => Some(self.machine.tsc()),
            MICROCODE_REVISION => Some(self.machine.read_host_msr(number).unwrap_or(0)),
            // Eight variable ranges and the fixed ones; write-combining exists.
            MTRR_CAPABILITIES => Some(0x508),
            // The default type is write-back, MTRRs on; PVH guests have nothing to set up there.
            MTRR_DEFAULT => Some(0x806),
            // Everything below 1 MiB is write-back.
            _ if MTRR_FIXED.contains(&number) => Some(0x0606_0606_0606_0606),
            MACHINE_CHECK_CAPABILITIES | MACHINE_CHECK_STATUS | PLATFORM_ID => Some(0),
            SYSTEM_CONFIGURATION | HARDWARE_CONFIGURATION | NORTH_BRIDGE_CONFIGURATION => Some(0),
            DECODE_CONFIGURATION => Some(LFENCE_SERIALISES),
            _ if MTRR_VARIABLE.contains(&number) => Some(0),
            _ if MACHINE_CHECK_BANKS.contains(&number) || PERFORMANCE.contains(&number) => Some(0),
            _ if X2APIC.contains(&number) => {
                if !vcpu.lapic.in_x2apic_mode() {
                    return None;
                }
                vcpu.lapic
                    .read_msr((number - X2APIC.start()) << 4, self.machine.now())
                    .ok()
            }
            _ => context.read_msr(number),
        }
    }

    pub(crate) fn write_msr(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        let general = context.registers().general;
        let number = general[register::RCX] as u32;
        let value = (general[register::RAX] & 0xffff_ffff) | (general[register::RDX] << 32);
        if self.set_msr(vcpu, context, number, value) {
            context.advance();
        } else {
            context.inject(Exception::GENERAL_PROTECTION);
        }
    }

    fn set_msr(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu, number: u32, value: u64) -> bool {
        match number {
            APIC_BASE => vcpu.lapic.set_base(value),
            EFER => set_efer(context, value),
            HYPERCALL_PAGE_MSR => self.install_hypercall_page(vcpu, value),
            // The memory types are fixed; Linux rewrites what it read.
            MTRR_DEFAULT => true,
            _ if MTRR_VARIABLE.contains(&number) || MTRR_FIXED.contains(&number) => true,
            MACHINE_CHECK_STATUS | NORTH_BRIDGE_CONFIGURATION | HARDWARE_CONFIGURATION => true,
            DECODE_CONFIGURATION | MICROCODE_REVISION | PATCH_LOADER => true,
            // There is no performance unit: writes are dropped, the read-back tells the guest.
            _ if MACHINE_CHECK_BANKS.contains(&number) || PERFORMANCE.contains(&number) => true,
            TSC_AUX if value >> 32 != 0 => false,
            _ if X2APIC.contains(&number) => {
                if !vcpu.lapic.in_x2apic_mode() {
                    return false;
                }
                let offset = (number - X2APIC.start()) << 4;
                match vcpu.lapic.write_msr(offset, value, self.machine.now()) {
                    Ok(effect) => {
                        self.apic_effect(vcpu, effect);
                        true
                    }
                    Err(_) => false,
                }
            }
            _ => context.write_msr(number, value),
        }
    }

    /// Fill a page of the guest's with hypercall entries: how guests call that do not know the instruction.
    fn install_hypercall_page(&self, vcpu: &VcpuHandle<M>, value: u64) -> bool {
        // The low twelve bits number the page; there is one.
        if value & 0xfff != 0 {
            return false;
        }
        let Some((page, leaf)) = vcpu.domain().physmap.get(GuestFrame(value >> 12)) else {
            return false;
        };
        if !leaf.permissions.write {
            return false;
        }
        for entry in 0..PAGE_SIZE / PAGE_ENTRY_SIZE {
            // mov $entry, %eax; vmmcall; ret
            let [a, b, c, d] = (entry as u32).to_le_bytes();
            let mut code = [0xcc; PAGE_ENTRY_SIZE];
            code[..9].copy_from_slice(&[0xb8, a, b, c, d, 0x0f, 0x01, 0xd9, 0xc3]);
            if page.write(entry * PAGE_ENTRY_SIZE, &code).is_err() {
                return false;
            }
        }
        true
    }
}

fn set_efer<V: VirtualCpu>(context: &mut V, value: u64) -> bool {
    let before = context.efer();
    let active = before & EFER_LONG_MODE_ACTIVE;
    // LMA is the processor's own; what is written there is ignored when it matches, as on hardware.
    if value & !EFER_OFFERED != 0 {
        return false;
    }
    if context.paging().cr0 & CR0_PAGING != 0 && (value ^ before) & EFER_LONG_MODE_ENABLE != 0 {
        return false;
    }
    context.set_efer((value & !EFER_LONG_MODE_ACTIVE) | active);
    true
}
