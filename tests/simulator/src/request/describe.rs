//! A request as a line of a script: the call's name, its sub-operation, and its arguments decoded.

use core::fmt;

use super::Request;

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.call)
    }
}
