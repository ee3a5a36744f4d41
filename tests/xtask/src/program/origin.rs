//! Where an instruction came from: file and line, inlined or not.

use std::path::Path;

use addr2line::Context;
use addr2line::gimli::{self, EndianSlice, RunTimeEndian};
use anyhow::Result;
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection};

type Slice<'file> = EndianSlice<'file, RunTimeEndian>;

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Origin {
    /// The file: below the checkout for our own, `crate-version/...` for others'.
    pub file: String,
    /// The line; 0 where the compiler merged several.
    pub line: u32,
    /// The column; 0 where it is not known.
    pub column: u32,
}

/// The line tables of the core.
pub struct Origins<'file>(Context<Slice<'file>>);

impl<'file> Origins<'file> {
    /// Reads the line tables of an ELF.
    pub fn parse(file: &'file [u8]) -> Result<Origins<'file>> {
        let elf = ElfFile64::<LittleEndian>::parse(file)?;
        let load = |id: gimli::SectionId| -> Result<Slice<'file>> {
            let data = match elf.section_by_name(id.name()) {
                Some(section) => section.data()?,
                None => &[],
            };
            Ok(Slice::new(data, RunTimeEndian::Little))
        };
        Ok(Origins(Context::from_dwarf(gimli::Dwarf::load(load)?)?))
    }

    /// The calls that an instruction stands in, innermost first: where it is written, then where that was inlined.
    pub fn chain(&self, address: u64) -> Vec<Origin> {
        let mut chain = Vec::new();
        let Ok(mut frames) = self.0.find_frames(address).skip_all_loads() else {
            return chain;
        };
        while let Ok(Some(frame)) = frames.next() {
            if let Some(location) = frame.location {
                chain.push(Origin {
                    file: location.file.map(shorten).unwrap_or_default(),
                    line: location.line.unwrap_or(0),
                    column: location.column.unwrap_or(0),
                });
            }
        }
        chain
    }
}

impl Origin {
    /// A place by the compiler's name for the file.
    pub fn new(file: &str, line: u32, column: u32) -> Origin {
        Origin {
            file: shorten(file),
            line,
            column,
        }
    }

    /// The crate it belongs to.
    pub fn crate_name(&self) -> String {
        crate_of(&self.file)
    }

    /// Whether it is the standard library's.
    pub fn is_library(&self) -> bool {
        self.file.starts_with("library/")
    }
}

/// A file's name without what differs between machines.
fn shorten(file: &str) -> String {
    for (mark, keep) in [("/registry/src/", 1), ("/rustc/", 1)] {
        if let Some((_, rest)) = file.split_once(mark) {
            return rest.splitn(keep + 1, '/').nth(keep).unwrap_or(rest).to_owned();
        }
    }
    if let Some((_, rest)) = file.split_once("/library/") {
        return format!("library/{rest}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap_or(root);
    match Path::new(file).strip_prefix(&root) {
        Ok(rest) => rest.display().to_string(),
        Err(_) => file.to_owned(),
    }
}

/// The crate of a shortened file: `kernel` for `xen-core/kernel/src/...`, `iced-x86` for `iced-x86-1.22.0/src/...`.
pub fn crate_of(file: &str) -> String {
    let mut parts = file.split('/');
    let first = parts.next().unwrap_or_default();
    match first {
        "library" => parts.next().unwrap_or("library").to_owned(),
        "xen-core" => parts.next().unwrap_or(first).to_owned(),
        "" => "unknown".to_owned(),
        _ => match first.rsplit_once('-') {
            Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name.to_owned(),
            _ => first.to_owned(),
        },
    }
}

/// Whether a crate is one of this repository's.
pub fn is_ours(name: &str) -> bool {
    [
        "kernel",
        "machine",
        "image",
        "boot",
        "kernel-image",
        "hypercall-abi",
    ]
    .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn files_are_named_the_same_on_every_machine() {
        let cases = [
            (
                "xen-core/kernel/src/lapic.rs",
                "xen-core/kernel/src/lapic.rs",
                "kernel",
            ),
            (
                "/h/.cargo/registry/src/x-1949/iced-x86-1.22.0/src/a.rs",
                "iced-x86-1.22.0/src/a.rs",
                "iced-x86",
            ),
            (
                "/rustc/5980/library/alloc/src/vec/mod.rs",
                "library/alloc/src/vec/mod.rs",
                "alloc",
            ),
            (
                "/h/toolchain/lib/rustlib/src/rust/library/core/src/a.rs",
                "library/core/src/a.rs",
                "core",
            ),
            (
                "kernel-image/src/unpack.rs",
                "kernel-image/src/unpack.rs",
                "kernel-image",
            ),
        ];
        for (name, file, crate_name) in cases {
            let origin = Origin::new(name, 1, 1);
            assert_eq!(
                (origin.file.as_str(), origin.crate_name().as_str()),
                (file, crate_name)
            );
        }
    }
}
