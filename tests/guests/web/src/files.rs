//! Files on the disk: FAT, in its first partition, read-only.

use embedded_sdmmc::{
    LfnBuffer, Mode, RawDirectory, RawVolume, TimeSource, Timestamp, VolumeIdx, VolumeManager,
};
use pv_drivers::front::block::{Block, card::Card};
use pv_drivers::front::{Error, Text};
use pv_drivers::pvh::Pvh;

type Xen = &'static Pvh;
type Fault = embedded_sdmmc::Error<Error>;

/// Nothing is written, so that nobody asks for the time.
struct NoTime;

impl TimeSource for NoTime {
    fn get_timestamp(&self) -> Timestamp {
        Timestamp::from_fat(0, 0)
    }
}

/// The file system.
pub struct Files {
    volumes: VolumeManager<Card<Xen>, NoTime, 4, 4, 1>,
    volume: RawVolume,
}

/// A file that is there.
pub struct Found {
    /// Its bytes.
    pub length: u32,
}

impl Files {
    /// Opens the first partition.
    pub fn open(card: Card<Xen>) -> Result<Files, Error> {
        let volumes = VolumeManager::new_with_limits(card, NoTime, 0);
        let volume = volumes.open_raw_volume(VolumeIdx(0)).map_err(named)?;
        Ok(Files { volumes, volume })
    }

    /// Does something with the disk below.
    pub fn with_disk<R>(&self, work: impl FnOnce(&mut Block<Xen>) -> R) -> R {
        self.volumes.device(|card| card.with(work))
    }

    /// Looks a path up.
    pub fn find(&self, path: &str) -> Result<Found, Error> {
        self.with_file(path, |file| {
            let length = self.volumes.file_length(file)?;
            Ok(Found { length })
        })
    }

    /// Reads from `offset` on, as much as there is and `buffer` holds. The file is opened for each piece: several
    /// clients may be served the same one, and the library opens a file once only.
    pub fn read(&self, path: &str, offset: u32, buffer: &mut [u8]) -> Result<usize, Error> {
        self.with_file(path, |file| {
            self.volumes.file_seek_from_start(file, offset)?;
            let mut filled = 0;
            while filled < buffer.len() {
                match self.volumes.read(file, &mut buffer[filled..])? {
                    0 => break,
                    length => filled += length,
                }
            }
            Ok(filled)
        })
    }

    fn with_file<R>(
        &self,
        path: &str,
        work: impl FnOnce(embedded_sdmmc::RawFile) -> Result<R, Fault>,
    ) -> Result<R, Error> {
        let root = self.volumes.open_root_dir(self.volume).map_err(named)?;
        let outcome = self.with_file_below(root, path, work);
        let closed = self.volumes.close_dir(root);
        let found = outcome.map_err(named)?;
        closed.map_err(named)?;
        Ok(found)
    }

    /// Goes down folder by folder.
    fn with_file_below<R>(
        &self,
        folder: RawDirectory,
        path: &str,
        work: impl FnOnce(embedded_sdmmc::RawFile) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        if let Some((name, rest)) = path.split_once('/') {
            let below = self.volumes.open_dir(folder, self.short_name(folder, name)?)?;
            let outcome = self.with_file_below(below, rest, work);
            self.volumes.close_dir(below)?;
            return outcome;
        }
        let file = self
            .volumes
            .open_file_in_dir(folder, self.short_name(folder, path)?, Mode::ReadOnly)?;
        let outcome = work(file);
        self.volumes.close_file(file)?;
        outcome
    }

    /// The short name of what is called `name` in a folder.
    fn short_name(&self, folder: RawDirectory, name: &str) -> Result<embedded_sdmmc::ShortFileName, Fault> {
        let mut storage = [0; 256];
        let mut long = LfnBuffer::new(&mut storage);
        let mut found = None;
        self.volumes.iterate_dir_lfn(folder, &mut long, |entry, long| {
            let mut short = heapless::String::<16>::new();
            // A short name has twelve letters at most.
            let _ = core::fmt::Write::write_fmt(&mut short, format_args!("{}", entry.name));
            if long == Some(name) || short.eq_ignore_ascii_case(name) {
                found = Some(entry.name);
                return core::ops::ControlFlow::Break(());
            }
            core::ops::ControlFlow::Continue(())
        })?;
        found.ok_or(Fault::NotFound)
    }
}

/// The library's errors by our names.
fn named(fault: Fault) -> Error {
    match fault {
        Fault::DeviceError(error) => error,
        Fault::NotFound | Fault::OpenedDirAsFile | Fault::OpenedFileAsDir => Error::NotInUse,
        other => Error::Malformed {
            node: Text::of(b"file system"),
            expected: "FAT in the first partition",
            found: describe(&other),
        },
    }
}

fn describe(fault: &Fault) -> Text {
    let mut text = heapless::String::<64>::new();
    // What does not fit is cut.
    let _ = core::fmt::Write::write_fmt(&mut text, format_args!("{fault:?}"));
    Text::of(text.as_bytes())
}
