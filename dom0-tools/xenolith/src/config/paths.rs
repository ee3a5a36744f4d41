//! The files that a configuration names: found before anything is made, so that the message can name the line.

use super::syntax::{Content, Entry, Value};
use super::{Disk, GuestConfig};
use crate::failure::{Failure, Result};
use std::fs::{self, Metadata};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Checks that what the settings name is there, and is of the right kind.
pub fn check(entries: &[Entry]) -> Result<()> {
    for entry in entries {
        match (entry.key.as_str(), &entry.value.content) {
            ("kernel" | "ramdisk", Content::Text(path)) => {
                check_file(&entry.key, Path::new(path), &entry.value)?;
            }
            ("disk", Content::List(disks)) => disks.iter().try_for_each(check_disk)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_file(key: &str, path: &Path, value: &Value) -> Result<()> {
    let expected = format!("expected the path of a file that can be read, as {key} = \"/boot/...\"");
    let metadata = find(key, path, value, &expected)?;
    match metadata.is_file() {
        true => Ok(()),
        false => Err(value
            .place
            .fail(format!("{key}: {} is no file", path.display()), expected)),
    }
}

fn check_disk(value: &Value) -> Result<()> {
    let Content::Text(text) = &value.content else {
        return Ok(());
    };
    let target = Disk::parse(text, &value.place)?.target;
    let expected = "expected an existing raw image or block device; to make an image: truncate -s 1G IMAGE";
    let metadata = find("disk", &target, value, expected)?;
    match metadata.is_file() || metadata.file_type().is_block_device() {
        true => Ok(()),
        false => {
            let message = format!("disk: {} is neither a file nor a block device", target.display());
            Err(value.place.fail(message, expected))
        }
    }
}

fn find(key: &str, path: &Path, value: &Value, expected: &str) -> Result<Metadata> {
    fs::metadata(path).map_err(|error| {
        let Failure { message, .. } = error.into();
        value
            .place
            .fail(format!("{key}: {}: {message}", path.display()), expected)
    })
}

/// Makes all paths absolute: a restart happens in another directory than the start.
pub fn make_absolute(config: &mut GuestConfig) {
    let targets = config.disks.iter_mut().map(|disk| &mut disk.target);
    for path in targets.chain([&mut config.kernel]).chain(&mut config.ramdisk) {
        *path = absolute(path);
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_line() {
        for (text, part) in [
            ("\nkernel = '/nowhere'", "t.cfg:2: kernel: /nowhere: No such file"),
            ("ramdisk = '/'", "t.cfg:1: ramdisk: / is no file"),
            (
                "disk = [\n 'file:/nowhere.img,xvda,w' ]",
                "t.cfg:2: disk: /nowhere.img: No such file",
            ),
            (
                "disk = [ 'phy:/dev/null,xvda,w' ]",
                "t.cfg:1: disk: /dev/null is neither",
            ),
        ] {
            let failure = check(&parse("t.cfg", text).unwrap()).unwrap_err();
            assert!(failure.message.contains(part), "{text}: {failure}");
            assert!(failure.advice.is_some());
        }
        check(&parse("t.cfg", "kernel = '/proc/self/exe'").unwrap()).unwrap();
    }
}
