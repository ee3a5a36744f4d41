//! Disks, in xl's two ways of writing them.

use super::Place;
use crate::failure::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const EXPECTED: &str = "expected \"file:/path,xvda,w\", \"phy:/dev/x,xvda,r\" or \"format=raw,vdev=xvda,access=rw,target=/path\"";

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What holds its contents: a file or a block device.
    pub target: PathBuf,
    /// Its name in the guest.
    pub device: String,
    /// Its number in the store.
    pub number: u32,
    /// Whether the guest may write to it.
    pub writable: bool,
}

#[derive(Default)]
struct Parts {
    target: Option<String>,
    device: Option<String>,
    access: Option<String>,
}

impl Disk {
    /// Reads a specification.
    pub fn parse(text: &str, place: &Place) -> Result<Self> {
        let parts = Parts::read(text, place)?;
        let fail = |message: String| place.fail(format!("disk \"{text}\": {message}"), EXPECTED);
        let target = parts.target.filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| fail("it does not say where its contents are".into()))?;
        let device = parts
            .device
            .ok_or_else(|| fail("it does not say which device it is in the guest".into()))?;
        let number = device_number(&device)
            .ok_or_else(|| fail(format!("`{device}` is no disk's name (expected one like xvda)")))?;
        let writable = match parts.access.as_deref() {
            None | Some("w" | "rw") => true,
            Some("r" | "ro") => false,
            Some(other) => return Err(fail(format!("access `{other}` is neither r nor rw"))),
        };
        Ok(Self {
            target: target.into(),
            device,
            number,
            writable,
        })
    }
}

impl Parts {
    fn read(text: &str, place: &Place) -> Result<Self> {
        let mut parts = Self::default();
        let mut rest = Some(text);
        let mut position = 0;
        while let Some(current) = rest {
            let trimmed = current.trim_start();
            // `target=` takes all that follows, commas included.
            if let Some(target) = trimmed.strip_prefix("target=") {
                parts.target = Some(target.trim().to_owned());
                break;
            }
            let (part, behind) = match trimmed.split_once(',') {
                Some((part, behind)) => (part, Some(behind)),
                None => (trimmed, None),
            };
            rest = behind;
            match part.trim().split_once('=') {
                Some((key, value)) => parts.keyed(key.trim(), value.trim(), text, place)?,
                None => {
                    position = parts.positional(position, part.trim(), text, place)?;
                }
            }
        }
        Ok(parts)
    }

    /// Positions: target, format, device, access. A target with an old-style prefix has its format in that.
    fn positional(&mut self, position: usize, part: &str, text: &str, place: &Place) -> Result<usize> {
        match position {
            0 => {
                let prefixed = ["file:", "phy:", "raw:"]
                    .iter()
                    .find_map(|prefix| part.strip_prefix(prefix));
                if let Some(kind) = part
                    .split_once(':')
                    .map(|split| split.0)
                    .filter(|_| prefixed.is_none())
                    && !part.starts_with('/')
                {
                    let message = format!("disk \"{text}\": `{kind}:` is not supported");
                    return Err(place.fail(message, EXPECTED));
                }
                self.target = Some(prefixed.unwrap_or(part).to_owned());
                return Ok(if prefixed.is_some() { 2 } else { 1 });
            }
            1 => check_format(part, text, place)?,
            2 => self.device = Some(part.to_owned()),
            3 => self.access = Some(part.to_owned()),
            _ => {
                return Err(place.fail(
                    format!("disk \"{text}\": nothing is expected at `{part}`"),
                    EXPECTED,
                ));
            }
        }
        Ok(position + 1)
    }

    fn keyed(&mut self, key: &str, value: &str, text: &str, place: &Place) -> Result<()> {
        let unsupported = |what: &str| Err(place.fail(format!("disk \"{text}\": {what}"), EXPECTED));
        match key {
            "format" => check_format(value, text, place),
            "vdev" => {
                self.device = Some(value.to_owned());
                Ok(())
            }
            "access" => {
                self.access = Some(value.to_owned());
                Ok(())
            }
            "backendtype" if value == "phy" => Ok(()),
            "backend" if matches!(value, "0" | "Domain-0") => Ok(()),
            "devtype" if value == "disk" => Ok(()),
            // Xen's default script does what we do ourselves.
            "script" if value == "block" => Ok(()),
            "script" => unsupported("scripts are not run: devices are wired without them"),
            "backendtype" | "backend" | "devtype" => unsupported(&format!("{key}={value} is not supported")),
            _ => unsupported(&format!("unknown key `{key}`")),
        }
    }
}

fn check_format(format: &str, text: &str, place: &Place) -> Result<()> {
    match format {
        "" | "raw" => Ok(()),
        other => Err(place.fail(
            format!("disk \"{text}\": format `{other}` is not supported, only raw is"),
            EXPECTED,
        )),
    }
}

/// The number of a device: as Linux numbers disks, with an extended scheme for `xvdq` and on.
fn device_number(name: &str) -> Option<u32> {
    let letters_end = name
        .find(|letter: char| !letter.is_ascii_lowercase())
        .unwrap_or(name.len());
    let (letters, digits) = name.split_at(letters_end);
    let partition: u32 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let (kind, index) = letters.split_at_checked(if letters.starts_with("xvd") { 3 } else { 2 })?;
    if index.is_empty() || index.len() > 3 {
        return None;
    }
    let disk = index
        .bytes()
        .fold(0, |disk, letter| disk * 26 + u32::from(letter - b'a') + 1)
        - 1;
    match kind {
        "xvd" if disk < 16 && partition < 16 => Some(202 << 8 | disk << 4 | partition),
        "xvd" if disk < 1 << 20 && partition < 256 => Some(1 << 28 | disk << 8 | partition),
        "sd" if disk < 16 && partition < 16 => Some(8 << 8 | disk << 4 | partition),
        "hd" if disk < 4 && partition < 64 => {
            Some([3, 22][disk as usize / 2] << 8 | (disk & 1) << 6 | partition)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            source: "t.cfg".into(),
            line: 7,
        }
    }

    #[test]
    fn all_ways_mean_the_same() {
        let expected = Disk {
            target: "/images/web.img".into(),
            device: "xvda".into(),
            number: 51712,
            writable: true,
        };
        for text in [
            "file:/images/web.img,xvda,w",
            "phy:/images/web.img,xvda,rw",
            "/images/web.img,raw,xvda,rw",
            "/images/web.img, , xvda",
            "format=raw,vdev=xvda,access=rw,target=/images/web.img",
            "/images/web.img,vdev=xvda",
            "format=raw, vdev=xvda, script=block, target=/images/web.img",
        ] {
            assert_eq!(Disk::parse(text, &place()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn targets_may_hold_commas() {
        let disk = Disk::parse("vdev=xvdb,access=ro,target=/a,b=c", &place()).unwrap();
        assert_eq!(
            (disk.target.to_str(), disk.writable, disk.number),
            (Some("/a,b=c"), false, 51728)
        );
    }

    #[test]
    fn numbers_are_linuxs() {
        assert_eq!(device_number("xvdb1"), Some(51729));
        assert_eq!(device_number("xvdq"), Some(1 << 28 | 16 << 8));
        assert_eq!(device_number("sda"), Some(2048));
        assert_eq!(device_number("hdc"), Some(22 << 8));
        for wrong in ["", "x", "xvd", "xvda1x", "xvdA", "tda", "xvdaaaaa", "sdz"] {
            assert_eq!(device_number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("file:/x", "which device"),
            ("vdev=xvda", "where its contents"),
            ("qcow2:/x,xvda,w", "not supported"),
            ("/x,qcow2,xvda,w", "only raw"),
            ("file:/x,foo,w", "no disk's name"),
            ("file:/x,xvda,z", "neither r nor rw"),
            ("file:/x,xvda,w,more", "nothing is expected"),
            ("format=raw,vdev=xvda,script=block-iscsi,target=/x", "scripts"),
            ("colour=red,vdev=xvda,target=/x", "unknown key `colour`"),
        ] {
            let failure = Disk::parse(text, &place()).unwrap_err();
            assert!(
                failure.message.starts_with("t.cfg:7: ") && failure.message.contains(part),
                "{text}: {failure}"
            );
        }
    }
}
