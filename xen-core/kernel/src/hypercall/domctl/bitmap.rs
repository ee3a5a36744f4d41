//! Sets of CPUs and nodes in the caller's memory.

use hypercall_abi::Error;
use hypercall_abi::xen::ControlBitmap;
use machine::Machine;

use crate::hypercall::Call;
use crate::schedule::{MOST_PROCESSORS, ProcessorSet};

/// Bits that a caller's bitmap may have: more are read as zero and written as zero, up to this bound.
const MOST_BITS: u32 = 4096;

/// Copy a set from the caller.
///
/// # Errors
/// EFAULT; EINVAL for an absurd length.
pub fn read_bitmap<M: Machine>(call: &Call<'_, M>, bitmap: &ControlBitmap) -> Result<ProcessorSet, Error> {
    if bitmap.nr_bits > MOST_BITS {
        return Err(Error::EINVAL);
    }
    let mut bytes = [0; MOST_PROCESSORS / 8];
    let length = (bitmap.nr_bits.div_ceil(8) as usize).min(bytes.len());
    let known = bytes.get_mut(..length).unwrap_or_default();
    call.memory().read(bitmap.bitmap.address(), known)?;
    let given = ProcessorSet::first_ones(bitmap.nr_bits as usize);
    Ok(ProcessorSet::from_bytes(&bytes).and(&given))
}

/// Copy a set to the caller, filled up with zeroes to the length it gave.
///
/// # Errors
/// EFAULT; EINVAL for an absurd length.
pub fn write_bitmap<M: Machine>(
    call: &Call<'_, M>,
    bitmap: &ControlBitmap,
    set: &ProcessorSet,
) -> Result<(), Error> {
    if bitmap.nr_bits > MOST_BITS {
        return Err(Error::EINVAL);
    }
    let mut bytes = [0; MOST_BITS as usize / 8];
    bytes[..MOST_PROCESSORS / 8].copy_from_slice(&set.to_bytes());
    let length = bitmap.nr_bits.div_ceil(8) as usize;
    call.memory().write(bitmap.bitmap.address(), &bytes[..length])
}
