//! Building the hypervisor and giving it the form that loaders take.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::house::House;

const TARGET: &str = "x86_64-unknown-none";

/// Which hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flavour {
    /// What ships.
    #[default]
    Release,
    /// The same with its own assertions, which audits itself at stated points.
    Checked,
}

impl Flavour {
    /// Cargo's profile for it.
    fn profile(self) -> &'static str {
        match self {
            Flavour::Release => "release",
            Flavour::Checked => "checked",
        }
    }
}

/// Builds the bootable image.
pub fn build(house: &House, flavour: Flavour) -> Result<()> {
    let mut cargo = command::cargo(house.root());
    cargo.args(["build", "--profile", flavour.profile()]);
    cargo.args(["--target", TARGET, "--package", "image"]);
    command::run(&mut cargo).context("the hypervisor does not build")?;
    let built = house.built(TARGET, flavour.profile(), "xenolith");
    let elf = fs::read(&built).with_context(|| format!("the build left no {}", built.display()))?;
    fs::write(house.hypervisor_image(flavour), as_elf32(&elf)?)?;
    Ok(())
}

/// The hypervisor as it was linked: 64-bit, with symbols and line tables.
pub fn linked(house: &House) -> PathBuf {
    house.built(TARGET, "release", "xenolith")
}

/// The same program with 32-bit headers.
///
/// Multiboot 1 loaders enter in 32-bit mode, and QEMU's refuses a 64-bit ELF outright. Nothing of the program changes:
/// a loader looks at the physical addresses and sizes of the segments only, and those are below 4 GiB.
pub fn as_elf32(elf: &[u8]) -> Result<Vec<u8>> {
    const CLASS: usize = 4;
    if elf.get(..4) != Some(b"\x7fELF") {
        bail!("the linker made no ELF");
    }
    if elf.get(CLASS) == Some(&1) {
        return Ok(elf.to_vec());
    }
    let table = narrow(read64(elf, 0x20)?)? as usize;
    let size = usize::from(read16(elf, 0x36)?);
    let count = usize::from(read16(elf, 0x38)?);
    let mut headers = Vec::new();
    let mut content = Vec::new();
    let content_at = 0x34 + 0x20 * count;
    for index in 0..count {
        let header = table + index * size;
        let kind = read32(elf, header)?;
        let flags = read32(elf, header + 4)?;
        let offset = narrow(read64(elf, header + 8)?)? as usize;
        let physical = read64(elf, header + 0x18)?;
        let in_file = narrow(read64(elf, header + 0x20)?)? as usize;
        let in_memory = read64(elf, header + 0x28)?;
        let bytes = elf
            .get(offset..offset + in_file)
            .context("a segment lies beyond the end of the ELF")?;
        const LOAD: u32 = 1;
        const NOTE: u32 = 4;
        if kind != LOAD && kind != NOTE {
            continue;
        }
        // Keep the alignment within a page that the addresses have: some loaders map rather than copy.
        let here = content_at + content.len();
        let padding = (physical as usize).wrapping_sub(here) % 0x1000;
        content.resize(content.len() + padding, 0);
        let start = content_at + content.len();
        content.extend_from_slice(bytes);
        let physical = narrow(physical)?;
        let fields = [
            kind,
            narrow(start as u64)?,
            physical,
            physical,
            in_file as u32,
            narrow(in_memory)?,
            flags,
            0x1000,
        ];
        headers.push(fields);
    }
    let mut out = Vec::with_capacity(content_at + content.len());
    out.extend_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend_from_slice(&2u16.to_le_bytes()); // an executable
    out.extend_from_slice(&3u16.to_le_bytes()); // for the 80386
    let entry = narrow(physical_entry(elf, table, size, count)?)?;
    for field in [1, entry, 0x34, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in [0x34u16, 0x20, headers.len() as u16, 0x28, 0, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    for field in headers.iter().flatten() {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.resize(content_at, 0);
    out.extend_from_slice(&content);
    Ok(out)
}

/// The entry point where the loader finds it: some linker scripts give it as a virtual address.
fn physical_entry(elf: &[u8], table: usize, size: usize, count: usize) -> Result<u64> {
    let entry = read64(elf, 0x18)?;
    for index in 0..count {
        let header = table + index * size;
        let (address, physical) = (read64(elf, header + 0x10)?, read64(elf, header + 0x18)?);
        let length = read64(elf, header + 0x28)?;
        if read32(elf, header)? == 1 && (address..address.saturating_add(length)).contains(&entry) {
            return Ok(entry - address + physical);
        }
    }
    Ok(entry)
}

fn narrow(value: u64) -> Result<u32> {
    u32::try_from(value).with_context(|| format!("{value:#x} in the hypervisor's ELF is above 4 GiB"))
}

fn bytes<const N: usize>(elf: &[u8], at: usize) -> Result<[u8; N]> {
    let slice = elf.get(at..at + N).context("the hypervisor's ELF is cut short")?;
    Ok(slice.try_into().expect("the slice has that length"))
}

fn read16(elf: &[u8], at: usize) -> Result<u16> {
    bytes(elf, at).map(u16::from_le_bytes)
}

fn read32(elf: &[u8], at: usize) -> Result<u32> {
    bytes(elf, at).map(u32::from_le_bytes)
}

fn read64(elf: &[u8], at: usize) -> Result<u64> {
    bytes(elf, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::as_elf32;

    /// A 64-bit ELF with one segment of four bytes, linked high and loaded at 1 MiB.
    fn sample() -> Vec<u8> {
        let mut elf = vec![0u8; 0x40 + 0x38];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x18..0x20].copy_from_slice(&0xffff_8000_0010_0002u64.to_le_bytes());
        elf[0x20..0x28].copy_from_slice(&0x40u64.to_le_bytes());
        elf[0x36..0x38].copy_from_slice(&0x38u16.to_le_bytes());
        elf[0x38..0x3a].copy_from_slice(&1u16.to_le_bytes());
        let fields = [0x78u64, 0xffff_8000_0010_0000, 0x10_0000, 4, 0x2000, 0x1000];
        elf[0x40..0x44].copy_from_slice(&1u32.to_le_bytes());
        for (index, field) in fields.iter().enumerate() {
            elf[0x48 + index * 8..0x50 + index * 8].copy_from_slice(&field.to_le_bytes());
        }
        elf.extend_from_slice(b"core");
        elf
    }

    #[test]
    fn segments_and_entry_become_physical() {
        let elf = as_elf32(&sample()).unwrap();
        let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
        assert_eq!(elf[4], 1, "32-bit");
        assert_eq!(word(0x18), 0x10_0002, "entry");
        let (offset, physical, in_file, in_memory) = (word(0x38), word(0x40), word(0x44), word(0x48));
        assert_eq!((physical, in_file, in_memory), (0x10_0000, 4, 0x2000));
        assert_eq!(&elf[offset as usize..offset as usize + 4], b"core");
        assert_eq!(offset % 0x1000, physical % 0x1000);
        assert_eq!(as_elf32(&elf).unwrap(), elf, "a 32-bit one stays as it is");
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let elf = sample();
        for length in 0..elf.len() {
            assert!(as_elf32(&elf[..length]).is_err(), "{length} bytes");
        }
    }
}
