//! From a kernel file as distributions ship it to the ELF file inside.
//!
//! A Linux bzImage is a boot sector, a setup part and a payload: the compressed ELF kernel. The setup header
//! says where the payload lies; its first bytes say how it is compressed.

use crate::error::KernelFault;
use std::borrow::Cow;
use std::io::Read;

const ELF_MAGIC: &[u8] = b"\x7fELF";
const SETUP_SECTORS: usize = 0x1f1;
const SETUP_MAGIC: usize = 0x202;
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// The ELF file in `file`, unpacked if need be, and never larger than `limit` bytes.
pub fn elf_file(file: &[u8], limit: u64) -> Result<Cow<'_, [u8]>, KernelFault> {
    if file.starts_with(ELF_MAGIC) {
        return Ok(Cow::Borrowed(file));
    }
    if file.get(SETUP_MAGIC..SETUP_MAGIC + 4) != Some(b"HdrS") {
        return Err(KernelFault::UnknownFormat);
    }
    unpack(payload(file)?, limit).map(Cow::Owned)
}

fn payload(file: &[u8]) -> Result<&[u8], KernelFault> {
    let truncated = KernelFault::Truncated("the bzImage's setup header is incomplete");
    let word = |offset: usize| {
        let bytes = file.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let protocol = file.get(PROTOCOL..PROTOCOL + 2).ok_or(truncated.clone())?;
    if u16::from_le_bytes([protocol[0], protocol[1]]) < 0x208 {
        return Err(KernelFault::UnknownFormat);
    }
    // Zero means four, by tradition.
    let sectors = match file[SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * SECTOR + word(PAYLOAD_OFFSET).ok_or(truncated.clone())?;
    let length = word(PAYLOAD_LENGTH).ok_or(truncated)?;
    file.get(start..start + length)
        .ok_or(KernelFault::Truncated("the bzImage's payload is incomplete"))
}

fn unpack(payload: &[u8], limit: u64) -> Result<Vec<u8>, KernelFault> {
    let magic: [u8; 4] = payload
        .first_chunk()
        .copied()
        .ok_or(KernelFault::Truncated("the bzImage has no payload"))?;
    match magic {
        [0x7f, b'E', b'L', b'F'] => Ok(payload.to_vec()),
        [0x1f, 0x8b, ..] => collect("gzip", flate2::read::GzDecoder::new(payload), limit),
        [0xfd, b'7', b'z', b'X'] => collect("xz", lzma_rust2::XzReader::new(payload, false), limit),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder =
                ruzstd::decoding::StreamingDecoder::new(payload).map_err(|error| KernelFault::Corrupt {
                    format: "zstd",
                    reason: error.to_string(),
                })?;
            collect("zstd", decoder, limit)
        }
        [0x02, 0x21, 0x4c, 0x18] => unpack_lz4(&payload[4..], limit),
        _ => Err(KernelFault::UnknownCompression(magic)),
    }
}

fn collect(format: &'static str, decoder: impl Read, limit: u64) -> Result<Vec<u8>, KernelFault> {
    let mut unpacked = Vec::new();
    decoder
        .take(limit + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| KernelFault::Corrupt {
            format,
            reason: error.to_string(),
        })?;
    if unpacked.len() as u64 > limit {
        return Err(KernelFault::LargerThanMemory(limit));
    }
    Ok(unpacked)
}

/// The "legacy" LZ4 frames that kernel builds use: blocks of up to 8 MiB, each behind its packed length.
/// The kernel build adds four bytes with the unpacked size, which are too few for a block.
fn unpack_lz4(mut blocks: &[u8], limit: u64) -> Result<Vec<u8>, KernelFault> {
    const BLOCK: usize = 8 << 20;
    let corrupt = |reason: String| KernelFault::Corrupt {
        format: "lz4",
        reason,
    };
    let mut unpacked = Vec::new();
    let mut buffer = vec![0; BLOCK];
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((block, rest)) = rest.split_at_checked(length) else {
            if rest.is_empty() {
                break;
            }
            return Err(corrupt("a block is incomplete".into()));
        };
        let size = lz4_flex::block::decompress_into(block, &mut buffer)
            .map_err(|error| corrupt(error.to_string()))?;
        unpacked.extend_from_slice(&buffer[..size]);
        if unpacked.len() as u64 > limit {
            return Err(KernelFault::LargerThanMemory(limit));
        }
        blocks = rest;
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMIT: u64 = 64 << 20;

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 2 * SECTOR];
        file[SETUP_SECTORS] = 1;
        file[SETUP_MAGIC..SETUP_MAGIC + 4].copy_from_slice(b"HdrS");
        file[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend(payload);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn elf_passes_through() {
        assert_eq!(
            elf_file(b"\x7fELF rest", LIMIT).unwrap().as_ref(),
            b"\x7fELF rest"
        );
    }

    #[test]
    fn gzip_payload_is_unpacked() {
        let image = bzimage(&gzip(b"\x7fELF kernel"));
        assert_eq!(elf_file(&image, LIMIT).unwrap().as_ref(), b"\x7fELF kernel");
    }

    #[test]
    fn lz4_payload_is_unpacked() {
        let packed = lz4_flex::block::compress(b"\x7fELF kernel");
        let mut payload = vec![0x02, 0x21, 0x4c, 0x18];
        payload.extend((packed.len() as u32).to_le_bytes());
        payload.extend(&packed);
        payload.extend(11_u32.to_le_bytes());
        assert_eq!(
            elf_file(&bzimage(&payload), LIMIT).unwrap().as_ref(),
            b"\x7fELF kernel"
        );
    }

    #[test]
    fn text_is_no_kernel() {
        assert_eq!(elf_file(b"#!/bin/sh\n", LIMIT), Err(KernelFault::UnknownFormat));
        assert_eq!(elf_file(b"", LIMIT), Err(KernelFault::UnknownFormat));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let image = bzimage(&gzip(&[7; 5000]));
        for length in 0..image.len() {
            assert!(
                elf_file(&image[..length], LIMIT).is_err(),
                "accepted {length} bytes"
            );
        }
    }

    #[test]
    fn bombs_are_stopped() {
        let image = bzimage(&gzip(&vec![0; 3 << 20]));
        assert_eq!(
            elf_file(&image, 1 << 20),
            Err(KernelFault::LargerThanMemory(1 << 20))
        );
    }

    #[test]
    fn unknown_compression_is_named() {
        assert_eq!(
            elf_file(&bzimage(b"abcdef"), LIMIT),
            Err(KernelFault::UnknownCompression(*b"abcd"))
        );
    }
}
