//! `multicall`: a list of hypercalls in one exit. The results lie in the list.
//!
//! The toolstack's library sends each memory operation in a list of one, to get a 64-bit result. An entry that is not
//! done rewrites its own arguments in the list, and the list is restarted from there.

use hypercall_abi::Error;
use hypercall_abi::hypercall::number;
use hypercall_abi::xen::MulticallEntry;
use machine::Machine;

use super::{Answer, Call, DONE, Outcome, dispatch, result_value};

const ENTRY_SIZE: u64 = size_of::<MulticallEntry>() as u64;
const RESULT_OFFSET: u64 = core::mem::offset_of!(MulticallEntry, result) as u64;
const ARGUMENTS_OFFSET: u64 = core::mem::offset_of!(MulticallEntry, args) as u64;

/// Make each call of the list.
///
/// # Errors
/// EFAULT when the list cannot be read or written; what came before that entry is done.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    loop {
        let [list, count, ..] = call.arguments;
        // As in the ABI, the count is 32 bits wide.
        let count = count as u32;
        if count == 0 {
            return DONE;
        }
        let entry: MulticallEntry = call.read(list)?;
        let mut inner = Call {
            arguments: entry.args,
            ..*call
        };
        let answer = match entry.op {
            // A list in a list would make restarting ambiguous; Xen refuses it as well.
            number::MULTICALL => Err(Error::EINVAL),
            other => dispatch(&mut inner, other),
        };
        let arguments = inner.arguments;
        // The entry was read there: its fields' addresses do not wrap.
        match result_value(answer) {
            Some(value) => call.write(list.wrapping_add(RESULT_OFFSET), &value)?,
            None => {
                call.write(list.wrapping_add(ARGUMENTS_OFFSET), &arguments)?;
                return Ok(Outcome::Restart);
            }
        }
        // The list may end where the address space does.
        call.arguments[0] = list.wrapping_add(ENTRY_SIZE);
        call.arguments[1] = u64::from(count - 1);
        if count > 1 && call.spent() {
            return Ok(Outcome::Restart);
        }
    }
}

#[cfg(test)]
mod tests {
    use hypercall_abi::hypercall::number::{EVENT_CHANNEL_OP, MULTICALL, XEN_VERSION};
    use hypercall_abi::{DomainId, event_channel, version};

    use super::*;
    use crate::testing::{self, hypercall, hypercall_once};

    const LIST: u64 = 4096;

    fn entry(op: u64, arguments: &[u64]) -> MulticallEntry {
        let mut args = [0; 6];
        args[..arguments.len()].copy_from_slice(arguments);
        MulticallEntry {
            op,
            result: 0x1111,
            args,
        }
    }

    #[test]
    fn every_entry_gets_its_own_result() {
        let kernel = testing::kernel();
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 4), 0);
        let list = [
            entry(XEN_VERSION, &[u64::from(version::op::VERSION)]),
            entry(MULTICALL, &[LIST, 1]),
            entry(9999, &[]),
            entry(XEN_VERSION, &[u64::from(version::op::PAGE_SIZE)]),
        ];
        testing::poke(guest.domain(), LIST, &list);
        assert_eq!(hypercall(&kernel, &guest, MULTICALL, &[LIST, 4]), 0);
        let results: [MulticallEntry; 4] = testing::peek(guest.domain(), LIST);
        let results = results.map(|entry| entry.result as i64);
        assert_eq!(
            results,
            [
                0x40011,
                Error::EINVAL.as_result(),
                Error::ENOSYS.as_result(),
                4096
            ]
        );
        assert_eq!(hypercall(&kernel, &guest, MULTICALL, &[LIST, 0]), 0);
        assert_eq!(
            hypercall(&kernel, &guest, MULTICALL, &[0x7000_0000, 1]),
            Error::EFAULT.as_result()
        );
    }

    #[test]
    fn a_list_that_takes_long_restarts_where_it_stopped() {
        let kernel = testing::kernel();
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 4), 0);
        let list = [entry(XEN_VERSION, &[0]); 3];
        testing::poke(guest.domain(), LIST, &list);
        // A call that began long ago is spent after its first entry.
        kernel.machine.advance(1);
        let paging = machine::virtual_cpu::PagingState::default();
        let arguments = [LIST, 3, 0, 0, 0, 0];
        let mut call = Call {
            kernel: &kernel,
            vcpu: &guest,
            paging,
            arguments,
            started: 0,
        };
        kernel.machine.advance(10_000_000);
        assert_eq!(handle(&mut call), Ok(Outcome::Restart));
        assert_eq!(call.arguments[..2], [LIST + 64, 2]);
        let mut arguments = call.arguments;
        assert_eq!(hypercall_once(&kernel, &guest, MULTICALL, &mut arguments), DONE);
        let results: [MulticallEntry; 3] = testing::peek(guest.domain(), LIST);
        assert!(results.iter().all(|entry| entry.result == 0x40011));
    }

    #[test]
    fn an_entry_that_restarts_is_rewritten_and_continued() {
        let kernel = testing::kernel();
        let guest = testing::vcpu(&testing::domain(&kernel, 1, 1, 4), 0);
        for _ in 0..200 {
            kernel.allocate_unbound(guest.domain(), DomainId(0)).unwrap();
        }
        testing::poke(
            guest.domain(),
            0,
            &event_channel::Reset {
                domain: DomainId::SELF,
            },
        );
        let list = [
            entry(XEN_VERSION, &[0]),
            entry(EVENT_CHANNEL_OP, &[u64::from(event_channel::op::RESET), 0]),
            entry(XEN_VERSION, &[0]),
        ];
        testing::poke(guest.domain(), LIST, &list);
        let paging = machine::virtual_cpu::PagingState::default();
        // One entry done already, and no time left: the reset closes one piece and asks for a restart.
        let arguments = [LIST + 64, 2, 0, 0, 0, 0];
        kernel.machine.advance(10_000_000);
        let mut call = Call {
            kernel: &kernel,
            vcpu: &guest,
            paging,
            arguments,
            started: 0,
        };
        assert_eq!(handle(&mut call), Ok(Outcome::Restart));
        assert_eq!(call.arguments[..2], [LIST + 64, 2], "the same entry again");
        let unfinished: [MulticallEntry; 3] = testing::peek(guest.domain(), LIST);
        assert_eq!(unfinished[1].result, 0x1111, "no result yet");
        let rest = call.arguments;
        assert_eq!(hypercall(&kernel, &guest, MULTICALL, &rest), 0);
        let done: [MulticallEntry; 3] = testing::peek(guest.domain(), LIST);
        assert_eq!((done[1].result, done[2].result), (0, 0x40011));
    }
}
