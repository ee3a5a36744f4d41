//! What is told to the user when something goes wrong: what, and what to do about it.

use std::fmt::{self, Display};

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure without advice.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            advice: None,
        }
    }

    /// Adds what to do about it.
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Says what was being done when a lower layer failed.
pub trait Context<T> {
    /// Puts `what` before the cause.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| {
            let failure: Failure = error.into();
            Failure {
                message: format!("{what}: {}", failure.message),
                ..failure
            }
        })
    }
}

impl From<control::Error> for Failure {
    fn from(error: control::Error) -> Self {
        use rustix::io::Errno;
        let advice = match error.errno {
            Errno::NOENT | Errno::NXIO | Errno::NODEV if error.operation.starts_with("/dev/") => {
                "is this dom0 of a Xenolith or Xen host, with the modules xen-privcmd, xen-evtchn, xen-gntdev and loop loaded?"
            }
            Errno::ACCESS | Errno::PERM if error.operation.starts_with("/dev/") => "run it as root",
            Errno::ACCESS => {
                "the hypervisor speaks another version of the toolstack interface than Xen 4.17's"
            }
            Errno::NOSYS | Errno::OPNOTSUPP => "this hypervisor does not offer that operation",
            Errno::NOMEM => "free some memory: destroy a guest, or give dom0 less with dom0_mem=",
            _ => return Self::new(error.to_string()),
        };
        Self::new(error.to_string()).advise(advice)
    }
}

impl From<store_client::Error> for Failure {
    fn from(error: store_client::Error) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            store_client::Error::NoDaemon | store_client::Error::Timeout => {
                failure.advise("is xenstored running? start it, or look into its log")
            }
            _ => failure,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<builder::Error> for Failure {
    fn from(error: builder::Error) -> Self {
        use builder::{Error, KernelFault};
        let message = error.to_string();
        let advice = match error {
            Error::Hypervisor(error) => return error.into(),
            Error::Kernel(
                KernelFault::NotPvh | KernelFault::UnknownFormat | KernelFault::UnknownCompression(_),
            ) => {
                "give a Linux vmlinuz (5.0 or later, built with CONFIG_PVH), or an ELF file with a PVH entry note"
            }
            Error::Kernel(KernelFault::LargerThanMemory(_)) | Error::TooLittleGuestMemory { .. } => {
                "raise memory= in the configuration, or use a smaller kernel or initramfs"
            }
            Error::Kernel(_) => "fetch or build the kernel again: the file is damaged",
            Error::TooLittleFreeMemory { .. } => {
                "lower memory=, destroy another guest, or give dom0 less with dom0_mem="
            }
            Error::NoHardwareAssistance => {
                "enable virtualisation (AMD SVM with nested paging) in the firmware's setup"
            }
            Error::CommandLine | Error::Context(_) => return Self::new(message),
        };
        Self::new(message).advise(advice)
    }
}
