//! Keeps `docs/ABI.md` true: every hypercall and sub-operation that `hypercall-abi` knows has a row there with its number, its name
//! and a status, and whatever is called done or partial is named by the core's handler of that family.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use abi_layout::CONSTANTS;

/// A row of the page.
struct Row {
    number: u64,
    status: String,
}

#[test]
fn every_operation_has_its_row() {
    let page = fs::read_to_string(root().join("docs/ABI.md")).expect("docs/ABI.md");
    let rows = rows(&page);
    let mut wrong = Vec::new();
    let mut counts = BTreeMap::<&str, usize>::new();
    for (family, name, c_name, value) in operations() {
        let Some(row) = rows.get(c_name) else {
            wrong.push(format!("{c_name}: no row"));
            continue;
        };
        *counts.entry(row.status.as_str()).or_default() += 1;
        if row.number != value {
            wrong.push(format!("{c_name}: number {}, not {value}", row.number));
        }
        match row.status.as_str() {
            "refused" => {}
            "done" | "partial" if handled(family, name) => {}
            "done" | "partial" => wrong.push(format!(
                "{c_name}: {}, but {family} does not handle {name}",
                row.status
            )),
            other => wrong.push(format!(
                "{c_name}: status {other:?} is none of done, partial, refused"
            )),
        }
    }
    let summary = format!(
        "Operations: {} done, {} partial, {} refused.",
        counts.get("done").unwrap_or(&0),
        counts.get("partial").unwrap_or(&0),
        counts.get("refused").unwrap_or(&0)
    );
    if !page.contains(&summary) {
        wrong.push(format!("the summary should read: {summary}"));
    }
    assert!(wrong.is_empty(), "docs/ABI.md: {wrong:#?}");
}

/// Family, our name, Xen's name and number of every hypercall and sub-operation.
fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
    CONSTANTS.iter().filter_map(|constant| {
        let (path, name) = constant.rust.rsplit_once("::")?;
        if path.starts_with("io::") {
            // A protocol between domains, not a call.
            return None;
        }
        let family = path
            .strip_suffix("::op")
            .or((path == "hypercall::number").then_some("hypercall"))?;
        Some((family, name, constant.c, constant.value))
    })
}

fn rows(page: &str) -> BTreeMap<String, Row> {
    let cells = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?.parse().ok()?;
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((
            name.to_owned(),
            Row {
                number,
                status: cells.next()?.to_owned(),
            },
        ))
    });
    cells.collect()
}

/// Whether the core's source for the family names the operation.
fn handled(family: &str, name: &str) -> bool {
    let folder = root().join("xen-core/kernel/src/hypercall");
    let module = match family {
        "hypercall" => "mod",
        "memory" => "memory_op",
        "event_channel" => "event_channel_op",
        "grant_table" => "grant_table_op",
        "vcpu" => "vcpu_op",
        "sched" => "sched_op",
        "hvm" => "hvm_op",
        "version" => "xen_version",
        "console" => "console_io",
        "physdev" => "physdev_op",
        "platform" => "platform_op",
        other => other,
    };
    let mut files = vec![folder.join(format!("{module}.rs"))];
    if let Ok(entries) = fs::read_dir(folder.join(module)) {
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let wanted = format!("::{name}");
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| {
            text.match_indices(&wanted).any(|(start, _)| {
                let next = text[start + wanted.len()..].chars().next();
                !next.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
            })
        })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
