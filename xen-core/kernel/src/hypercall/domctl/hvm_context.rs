//! A domain's machine state as a string of records: how the toolstack gives a new domain its first instruction.
//!
//! Of Xen's records we write and read the header, the vCPUs' registers and the memory types (which are fixed); a record
//! of a device that is not there is refused when it is set.

use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::domctl::{Domctl, HvmContext};
use hypercall_abi::hvm::save::{Cpu, Descriptor, Header, MAGIC, Mtrr, VERSION, kind};
use machine::Machine;
use machine::virtual_cpu::{ArchitecturalState, Registers, Segment, VirtualCpu, register};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Handled, Reply};
use crate::domain::{Domain, VcpuHandle};
use crate::hypercall::Call;
use crate::vcpu::stop;

/// No context of ours, nor any that we read, is larger.
const MOST_BYTES: u32 = 1 << 20;

fn record<T: IntoBytes + Immutable>(
    into: &mut Vec<u8>,
    kind: u16,
    instance: u16,
    value: &T,
) -> Result<(), Error> {
    let descriptor = Descriptor {
        kind,
        instance,
        length: size_of::<T>() as u32,
    };
    append(into, descriptor.as_bytes())?;
    append(into, value.as_bytes())
}

fn append(into: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Error> {
    into.try_reserve(bytes.len()).map_err(|_| Error::ENOMEM)?;
    into.extend_from_slice(bytes);
    Ok(())
}

pub fn get<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &mut Domctl) -> Handled {
    let mut wanted: HvmContext = request.view();
    if target.id == call.domain().id {
        return Err(Error::EINVAL);
    }
    call.kernel.pause_domain(target);
    let context = collect(call, target);
    call.kernel.unpause_domain(target);
    let context = context?;
    if !wanted.buffer.is_null() {
        if (wanted.size as usize) < context.len() {
            return Err(Error::ENOSPC);
        }
        call.memory().write(wanted.buffer.address(), &context)?;
    }
    wanted.size = context.len() as u32;
    request.set_view(&wanted);
    Ok(Reply::Structure)
}

fn collect<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        changeset: 0,
        cpuid: call.machine().cpuid(1, 0)[0],
        tsc_khz: call.machine().platform().tsc_khz,
    };
    record(&mut bytes, kind::HEADER, 0, &header)?;
    let mut result = Ok(());
    call.kernel.each_vcpu(target, |vcpu| {
        if result.is_ok() {
            let state = vcpu.context.lock().save();
            result = record(&mut bytes, kind::CPU, vcpu.index as u16, &to_record(&state));
        }
    });
    result?;
    let types = Mtrr {
        pat: 0x0007_0406_0007_0406,
        capabilities: 0x508,
        default_type: 0x806,
        ..Mtrr::default()
    };
    for index in 0..target.allotted_vcpus.load(Ordering::SeqCst) {
        record(&mut bytes, kind::MTRR, index as u16, &types)?;
    }
    let nothing: [u8; 0] = [];
    record(&mut bytes, kind::END, 0, &nothing)?;
    Ok(bytes)
}

pub fn set<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    let wanted: HvmContext = request.view();
    if target.id == call.domain().id || wanted.size > MOST_BYTES {
        return Err(Error::EINVAL);
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(wanted.size as usize)
        .map_err(|_| Error::ENOMEM)?;
    bytes.resize(wanted.size as usize, 0);
    call.memory().read(wanted.buffer.address(), &mut bytes)?;
    let states = parse(&bytes, target)?;
    call.kernel.pause_domain(target);
    let result = apply(target, &states);
    call.kernel.unpause_domain(target);
    result.map(|()| Reply::Nothing)
}

/// All records, checked, before any is applied.
fn parse<M: Machine>(
    mut bytes: &[u8],
    target: &Arc<Domain<M>>,
) -> Result<Vec<(VcpuHandle<M>, ArchitecturalState)>, Error> {
    let mut states = Vec::new();
    let mut header = false;
    loop {
        let (descriptor, rest) = Descriptor::read_from_prefix(bytes).map_err(|_| Error::EINVAL)?;
        let body = rest.get(..descriptor.length as usize).ok_or(Error::EINVAL)?;
        bytes = &rest[descriptor.length as usize..];
        match descriptor.kind {
            kind::END => return if header { Ok(states) } else { Err(Error::EINVAL) },
            kind::HEADER => {
                let found = Header::read_from_bytes(body).map_err(|_| Error::EINVAL)?;
                if found.magic != MAGIC || found.version != VERSION {
                    return Err(Error::EINVAL);
                }
                header = true;
            }
            kind::CPU => {
                let cpu = Cpu::read_from_bytes(body).map_err(|_| Error::EINVAL)?;
                let vcpu = VcpuHandle::new(target, u32::from(descriptor.instance)).ok_or(Error::EINVAL)?;
                states.try_reserve(1).map_err(|_| Error::ENOMEM)?;
                states.push((vcpu, from_record(&cpu)));
            }
            // Memory types are fixed: what Xen's toolstack sets is what there is.
            kind::MTRR => {
                Mtrr::read_from_bytes(body).map_err(|_| Error::EINVAL)?;
            }
            _ => return Err(Error::EOPNOTSUPP),
        }
    }
}

fn apply<M: Machine>(
    target: &Arc<Domain<M>>,
    states: &[(VcpuHandle<M>, ArchitecturalState)],
) -> Result<(), Error> {
    if target.is_dying() {
        return Err(Error::EINVAL);
    }
    for (vcpu, state) in states {
        vcpu.context.lock().restore(state).map_err(|_| Error::EINVAL)?;
        vcpu.initialised.store(true, Ordering::SeqCst);
        vcpu.stops.fetch_and(!stop::DOWN, Ordering::SeqCst);
    }
    Ok(())
}

fn from_record(cpu: &Cpu) -> ArchitecturalState {
    let mut registers = Registers {
        rip: cpu.rip,
        rflags: cpu.rflags,
        ..Registers::default()
    };
    registers.general = [
        cpu.rax, cpu.rcx, cpu.rdx, cpu.rbx, cpu.rsp, cpu.rbp, cpu.rsi, cpu.rdi, cpu.r8, cpu.r9, cpu.r10,
        cpu.r11, cpu.r12, cpu.r13, cpu.r14, cpu.r15,
    ];
    let segment = |selector: u32, limit: u32, base: u64, attributes: u32| Segment {
        selector: selector as u16,
        attributes: attributes as u16,
        limit,
        base,
    };
    ArchitecturalState {
        registers,
        cs: segment(cpu.cs_selector, cpu.cs_limit, cpu.cs_base, cpu.cs_attributes),
        ds: segment(cpu.ds_selector, cpu.ds_limit, cpu.ds_base, cpu.ds_attributes),
        es: segment(cpu.es_selector, cpu.es_limit, cpu.es_base, cpu.es_attributes),
        fs: segment(cpu.fs_selector, cpu.fs_limit, cpu.fs_base, cpu.fs_attributes),
        gs: segment(cpu.gs_selector, cpu.gs_limit, cpu.gs_base, cpu.gs_attributes),
        ss: segment(cpu.ss_selector, cpu.ss_limit, cpu.ss_base, cpu.ss_attributes),
        tr: segment(cpu.tr_selector, cpu.tr_limit, cpu.tr_base, cpu.tr_attributes),
        ldtr: segment(
            cpu.ldtr_selector,
            cpu.ldtr_limit,
            cpu.ldtr_base,
            cpu.ldtr_attributes,
        ),
        gdtr: segment(0, cpu.gdtr_limit, cpu.gdtr_base, 0),
        idtr: segment(0, cpu.idtr_limit, cpu.idtr_base, 0),
        cr0: cpu.cr0,
        cr2: cpu.cr2,
        cr3: cpu.cr3,
        cr4: cpu.cr4,
        efer: cpu.msr_efer,
        dr6: cpu.dr6,
        dr7: cpu.dr7,
        sysenter_cs: cpu.sysenter_cs,
        sysenter_esp: cpu.sysenter_esp,
        sysenter_eip: cpu.sysenter_eip,
        kernel_gs_base: cpu.shadow_gs,
        star: cpu.msr_star,
        lstar: cpu.msr_lstar,
        cstar: cpu.msr_cstar,
        syscall_mask: cpu.msr_syscall_mask,
        tsc_aux: cpu.msr_tsc_aux,
        // Not in the record: as after reset.
        pat: 0x0007_0406_0007_0406,
    }
}

fn to_record(state: &ArchitecturalState) -> Cpu {
    let general = &state.registers.general;
    let mut cpu = Cpu {
        rax: general[register::RAX],
        rcx: general[register::RCX],
        rdx: general[register::RDX],
        rbx: general[register::RBX],
        rsp: general[register::RSP],
        rbp: general[register::RBP],
        rsi: general[register::RSI],
        rdi: general[register::RDI],
        rip: state.registers.rip,
        rflags: state.registers.rflags,
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        dr6: state.dr6,
        dr7: state.dr7,
        idtr_limit: state.idtr.limit,
        idtr_base: state.idtr.base,
        gdtr_limit: state.gdtr.limit,
        gdtr_base: state.gdtr.base,
        sysenter_cs: state.sysenter_cs,
        sysenter_esp: state.sysenter_esp,
        sysenter_eip: state.sysenter_eip,
        shadow_gs: state.kernel_gs_base,
        msr_star: state.star,
        msr_lstar: state.lstar,
        msr_cstar: state.cstar,
        msr_syscall_mask: state.syscall_mask,
        msr_efer: state.efer,
        msr_tsc_aux: state.tsc_aux,
        ..Cpu::default()
    };
    [
        cpu.r8, cpu.r9, cpu.r10, cpu.r11, cpu.r12, cpu.r13, cpu.r14, cpu.r15,
    ] = [
        general[8],
        general[9],
        general[10],
        general[11],
        general[12],
        general[13],
        general[14],
        general[15],
    ];
    macro_rules! segment {
        ($from:ident, $selector:ident, $limit:ident, $base:ident, $attributes:ident) => {
            cpu.$selector = u32::from(state.$from.selector);
            cpu.$limit = state.$from.limit;
            cpu.$base = state.$from.base;
            cpu.$attributes = u32::from(state.$from.attributes);
        };
    }
    segment!(cs, cs_selector, cs_limit, cs_base, cs_attributes);
    segment!(ds, ds_selector, ds_limit, ds_base, ds_attributes);
    segment!(es, es_selector, es_limit, es_base, es_attributes);
    segment!(fs, fs_selector, fs_limit, fs_base, fs_attributes);
    segment!(gs, gs_selector, gs_limit, gs_base, gs_attributes);
    segment!(ss, ss_selector, ss_limit, ss_base, ss_attributes);
    segment!(tr, tr_selector, tr_limit, tr_base, tr_attributes);
    segment!(ldtr, ldtr_selector, ldtr_limit, ldtr_base, ldtr_attributes);
    cpu
}
