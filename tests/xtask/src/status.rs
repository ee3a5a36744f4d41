//! `docs/STATUS.md`: figures that a command writes, so that nobody has to believe them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::budget;
use crate::core_image::Flavour;
use crate::emulator::Hypervisor;
use crate::figures;
use crate::house::House;
use crate::report;

/// Folders below which crates lie.
const ROOMS: [&str; 7] = [
    "hypercall-abi",
    "kernel-image",
    "boot",
    "xen-core",
    "pv-drivers",
    "dom0-tools",
    "tests",
];

/// Those whose crates are linked into the hypervisor.
const CORE: [&str; 4] = ["hypercall-abi", "kernel-image", "boot", "xen-core"];

const BEGIN: &str = "<!-- figures: written by `cargo xtask status` -->";
const END: &str = "<!-- end of figures -->";

/// Rewrites the figures of `docs/STATUS.md`; the words around them stay.
pub fn update(house: &House) -> Result<()> {
    let path = house.path("docs/STATUS.md");
    let old = fs::read_to_string(&path).unwrap_or_else(|_| format!("# Status\n\n{BEGIN}\n{END}\n"));
    let (before, rest) = old.split_once(BEGIN).unwrap_or((old.as_str(), ""));
    let after = rest.split_once(END).map_or("\n", |(_, after)| after);
    let new = format!(
        "{}\n\n{BEGIN}\n{}\n{END}{after}",
        before.trim_end(),
        tables(house)?
    );
    fs::write(&path, new)?;
    report::note(&format!("wrote {}", house.shown(&path)));
    Ok(())
}

fn tables(house: &House) -> Result<String> {
    let (ours, xens) = (
        figures::load(house, Hypervisor::Xenolith),
        figures::load(house, Hypervisor::Xen),
    );
    let (ours, xens) = (ours.as_ref(), xens.as_ref());
    let mut text = String::new();
    for (name, figures) in [("Xenolith", ours), ("Xen 4.17", xens)] {
        let last = match figures {
            Some(figures) => format!(
                "{} steps passed, {} failed, on {} CPUs",
                figures.passed, figures.failed, figures.cpus
            ),
            None => "not run".to_owned(),
        };
        text.push_str(&format!("- Scenario on {name}, last run: {last}.\n"));
    }
    let sections = [
        ("Times", figures::times(ours, xens)),
        ("Counts", figures::counts(ours, xens)),
        ("The core's own counts", figures::core(ours)),
        // Nothing where the core was not built yet.
        ("The core's budget", budget::table(house).unwrap_or_default()),
        ("Sizes", lines(house)?),
    ];
    for (title, table) in sections {
        if !table.is_empty() {
            text.push_str(&format!("\n## {title}\n\n{table}"));
        }
    }
    Ok(text)
}

/// Lines per crate, in the core, and the size of the image.
pub fn lines(house: &House) -> Result<String> {
    let mut table = String::from("| crate | lines | of these tests |\n|---|---|---|\n");
    let mut core = Lines::default();
    for room in ROOMS {
        for folder in crates(&house.path(room))? {
            let count = count(&folder)?;
            table.push_str(&format!(
                "| {} | {} | {} |\n",
                house.shown(&folder),
                count.all,
                count.tests
            ));
            if CORE.contains(&room) {
                core.all += count.all;
                core.tests += count.tests;
            }
        }
    }
    table.push_str(&format!(
        "| **in the core** | **{}** | {} |\n",
        core.all, core.tests
    ));
    if let Ok(elf) = fs::read(house.hypervisor_image(Flavour::Release)) {
        let loaded = loaded_bytes(&elf);
        table.push_str(&format!(
            "\nHypervisor: {} KiB of ELF, {} KiB loaded.\n",
            elf.len() / 1024,
            loaded / 1024
        ));
    }
    Ok(table)
}

/// The crates of a room: itself or the folders in it.
fn crates(room: &Path) -> Result<Vec<PathBuf>> {
    if room.join("Cargo.toml").is_file() {
        return Ok(vec![room.to_owned()]);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(room)? {
        let folder = entry?.path();
        if folder.join("Cargo.toml").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

#[derive(Default)]
struct Lines {
    all: usize,
    tests: usize,
}

/// Lines of Rust, assembly and linker scripts that are not blank; a `mod tests` counts as tests to its file's end.
fn count(folder: &Path) -> Result<Lines> {
    let mut lines = Lines::default();
    if !folder.is_dir() {
        return Ok(lines);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let inner = count(&path)?;
            lines.all += inner.all;
            lines.tests += if path.ends_with("tests") {
                inner.all
            } else {
                inner.tests
            };
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "s", "S", "ld", "c"].iter().any(|e| extension == *e))
        {
            let text = fs::read_to_string(&path)?;
            let all = text.lines().filter(|line| !line.trim().is_empty()).count();
            let tests = text
                .split_once("#[cfg(test)]")
                .map_or(0, |(_, tests)| tests.lines().count());
            let tests = if path.ends_with("tests.rs") { all } else { tests };
            lines.all += all;
            lines.tests += tests.min(all);
        }
    }
    Ok(lines)
}

/// What a loader puts into memory: the sum of the load segments' sizes in memory, of a 32-bit ELF.
fn loaded_bytes(elf: &[u8]) -> u64 {
    let word = |at: usize| {
        elf.get(at..at + 4).map_or(0, |bytes| {
            u32::from_le_bytes(bytes.try_into().expect("it is four bytes"))
        })
    };
    let half = |at: usize| word(at) & 0xffff;
    let (table, size, number) = (word(0x1c) as usize, half(0x2a) as usize, half(0x2c) as usize);
    let headers = (0..number).map(|index| table + index * size);
    headers
        .filter(|&header| word(header) == 1)
        .map(|header| u64::from(word(header + 0x14)))
        .sum()
}
