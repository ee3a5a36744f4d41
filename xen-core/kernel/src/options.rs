//! The boot command line. (To come.)

/// What the boot command line asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {}

impl Options {
    /// Take a command line apart.
    pub fn parse(_line: &str) -> Self {
        Options {}
    }
}
