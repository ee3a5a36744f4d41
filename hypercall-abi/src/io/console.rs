//! The console page (`io/console.h`): two byte rings, one per direction, seen from the guest.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the ring towards the guest.
pub const INPUT_SIZE: usize = 1024;

/// Bytes of the ring from the guest.
pub const OUTPUT_SIZE: usize = 2048;

/// The page. Indices count on without wrapping.
#[doc(alias = "xencons_interface")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConsoleInterface {
    /// What is typed.
    #[doc(alias = "in")]
    pub input: [u8; 1024],
    /// What is printed.
    #[doc(alias = "out")]
    pub output: [u8; 2048],
    /// Read by the guest up to here.
    #[doc(alias = "in_cons")]
    pub input_consumer: u32,
    /// Written by the daemon up to here.
    #[doc(alias = "in_prod")]
    pub input_producer: u32,
    /// Read by the daemon up to here.
    #[doc(alias = "out_cons")]
    pub output_consumer: u32,
    /// Written by the guest up to here.
    #[doc(alias = "out_prod")]
    pub output_producer: u32,
}

zeroed_default!(ConsoleInterface);
