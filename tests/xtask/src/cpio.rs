//! Writing an initramfs: the `newc` archive format, which the kernel's `Documentation/driver-api/early-userspace`
//! describes, in a gzip stream.
//!
//! Written here because it is a header and some padding, and because the result must be the same bytes whoever builds
//! it: owner 0, time 0, numbered in order.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;

/// An initramfs that is being written.
pub struct Archive<W: Write> {
    stream: GzEncoder<W>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// An empty archive into `sink`.
    pub fn new(sink: W) -> Archive<W> {
        // Fast: the bulk is kernels and modules, of which the first are packed already.
        let stream = GzEncoder::new(sink, Compression::fast());
        Archive {
            stream,
            folders: BTreeSet::new(),
            entries: 0,
        }
    }

    /// A folder and those above it.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        if path.is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        self.parent(path)?;
        self.entry(path, FOLDER, (0, 0), &[])
    }

    /// A file with this content; `mode` is its permissions.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.parent(path)?;
        self.entry(path, FILE | mode, (0, 0), content)
    }

    /// A file copied from the machine that builds.
    pub fn copy(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, mode, &content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> Result<()> {
        self.parent(path)?;
        self.entry(path, LINK, (0, 0), to.as_bytes())
    }

    /// A character device: the console that the kernel opens for its first process.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.parent(path)?;
        self.entry(path, DEVICE, (major, minor), &[])
    }

    /// Ends the archive and returns the sink.
    pub fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.stream.finish()?)
    }

    fn parent(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((above, _)) => self.folder(above),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.entries += 1;
        let length = u32::try_from(content.len()).context("a file of an initramfs must be below 4 GiB")?;
        let name_length = path.len() as u32 + 1;
        let links = 1;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            length,
            0,
            0,
            device.0,
            device.1,
            name_length,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.stream.write_all(header.as_bytes())?;
        self.stream.write_all(path.as_bytes())?;
        self.padded(&[0], header.len() + path.len())?;
        self.padded(content, 0)
    }

    /// Writes `bytes` and zeros up to the next multiple of four, counting what was `before` them.
    fn padded(&mut self, bytes: &[u8], before: usize) -> Result<()> {
        self.stream.write_all(bytes)?;
        let over = (before + bytes.len()) % 4;
        if over > 0 {
            self.stream.write_all(&[0; 3][..4 - over])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::Archive;

    #[test]
    fn entries_are_aligned_and_folders_come_first() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b/c", 0o755, b"hello").unwrap();
        archive.file("a/d", 0o644, b"").unwrap();
        let packed = archive.finish().unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut bytes)
            .unwrap();
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (field(6), field(11));
            names.push(String::from_utf8(bytes[at + 110..at + 110 + name_size - 1].to_vec()).unwrap());
            at += (110 + name_size).next_multiple_of(4) + size.next_multiple_of(4);
        }
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d", "TRAILER!!!"]);
        assert_eq!(at, bytes.len());
    }
}
