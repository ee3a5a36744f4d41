//! A domain's scheduling parameters: weight and cap, as Xen's credit2 has them.

use alloc::sync::Arc;

use hypercall_abi::domctl::{Domctl, SchedCredit2, SchedulerOp, scheduler_command};
use hypercall_abi::{Error, payload};
use machine::Machine;
use machine::sync::atomic::Ordering;

use super::{Handled, Reply};
use crate::domain::Domain;
use crate::hypercall::Call;
use crate::schedule::policy::PolicyKind;

/// Read or set them. The caller says which scheduler it means: it must be that of the domain's pool.
pub fn parameters<M: Machine>(call: &Call<'_, M>, target: &Arc<Domain<M>>, request: &mut Domctl) -> Handled {
    let mut wanted: SchedulerOp = request.view();
    let pool = call.kernel.pools.get(target.pool.load(Ordering::SeqCst));
    let kind = pool.and_then(|pool| pool.kind()).ok_or(Error::EINVAL)?;
    if kind.number() != wanted.scheduler {
        return Err(Error::EINVAL);
    }
    if kind == PolicyKind::Pinned {
        // It has no parameters.
        return Err(Error::EOPNOTSUPP);
    }
    match wanted.command {
        scheduler_command::GET_INFO => {
            let parameters = SchedCredit2 {
                weight: target.share.weight() as u16,
                cap: target.share.cap() as u16,
            };
            payload::write(&mut wanted.parameters, &parameters);
            request.set_view(&wanted);
            Ok(Reply::Structure)
        }
        scheduler_command::PUT_INFO => {
            let parameters: SchedCredit2 = payload::read(&wanted.parameters);
            call.kernel
                .set_share(target, u32::from(parameters.weight), u32::from(parameters.cap))?;
            Ok(Reply::Nothing)
        }
        // A vCPU has none of its own.
        _ => Err(Error::EOPNOTSUPP),
    }
}
