//! What a domain is told of its processors and clock.

use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;

use hypercall_abi::Error;
use hypercall_abi::domctl::{AddressSize, CpuPolicy as PolicyArgument, Domctl, TscInfo};
use hypercall_abi::xen::{CpuidLeaf, MsrEntry};
use machine::Machine;

use super::{Handled, Reply};
use crate::cpu_policy::{CpuPolicy, Leaf, MOST_SERIALISED};
use crate::domain::Domain;
use crate::hypercall::Call;

/// Leaves that one call may bring.
const MOST_LEAVES: u32 = 256;
const MOST_MSRS: u32 = 64;
const NONE: u32 = u32::MAX;

pub fn set_cpu_policy<M: Machine>(
    call: &Call<'_, M>,
    target: &Arc<Domain<M>>,
    request: &mut Domctl,
) -> Handled {
    let mut wanted: PolicyArgument = request.view();
    if target.id == call.domain().id {
        return Err(Error::EINVAL);
    }
    if wanted.number_of_leaves > MOST_LEAVES || wanted.number_of_msrs > MOST_MSRS {
        return Err(Error::E2BIG);
    }
    // It must not have run yet: what it was told stays true.
    if target.creation_finished.load(Ordering::SeqCst) {
        return Err(Error::EEXIST);
    }
    let mut leaves = Vec::new();
    leaves
        .try_reserve_exact(wanted.number_of_leaves as usize)
        .map_err(|_| Error::ENOMEM)?;
    for index in 0..u64::from(wanted.number_of_leaves) {
        let leaf: CpuidLeaf = call.read_element(wanted.leaves.address(), index)?;
        leaves.push(Leaf {
            leaf: leaf.leaf,
            subleaf: leaf.subleaf,
            values: [leaf.a, leaf.b, leaf.c, leaf.d],
        });
    }
    for index in 0..u64::from(wanted.number_of_msrs) {
        let msr: MsrEntry = call.read_element(wanted.msrs.address(), index)?;
        // The MSRs of a policy are Intel's; here all are zero.
        if msr.value != 0 || msr.flags != 0 {
            wanted.error_msr = msr.index;
            request.set_view(&wanted);
            call.write(call.arguments[0], request)?;
            return Err(Error::EINVAL);
        }
    }
    let current = target.cpu_policy.lock().clone();
    match current.narrowed(&leaves) {
        Ok(policy) => {
            let policy = machine::fallible::arc(policy).map_err(|_| Error::ENOMEM)?;
            *target.cpu_policy.lock() = policy;
            (wanted.error_leaf, wanted.error_subleaf, wanted.error_msr) = (NONE, NONE, NONE);
            request.set_view(&wanted);
            Ok(Reply::Structure)
        }
        Err((error, leaf)) => {
            (wanted.error_leaf, wanted.error_subleaf, wanted.error_msr) = (leaf.leaf, leaf.subleaf, NONE);
            request.set_view(&wanted);
            call.write(call.arguments[0], request)?;
            Err(error)
        }
    }
}

pub fn get_cpu_policy<M: Machine>(
    call: &Call<'_, M>,
    target: &Arc<Domain<M>>,
    request: &mut Domctl,
) -> Handled {
    let mut wanted: PolicyArgument = request.view();
    let policy = target.cpu_policy.lock().clone();
    let room = wanted.number_of_leaves;
    wanted.number_of_leaves = write_leaves(call, &policy, wanted.leaves.address(), room)?;
    wanted.number_of_msrs = if wanted.msrs.is_null() { ROOM_FOR_MSRS } else { 0 };
    request.set_view(&wanted);
    Ok(Reply::Structure)
}

/// MSRs that a policy may have: none has any here, but callers make room for those of any policy.
pub const ROOM_FOR_MSRS: u32 = 2;

/// Copy a policy's leaves to the caller; how many there are. A null address asks how much room any policy needs.
///
/// # Errors
/// ENOBUFS when there is too little room; EFAULT.
pub fn write_leaves<M: Machine>(
    call: &Call<'_, M>,
    policy: &CpuPolicy,
    address: u64,
    room: u32,
) -> Result<u32, Error> {
    if address == 0 {
        return Ok(MOST_SERIALISED as u32);
    }
    let leaves = policy.serialised()?;
    if leaves.len() > room as usize {
        return Err(Error::ENOBUFS);
    }
    for (index, leaf) in leaves.iter().enumerate() {
        let [a, b, c, d] = leaf.values;
        let entry = CpuidLeaf {
            leaf: leaf.leaf,
            subleaf: leaf.subleaf,
            a,
            b,
            c,
            d,
        };
        call.write_element(address, index as u64, &entry)?;
    }
    Ok(leaves.len() as u32)
}

/// The TSC is the host's, unscaled: the modes that ask for no more than that are accepted.
pub fn set_tsc<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &Domctl) -> Handled {
    const DEFAULT: u32 = 0;
    const NEVER_EMULATE: u32 = 2;
    let wanted: TscInfo = request.view();
    if target.id == call.domain().id {
        return Err(Error::EINVAL);
    }
    if !matches!(wanted.mode, DEFAULT | NEVER_EMULATE) {
        return Err(Error::EOPNOTSUPP);
    }
    target.tsc_mode.store(wanted.mode, Ordering::SeqCst);
    Ok(Reply::Nothing)
}

pub fn get_tsc<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &mut Domctl) -> Handled {
    request.set_view(&TscInfo {
        mode: target.tsc_mode.load(Ordering::SeqCst),
        frequency_khz: call.machine().platform().tsc_khz,
        elapsed_ns: call.machine().now(),
        ..TscInfo::default()
    });
    Ok(Reply::Structure)
}

pub fn address_size(request: &mut Domctl) -> Handled {
    request.set_view(&AddressSize { size: 64 });
    Ok(Reply::Structure)
}
