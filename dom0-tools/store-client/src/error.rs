//! What can go wrong with the store.

/// A failed request, or no store to ask.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody serves the store.
    #[error("no store daemon answers at /run/xenstored/socket, and /dev/xen/xenbus cannot be opened")]
    NoDaemon,
    /// The connection broke.
    #[error("the connection to the store broke: {0}")]
    Connection(#[from] std::io::Error),
    /// No answer came.
    #[error("the store daemon does not answer")]
    Timeout,
    /// The answer makes no sense.
    #[error("the store daemon's answer makes no sense: {0}")]
    Protocol(&'static str),
    /// More than fits a message.
    #[error("a value is too long for the store")]
    TooLong,
    /// The daemon said no.
    #[error("the store refuses to {action} {subject}: {code}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// On what.
        subject: String,
        /// The error's name, as in C.
        code: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// True when the node does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "ENOENT")
    }
}
