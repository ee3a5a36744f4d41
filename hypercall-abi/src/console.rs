//! The hypervisor's own console (`xen.h`): `console_io(command, count, buffer)`.

/// Commands of `console_io`.
pub mod op {
    /// Print `count` bytes.
    #[doc(alias = "CONSOLEIO_write")]
    pub const WRITE: u32 = 0;
    /// Read at most `count` bytes; returns how many.
    #[doc(alias = "CONSOLEIO_read")]
    pub const READ: u32 = 1;
}
