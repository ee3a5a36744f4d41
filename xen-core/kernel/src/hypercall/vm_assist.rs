//! `vm_assist`: behaviours that a domain switches on or off for itself. Of Xen's, all but one are classic PV's.

use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::xen::vm_assist;
use machine::Machine;

use super::{Answer, Call, DONE};

/// Switch.
///
/// # Errors
/// EINVAL for behaviours that are not offered, ENOSYS for unknown commands.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [command, kind, ..] = call.arguments;
    if kind as u32 != vm_assist::TYPE_RUNSTATE_UPDATE_FLAG {
        return Err(Error::EINVAL);
    }
    let bit = 1u64 << vm_assist::TYPE_RUNSTATE_UPDATE_FLAG;
    let assists = &call.domain().assists;
    match command as u32 {
        vm_assist::ENABLE => assists.fetch_or(bit, Ordering::SeqCst),
        vm_assist::DISABLE => assists.fetch_and(!bit, Ordering::SeqCst),
        _ => return Err(Error::ENOSYS),
    };
    DONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, hypercall};
    use hypercall_abi::hypercall::number::VM_ASSIST;

    #[test]
    fn the_runstate_flag_is_switched_and_nothing_else() {
        let kernel = testing::kernel();
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 1), 0);
        let assist = |command, kind| hypercall(&kernel, &guest, VM_ASSIST, &[command, kind]);
        let bits = || guest.domain().assists.load(Ordering::SeqCst);
        assert_eq!((assist(0, 5), bits()), (0, 1 << 5));
        assert_eq!((assist(1, 5), bits()), (0, 0));
        assert_eq!(assist(2, 5), Error::ENOSYS.as_result());
        for kind in [0, 2, 4, 6, 32, 64, u64::MAX] {
            assert_eq!(assist(0, kind), Error::EINVAL.as_result());
        }
        assert_eq!(bits(), 0);
    }
}
