//! Sets of CPUs and nodes in the caller's memory. We know at most 64 of either.

use hypercall_abi::Error;
use hypercall_abi::xen::ControlBitmap;
use machine::Machine;

use crate::hypercall::Call;

/// Bits that a caller's bitmap may have: more are read as zero and written as zero, up to this bound.
const MOST_BITS: u32 = 4096;

/// Copy a set from the caller.
///
/// # Errors
/// EFAULT; EINVAL for an absurd length.
pub fn read_bitmap<M: Machine>(call: &Call<'_, M>, bitmap: &ControlBitmap) -> Result<u64, Error> {
    if bitmap.nr_bits > MOST_BITS {
        return Err(Error::EINVAL);
    }
    let mut bytes = [0; 8];
    let length = (bitmap.nr_bits.div_ceil(8) as usize).min(bytes.len());
    call.memory()
        .read(bitmap.bitmap.address(), &mut bytes[..length])?;
    let bits = u64::from_le_bytes(bytes);
    Ok(if bitmap.nr_bits < 64 {
        bits & ((1 << bitmap.nr_bits) - 1)
    } else {
        bits
    })
}

/// Copy a set to the caller, filled up with zeroes to the length it gave.
///
/// # Errors
/// EFAULT; EINVAL for an absurd length.
pub fn write_bitmap<M: Machine>(call: &Call<'_, M>, bitmap: &ControlBitmap, bits: u64) -> Result<(), Error> {
    if bitmap.nr_bits > MOST_BITS {
        return Err(Error::EINVAL);
    }
    let mut bytes = [0; MOST_BITS as usize / 8];
    bytes[..8].copy_from_slice(&bits.to_le_bytes());
    let length = bitmap.nr_bits.div_ceil(8) as usize;
    call.memory().write(bitmap.bitmap.address(), &bytes[..length])
}
