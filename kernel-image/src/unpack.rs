//! From a kernel file as distributions ship it to the ELF file inside.
//!
//! A Linux bzImage is a boot sector, a setup part and a payload: the compressed ELF kernel. The setup header
//! says where the payload lies; its first bytes say how it is compressed.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::KernelFault;

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
        [0x1f, 0x8b, ..] => unpack_gzip(payload, limit),
        [0xfd, b'7', b'z', b'X'] => unpack_xz(payload, limit),
        [0x28, 0xb5, 0x2f, 0xfd] => unpack_zstd(payload, limit),
        [0x02, 0x21, 0x4c, 0x18] => unpack_lz4(&payload[4..], limit),
        _ => Err(KernelFault::UnknownCompression(magic)),
    }
}

fn corrupt(format: &'static str, reason: impl ToString) -> KernelFault {
    KernelFault::Corrupt {
        format,
        reason: reason.to_string(),
    }
}

/// Everything that `read` gives. Linux' build puts the unpacked size behind the payload: when that is right, as it is,
/// nothing is ever moved; when it is not, the buffer grows.
fn collect(
    payload: &[u8],
    limit: u64,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, KernelFault>,
) -> Result<Vec<u8>, KernelFault> {
    const SMALLEST: usize = 1 << 20;
    let announced = payload
        .last_chunk::<4>()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
    let plausible = announced > payload.len() && announced as u64 <= limit;
    // One byte more than announced, so that the end is seen without growing.
    let mut unpacked = Vec::new();
    let first = if plausible {
        announced.saturating_add(1)
    } else {
        SMALLEST
    };
    enlarge(&mut unpacked, first, limit)?;
    let mut length = 0usize;
    loop {
        if length == unpacked.len() {
            if length as u64 > limit {
                return Err(KernelFault::LargerThanMemory(limit));
            }
            enlarge(&mut unpacked, length.saturating_mul(2), limit)?;
        }
        match read(unpacked.get_mut(length..).unwrap_or_default())? {
            0 => break,
            count => length = length.saturating_add(count),
        }
    }
    if length as u64 > limit {
        return Err(KernelFault::LargerThanMemory(limit));
    }
    unpacked.truncate(length);
    Ok(unpacked)
}

/// Have room for so many bytes. What a file announces is no reason to run out of memory.
fn enlarge(bytes: &mut Vec<u8>, size: usize, limit: u64) -> Result<(), KernelFault> {
    bytes
        .try_reserve_exact(size.saturating_sub(bytes.len()))
        .map_err(|_| KernelFault::LargerThanMemory(limit))?;
    bytes.resize(size, 0);
    Ok(())
}

fn unpack_xz(payload: &[u8], limit: u64) -> Result<Vec<u8>, KernelFault> {
    use lzma_rust2::Read;
    // The stream says how far back it refers, up to 4 GiB, and the reader keeps as much. Linux' build says 32 MiB; nothing
    // refers to before the beginning of what may come out.
    const USUAL: u64 = 64 << 20;
    let kept = u32::try_from(limit.max(USUAL) >> 10).unwrap_or(u32::MAX - 1);
    let mut reader = lzma_rust2::XzReader::new_mem_limit(payload, false, kept);
    // The library's errors have no text of their own.
    collect(payload, limit, |into| {
        reader
            .read(into)
            .map_err(|error| corrupt("xz", format!("{error:?}")))
    })
}

fn unpack_zstd(payload: &[u8], limit: u64) -> Result<Vec<u8>, KernelFault> {
    use ruzstd::io::Read;
    let mut decoder =
        ruzstd::decoding::StreamingDecoder::new(payload).map_err(|error| corrupt("zstd", error))?;
    collect(payload, limit, |into| {
        decoder.read(into).map_err(|error| corrupt("zstd", error))
    })
}

/// A gzip member (RFC 1952): header with optional fields, deflate stream, checksum and length.
fn unpack_gzip(payload: &[u8], limit: u64) -> Result<Vec<u8>, KernelFault> {
    const HEADER: usize = 10;
    const TRAILER: usize = 8;
    let truncated = || corrupt("gzip", "the stream is incomplete");
    let flags = *payload.get(3).ok_or_else(truncated)?;
    let mut start = HEADER;
    if flags & 4 != 0 {
        let length = payload
            .get(start..start.saturating_add(2))
            .ok_or_else(truncated)?;
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        start = start.saturating_add(2).saturating_add(length);
    }
    // A file name and a comment, each closed by a zero.
    for present in [flags & 8 != 0, flags & 16 != 0] {
        if present {
            let rest = payload.get(start..).ok_or_else(truncated)?;
            let end = rest.iter().position(|&byte| byte == 0).ok_or_else(truncated)?;
            start = start.saturating_add(end).saturating_add(1);
        }
    }
    if flags & 2 != 0 {
        start = start.saturating_add(2);
    }
    let end = payload.len().checked_sub(TRAILER).ok_or_else(truncated)?;
    let stream = payload.get(start..end).ok_or_else(truncated)?;
    let limit_here = usize::try_from(limit).unwrap_or(usize::MAX);
    miniz_oxide::inflate::decompress_to_vec_with_limit(stream, limit_here).map_err(|error| {
        match error.status {
            miniz_oxide::inflate::TINFLStatus::HasMoreOutput => KernelFault::LargerThanMemory(limit),
            status => corrupt("gzip", format!("{status:?}")),
        }
    })
}

/// The "legacy" LZ4 frames that kernel builds use: blocks of up to 8 MiB, each behind its packed length.
/// The kernel build adds four bytes with the unpacked size, which are too few for a block.
fn unpack_lz4(mut blocks: &[u8], limit: u64) -> Result<Vec<u8>, KernelFault> {
    const BLOCK: usize = 8 << 20;
    let mut unpacked = Vec::new();
    let mut buffer = Vec::new();
    enlarge(&mut buffer, BLOCK, limit)?;
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        if rest.is_empty() {
            break;
        }
        let length = u32::from_le_bytes(*length) as usize;
        let Some((block, rest)) = rest.split_at_checked(length) else {
            return Err(corrupt("lz4", "a block is incomplete"));
        };
        let size =
            lz4_flex::block::decompress_into(block, &mut buffer).map_err(|error| corrupt("lz4", error))?;
        let block = buffer.get(..size).unwrap_or_default();
        unpacked
            .try_reserve(block.len())
            .map_err(|_| KernelFault::LargerThanMemory(limit))?;
        unpacked.extend_from_slice(block);
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
        let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        file.extend(miniz_oxide::deflate::compress_to_vec(bytes, 1));
        file.extend([0; 8]);
        file
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
    fn an_lz4_payloads_size_is_no_block_even_if_it_is_zero() {
        let payload = [2, 0x21, 0x4c, 0x18, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(elf_file(&bzimage(&payload), LIMIT).unwrap().as_ref(), b"");
    }

    #[test]
    fn text_is_no_kernel() {
        assert_eq!(elf_file(b"#!/bin/sh\n", LIMIT), Err(KernelFault::UnknownFormat));
        assert_eq!(elf_file(b"", LIMIT), Err(KernelFault::UnknownFormat));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let image = bzimage(&gzip(&[7; 5000]));
        // The trailer's checksum is not looked at: what counts is the stream.
        for length in 0..image.len() - 8 {
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
    fn an_xz_stream_that_wants_gigabytes_to_unpack_gets_none() {
        // Stream header, and the header of a block with the largest dictionary: 4 GiB.
        let mut payload = vec![0xfd, b'7', b'z', b'X', b'Z', 0, 0, 0, 0xff, 0x12, 0xd9, 0x41];
        payload.extend([2, 0, 0x21, 1, 40, 0, 0, 0]);
        payload.extend(0xb311a0e6_u32.to_le_bytes());
        payload.extend([0; 16]);
        match elf_file(&bzimage(&payload), LIMIT) {
            Err(KernelFault::Corrupt { format: "xz", reason }) => {
                assert!(reason.contains("memory"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_compression_is_named() {
        assert_eq!(
            elf_file(&bzimage(b"abcdef"), LIMIT),
            Err(KernelFault::UnknownCompression(*b"abcd"))
        );
    }
}
