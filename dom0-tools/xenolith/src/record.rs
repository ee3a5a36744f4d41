//! What the tools remember about guests while they exist: one small file each, in `/run/xenolith`.
//!
//! A guest's *lock* is held by whoever changes its existence: creates, restarts or removes it. The kernel drops the
//! lock of a process that dies, in whatever way. A record that says "building" or "leaving" while nobody holds the
//! lock is therefore one that was left behind, and every command cleans such ones up ([`crate::reap`]). The
//! record is written before the domain exists: there is no moment at which a domain could be lost.

use crate::config::GuestConfig;
use crate::failure::{Context, Failure, Result};
use crate::uuid::Uuid;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "/run/xenolith";
/// Changes when the layout of [`Record`] does; records of other versions are not understood.
const VERSION: u8 = 2;

/// How far a guest's existence has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Somebody makes it, and holds its lock.
    Building,
    /// It is complete.
    Complete,
    /// Somebody takes it away, and holds its lock.
    Leaving,
}

/// What is remembered about a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name for good; the domain carries it, too.
    pub uuid: Uuid,
    /// How far it is.
    pub phase: Phase,
    /// Its domain, once known.
    pub domain: Option<u16>,
    /// What it was made from, to make it again.
    pub config: GuestConfig,
    /// Restarts one shortly after the other.
    pub quick_restarts: u32,
}

/// The directory of records.
pub struct Records {
    directory: PathBuf,
}

/// A lock that is held as long as this lives, and no longer than the process.
#[must_use]
pub struct Lock {
    _file: File,
}

impl Records {
    /// Opens the directory, making it if need be.
    pub fn open() -> Result<Self> {
        Self::open_at(Path::new(DIRECTORY))
    }

    fn open_at(directory: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .context(format_args!("cannot make {}", directory.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// All records.
    pub fn all(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).context(self.directory.display())? {
            let name = entry?.file_name();
            let uuid = name
                .to_str()
                .and_then(|name| name.strip_suffix(".guest"))
                .and_then(|uuid| uuid.parse().ok());
            if let Some(uuid) = uuid {
                records.extend(self.load(uuid)?);
            }
        }
        Ok(records)
    }

    /// The record of a guest, if there is one.
    pub fn load(&self, uuid: Uuid) -> Result<Option<Record>> {
        let path = self.path(uuid, "guest");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(path.display()),
        };
        match bytes.split_first() {
            Some((&VERSION, record)) => match postcard::from_bytes(record) {
                Ok(record) => Ok(Some(record)),
                Err(error) => Err(unreadable(&path, &error.to_string())),
            },
            _ => Err(unreadable(&path, "another version of xenolith wrote it")),
        }
    }

    /// Writes a record. Readers see the old one or the new one, never half of it.
    pub fn save(&self, record: &Record) -> Result<()> {
        let mut bytes = vec![VERSION];
        bytes.extend(postcard::to_stdvec(record).map_err(|error| Failure::new(error.to_string()))?);
        let (path, new) = (self.path(record.uuid, "guest"), self.path(record.uuid, "new"));
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &path))
            .context(path.display())
    }

    /// Forgets a guest. Its lock is held by the caller, and goes with it.
    pub fn remove(&self, uuid: Uuid) -> Result<()> {
        for kind in ["guest", "new", "monitor", "lock"] {
            let path = self.path(uuid, kind);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context(path.display());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits for a guest's lock.
    pub fn lock(&self, uuid: Uuid) -> Result<Lock> {
        self.wait_for(&self.path(uuid, "lock"))
    }

    /// A guest's lock, if nobody holds it.
    pub fn try_lock(&self, uuid: Uuid) -> Result<Option<Lock>> {
        try_lock(&self.path(uuid, "lock"))
    }

    /// The lock that a guest's monitor holds for all its life, if nobody holds it.
    pub fn try_lock_monitor(&self, uuid: Uuid) -> Result<Option<Lock>> {
        try_lock(&self.path(uuid, "monitor"))
    }

    /// Waits for the lock under which names are given out.
    pub fn lock_names(&self) -> Result<Lock> {
        self.wait_for(&self.directory.join("names.lock"))
    }

    fn wait_for(&self, path: &Path) -> Result<Lock> {
        loop {
            let file = open_lock(path)?;
            file.lock().context(path.display())?;
            if still_there(&file)? {
                return Ok(Lock { _file: file });
            }
        }
    }

    fn path(&self, uuid: Uuid, kind: &str) -> PathBuf {
        self.directory.join(format!("{uuid}.{kind}"))
    }
}

fn try_lock(path: &Path) -> Result<Option<Lock>> {
    loop {
        let file = open_lock(path)?;
        match file.try_lock() {
            Ok(()) if still_there(&file)? => return Ok(Some(Lock { _file: file })),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context(path.display()),
        }
    }
}

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .context(path.display())
}

/// A lock file may be removed between opening and locking it; then the lock is worth nothing.
fn still_there(file: &File) -> Result<bool> {
    Ok(file.metadata()?.nlink() > 0)
}

fn unreadable(path: &Path, reason: &str) -> Failure {
    Failure::new(format!("cannot understand {}: {reason}", path.display()))
        .advise("destroy that guest with the version that made it, or remove the file and destroy its domain by number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, Scheduling};

    fn records(name: &str) -> Records {
        let directory = std::env::temp_dir().join(format!("xenolith-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        Records::open_at(&directory).unwrap()
    }

    fn record(uuid: Uuid) -> Record {
        let config = GuestConfig {
            path: None,
            name: "web".into(),
            uuid: None,
            kernel: "/k".into(),
            ramdisk: None,
            command_line: String::new(),
            memory: 1,
            max_memory: 1,
            vcpus: 1,
            max_vcpus: 1,
            scheduling: Scheduling::default(),
            disks: vec![],
            interfaces: vec![],
            on_poweroff: Action::Destroy,
            on_reboot: Action::Restart,
            on_crash: Action::Preserve,
            on_watchdog: Action::Destroy,
        };
        Record {
            uuid,
            phase: Phase::Building,
            domain: None,
            config,
            quick_restarts: 0,
        }
    }

    #[test]
    fn records_survive() {
        let records = records("survive");
        let record = record(Uuid([1; 16]));
        assert_eq!(records.all().unwrap(), []);
        records.save(&record).unwrap();
        assert_eq!(records.all().unwrap(), std::slice::from_ref(&record));
        records.remove(record.uuid).unwrap();
        assert_eq!(records.load(record.uuid).unwrap(), None);
        fs::remove_dir_all(&records.directory).unwrap();
    }

    #[test]
    fn damaged_records_are_told() {
        let records = records("damaged");
        let record = record(Uuid([2; 16]));
        records.save(&record).unwrap();
        let path = records.path(record.uuid, "guest");
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(records.load(record.uuid).is_err(), "{length}");
        }
        fs::remove_dir_all(&records.directory).unwrap();
    }

    #[test]
    fn a_lock_is_exclusive_and_ends() {
        let records = records("lock");
        let uuid = Uuid([3; 16]);
        let lock = records.lock(uuid).unwrap();
        assert!(records.try_lock(uuid).unwrap().is_none());
        drop(lock);
        let lock = records.try_lock(uuid).unwrap().unwrap();
        records.remove(uuid).unwrap();
        // The file went: a newcomer gets a lock of its own.
        assert!(records.try_lock(uuid).unwrap().is_some());
        drop(lock);
        fs::remove_dir_all(&records.directory).unwrap();
    }
}
