//! The log file of a guest's console: what it printed, byte for byte, of bounded size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is renamed to `NAME.1` when it is full, in place of the one before.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
}

impl Log {
    /// Continues the log of this name, or begins it. A log that cannot be opened is told and then missing: the guest
    /// must not suffer for it.
    pub fn open(directory: &Path, name: &str, limit: u64) -> Self {
        let path = directory.join(format!("{name}.log"));
        let mut log = Log {
            path,
            file: None,
            size: 0,
            limit,
        };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let file = File::options().create(true).append(true).open(&self.path);
        let opened = file.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        match opened {
            Ok((file, size)) => (self.file, self.size) = (Some(file), size),
            Err(error) => self.give_up(&error),
        }
    }

    /// Appends what a guest printed.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            Err(error) => self.give_up(&error),
        }
    }

    fn rotate(&mut self) {
        let Some(name) = self.path.file_name() else { return };
        let mut old = name.to_owned();
        old.push(".1");
        match fs::rename(&self.path, self.path.with_file_name(old)) {
            Ok(()) => self.reopen(),
            Err(error) => self.give_up(&error),
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        eprintln!(
            "consoled: {}: {error}; this console is not logged any more",
            self.path.display()
        );
        self.file = None;
    }
}

/// A domain's name as a file name. Names come from the toolstack, but a path is made of them: only harmless
/// characters stay.
pub fn file_name(name: &str) -> String {
    let harmless = |character: char| character.is_ascii_alphanumeric() || "-_+.".contains(character);
    let kept: String = name
        .chars()
        .take(100)
        .map(|it| if harmless(it) { it } else { '_' })
        .collect();
    if kept.starts_with('.') {
        format!("_{kept}")
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("consoled-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_log_continues_where_it_stopped() {
        let directory = scratch("continue");
        Log::open(&directory, "web", 1000).write(b"first\n");
        Log::open(&directory, "web", 1000).write(b"second\n");
        assert_eq!(fs::read(directory.join("web.log")).unwrap(), b"first\nsecond\n");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_log_never_takes_more_than_twice_its_limit() {
        let directory = scratch("limit");
        let mut log = Log::open(&directory, "web", 1000);
        for index in 0..1000 {
            log.write(format!("line {index:04}\n").as_bytes());
        }
        let sizes = ["web.log", "web.log.1"].map(|name| fs::metadata(directory.join(name)).unwrap().len());
        assert!(sizes.iter().all(|size| (1..=1000).contains(size)), "{sizes:?}");
        assert!(
            fs::read_to_string(directory.join("web.log"))
                .unwrap()
                .ends_with("line 0999\n")
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_missing_directory_is_no_reason_to_stop() {
        Log::open(Path::new("/nonexistent"), "web", 1000).write(b"lost");
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        assert_eq!(file_name("web-1.example"), "web-1.example");
        assert_eq!(file_name("../../etc/passwd"), "_.._.._etc_passwd");
        assert_eq!(file_name("."), "_.");
        assert_eq!(file_name(&"x".repeat(500)).len(), 100);
    }
}
