//! A guest's configuration: what the settings mean.

use super::syntax::{Content, Entry, Value};
use super::{Disk, Interface, Scheduling, keys};
use crate::failure::{Failure, Result};
use crate::uuid::Uuid;
use builder::Shape;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
const DEFAULT_MEMORY: u64 = 128;
/// More than any machine has, and little enough that sums do not overflow.
const MEMORY_MAX_MIB: u64 = 16 << 20;
const VCPUS_MAX: u64 = 128;
/// Longer names do not fit the store's and the console's files.
const NAME_MAX: usize = 64;

/// What to do with a guest that stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Take it away.
    Destroy,
    /// Take it away and make it again.
    Restart,
    /// Keep it for inspection.
    Preserve,
}

impl Action {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Restart => "restart",
            Self::Preserve => "preserve",
        }
    }
}

/// A guest as its configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// The file it came from.
    pub path: Option<PathBuf>,
    /// Its name.
    pub name: String,
    /// Its UUID, when the configuration fixes it.
    pub uuid: Option<Uuid>,
    /// The kernel file.
    pub kernel: PathBuf,
    /// The initramfs file.
    pub ramdisk: Option<PathBuf>,
    /// The kernel's command line.
    pub command_line: String,
    /// MiB it starts with.
    pub memory: u64,
    /// MiB it may grow to.
    pub max_memory: u64,
    /// Virtual CPUs that start.
    pub vcpus: u32,
    /// Virtual CPUs it may get.
    pub max_vcpus: u32,
    /// Which processors it may use, and how much of them.
    pub scheduling: Scheduling,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network interfaces.
    pub interfaces: Vec<Interface>,
    /// When it powered off.
    pub on_poweroff: Action,
    /// When it asks for a restart.
    pub on_reboot: Action,
    /// When it crashed.
    pub on_crash: Action,
    /// When its own watchdog expired.
    pub on_watchdog: Action,
}

impl GuestConfig {
    /// Makes sense of the settings.
    pub fn from_entries(entries: &[Entry], path: Option<PathBuf>) -> Result<Self> {
        keys::check(entries)?;
        let settings = Settings {
            entries,
            source: path.as_ref().map(|path| path.display().to_string()),
        };
        if let Some((kind, value)) = settings.text("type")?
            && kind != "pvh"
        {
            return Err(value.place.fail(
                format!("type `{kind}` is not supported"),
                "expected type = \"pvh\"",
            ));
        }
        let memory = settings
            .number("memory", 1, MEMORY_MAX_MIB)?
            .unwrap_or(DEFAULT_MEMORY);
        let vcpus = settings.number("vcpus", 1, VCPUS_MAX)?.unwrap_or(1);
        let max_vcpus = settings.number("maxvcpus", vcpus, VCPUS_MAX)?.unwrap_or(vcpus) as u32;
        Ok(Self {
            name: settings.name()?,
            uuid: settings.uuid()?,
            kernel: settings
                .required_text(
                    "kernel",
                    "the path of a PVH kernel, such as Debian's /boot/vmlinuz",
                )?
                .into(),
            ramdisk: settings.text("ramdisk")?.map(|(path, _)| path.into()),
            command_line: settings.command_line()?,
            memory,
            max_memory: settings
                .number("maxmem", memory, MEMORY_MAX_MIB)?
                .unwrap_or(memory),
            vcpus: vcpus as u32,
            max_vcpus,
            scheduling: Scheduling::from_settings(&settings, max_vcpus)?,
            disks: settings.disks()?,
            interfaces: settings.strings("vif")?.map_or(Ok(vec![]), |list| {
                list.into_iter()
                    .map(|(text, value)| Interface::parse(text, &value.place))
                    .collect()
            })?,
            on_poweroff: settings.action("on_poweroff", Action::Destroy)?,
            on_reboot: settings.action("on_reboot", Action::Restart)?,
            on_crash: settings.action("on_crash", Action::Destroy)?,
            on_watchdog: settings.action("on_watchdog", Action::Destroy)?,
            path,
        })
    }

    /// Its size, for the builder.
    pub fn shape(&self) -> Shape {
        Shape {
            memory: self.memory * MIB,
            max_memory: self.max_memory * MIB,
            max_vcpus: self.max_vcpus,
        }
    }
}

/// The settings by their keys.
pub(super) struct Settings<'a> {
    entries: &'a [Entry],
    source: Option<String>,
}

impl<'a> Settings<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<(&'a str, &'a Value)>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match &value.content {
                Content::Text(text) => Ok(Some((text, value))),
                _ => Err(value.place.fail(
                    format!("`{key}` is no string"),
                    format!("expected {key} = \"...\""),
                )),
            },
        }
    }

    fn required_text(&self, key: &str, what: &str) -> Result<&'a str> {
        match self.text(key)? {
            Some((text, _)) if !text.is_empty() => Ok(text),
            Some((_, value)) => Err(value
                .place
                .fail(format!("`{key}` is empty"), format!("expected {what}"))),
            None => {
                let source = self.source.as_deref().unwrap_or("the configuration");
                Err(Failure::new(format!("{source}: `{key}` is missing"))
                    .advise(format!("add {key} = \"...\": {what}")))
            }
        }
    }

    pub(super) fn number(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let expected = format!("expected a number from {least} to {most}");
        let number = match &value.content {
            Content::Number(number) => u64::try_from(*number).ok(),
            // xl takes numbers in quotes, too.
            Content::Text(text) => text.trim().parse().ok(),
            Content::List(_) => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            Some(number) => Err(value.place.fail(format!("`{key}` cannot be {number}"), expected)),
            None => Err(value.place.fail(format!("`{key}` is no number"), expected)),
        }
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<(&'a str, &'a Value)>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let fail = |value: &Value| {
            value.place.fail(
                format!("`{key}` is no list of strings"),
                format!("expected {key} = [ \"...\", \"...\" ]"),
            )
        };
        let Content::List(items) = &value.content else {
            return Err(fail(value));
        };
        let strings = items.iter().map(|item| match &item.content {
            Content::Text(text) => Ok((text.as_str(), item)),
            _ => Err(fail(item)),
        });
        strings.collect::<Result<_>>().map(Some)
    }

    fn name(&self) -> Result<String> {
        let what = "letters, digits, `-`, `_` and `.`, not digits alone";
        let name = self.required_text("name", what)?;
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let good = name.chars().all(allowed)
            && name.len() <= NAME_MAX
            && !name.starts_with(['.', '-'])
            && !name.chars().all(|letter| letter.is_ascii_digit())
            && name != "Domain-0";
        match self.get("name") {
            Some(value) if !good => Err(value.place.fail(
                format!("`{name}` cannot be a guest's name"),
                format!("expected {what}, up to {NAME_MAX}"),
            )),
            _ => Ok(name.to_owned()),
        }
    }

    fn uuid(&self) -> Result<Option<Uuid>> {
        match self.text("uuid")? {
            None => Ok(None),
            Some((text, value)) => text.parse().map(Some).map_err(|()| {
                let expected =
                    "expected one like 8a0a3c4e-1b2d-4f60-9c7e-0123456789ab; without the setting one is made";
                value.place.fail(format!("`{text}` is no UUID"), expected)
            }),
        }
    }

    fn command_line(&self) -> Result<String> {
        let whole = self.text("cmdline")?;
        for key in ["root", "extra"] {
            if let (Some(_), Some((_, value))) = (whole, self.text(key)?) {
                let message = format!("`{key}` and `cmdline` exclude each other");
                return Err(value.place.fail(message, "put everything into `cmdline`"));
            }
        }
        if let Some((text, _)) = whole {
            return Ok(text.to_owned());
        }
        let root = self.text("root")?.map(|(text, _)| format!("root={text}"));
        let extra = self.text("extra")?.map(|(text, _)| text.to_owned());
        Ok([root, extra].into_iter().flatten().collect::<Vec<_>>().join(" "))
    }

    fn disks(&self) -> Result<Vec<Disk>> {
        let mut disks: Vec<Disk> = Vec::new();
        for (text, value) in self.strings("disk")?.unwrap_or_default() {
            let disk = Disk::parse(text, &value.place)?;
            if disks.iter().any(|other| other.number == disk.number) {
                let message = format!("disk \"{text}\": there are two disks `{}`", disk.device);
                return Err(value.place.fail(message, "give each disk its own vdev"));
            }
            disks.push(disk);
        }
        Ok(disks)
    }

    fn action(&self, key: &str, default: Action) -> Result<Action> {
        let Some((text, value)) = self.text(key)? else {
            return Ok(default);
        };
        match text {
            "destroy" => Ok(Action::Destroy),
            "restart" => Ok(Action::Restart),
            "preserve" => Ok(Action::Preserve),
            _ => Err(value.place.fail(
                format!("`{key}` cannot be `{text}`"),
                "expected \"destroy\", \"restart\" or \"preserve\"",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    fn config(text: &str) -> Result<GuestConfig> {
        GuestConfig::from_entries(&parse("t.cfg", text)?, Some("t.cfg".into()))
    }

    #[test]
    fn a_whole_configuration() {
        let text = "name='web'\nkernel='/vmlinuz'\nramdisk='/initrd'\nroot='/dev/xvda'\nextra='ro quiet'\nmemory=256\n\
             vcpus=2\nmaxvcpus=4\ndisk=['file:/a,xvda,w','phy:/dev/b,xvdb,r']\nvif=['mac=00:16:3e:00:00:01']\ntype='pvh'\n\
             on_crash='preserve'";
        let config = config(text).unwrap();
        assert_eq!(config.command_line, "root=/dev/xvda ro quiet");
        assert_eq!(
            (config.memory, config.max_memory, config.vcpus, config.max_vcpus),
            (256, 256, 2, 4)
        );
        assert_eq!((config.disks.len(), config.interfaces.len()), (2, 1));
        assert_eq!(
            (config.on_crash, config.on_reboot),
            (Action::Preserve, Action::Restart)
        );
    }

    #[test]
    fn mistakes_name_file_line_and_expectation() {
        let base = "name='web'\nkernel='/vmlinuz'\n";
        for (line, part, expected) in [
            ("memroy=256", "unknown setting `memroy`", "did you mean `memory`"),
            ("vnc=1", "does not support", "remove the line"),
            ("colour='red'", "unknown setting `colour`", "expected one of"),
            ("memory='lots'", "`memory` is no number", "from 1 to"),
            ("memory=0", "cannot be 0", "from 1 to"),
            ("vcpus=1000", "cannot be 1000", "from 1 to 128"),
            ("vcpus=4;maxvcpus=2", "cannot be 2", "from 4 to 128"),
            ("type='hvm'", "type `hvm`", "type = \"pvh\""),
            ("uuid='nonsense'", "no UUID", "expected one like"),
            ("disk='file:/a,xvda,w'", "no list of strings", "disk = ["),
            (
                "disk=['file:/a,xvda,w','file:/b,xvda,w']",
                "two disks `xvda`",
                "its own vdev",
            ),
            ("on_crash='explode'", "cannot be `explode`", "\"preserve\""),
            ("ramdisk=7", "`ramdisk` is no string", "ramdisk = "),
            ("cmdline='a';extra='b'", "exclude each other", "into `cmdline`"),
        ] {
            let failure = config(&format!("{base}{line}")).unwrap_err();
            assert!(failure.message.starts_with("t.cfg:3: "), "{line}: {failure}");
            assert!(failure.message.contains(part), "{line}: {failure}");
            assert!(
                failure.advice.as_ref().unwrap().contains(expected),
                "{line}: {:?}",
                failure.advice
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(
            config("kernel='/vmlinuz'")
                .unwrap_err()
                .message
                .contains("`name` is missing")
        );
        assert!(
            config("name='web'")
                .unwrap_err()
                .message
                .contains("`kernel` is missing")
        );
        for name in ["", "0", "12", "a/b", "..", "Domain-0", "-x", "a b"] {
            assert!(config(&format!("name='{name}'\nkernel='/k'")).is_err(), "{name}");
        }
    }
}
