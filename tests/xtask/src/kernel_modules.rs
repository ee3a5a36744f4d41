//! Kernel modules in the order in which they must be loaded, read from the modules themselves: no depmod, no modprobe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The named modules and what they need, dependencies first.
pub fn in_load_order(folder: &Path, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let mut known = BTreeMap::new();
    index(folder, &mut known)?;
    let mut order = Vec::new();
    for name in wanted {
        add(&known, name, &mut order)?;
    }
    Ok(order)
}

fn index(folder: &Path, known: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no kernel modules in {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            index(&path, known)?;
        } else if let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".ko"))
        {
            known.insert(plain(name), path);
        }
    }
    Ok(())
}

fn add(known: &BTreeMap<String, PathBuf>, name: &str, order: &mut Vec<PathBuf>) -> Result<()> {
    let path = known
        .get(&plain(name))
        .with_context(|| format!("this kernel has no module {name}"))?;
    if order.contains(path) {
        return Ok(());
    }
    for needed in dependencies(&fs::read(path)?) {
        add(known, &needed, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// The file says `-` where the module information says `_`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// The `depends=` entry of a module's `.modinfo` section: zero-terminated text.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let text = &module[start + KEY.len()..];
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]);
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn dependencies_are_read_from_the_module() {
        let module = b"\x7fELF\0license=GPL\0depends=udp_tunnel,ip6_udp_tunnel\0retpoline=Y\0";
        assert_eq!(super::dependencies(module), ["udp_tunnel", "ip6_udp_tunnel"]);
        assert!(super::dependencies(b"\0depends=\0name=loop\0").is_empty());
    }
}
