//! `console_io`: the privileged domain's use of the serial line.

use hypercall_abi::Error;
use hypercall_abi::console::op;
use machine::Machine;

use super::{Answer, Call, DONE, Outcome};

/// Bytes copied at a time: each piece is on the line before the next is read.
const PIECE: usize = 256;

/// `console_io(op, count, buffer)`.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let [operation, count, buffer, ..] = call.arguments;
    call.require_privilege()?;
    // The count is an int: negative ones are no size.
    let count = u64::try_from(count as u32 as i32).map_err(|_| Error::EINVAL)?;
    match operation as u32 {
        op::WRITE => write(call, count, buffer),
        op::READ => read(call, count, buffer),
        _ => Err(Error::ENOSYS),
    }
}

fn write<M: Machine>(call: &mut Call<'_, M>, count: u64, buffer: u64) -> Answer {
    let mut piece = [0; PIECE];
    let mut done = 0;
    while done < count {
        let size = (count - done).min(PIECE as u64) as usize;
        let into = &mut piece[..size];
        call.memory()
            .read(buffer.checked_add(done).ok_or(Error::EFAULT)?, into)?;
        call.machine().console_write(into);
        done += size as u64;
        if done < count && call.spent() {
            call.arguments[1] = count - done;
            // What lies past the end of the address space is refused when it is read.
            call.arguments[2] = buffer.wrapping_add(done);
            return Ok(Outcome::Restart);
        }
    }
    DONE
}

fn read<M: Machine>(call: &mut Call<'_, M>, count: u64, buffer: u64) -> Answer {
    let mut done = 0;
    while done < count {
        let Some(byte) = call.kernel.console.take_input() else {
            break;
        };
        call.memory()
            .write(buffer.checked_add(done).ok_or(Error::EFAULT)?, &[byte])?;
        done += 1;
    }
    Ok(Outcome::Value(done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use machine::virtual_cpu::PagingState;

    #[test]
    fn output_that_reaches_the_end_of_the_address_space_is_cut_there() {
        let kernel = testing::kernel();
        let domain = testing::domain(&kernel, 0, 1, 1);
        let control = testing::vcpu(&domain, 0);
        // Without paging the last page is the last one below 4 GiB.
        testing::populate(&kernel, &domain, 0xf_ffff);
        kernel.machine.advance(10_000_000);
        let mut call = Call {
            kernel: &kernel,
            vcpu: &control,
            paging: PagingState::default(),
            arguments: [u64::from(op::WRITE), 2 * PIECE as u64, u64::MAX - 0xff, 0, 0, 0],
            // Long ago: each piece is a stretch of its own.
            started: 0,
        };
        assert_eq!(handle(&mut call), Ok(Outcome::Restart));
        assert_eq!(call.arguments[1..3], [PIECE as u64, 0]);
    }
}
