//! Grant table operations: each takes an array, does its elements one after another, and puts a status in each.
//!
//! When time is up, the address and the count are rewritten to the elements that are left.

mod copy;
mod map;
mod table;
#[cfg(test)]
mod tests;

use hypercall_abi::Error;
use hypercall_abi::grant_table::{
    Copy as CopyOperation, MapGrantRef, QuerySize, SetupTable, SwapGrantRef, UnmapAndReplace, op,
};
use machine::Machine;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Answer, Call, DONE, Outcome};

/// Bits of the command above these are a continuation's, of operations that are not offered.
const COMMAND_BITS: u32 = 12;
/// Elements that are copied in and out together.
const CHUNK: usize = 16;

/// Answer a grant table operation.
///
/// # Errors
/// EFAULT, EINVAL, ENOSYS and EOPNOTSUPP; what concerns one element only is in its status.
pub fn handle<M: Machine>(call: &mut Call<'_, M>) -> Answer {
    let command = call.arguments[0] as u32;
    let count = call.arguments[2] as u32;
    if count > i32::MAX as u32 || command >> COMMAND_BITS != 0 {
        return Err(Error::EINVAL);
    }
    match command {
        op::MAP_GRANT_REF => each(call, |call, element: &mut MapGrantRef| map::map(call, element)),
        op::UNMAP_GRANT_REF => map::unmap_all(call),
        op::UNMAP_AND_REPLACE => each(call, |call, element: &mut UnmapAndReplace| {
            map::replace(call, element)
        }),
        op::COPY => each(call, |call, element: &mut CopyOperation| {
            copy::copy(call, element)
        }),
        op::SWAP_GRANT_REF => each(call, |call, element: &mut SwapGrantRef| {
            table::swap(call, element)
        }),
        op::SETUP_TABLE => single(call, |call, element: &mut SetupTable| table::setup(call, element)),
        op::QUERY_SIZE => single(call, |call, element: &mut QuerySize| {
            table::query_size(call, element)
        }),
        op::SET_VERSION => table::set_version(call),
        op::GET_VERSION => table::get_version(call),
        op::GET_STATUS_FRAMES => single(call, table::status_frames),
        // Frames change their owner only by way of the machine's free memory.
        op::TRANSFER => Err(Error::EOPNOTSUPP),
        // Devices here are coherent with the processors' caches.
        op::CACHE_FLUSH => Err(Error::EOPNOTSUPP),
        _ => Err(Error::ENOSYS),
    }
}

/// Do an operation that takes exactly one element.
fn single<M: Machine, T>(call: &mut Call<'_, M>, act: impl FnOnce(&Call<'_, M>, &mut T)) -> Answer
where
    T: FromBytes + IntoBytes + Immutable,
{
    if call.arguments[2] as u32 != 1 {
        return Err(Error::EINVAL);
    }
    let mut element: T = call.read(call.arguments[1])?;
    act(call, &mut element);
    call.write(call.arguments[1], &element)?;
    DONE
}

/// Do an operation for each element of its array.
fn each<M: Machine, T>(call: &mut Call<'_, M>, mut act: impl FnMut(&Call<'_, M>, &mut T)) -> Answer
where
    T: FromBytes + IntoBytes + Immutable + Copy,
{
    let count = u64::from(call.arguments[2] as u32);
    let mut done = 0;
    let mut chunk = [T::new_zeroed(); CHUNK];
    while done < count {
        let part = (count - done).min(CHUNK as u64) as usize;
        let readable = read_elements(call, done, &mut chunk[..part]);
        let complete = readable.len() == part;
        let mut after = done;
        let mut acted = 0;
        let mut cut = false;
        for (index, element) in readable.iter_mut().enumerate() {
            act(call, element);
            acted = index + 1;
            after = done.saturating_add(acted as u64);
            cut = after < count && call.spent();
            if cut {
                break;
            }
        }
        write_elements(call, done, readable.get(..acted).unwrap_or_default())?;
        done = after;
        if cut {
            return restart::<M, T>(call, done);
        }
        if !complete {
            return Err(Error::EFAULT);
        }
    }
    DONE
}

/// Read elements `first..` of the array: as many as can be read, and no more than `into` holds.
fn read_elements<'into, M: Machine, T>(call: &Call<'_, M>, first: u64, into: &'into mut [T]) -> &'into mut [T]
where
    T: FromBytes + IntoBytes,
{
    let array = call.arguments[1];
    let at = first
        .checked_mul(size_of::<T>() as u64)
        .and_then(|offset| array.checked_add(offset));
    if at.is_some_and(|at| call.memory().read(at, into.as_mut_bytes()).is_ok()) {
        return into;
    }
    let mut count = 0;
    for (index, slot) in into.iter_mut().enumerate() {
        let Ok(element) = call.read_element(array, first.saturating_add(index as u64)) else {
            break;
        };
        *slot = element;
        count = index + 1;
    }
    into.get_mut(..count).unwrap_or_default()
}

fn write_elements<M: Machine, T>(call: &Call<'_, M>, first: u64, elements: &[T]) -> Result<(), Error>
where
    T: IntoBytes + Immutable,
{
    let offset = first.checked_mul(size_of::<T>() as u64).ok_or(Error::EFAULT)?;
    let at = call.arguments[1].checked_add(offset).ok_or(Error::EFAULT)?;
    call.memory().write(at, elements.as_bytes())
}

/// Have the guest call again for the elements after the first `done`.
fn restart<M: Machine, T>(call: &mut Call<'_, M>, done: u64) -> Answer {
    call.arguments[1] = call.arguments[1].wrapping_add(done.wrapping_mul(size_of::<T>() as u64));
    call.arguments[2] = u64::from(call.arguments[2] as u32).saturating_sub(done);
    Ok(Outcome::Restart)
}
