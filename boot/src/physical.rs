//! Reading what a loader left in memory, without trusting a single pointer of it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::BootError;

/// The machine's memory as the readers see it.
pub trait PhysicalMemory {
    /// The bytes at a physical address; `None` when they are out of reach.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// The longest string that is read; what is longer is cut.
const STRING_LIMIT: u64 = 4096;

/// A text that ends with a zero byte. Bytes that are no UTF-8 are replaced.
pub fn string(memory: &impl PhysicalMemory, address: u64) -> Result<String, BootError> {
    let mut bytes = Vec::new();
    for offset in 0..STRING_LIMIT {
        let at = address.checked_add(offset).ok_or(BootError::OutOfReach)?;
        match memory.bytes(at, 1).ok_or(BootError::OutOfReach)? {
            [byte] if *byte != 0 => bytes.push(*byte),
            _ => break,
        }
    }
    Ok(text(&bytes))
}

/// Bytes up to the first zero as text.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A little-endian number in a slice.
pub fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, BootError> {
    let end = offset.checked_add(4).ok_or(BootError::OutOfReach)?;
    let field = bytes.get(offset..end).ok_or(BootError::OutOfReach)?;
    field
        .try_into()
        .map(u32::from_le_bytes)
        .map_err(|_| BootError::OutOfReach)
}

/// A little-endian number in a slice.
pub fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, BootError> {
    Ok(u64::from(u32_at(bytes, offset)?) | (u64::from(u32_at(bytes, offset.saturating_add(4))?) << 32))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Bytes at some base address.
    pub struct Fake {
        pub base: u64,
        pub bytes: Vec<u8>,
    }

    impl PhysicalMemory for Fake {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
            self.bytes.get(start..start.checked_add(length)?)
        }
    }

    #[test]
    fn a_string_ends_at_zero_or_is_out_of_reach() {
        let memory = Fake {
            base: 0x1000,
            bytes: b"xen\0olith".to_vec(),
        };
        assert_eq!(string(&memory, 0x1000).as_deref(), Ok("xen"));
        assert_eq!(string(&memory, 0x1004), Err(BootError::OutOfReach));
        assert_eq!(string(&memory, u64::MAX), Err(BootError::OutOfReach));
    }

    #[test]
    fn numbers_past_the_end_are_refused() {
        assert_eq!(u32_at(&[1, 2, 3], 0), Err(BootError::OutOfReach));
        assert_eq!(u64_at(&[1, 0, 0, 0, 2, 0, 0, 0], 0), Ok(0x2_0000_0001));
        assert_eq!(u64_at(&[0; 8], usize::MAX), Err(BootError::OutOfReach));
    }
}
