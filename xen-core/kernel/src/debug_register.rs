//! Moves to DR7 that exit, on machines that would not disarm breakpoints when the guest is left.

use iced_x86::{Mnemonic, OpKind, Register};
use machine::Machine;
use machine::virtual_cpu::{Exception, VirtualCpu};

use crate::Kernel;
use crate::domain::VcpuHandle;
use crate::mmio;

const CR4_DEBUG_EXTENSIONS: u64 = 1 << 3;

impl<M: Machine> Kernel<M> {
    /// MOV to DR7, or to DR5. Privilege has been checked by the processor. The guest's other vCPUs may change the
    /// instruction meanwhile: if it is another by now, it is tried again, as what it is.
    pub(crate) fn set_breakpoints(&self, vcpu: &VcpuHandle<M>, context: &mut M::Vcpu) {
        let Ok(instruction) = self.instruction(vcpu, context) else {
            context.inject(Exception::INVALID_OPCODE);
            return;
        };
        let is_move = instruction.mnemonic() == Mnemonic::Mov && instruction.op1_kind() == OpKind::Register;
        match instruction.op0_register() {
            Register::DR7 if is_move => {}
            Register::DR5 if is_move && context.paging().cr4 & CR4_DEBUG_EXTENSIONS == 0 => {}
            Register::DR5 if is_move => {
                context.inject(Exception::INVALID_OPCODE);
                return;
            }
            _ => return,
        }
        let value = mmio::get_register(context, instruction.op1_register());
        match u32::try_from(value) {
            Ok(value) => {
                context.set_breakpoints(value);
                context.advance_by(instruction.len());
            }
            // The upper half is reserved.
            Err(_) => context.inject(Exception::GENERAL_PROTECTION),
        }
    }
}
