//! Guest configurations: xl.cfg files, as operators have them.

mod disk;
mod guest;
mod interface;
mod paths;
mod syntax;

pub use disk::Disk;
pub use guest::{Action, GuestConfig};
pub use interface::{Interface, MacAddress};

use crate::failure::{Context, Failure, Result};
use std::path::Path;
use syntax::{Content, Entry};

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
    let config = GuestConfig::from_entries(&entries, Some(path))?;
    check_files(&entries, &config)?;
    Ok(config)
}

/// A file that is not there is a mistake in the line that names it.
fn check_files(entries: &[Entry], config: &GuestConfig) -> Result<()> {
    for entry in entries {
        match (entry.key.as_str(), &entry.value.content) {
            ("kernel", _) => check_file(&config.kernel, &entry.value.place, "a PVH kernel")?,
            ("ramdisk", Content::Text(path)) => {
                check_file(Path::new(path), &entry.value.place, "an initramfs")?;
            }
            ("disk", Content::List(values)) => {
                for (value, disk) in values.iter().zip(&config.disks) {
                    check_file(&disk.target, &value.place, "a raw image or a block device")?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_file(path: &Path, place: &Place, expected: &str) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(place.fail(
            format!("{}: {error}", path.display()),
            format!("expected the path of {expected}"),
        )),
    }
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
