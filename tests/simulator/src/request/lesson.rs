//! What a caller learns from: its call, the answer, and what its memory holds now.

use zerocopy::{FromBytes, IntoBytes};

use super::Call;
use crate::knowledge::{Knowledge, Reader};
use crate::noticeboard::Noticeboard;
use crate::numbers::Numbers;

/// An answer to a call.
pub struct Lesson<'a> {
    /// The call, as it was made.
    pub call: Call,
    /// What it returned: negative numbers are errors.
    pub result: i64,
    /// What the caller knows.
    pub knowledge: &'a mut Knowledge,
    /// What others are told.
    pub board: &'a mut Noticeboard,
    /// The source of choices.
    pub numbers: &'a mut Numbers,
    /// Reads the caller's memory at a guest-physical address; `false` where it cannot be read.
    pub read: &'a Reader<'a>,
}

impl Lesson<'_> {
    /// A value in the caller's memory.
    pub fn value<T: FromBytes + IntoBytes>(&self, address: u64) -> Option<T> {
        let mut value = T::new_zeroed();
        // As the core sees pointers of callers without paging.
        (self.read)(address & 0xffff_ffff, value.as_mut_bytes()).then_some(value)
    }

    /// An element of an array in the caller's memory.
    pub fn element<T: FromBytes + IntoBytes>(&self, array: u64, index: u64) -> Option<T> {
        self.value(array.wrapping_add(index.wrapping_mul(size_of::<T>() as u64)))
    }

    /// Whether the call succeeded.
    pub fn succeeded(&self) -> bool {
        self.result >= 0
    }
}
