//! The disk of the guest `web`: one partition with FAT, and the files that it serves.
//!
//! Written here by another implementation of FAT (`fatfs`) than the one that reads it in the guest.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::house::House;

const SECTOR: u64 = 512;
/// Where the partition begins, and the whole disk ends, in bytes.
const START: u64 = 2048 * SECTOR;
const SIZE: u64 = 8 << 20;
/// Bytes of the larger file.
const NUMBERS: usize = 300_000;

/// The image's place.
pub fn image(house: &House) -> PathBuf {
    house.target("web.img")
}

/// What is on it, by name.
pub fn files(house: &House) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = house.path("tests/guests/web/www");
    let mut files = vec![("numbers.bin".to_owned(), numbers())];
    for file in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let file = file?;
        files.push((
            file.file_name().to_string_lossy().into_owned(),
            fs::read(file.path())?,
        ));
    }
    files.sort();
    Ok(files)
}

/// Bytes without any order, the same each time.
fn numbers() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..NUMBERS).map(|_| next()).collect()
}

/// Writes the image.
pub fn write(house: &House) -> Result<()> {
    let path = image(house);
    let mut disk = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    disk.set_len(SIZE)?;
    disk.write_all(&partition_table())?;
    disk.seek(SeekFrom::Start(START))?;
    let mut partition = Partition(disk);
    fatfs::format_volume(
        &mut partition,
        fatfs::FormatVolumeOptions::new().volume_label(*b"WEB        "),
    )?;
    let system = fatfs::FileSystem::new(partition, fatfs::FsOptions::new())?;
    for (name, content) in files(house)? {
        system.root_dir().create_file(&name)?.write_all(&content)?;
    }
    system.unmount()?;
    Ok(())
}

/// The first sector: one partition of FAT16 by sector numbers, to the end.
fn partition_table() -> [u8; 512] {
    const FAT16: u8 = 0x0e;
    let mut sector = [0; 512];
    sector[446 + 4] = FAT16;
    sector[446 + 8..446 + 12].copy_from_slice(&((START / SECTOR) as u32).to_le_bytes());
    sector[446 + 12..446 + 16].copy_from_slice(&(((SIZE - START) / SECTOR) as u32).to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// The part of the disk behind [`START`].
struct Partition(File);

impl Read for Partition {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Partition {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Partition {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        let position = match position {
            SeekFrom::Start(offset) => SeekFrom::Start(START + offset),
            other => other,
        };
        let at = self.0.seek(position)?;
        at.checked_sub(START)
            .ok_or_else(|| std::io::Error::other("before the partition"))
    }
}
