//! Error numbers of hypercalls (`errno.h`).

use core::fmt;

/// Why a hypercall was refused. The caller sees the negated number in its result register.
#[doc(alias = "xen_errno")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(u16);

macro_rules! errors {
    ($($(#[$attribute:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Error {
            $(
                #[doc = concat!("Number ", stringify!($number), ": ", $text, ".")]
                $(#[$attribute])*
                pub const $name: Error = Error($number);
            )*

            /// Every error of the ABI with its name.
            pub const ALL: &'static [(Error, &'static str)] = &[$((Error::$name, stringify!($name))),*];

            /// The conventional name, as `EINVAL`.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "unknown error",
                }
            }

            /// What the error means, in a few words.
            pub const fn description(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown error",
                }
            }
        }
    };
}

errors! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such entry";
    ESRCH = 3, "no such domain";
    EINTR = 4, "interrupted";
    EIO = 5, "input or output error";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "argument list too long";
    ENOEXEC = 8, "not an executable image";
    EBADF = 9, "bad file number";
    ECHILD = 10, "no child";
    #[doc(alias = "EWOULDBLOCK")]
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied or interface version refused";
    EFAULT = 14, "bad address";
    EBUSY = 16, "busy";
    EEXIST = 17, "exists already";
    EXDEV = 18, "crosses devices";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "table overflow";
    EMFILE = 24, "too many open";
    ENOSPC = 28, "no space left";
    EROFS = 30, "read only";
    EMLINK = 31, "too many links";
    EDOM = 33, "argument out of the function's domain";
    ERANGE = 34, "result out of range";
    #[doc(alias = "EDEADLOCK")]
    EDEADLK = 35, "would deadlock";
    ENAMETOOLONG = 36, "name too long";
    ENOLCK = 37, "no locks available";
    ENOSYS = 38, "not implemented";
    ENOTEMPTY = 39, "not empty";
    ENODATA = 61, "no data available";
    ETIME = 62, "timer expired";
    EBADMSG = 74, "bad message";
    EOVERFLOW = 75, "value too large";
    EILSEQ = 84, "illegal byte sequence";
    ERESTART = 85, "to be restarted; never seen by a guest";
    ENOTSOCK = 88, "not a socket";
    EMSGSIZE = 90, "message too large";
    EOPNOTSUPP = 95, "operation not supported";
    EADDRINUSE = 98, "address in use";
    EADDRNOTAVAIL = 99, "address not available";
    ENOBUFS = 105, "no buffer space";
    EISCONN = 106, "already connected";
    ENOTCONN = 107, "not connected";
    ETIMEDOUT = 110, "timed out";
    ECONNREFUSED = 111, "connection refused";
}

/// Results from here up to -1 are errors; Linux draws the same line.
const LOWEST_RESULT: i64 = -4095;

impl Error {
    /// The positive number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// The value for the caller's result register: the negated number.
    pub const fn as_result(self) -> i64 {
        -(self.0 as i64)
    }

    /// The error that a hypercall's result stands for, numbers unknown to us included; `None` for a success.
    pub const fn from_result(result: i64) -> Option<Error> {
        if result < 0 && result >= LOWEST_RESULT {
            Some(Error(-result as u16))
        } else {
            None
        }
    }

    /// The error with this positive number, as the tools get it in the operating system's `errno`.
    pub const fn from_number(number: i32) -> Option<Error> {
        Self::from_result(-(number as i64))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown error" => write!(formatter, "Error({})", self.0),
            name => formatter.write_str(name),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({self:?})", self.description())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;

    #[test]
    fn results_and_errors_convert_both_ways() {
        for &(error, name) in Error::ALL {
            assert_eq!(Error::from_result(error.as_result()), Some(error));
            assert_eq!(Error::from_number(error.number()), Some(error));
            assert_eq!(error.name(), name);
        }
    }

    #[test]
    fn successes_and_addresses_are_no_errors() {
        assert_eq!(Error::from_result(0), None);
        assert_eq!(Error::from_result(17), None);
        assert_eq!(Error::from_result(i64::MIN), None);
        assert_eq!(Error::from_number(0), None);
        assert_eq!(Error::from_number(-3), None);
        assert_eq!(Error::from_number(i32::MIN), None);
    }

    #[test]
    fn a_number_unknown_to_us_is_shown_as_a_number() {
        assert_eq!(format!("{:?}", Error::from_result(-4000).unwrap()), "Error(4000)");
        assert_eq!(format!("{}", Error::EINVAL), "invalid argument (EINVAL)");
    }
}
