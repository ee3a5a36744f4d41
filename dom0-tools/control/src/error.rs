//! What can go wrong, and in which operation.

use rustix::io::Errno;

/// A refused operation: what was tried, and the hypervisor's or the kernel's reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {}", describe(*.errno))]
pub struct Error {
    /// What was tried, in the terms of Xen's public interface.
    pub operation: &'static str,
    /// Why it was refused. Xen's numbers are Linux's.
    pub errno: Errno,
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Ties an error number to the operation that got it.
    pub fn new(operation: &'static str, errno: Errno) -> Self {
        Self { operation, errno }
    }

    /// True when the domain, or whatever else was named, does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno, Errno::SRCH | Errno::NOENT)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = std::io::Error::from_raw_os_error(error.errno.raw_os_error()).kind();
        std::io::Error::new(kind, error)
    }
}

/// Lets `.map_err(failed("..."))` name the operation.
pub(crate) fn failed(operation: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::new(operation, errno)
}

fn describe(errno: Errno) -> String {
    std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string()
}
