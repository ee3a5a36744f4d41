//! What a boot loader left in memory, read by the multiboot readers of `boot`.

use std::cell::Cell;

use boot::{BootInfo, Handover, PhysicalMemory};

use crate::input::Input;

const MULTIBOOT_1: u32 = 0x2bad_b002;
const MULTIBOOT_2: u32 = 0x36d7_6289;
/// Where the information lies. Fixed, so that seeds can point into themselves.
const BASE: u32 = 0x9000;
/// The longest text that is kept of any string, with each byte replaced by three.
const TEXT_LIMIT: usize = 3 * (1 << 20);

/// The input, as memory; it counts what is asked of it.
struct Memory<'a> {
    bytes: &'a [u8],
    asked: Cell<usize>,
}

impl PhysicalMemory for Memory<'_> {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.asked.set(self.asked.get() + 1);
        let start = usize::try_from(address.checked_sub(u64::from(BASE))?).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }
}

/// The first byte chooses the protocol, the second where the information begins.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let magic = match input.byte() & 7 {
        0..=3 => MULTIBOOT_1,
        4..=6 => MULTIBOOT_2,
        _ => input.number(4) as u32,
    };
    let offset = u32::from(input.byte());
    let memory = Memory {
        bytes: input.rest(),
        asked: Cell::new(0),
    };
    let read = Handover::new(magic, BASE + offset).read(&memory);
    // Strings are read byte by byte: two of them, and one for each module.
    assert!(memory.asked.get() <= 258 * 4097 + 8, "unbounded reading");
    match read {
        Ok(info) => check(&info, memory.bytes.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check(info: &BootInfo, memory: usize) {
    assert!(!info.memory_map.is_empty());
    assert!(info.memory_map.is_sorted_by_key(|range| range.start));
    for range in &info.memory_map {
        assert!(range.length != 0 && range.start.checked_add(range.length).is_some());
    }
    // A map's entry and a module are no smaller in memory than 8 bytes.
    assert!(info.memory_map.len() + info.modules.len() <= memory / 8 + 1);
    for module in &info.modules {
        assert!(module.start.checked_add(module.length).is_some());
    }
    let texts = [&info.loader, &info.command_line];
    for text in texts
        .into_iter()
        .chain(info.modules.iter().map(|module| &module.command_line))
    {
        assert!(text.len() <= TEXT_LIMIT && !text.contains('\0'));
    }
    assert!(info.root_pointer.as_ref().is_none_or(|copy| copy.len() <= memory));
    reserve(info);
}

/// What the start of the machine does next: what is usable, without the modules.
fn reserve(info: &BootInfo) {
    let all = info.usable_memory();
    let mut free = all.clone();
    for module in &info.modules {
        free.remove(&module.pages());
        assert!(!free.overlaps(&module.pages()));
        let bytes = module.start..module.start + module.length;
        assert!(!free.overlaps(&bytes));
    }
    let mut end = None;
    for range in free.iter() {
        assert!(range.start < range.end && all.contains(range));
        assert!(
            range.start % 0x1000 == 0 && range.end % 0x1000 == 0,
            "whole pages"
        );
        assert!(end.is_none_or(|end| end < range.start), "sorted and apart");
        end = Some(range.end);
    }
    assert!(free.total() <= all.total());
    if let Some(start) = free.clone().take(0x1000, 0x1000, u64::MAX) {
        assert!(start % 0x1000 == 0 && free.contains(&(start..start + 0x1000)));
    }
}

/// Both protocols, with everything that they can pass.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("multiboot1", [vec![0, 0], multiboot1()].concat()),
        (
            "multiboot1_without_map",
            vec![0, 0].into_iter().chain([0; 0x48]).collect(),
        ),
        ("multiboot2", [vec![4, 0], multiboot2()].concat()),
    ]
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn multiboot1() -> Vec<u8> {
    let mut bytes = vec![0; 0x48];
    let mut append = |field: usize, data: &[u8]| {
        let address = BASE + bytes.len() as u32;
        bytes[field..field + 4].copy_from_slice(&address.to_le_bytes());
        bytes.extend_from_slice(data);
        address
    };
    append(0x40, b"qemu\0");
    let text = append(0x10, b"xenolith.elf console=com1 dom0_mem=512M\0");
    append(
        0x18,
        &words(&[0x40_0000, 0x40_1234, text, 0, 0x50_0000, 0x60_0000, 0, 0]),
    );
    let map = words(&[20, 0x10_0000, 0, 0x1000_0000, 0, 1, 20, 0, 0, 0x9_fc00, 0, 1]);
    append(0x30, &map);
    let fields = [(0, 0x24c), (0x14, 2), (0x2c, map.len() as u32)];
    for (field, value) in fields {
        bytes[field..field + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    bytes
}

fn multiboot2() -> Vec<u8> {
    let module = [words(&[0x40_0000, 0x40_0010]), b"initrd words\0".to_vec()].concat();
    let map = words(&[24, 0, 0, 0, 0x9_f000, 0, 1, 0, 0x10_0000, 0, 0x4000_0000, 0, 1, 0]);
    let tags: [(u32, &[u8]); 8] = [
        (1, b"console=com1\0"),
        (2, b"GRUB 2.06\0"),
        (3, &module),
        (6, &map),
        (15, b"RSD PTR new"),
        (14, b"RSD PTR old"),
        (99, b"unknown"),
        (0, b""),
    ];
    let mut bytes = vec![0; 8];
    for (kind, content) in tags {
        bytes.extend(words(&[kind, content.len() as u32 + 8]));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    let total = bytes.len() as u32;
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    bytes
}
