//! A guest as its operator sees it: configuration, state, console.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tools;

/// Where the console daemon keeps what guests say.
const CONSOLES: &str = "/var/log/xenolith/console";

/// A guest's configuration, as lines of an xl.cfg file.
pub struct Guest {
    /// Its name.
    pub name: String,
    lines: Vec<String>,
}

impl Guest {
    /// A guest without devices that is kept when it stops, so that its end can be looked at.
    pub fn new(name: &str, kernel: &str, memory: u32) -> Guest {
        let lines = vec![
            format!("name = \"{name}\""),
            "type = \"pvh\"".to_owned(),
            format!("kernel = \"{kernel}\""),
            format!("memory = {memory}"),
        ];
        Guest {
            name: name.to_owned(),
            lines,
        }
    }

    /// A Linux guest with the initramfs of the tests; `role` is what its init does.
    pub fn linux(name: &str, kernel: &str, memory: u32, role: &str) -> Guest {
        Guest::new(name, kernel, memory)
            .with("ramdisk", "\"/boot/guest.cpio.gz\"")
            .with(
                "extra",
                &format!("\"console=hvc0 loglevel=5 panic=1 role={role}\""),
            )
    }

    /// One more key; the value as it stands in the file.
    pub fn with(mut self, key: &str, value: &str) -> Guest {
        self.lines.push(format!("{key} = {value}"));
        self
    }

    /// Writes the file.
    pub fn write(&self) -> Result<PathBuf> {
        let path = Path::new("/tmp").join(format!("{}.cfg", self.name));
        fs::write(&path, self.lines.join("\n") + "\n")?;
        Ok(path)
    }

    /// Makes the guest and starts it.
    pub fn create(&self) -> Result<Value> {
        let path = self.write()?;
        // A console log of an earlier guest of this name is not this one's.
        let _ = fs::remove_file(self.console_log());
        tools::xenolith(&["create", &path.to_string_lossy()])
    }

    /// Tries to make the guest; what was said when that was refused, as it must be.
    pub fn create_refused(&self) -> Result<String> {
        let path = self.write()?;
        tools::refused(&["create", &path.to_string_lossy()])
    }

    /// What it says on its console is kept here.
    pub fn console_log(&self) -> PathBuf {
        Path::new(CONSOLES).join(format!("{}.log", self.name))
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console_log()).unwrap_or_default()).into_owned()
    }

    /// The rest of the last console line that begins with `guest: PREFIX`.
    pub fn line(&self, prefix: &str) -> Option<String> {
        let wanted = format!("guest: {prefix}");
        let said = self.said();
        // Only whole lines: the end may still be on its way.
        let (whole, _) = said.rsplit_once('\n')?;
        whole
            .lines()
            .rev()
            .find_map(|line| line.split_once(&wanted).map(|(_, rest)| rest.trim().to_owned()))
    }

    /// Waits for such a line.
    pub fn await_line(&self, prefix: &str, limit: Duration) -> Result<String> {
        let mut found = None;
        let waited = tools::wait_until(limit, &format!("{} says `guest: {prefix}`", self.name), || {
            found = self.line(prefix);
            Ok(found.is_some())
        });
        if let Err(error) = waited {
            let said = self.said();
            let last: Vec<&str> = said.lines().rev().take(3).collect();
            bail!("{error:#}; its last lines: {last:?}");
        }
        found.context("a line was found")
    }

    /// What is typed on its console must come back as `guest: heard WORD`.
    pub fn hears(&self, word: &str) -> Result<()> {
        let mut attached = Command::new("xenolith")
            .args(["console", &self.name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut keyboard = attached.stdin.take().context("it reads")?;
        let wanted = format!("heard {word}");
        // The first bytes may come before it is attached; an empty line harms nobody.
        let heard = tools::wait_until(Duration::from_secs(20), &format!("it hears {word}"), || {
            keyboard.write_all(format!("\n{word}\n").as_bytes())?;
            keyboard.flush()?;
            std::thread::sleep(Duration::from_millis(300));
            Ok(self.line(&wanted).is_some())
        });
        drop(keyboard);
        // It may have ended with its input.
        let _ = attached.kill();
        attached.wait()?;
        heard
    }

    /// Waits for a state of `xenolith list`.
    pub fn await_state(&self, state: &str, limit: Duration) -> Result<Value> {
        let mut found = Value::Null;
        tools::wait_until(limit, &format!("{} is {state}", self.name), || {
            found = find(&self.name)?.with_context(|| format!("{} is gone", self.name))?;
            if found["state"] == state {
                Ok(true)
            } else {
                bail!("it is {}", found["state"])
            }
        })?;
        Ok(found)
    }

    /// Takes it away and waits until it is gone.
    pub fn destroy(&self) -> Result<()> {
        tools::xenolith(&["destroy", &self.name])?;
        self.await_gone(Duration::from_secs(20))
    }

    /// Waits until no list shows it.
    pub fn await_gone(&self, limit: Duration) -> Result<()> {
        tools::wait_until(limit, &format!("{} is gone", self.name), || {
            Ok(find(&self.name)?.is_none())
        })
    }
}

/// All domains.
pub fn list() -> Result<Vec<Value>> {
    match tools::xenolith(&["list"])? {
        Value::Array(domains) => Ok(domains),
        other => bail!("`xenolith list` is no array: {other}"),
    }
}

/// The domain of this name, if there is one.
pub fn find(name: &str) -> Result<Option<Value>> {
    Ok(list()?.into_iter().find(|domain| domain["name"] == name))
}

/// The names of all domains, in order.
pub fn names() -> Result<Vec<String>> {
    Ok(list()?
        .iter()
        .map(|domain| domain["name"].as_str().unwrap_or("?").to_owned())
        .collect())
}
