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
            call.arguments[2] = buffer + done;
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
