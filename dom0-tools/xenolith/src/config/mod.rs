//! Guest configurations: xl.cfg files, as operators have them.

mod disk;
mod guest;
mod interface;
mod keys;
mod paths;
mod scheduling;
pub mod syntax;

pub use disk::Disk;
pub use guest::{Action, GuestConfig};
pub use interface::{Interface, MacAddress};
pub use scheduling::{Placement, Scheduling, cap_max};

use crate::failure::{Context, Failure, Result};
use std::path::Path;

/// Reads a configuration file; `settings` override what it says.
pub fn load(path: &Path, settings: &[String]) -> Result<GuestConfig> {
    let text = std::fs::read_to_string(path).context(format_args!("cannot read {}", path.display()))?;
    let mut entries = syntax::parse(&path.display().to_string(), &text)?;
    for setting in settings {
        let overriding = syntax::parse("command line", setting)?;
        entries.retain(|entry| overriding.iter().all(|new| new.key != entry.key));
        entries.extend(overriding);
    }
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut config = GuestConfig::from_entries(&entries, Some(path))?;
    paths::check(&entries)?;
    paths::make_absolute(&mut config);
    Ok(config)
}

/// Where in which file something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name, or what else it came from.
    pub source: String,
    /// The line, from 1.
    pub line: usize,
}

impl Place {
    /// A failure about what is written here.
    pub fn fail(&self, message: impl std::fmt::Display, expected: impl Into<String>) -> Failure {
        Failure::new(format!("{}:{}: {message}", self.source, self.line)).advise(expected)
    }
}
