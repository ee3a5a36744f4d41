//! The table of everything that `hypercall-abi` declares, generated from its source. See `tests/layout.rs`, which compares it
//! with Xen's C headers.

use core::mem::offset_of;

/// A structure.
pub struct Structure {
    /// Path within `hypercall-abi`.
    pub rust: &'static str,
    /// Name in C; empty when the source names none.
    pub c: &'static str,
    /// Whether it has C's layout; the others are newtypes.
    pub plain: bool,
    /// Bytes.
    pub size: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A field of a structure.
pub struct Field {
    /// Name.
    pub rust: &'static str,
    /// Name in C, or a path to a nested field; empty for padding that C's compiler inserts.
    pub c: &'static str,
    /// Bytes from the structure's start.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// A number.
pub struct Constant {
    /// Path within `hypercall-abi`.
    pub rust: &'static str,
    /// Name in C; empty when the source names none.
    pub c: &'static str,
    /// Value, sign-extended to 64 bits.
    pub value: u64,
}

const fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));
