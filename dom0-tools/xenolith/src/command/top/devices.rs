//! What a guest's devices have moved, from what dom0's backends count in sysfs. All from the guest's point of view.

use control::DomainId;
use std::fs;
use std::path::{Path, PathBuf};

/// What devices have moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that the guest received from the network.
    pub received: u64,
    /// Bytes that it sent.
    pub sent: u64,
    /// Bytes that it read from its disks.
    pub read: u64,
    /// Bytes that it wrote.
    pub written: u64,
}

/// The block backend counts in these.
const SECTOR: u64 = 512;

/// Where sysfs is; elsewhere in tests.
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/sys"),
        }
    }
}

impl Sysfs {
    /// All that a guest's devices have moved; of a device that has just come or gone, nothing.
    pub fn moved(&self, guest: DomainId) -> Moved {
        let mut moved = Moved::default();
        let interfaces = self.root.join("class/net");
        for interface in self.devices(&interfaces, &format!("vif{guest}.")) {
            // What the backend receives is what the guest sent.
            moved.sent += number(&interface.join("statistics/rx_bytes"));
            moved.received += number(&interface.join("statistics/tx_bytes"));
        }
        let disks = self.root.join("bus/xen-backend/devices");
        for disk in self.devices(&disks, &format!("vbd-{guest}-")) {
            moved.read += number(&disk.join("statistics/rd_sect")) * SECTOR;
            moved.written += number(&disk.join("statistics/wr_sect")) * SECTOR;
        }
        moved
    }

    fn devices(&self, directory: &Path, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let wanted = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        wanted.map(|entry| entry.path()).collect()
    }
}

fn number(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_one_guest_add_up_from_its_point_of_view() {
        let root = std::env::temp_dir().join(format!("xenolith-test-{}-sysfs", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (file, value) in [
            ("class/net/vif1.0/statistics/rx_bytes", "10"),
            ("class/net/vif1.0/statistics/tx_bytes", "20"),
            ("class/net/vif1.1/statistics/rx_bytes", "1\n"),
            // Another guest's, whose number begins alike.
            ("class/net/vif11.0/statistics/rx_bytes", "5000"),
            ("bus/xen-backend/devices/vbd-1-51712/statistics/rd_sect", "3"),
            (
                "bus/xen-backend/devices/vbd-1-51712/statistics/wr_sect",
                "nonsense",
            ),
            ("bus/xen-backend/devices/vbd-11-51712/statistics/rd_sect", "7"),
        ] {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, value).unwrap();
        }
        let sysfs = Sysfs { root: root.clone() };
        let expected = Moved {
            received: 20,
            sent: 11,
            read: 1536,
            written: 0,
        };
        assert_eq!(sysfs.moved(DomainId(1)), expected);
        assert_eq!(sysfs.moved(DomainId(2)), Moved::default());
        fs::remove_dir_all(&root).unwrap();
    }
}
