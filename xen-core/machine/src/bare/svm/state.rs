//! The whole architectural state: reset, saved for a toolstack, and restored after a check that VMRUN will take it.

use super::features::Features;
use super::msr::{canonical, valid_pat};
use super::processor_state::efer;
use super::vcpu::Vcpu;
use super::vmcb::{SegmentRecord, Vmcb, clean};
use crate::virtual_cpu::{ArchitecturalState, BadState, Registers, Segment, register};

const CR0_PROTECTED: u64 = 1 << 0;
const CR0_NOT_WRITE_THROUGH: u64 = 1 << 29;
const CR0_CACHE_DISABLE: u64 = 1 << 30;
const CR0_PAGING: u64 = 1 << 31;
/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_BITS: u64 = 0xe005_003f;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR4_PAE: u64 = 1 << 5;
const CR4_CET: u64 = 1 << 23;
/// CF, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
const RFLAGS_BITS: u64 = 0x3f_7fd5;
const RFLAGS_ONE: u64 = 1 << 1;
const RFLAGS_VIRTUAL_8086: u64 = 1 << 17;
const CODE_LONG: u16 = 1 << 9;
const CODE_32: u16 = 1 << 10;
const ATTRIBUTES: u16 = 0xfff;

const PAT_AFTER_RESET: u64 = 0x0007_0406_0007_0406;
const DR6_AFTER_RESET: u64 = 0xffff_0ff0;
const DR7_AFTER_RESET: u64 = 0x400;
/// Four breakpoints, local and global, and the watch on the debug registers themselves.
const DR7_ARMED: u64 = 0x20ff;

impl From<SegmentRecord> for Segment {
    fn from(record: SegmentRecord) -> Segment {
        let SegmentRecord {
            selector,
            attributes,
            limit,
            base,
        } = record;
        Segment {
            selector,
            attributes,
            limit,
            base,
        }
    }
}

impl From<Segment> for SegmentRecord {
    fn from(segment: Segment) -> SegmentRecord {
        let Segment {
            selector,
            attributes,
            limit,
            base,
        } = segment;
        SegmentRecord {
            selector,
            attributes: attributes & ATTRIBUTES,
            limit,
            base,
        }
    }
}

/// The state after INIT, as the APM's table 14-1 has it.
pub fn after_reset() -> ArchitecturalState {
    let segment = |attributes, selector, base| Segment {
        selector,
        attributes,
        limit: 0xffff,
        base,
    };
    let data = segment(0x93, 0, 0);
    ArchitecturalState {
        registers: Registers {
            rip: 0xfff0,
            rflags: RFLAGS_ONE,
            ..Registers::default()
        },
        cs: segment(0x9b, 0xf000, 0xffff_0000),
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: segment(0x8b, 0, 0),
        ldtr: segment(0x82, 0, 0),
        gdtr: segment(0, 0, 0),
        idtr: segment(0, 0, 0),
        cr0: CR0_CACHE_DISABLE | CR0_NOT_WRITE_THROUGH | CR0_EXTENSION_TYPE,
        dr6: DR6_AFTER_RESET,
        dr7: DR7_AFTER_RESET,
        pat: PAT_AFTER_RESET,
        ..ArchitecturalState::default()
    }
}

/// Whether a processor can run with this state: VMRUN's own consistency checks and those of the instructions that would
/// have set it.
pub fn check(state: &ArchitecturalState, features: &Features) -> Result<(), BadState> {
    let long = state.efer & efer::LONG_MODE_ENABLE != 0 && state.cr0 & CR0_PAGING != 0;
    let protected = state.cr0 & CR0_PROTECTED != 0;
    let addresses = [
        state.kernel_gs_base,
        state.lstar,
        state.cstar,
        state.sysenter_esp,
        state.sysenter_eip,
    ];
    let sound = state.cr0 & !CR0_BITS == 0
        && (state.cr0 & CR0_PAGING == 0 || protected)
        && (state.cr0 & CR0_NOT_WRITE_THROUGH == 0 || state.cr0 & CR0_CACHE_DISABLE != 0)
        && state.cr3.unbounded_shr(features.physical_bits) == 0
        && state.cr4 & !features.cr4 == 0
        && (state.cr4 & CR4_CET == 0 || state.cr0 & CR0_WRITE_PROTECT != 0)
        && state.efer & !features.efer == 0
        && (state.efer & efer::LONG_MODE_ACTIVE != 0) == long
        && (!long || state.cr4 & CR4_PAE != 0)
        && (!long || state.cs.attributes & (CODE_LONG | CODE_32) != CODE_LONG | CODE_32)
        && (!long || state.registers.rflags & RFLAGS_VIRTUAL_8086 == 0)
        && (!long || canonical(state.registers.rip, features.linear_bits))
        && state.dr6 >> 32 == 0
        && state.dr7 >> 32 == 0
        && valid_pat(state.pat)
        && state.tsc_aux >> 32 == 0
        && addresses
            .iter()
            .all(|&address| canonical(address, features.linear_bits));
    if sound { Ok(()) } else { Err(BadState) }
}

impl Vcpu {
    /// DR7 as the guest may have it: what is always set, and nothing armed where it would stay armed for others.
    pub(super) fn breakpoints_offered(&self, value: u64) -> u64 {
        let offered = if self.features.disarms_breakpoints {
            value
        } else {
            value & !DR7_ARMED
        };
        offered | DR7_AFTER_RESET
    }

    pub(super) fn save_state(&self) -> ArchitecturalState {
        let vmcb = self.vmcb();
        ArchitecturalState {
            registers: self.registers,
            cs: vmcb.cs.into(),
            ds: vmcb.ds.into(),
            es: vmcb.es.into(),
            fs: vmcb.fs.into(),
            gs: vmcb.gs.into(),
            ss: vmcb.ss.into(),
            tr: vmcb.tr.into(),
            ldtr: vmcb.ldtr.into(),
            gdtr: vmcb.gdtr.into(),
            idtr: vmcb.idtr.into(),
            cr0: vmcb.cr0,
            cr2: vmcb.cr2,
            cr3: vmcb.cr3,
            cr4: vmcb.cr4,
            efer: vmcb.efer & !efer::SVM,
            dr6: vmcb.dr6,
            dr7: vmcb.dr7,
            sysenter_cs: vmcb.sysenter_cs,
            sysenter_esp: vmcb.sysenter_esp,
            sysenter_eip: vmcb.sysenter_eip,
            kernel_gs_base: vmcb.kernel_gs_base,
            star: vmcb.star,
            lstar: vmcb.lstar,
            cstar: vmcb.cstar,
            syscall_mask: vmcb.syscall_mask,
            tsc_aux: self.tsc_aux,
            pat: vmcb.pat,
        }
    }

    /// Set a state that [`check`] has passed. Nothing that was on its way into the guest survives.
    pub(super) fn set_state(&mut self, state: &ArchitecturalState) {
        self.registers = state.registers;
        self.registers.rflags = state.registers.rflags & RFLAGS_BITS | RFLAGS_ONE;
        self.tsc_aux = state.tsc_aux;
        self.forget_events();
        let dr7 = self.breakpoints_offered(state.dr7);
        let vmcb = self.vmcb_mut();
        set_segments(vmcb, state);
        vmcb.cr0 = state.cr0 | CR0_EXTENSION_TYPE;
        vmcb.cr2 = state.cr2;
        vmcb.cr3 = state.cr3;
        vmcb.cr4 = state.cr4;
        vmcb.efer = state.efer | efer::SVM;
        vmcb.dr6 = state.dr6;
        vmcb.dr7 = dr7;
        vmcb.rflags = state.registers.rflags;
        vmcb.rip = state.registers.rip;
        vmcb.rax = state.registers.general[register::RAX];
        vmcb.rsp = state.registers.general[register::RSP];
        vmcb.sysenter_cs = state.sysenter_cs;
        vmcb.sysenter_esp = state.sysenter_esp;
        vmcb.sysenter_eip = state.sysenter_eip;
        vmcb.kernel_gs_base = state.kernel_gs_base;
        vmcb.star = state.star;
        vmcb.lstar = state.lstar;
        vmcb.cstar = state.cstar;
        vmcb.syscall_mask = state.syscall_mask;
        vmcb.pat = state.pat;
        vmcb.debug_control = 0;
        vmcb.extended_control = 0;
        vmcb.interrupt_shadow = 0;
        vmcb.exit_code = 0;
        vmcb.supervisor_cet = 0;
        vmcb.shadow_stack_pointer = 0;
        vmcb.interrupt_shadow_stacks = 0;
        self.changed(clean::ALL);
        // Whatever it had translated was in another life.
        self.forget_translations();
    }
}

fn set_segments(vmcb: &mut Vmcb, state: &ArchitecturalState) {
    vmcb.cs = state.cs.into();
    vmcb.ds = state.ds.into();
    vmcb.es = state.es.into();
    vmcb.fs = state.fs.into();
    vmcb.gs = state.gs.into();
    vmcb.ss = state.ss.into();
    vmcb.tr = state.tr.into();
    vmcb.ldtr = state.ldtr.into();
    vmcb.gdtr = state.gdtr.into();
    vmcb.idtr = state.idtr.into();
    // The privilege level has its own field; it is the stack segment's in every mode but the real one, where it is 0.
    let real = state.cr0 & CR0_PROTECTED == 0;
    vmcb.privilege = if real {
        0
    } else {
        ((state.ss.attributes >> 5) & 3) as u8
    };
}
