//! `vm_assist`: behaviours that a domain switches for itself.

use hypercall_abi::hypercall::number::VM_ASSIST;
use hypercall_abi::xen::vm_assist;

use super::Maker;

/// Make one.
pub fn make(maker: &mut Maker<'_>) {
    let valid = maker.numbers.pick(&[vm_assist::ENABLE, vm_assist::DISABLE]);
    let command = maker.number32(valid);
    let kind = maker.number(u64::from(vm_assist::TYPE_RUNSTATE_UPDATE_FLAG));
    maker.call(VM_ASSIST, command, &[u64::from(command), kind]);
}
