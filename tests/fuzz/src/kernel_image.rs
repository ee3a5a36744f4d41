//! Kernel files, as an operator or a boot loader passes them: bzImage, what is packed in it, ELF.

use kernel_image::{Kernel, KernelFault, elf_file, sample};

use crate::input::Input;

/// The memory of the guest that the kernel is for.
const LIMIT: u64 = 1 << 20;
const SECTOR: usize = 512;

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let rest = input.rest();
    match kind % 8 {
        // A whole file.
        0 => look(rest),
        // A bzImage's payload: any, or after the first bytes of a known compression.
        1 => look(&bzimage(rest)),
        2 => look(&bzimage(&[&[0x1f, 0x8b, 8], rest].concat())),
        3 => look(&bzimage(&[&[0xfd, b'7', b'z', b'X', b'Z', 0], rest].concat())),
        4 => look(&bzimage(&[&[0x28, 0xb5, 0x2f, 0xfd], rest].concat())),
        5 => look(&bzimage(&[&[0x02, 0x21, 0x4c, 0x18], rest].concat())),
        // What was packed honestly comes out as it was.
        6 => comes_back(rest, &gzip(rest)),
        _ => comes_back(rest, &lz4(rest)),
    }
}

fn look(file: &[u8]) {
    match elf_file(file, LIMIT) {
        Ok(unpacked) => {
            let as_it_is = unpacked.as_ptr() == file.as_ptr();
            assert!(
                as_it_is || unpacked.len() as u64 <= LIMIT,
                "unpacked past the limit"
            );
            parse(&unpacked);
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
    parse(file);
}

fn parse(file: &[u8]) {
    let kernel = match Kernel::parse(file) {
        Ok(kernel) => kernel,
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            return;
        }
    };
    assert!(!kernel.segments.is_empty());
    let mut holds_entry = false;
    for segment in &kernel.segments {
        let bytes = file.get(segment.file.clone()).expect("a segment inside the file");
        assert!(segment.memory_size != 0 && bytes.len() as u64 <= segment.memory_size);
        assert!(kernel.end() >= segment.address.saturating_add(segment.memory_size));
        holds_entry |= kernel.entry.wrapping_sub(segment.address) < segment.memory_size;
    }
    assert!(holds_entry, "an entry point that is nowhere");
}

fn comes_back(content: &[u8], payload: &[u8]) {
    match elf_file(&bzimage(payload), LIMIT) {
        Ok(unpacked) => assert_eq!(unpacked.as_ref(), content),
        Err(fault) => {
            let larger = matches!(fault, KernelFault::LargerThanMemory(_));
            assert!(larger && content.len() as u64 > LIMIT, "{fault}");
        }
    }
}

/// A boot sector, a setup sector and a payload.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 2 * SECTOR];
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    file.extend(miniz_oxide::deflate::compress_to_vec(bytes, 1));
    file.extend([0; 8]);
    file
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(bytes);
    let mut file = vec![0x02, 0x21, 0x4c, 0x18];
    file.extend((packed.len() as u32).to_le_bytes());
    file.extend(packed);
    file.extend((bytes.len() as u32).to_le_bytes());
    file
}

/// A small kernel, as it is and packed in each way that can be written here or put down by hand.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let elf = sample::elf(0x10_0000, b"code of a kernel", 0x3000, Some(0x10_0002));
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    // A frame of one stored block: window of 1 KiB, no checksum.
    let mut zstd = vec![0x00, 0x00];
    zstd.extend(&((elf.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    zstd.extend(&elf);
    vec![
        ("elf", with(0, &elf)),
        (
            "elf_without_note",
            with(0, &sample::elf(0x10_0000, b"code", 4, None)),
        ),
        ("bzimage", with(0, &bzimage(&elf))),
        ("stored", with(1, &elf)),
        ("gzip", with(2, &gzip(&elf)[3..])),
        ("xz", with(3, &xz(&elf))),
        ("zstd", with(4, &zstd)),
        ("lz4", with(5, &lz4(&elf)[4..])),
        ("gzip_there_and_back", with(6, &elf)),
        ("lz4_there_and_back", with(7, &elf)),
    ]
}

/// An xz stream of one block of one stored chunk, without its magic: dictionary of 64 KiB, no check.
fn xz(bytes: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| crc32(bytes).to_le_bytes();
    let flags = [0, 0];
    let mut stream = flags.to_vec();
    stream.extend(crc(&flags));
    // Block header: 12 bytes, one filter (LZMA2, one property).
    let header = [2, 0, 0x21, 1, 8, 0, 0, 0];
    let block_start = stream.len();
    stream.extend(header);
    stream.extend(crc(&header));
    stream.push(1);
    stream.extend((bytes.len() as u16 - 1).to_be_bytes());
    stream.extend(bytes);
    stream.push(0);
    let unpadded = stream.len() - block_start;
    stream.resize(block_start + unpadded.next_multiple_of(4), 0);
    let mut index = vec![0, 1];
    index.extend(variable_length(unpadded));
    index.extend(variable_length(bytes.len()));
    index.resize(index.len().next_multiple_of(4), 0);
    index.extend(crc(&index.clone()));
    let footer = [&((index.len() / 4 - 1) as u32).to_le_bytes()[..], &flags].concat();
    stream.extend(&index);
    stream.extend(crc(&footer));
    stream.extend(footer);
    stream.extend(b"YZ");
    stream
}

fn variable_length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut sum, &byte| {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 != 0 { 0xedb8_8320 } else { 0 };
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_packed_by_hand_are_what_they_claim() {
        let elf = sample::elf(0x10_0000, b"code of a kernel", 0x3000, Some(0x10_0002));
        for (name, magic) in [
            ("xz", &[0xfd, b'7', b'z', b'X', b'Z', 0][..]),
            ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
            ("gzip", &[0x1f, 0x8b, 8]),
            ("lz4", &[0x02, 0x21, 0x4c, 0x18]),
        ] {
            let (_, seed) = seeds().into_iter().find(|seed| seed.0 == name).unwrap();
            let file = bzimage(&[magic, &seed[1..]].concat());
            let unpacked = elf_file(&file, LIMIT).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert_eq!(unpacked.as_ref(), elf, "{name}");
        }
    }
}
