//! The unions of Xen's headers: blocks of words that each sub-operation reads as its own structure.
//!
//! A union field is declared as `[u64; N]`, because any bit pattern must be acceptable before the sub-operation
//! is known. [`read()`] and [`write()`] convert between the block and one view of it, by copy.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Reads the structure at the start of `block`.
///
/// The caller names a `T` that is part of the union; that it fits is checked when the program is compiled.
pub fn read<T: FromBytes, const WORDS: usize>(block: &[u64; WORDS]) -> T {
    const {
        assert!(
            size_of::<T>() <= WORDS * 8,
            "the structure is larger than the union"
        )
    };
    match T::read_from_prefix(block.as_bytes()) {
        Ok((value, _)) => value,
        // The assertion above leaves no other case; zeroes keep this free of a panic path.
        Err(_) => T::new_zeroed(),
    }
}

/// Writes `value` over the start of `block`; the bytes behind it stay as they are.
pub fn write<T: IntoBytes + Immutable, const WORDS: usize>(block: &mut [u64; WORDS], value: &T) {
    const {
        assert!(
            size_of::<T>() <= WORDS * 8,
            "the structure is larger than the union"
        )
    };
    let bytes = value.as_bytes();
    if let Some(start) = block.as_mut_bytes().get_mut(..bytes.len()) {
        start.copy_from_slice(bytes);
    }
}

/// A union that holds `value` and zeroes.
pub fn of<T: IntoBytes + Immutable, const WORDS: usize>(value: &T) -> [u64; WORDS] {
    let mut block = [0; WORDS];
    write(&mut block, value);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_leaves_the_rest_alone() {
        let mut block = [u64::MAX; 2];
        write(&mut block, &0x1122_3344_u32);
        assert_eq!(block, [0xffff_ffff_1122_3344, u64::MAX]);
        assert_eq!(read::<u32, 2>(&block), 0x1122_3344);
    }
}
