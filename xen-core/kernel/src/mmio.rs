//! Accesses that the physmap does not allow: the local APIC's page, the I/O APIC's, and holes.
//!
//! The instruction is fetched and decoded as the guest's processor would, by a library; only plain loads, stores and
//! read-modify-writes of one operand are carried out, which is all that drivers of those devices use. Holes read as ones
//! and swallow writes, as an empty bus does.

use hypercall_abi::Error;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use machine::Machine;
use machine::address::{GuestAddress, LinearAddress, PAGE_SIZE};
use machine::virtual_cpu::{CodeSize, Exception, Exit, VirtualCpu};

use crate::Kernel;
use crate::domain::VcpuHandle;
use crate::exit::Named;
use crate::guest_memory::{Access, GuestMemory};
use crate::{io_apic, lapic};

const LONGEST_INSTRUCTION: usize = 15;

enum Device {
    LocalApic,
    IoApic,
    Nothing,
}

/// A decoded access: how wide, and what it does.
struct Operation {
    length: usize,
    size: usize,
    kind: Kind,
}

enum Kind {
    /// Load into a register, extended as the instruction says.
    Load { into: Register, signed: bool },
    /// Store a value.
    Store(u64),
    /// Exchange with a register.
    Exchange(Register),
    /// Combine with a value and store.
    Modify(fn(u64, u64) -> u64, u64),
    /// Load for the flags alone.
    Test(u64),
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn stage_two_fault(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu, exit: Exit) {
        let Exit::StageTwoFault {
            address,
            write,
            fetch,
            present,
            table_walk,
        } = exit
        else {
            return;
        };
        // Another processor may have mapped it since: then the access simply succeeds when tried again.
        if let Some(leaf) = vcpu.domain().physmap.lookup(address.frame()) {
            let allowed = (!write || leaf.permissions.write) && (!fetch || leaf.permissions.execute);
            if allowed && !present {
                return;
            }
            // A page that is there, but not for this: a read-only grant, or data that is fetched from.
            context.inject(Exception::GENERAL_PROTECTION);
            return;
        }
        if fetch || table_walk {
            log::warn!(
                "{} v{}: code, tables or a stack in a hole at {address}",
                Named(vcpu),
                vcpu.index
            );
            self.crash_domain(vcpu, context, "code, tables or a stack where there is no memory");
            return;
        }
        match self.decode(vcpu, context) {
            Ok(operation) => self.carry_out(vcpu, context, address, &operation),
            Err(_) => context.inject(Exception::INVALID_OPCODE),
        }
    }

    fn device_at(&self, vcpu: &VcpuHandle<M>, address: GuestAddress) -> Device {
        let page = address.0 & !(PAGE_SIZE as u64 - 1);
        if page == lapic::DEFAULT_BASE && vcpu.lapic.in_xapic_mode() {
            Device::LocalApic
        } else if page == io_apic::BASE && vcpu.domain().io_apic.is_some() {
            Device::IoApic
        } else {
            Device::Nothing
        }
    }

    fn device_read(&self, vcpu: &VcpuHandle<M>, address: GuestAddress, size: usize) -> u64 {
        let ones = if size >= 8 {
            u64::MAX
        } else {
            (1 << (8 * size)) - 1
        };
        let offset = address.offset() as u32;
        match self.device_at(vcpu, address) {
            // Narrower loads see part of the 32-bit register.
            Device::LocalApic => {
                let value = vcpu.lapic.read(offset & !0xf, self.machine.now()).unwrap_or(0);
                (u64::from(value) >> (8 * (offset & 3))) & ones
            }
            Device::IoApic => self.io_apic_read(vcpu, offset) & ones,
            Device::Nothing => ones,
        }
    }

    fn device_write(&self, vcpu: &VcpuHandle<M>, address: GuestAddress, size: usize, value: u64) {
        let offset = address.offset() as u32;
        match self.device_at(vcpu, address) {
            // Only aligned 32-bit stores mean anything to it.
            Device::LocalApic if size == 4 && offset & 0xf == 0 => {
                if let Ok(effect) = vcpu.lapic.write(offset, value as u32, self.machine.now()) {
                    self.apic_effect(vcpu, effect);
                }
            }
            Device::IoApic => self.io_apic_write(vcpu, offset, value as u32),
            Device::LocalApic | Device::Nothing => {}
        }
    }

    fn decode(&self, vcpu: &VcpuHandle<M>, context: &M::Vcpu) -> Result<Operation, Error> {
        let instruction = self.instruction(vcpu, context)?;
        operation(&instruction, context).ok_or(Error::EOPNOTSUPP)
    }

    /// The instruction at rip.
    pub(crate) fn instruction(&self, vcpu: &VcpuHandle<M>, context: &M::Vcpu) -> Result<Instruction, Error> {
        let rip = context.registers().rip;
        let mut bytes = [0; LONGEST_INSTRUCTION];
        let saved = context.instruction_bytes();
        let count = if saved.is_empty() {
            self.fetch(vcpu, context, &mut bytes)?
        } else {
            let count = saved.len().min(LONGEST_INSTRUCTION);
            bytes[..count].copy_from_slice(&saved[..count]);
            count
        };
        let bits = match context.code_size() {
            CodeSize::Sixteen => 16,
            CodeSize::ThirtyTwo => 32,
            CodeSize::SixtyFour => 64,
        };
        let code = bytes.get(..count).unwrap_or_default();
        Ok(Decoder::with_ip(bits, code, rip, DecoderOptions::NONE).decode())
    }

    /// The bytes at rip: up to the longest instruction, or to the end of what is mapped.
    fn fetch(&self, vcpu: &VcpuHandle<M>, context: &M::Vcpu, bytes: &mut [u8]) -> Result<usize, Error> {
        const CODE_SEGMENT: usize = 1;
        let paging = context.paging();
        let memory = GuestMemory::new(&vcpu.domain().physmap, paging);
        // In 64-bit code the processor takes the base for zero, whatever the register holds.
        let base = match context.code_size() {
            CodeSize::SixtyFour => 0,
            CodeSize::Sixteen | CodeSize::ThirtyTwo => context.segment_base(CODE_SEGMENT),
        };
        let start = base.wrapping_add(context.registers().rip);
        let access = Access {
            write: false,
            user: paging.privilege == 3,
        };
        let mut count = 0;
        while count < bytes.len() {
            let Ok((page, offset)) = memory.page(LinearAddress(start.wrapping_add(count as u64)), access)
            else {
                break;
            };
            let end = count
                .saturating_add(PAGE_SIZE.saturating_sub(offset))
                .min(bytes.len());
            let part = bytes.get_mut(count..end).unwrap_or_default();
            page.read(offset, part).map_err(|_| Error::EFAULT)?;
            count = end;
        }
        if count == 0 { Err(Error::EFAULT) } else { Ok(count) }
    }

    fn carry_out(
        &self,
        vcpu: &VcpuHandle<M>,
        context: &mut M::Vcpu,
        address: GuestAddress,
        operation: &Operation,
    ) {
        let size = operation.size;
        match operation.kind {
            Kind::Load { into, signed } => {
                let value = self.device_read(vcpu, address, size);
                let value = if signed { sign_extend(value, size) } else { value };
                set_register(context, into, value);
            }
            Kind::Store(value) => self.device_write(vcpu, address, size, value),
            Kind::Exchange(with) => {
                let before = self.device_read(vcpu, address, size);
                self.device_write(vcpu, address, size, get_register(context, with));
                set_register(context, with, before);
            }
            Kind::Modify(combine, value) => {
                let result = combine(self.device_read(vcpu, address, size), value);
                self.device_write(vcpu, address, size, result);
                set_logic_flags(context, result, size);
            }
            Kind::Test(value) => {
                let result = self.device_read(vcpu, address, size) & value;
                set_logic_flags(context, result, size);
            }
        }
        context.advance_by(operation.length);
    }
}

/// Have the decoder make its tables, which takes memory, while there is some: it does so with the first instruction that it
/// sees, and that one would otherwise be a guest's, at a moment of the guest's choice.
pub(crate) fn prepare_decoder() {
    const NO_OPERATION: &[u8] = &[0x90];
    let mut decoder = Decoder::with_ip(64, NO_OPERATION, 0, DecoderOptions::NONE);
    // Not to be optimised away with its unused answer.
    core::hint::black_box(decoder.decode());
}

fn sign_extend(value: u64, size: usize) -> u64 {
    let shift = 64 - 8 * size.min(8) as u32;
    (((value << shift) as i64) >> shift) as u64
}

/// What an instruction does to its memory operand; `None` for all that is not carried out.
fn operation<V: VirtualCpu>(instruction: &Instruction, context: &V) -> Option<Operation> {
    if instruction.is_invalid() || instruction.has_rep_prefix() || instruction.has_repne_prefix() {
        return None;
    }
    // One that touches no memory did not fault: another processor has put it there since.
    if !instruction.op_kinds().any(|kind| kind == OpKind::Memory) {
        return None;
    }
    let size = instruction.memory_size().size();
    let source = |operand: u32| match instruction.op_kind(operand) {
        // Not a segment register's selector: no driver stores that to a device.
        OpKind::Register if general(instruction.op_register(operand)) => {
            Some(get_register(context, instruction.op_register(operand)))
        }
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Some(instruction.immediate(operand)),
        _ => None,
    };
    let to_memory = instruction.op0_kind() == OpKind::Memory;
    let kind = match instruction.mnemonic() {
        Mnemonic::Mov if to_memory => Kind::Store(source(1)?),
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Memory && general(instruction.op0_register()) => {
            Kind::Load {
                into: instruction.op0_register(),
                signed: false,
            }
        }
        Mnemonic::Movzx => Kind::Load {
            into: instruction.op0_register(),
            signed: false,
        },
        Mnemonic::Movsx | Mnemonic::Movsxd => Kind::Load {
            into: instruction.op0_register(),
            signed: true,
        },
        Mnemonic::Xchg if to_memory => Kind::Exchange(instruction.op1_register()),
        Mnemonic::Or if to_memory => Kind::Modify(|a, b| a | b, source(1)?),
        Mnemonic::And if to_memory => Kind::Modify(|a, b| a & b, source(1)?),
        Mnemonic::Xor if to_memory => Kind::Modify(|a, b| a ^ b, source(1)?),
        Mnemonic::Test if to_memory => Kind::Test(source(1)?),
        _ => return None,
    };
    (matches!(size, 1 | 2 | 4 | 8) && instruction.code() != Code::INVALID).then_some(Operation {
        length: instruction.len(),
        size,
        kind,
    })
}

fn general(which: Register) -> bool {
    which.is_gpr()
}

/// Ah, ch, dh and bh: the second byte of the first four registers.
fn is_high_byte(which: Register) -> bool {
    matches!(which, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn index(which: Register) -> usize {
    which.full_register().number() & 15
}

/// What a general register holds, as wide as it is named.
pub(crate) fn get_register<V: VirtualCpu>(context: &V, which: Register) -> u64 {
    let whole = context.registers().general[if is_high_byte(which) {
        which.number() & 3
    } else {
        index(which)
    }];
    match which.size() {
        1 if is_high_byte(which) => (whole >> 8) & 0xff,
        1 => whole & 0xff,
        2 => whole & 0xffff,
        4 => whole & 0xffff_ffff,
        _ => whole,
    }
}

fn set_register<V: VirtualCpu>(context: &mut V, which: Register, value: u64) {
    let place = if is_high_byte(which) {
        which.number() & 3
    } else {
        index(which)
    };
    let whole = &mut context.registers_mut().general[place];
    *whole = match which.size() {
        1 if is_high_byte(which) => (*whole & !0xff00) | ((value & 0xff) << 8),
        1 => (*whole & !0xff) | (value & 0xff),
        2 => (*whole & !0xffff) | (value & 0xffff),
        // Writing a 32-bit register clears the upper half.
        4 => value & 0xffff_ffff,
        _ => value,
    };
}

/// The flags after a logical operation: carry and overflow clear, sign, zero and parity by the result.
fn set_logic_flags<V: VirtualCpu>(context: &mut V, result: u64, size: usize) {
    const CARRY: u64 = 1 << 0;
    const PARITY: u64 = 1 << 2;
    const ZERO: u64 = 1 << 6;
    const SIGN: u64 = 1 << 7;
    const OVERFLOW: u64 = 1 << 11;
    let bits = 8 * size as u32;
    let masked = result & !u64::MAX.unbounded_shl(bits);
    let flags = &mut context.registers_mut().rflags;
    *flags &= !(CARRY | PARITY | ZERO | SIGN | OVERFLOW);
    if masked == 0 {
        *flags |= ZERO;
    }
    if masked.unbounded_shr(bits.saturating_sub(1)) & 1 != 0 {
        *flags |= SIGN;
    }
    if (masked as u8).count_ones().is_multiple_of(2) {
        *flags |= PARITY;
    }
}
