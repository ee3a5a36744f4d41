//! To come.

use hypercall_abi::Error;
use machine::Machine;

use super::{Answer, Call};

/// Not there yet.
pub fn handle<M: Machine>(_call: &mut Call<'_, M>) -> Answer {
    Err(Error::ENOSYS)
}
