//! Wiring a guest's devices to the backends in dom0's kernel: what Xen does with shell scripts.

use crate::config::{Disk, GuestConfig, Interface, MacAddress};
use crate::failure::{Context, Failure, Result};
use crate::network;
use crate::record::{Phase, Record};
use crate::store_tree::{CONTROL_HOME, Entries, backends_path, domain_path};
use crate::uuid::Uuid;
use control::{DomainId, LoopDevice};
use hypercall_abi::io::xenbus::State;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use store_client::Store;

/// The kinds of devices, as the store calls them.
pub const KINDS: [&str; 2] = ["vbd", "vif"];
/// How long a backend may take for its part.
const BACKEND_TIME: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A disk whose contents are a block device, ready to be handed to the backend.
///
/// A loop device lives until its last user closes it: keep this until the backend has opened it.
pub struct PreparedDisk {
    disk: Disk,
    device: PathBuf,
    major: u32,
    minor: u32,
    _loop_device: Option<LoopDevice>,
}

impl PreparedDisk {
    /// Opens what holds the disk's contents.
    pub fn new(disk: &Disk) -> Result<Self> {
        let what = format!("disk {}: {}", disk.device, disk.target.display());
        let metadata = fs::metadata(&disk.target).context(&what).map_err(|failure| {
            failure.advise("the disk's target must be an existing raw image or block device")
        })?;
        let loop_device = match metadata.file_type() {
            kind if kind.is_block_device() => None,
            kind if kind.is_file() => {
                if metadata.len() < 512 {
                    return Err(Failure::new(format!("{what}: the image is empty"))
                        .advise("make it as large as the disk is to be: truncate -s 1G IMAGE"));
                }
                Some(LoopDevice::attach(&disk.target, disk.writable).context(&what)?)
            }
            _ => {
                return Err(
                    Failure::new(format!("{what} is neither a file nor a block device"))
                        .advise("the disk's target must be an existing raw image or block device"),
                );
            }
        };
        let device = loop_device
            .as_ref()
            .map_or(disk.target.as_path(), |device| device.path())
            .to_owned();
        let number = fs::metadata(&device).context(&what)?.rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        Ok(Self {
            disk: disk.clone(),
            device,
            major,
            minor,
            _loop_device: loop_device,
        })
    }

    /// Its number in the store.
    pub fn number(&self) -> u32 {
        self.disk.number
    }

    /// What the guest is told.
    pub fn frontend(&self) -> Entries {
        vec![
            ("virtual-device", self.disk.number.to_string()),
            ("device-type", "disk".into()),
        ]
    }

    /// What the backend is told.
    pub fn backend(&self) -> Entries {
        vec![
            ("dev", self.disk.device.clone()),
            ("type", "phy".into()),
            ("device-type", "disk".into()),
            ("mode", if self.disk.writable { "w" } else { "r" }.into()),
            ("removable", "0".into()),
            ("bootable", "1".into()),
            ("params", self.disk.target.display().to_string()),
            ("physical-device-path", self.device.display().to_string()),
            ("physical-device", format!("{:x}:{:x}", self.major, self.minor)),
            ("hotplug-status", "connected".into()),
        ]
    }
}

/// A network interface whose bridge exists.
pub struct PreparedInterface {
    mac: MacAddress,
    bridge: String,
}

impl PreparedInterface {
    /// Checks the bridge and settles the address.
    pub fn new(interface: &Interface, uuid: Uuid, index: usize) -> Result<Self> {
        let bridge = &interface.bridge;
        if !network::is_bridge(bridge) {
            return Err(
                Failure::new(format!("vif {index}: there is no bridge `{bridge}`")).advise(format!(
                    "make it: ip link add {bridge} type bridge && ip link set {bridge} up"
                )),
            );
        }
        let mac = interface.mac.unwrap_or_else(|| MacAddress::derived(uuid, index));
        Ok(Self {
            mac,
            bridge: bridge.clone(),
        })
    }

    /// What the guest is told.
    pub fn frontend(&self, index: usize) -> Entries {
        vec![("handle", index.to_string()), ("mac", self.mac.to_string())]
    }

    /// What the backend is told.
    pub fn backend(&self, index: usize) -> Entries {
        vec![
            ("handle", index.to_string()),
            ("mac", self.mac.to_string()),
            ("bridge", self.bridge.clone()),
            ("type", "vif".into()),
            // The kernel insists on a name here; nobody runs it.
            ("script", String::new()),
        ]
    }
}

/// The name of an interface's end in dom0.
pub fn interface_name(guest: DomainId, index: impl std::fmt::Display) -> String {
    format!("vif{guest}.{index}")
}

/// Refuses a disk that another guest writes to, or that is to be written to while another guest has it.
pub fn check_sharing(config: &GuestConfig, uuid: Uuid, records: &[Record]) -> Result<()> {
    let same = |left: &Path, right: &Path| match (fs::canonicalize(left), fs::canonicalize(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    };
    let others = records
        .iter()
        .filter(|record| record.uuid != uuid && record.phase != Phase::Leaving);
    for (disk, other) in others.flat_map(|other| config.disks.iter().map(move |disk| (disk, other))) {
        let clash = |theirs: &Disk| (disk.writable || theirs.writable) && same(&disk.target, &theirs.target);
        if other.config.disks.iter().any(clash) {
            let (target, name) = (disk.target.display(), &other.config.name);
            return Err(Failure::new(format!(
                "disk {}: {target} is in use by guest `{name}`",
                disk.device
            ))
            .advise("two guests may share a disk only if both have it read-only (access=r)"));
        }
    }
    Ok(())
}

/// Waits until the backends have taken over what they serve, and connects interfaces to their bridges.
pub fn connect(
    store: &mut Store,
    guest: DomainId,
    disks: &[PreparedDisk],
    interfaces: &[PreparedInterface],
) -> Result<()> {
    for disk in disks {
        let number = disk.number();
        let opened = PathBuf::from(format!(
            "/sys/bus/xen-backend/devices/vbd-{guest}-{number}/physical_device"
        ));
        wait_for(store, guest, "vbd", &number.to_string(), "xen-blkback", || {
            opened.exists()
        })?;
    }
    for (index, interface) in interfaces.iter().enumerate() {
        let name = interface_name(guest, index);
        wait_for(store, guest, "vif", &index.to_string(), "xen-netback", || {
            network::exists(&name)
        })?;
        network::join_bridge(&name, &interface.bridge)?;
        store.write(
            &format!("{}/{index}/hotplug-status", backends_path("vif", guest)),
            "connected",
        )?;
    }
    Ok(())
}

fn wait_for(
    store: &mut Store,
    guest: DomainId,
    kind: &str,
    number: &str,
    module: &str,
    ready: impl Fn() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + BACKEND_TIME;
    let backend = format!("{}/{number}", backends_path(kind, guest));
    let error = format!("{CONTROL_HOME}/error/backend/{kind}/{guest}/{number}/error");
    while !ready() {
        if let Some(error) = store.read(&error)? {
            return Err(
                Failure::new(format!("the backend of {kind} {number} failed: {error}"))
                    .advise("dom0's kernel log says more: dmesg"),
            );
        }
        if Instant::now() > deadline {
            let state = store.read(&format!("{backend}/state"))?.unwrap_or_default();
            return Err(Failure::new(format!(
                "the backend of {kind} {number} was not ready within {} s (state {state})",
                BACKEND_TIME.as_secs()
            ))
            .advise(format!("is {module} loaded in dom0? modprobe {module}")));
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Makes the backends let go of a guest that does not run any more: without them, its memory could not be freed.
pub fn disconnect(store: &mut Store, guest: DomainId) -> Result<()> {
    let mut backends = Vec::new();
    for kind in KINDS {
        let base = backends_path(kind, guest);
        for number in store.children(&base)? {
            let backend = format!("{base}/{number}");
            let frontend = format!("{}/device/{kind}/{number}", domain_path(guest));
            store.transaction(|store| {
                // Written to only where there is something: a write would make the node again.
                if store.read(&format!("{backend}/online"))?.is_some() {
                    store.write(&format!("{backend}/online"), "0")?;
                }
                if store.read(&format!("{frontend}/state"))?.is_some() {
                    store.write(&format!("{frontend}/state"), State::Closed.text())?;
                }
                Ok(())
            })?;
            backends.push((kind, number, backend));
        }
    }
    let deadline = Instant::now() + BACKEND_TIME;
    for (kind, number, backend) in &backends {
        let device = PathBuf::from(format!("/sys/bus/xen-backend/devices/{kind}-{guest}-{number}"));
        while device.exists() && Instant::now() < deadline {
            if store.read(&format!("{backend}/state"))?.is_none() {
                break;
            }
            sleep(POLL_INTERVAL);
        }
    }
    for kind in KINDS {
        store.remove_branch(&backends_path(kind, guest), CONTROL_HOME)?;
    }
    Ok(())
}
