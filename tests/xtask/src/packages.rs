//! Debian's packages: downloaded into `target/debs`, unpacked into `target/root`, never installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::house::House;
use crate::report::Activity;
use crate::setup;

/// Packages besides the kernels: Xen as the reference, a shell, and Debian's clients of the store with their libraries.
const PACKAGES: [&str; 6] = [
    "xen-hypervisor-4.17-amd64",
    "busybox-static",
    "xenstore-utils",
    "libxenstore4",
    "libxentoolcore1",
    "libc6",
];

/// The kernels of one Debian version, as unpacked.
pub struct Debian {
    root: PathBuf,
    version: String,
}

impl Debian {
    /// A file of an unpacked package.
    pub fn file(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The general kernel: dom0's, and some guests'.
    pub fn kernel(&self) -> PathBuf {
        self.file(&format!("boot/vmlinuz-{}-amd64", self.version))
    }

    /// The kernel for virtual machines: lz4 instead of xz, guests only.
    pub fn cloud_kernel(&self) -> PathBuf {
        self.file(&format!("boot/vmlinuz-{}-cloud-amd64", self.version))
    }

    /// The modules of the general kernel.
    pub fn modules(&self) -> PathBuf {
        self.file(&format!("lib/modules/{}-amd64", self.version))
    }

    /// The modules of the kernel for virtual machines.
    pub fn cloud_modules(&self) -> PathBuf {
        self.file(&format!("lib/modules/{}-cloud-amd64", self.version))
    }
}

/// Downloads and unpacks what is not there yet.
pub fn fetch(house: &House) -> Result<Debian> {
    let stamp = house.target("root/.kernel-version");
    if let Ok(version) = fs::read_to_string(&stamp) {
        return Ok(Debian {
            root: house.debian_root(),
            version: version.trim().to_owned(),
        });
    }
    setup::ensure_package_lists()?;
    let version = kernel_version()?;
    let mut names: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    names.push(format!("linux-image-{version}-amd64"));
    names.push(format!("linux-image-{version}-cloud-amd64"));
    let activity = Activity::start("downloading Debian's kernels and Xen");
    let folder = house.target("debs");
    fs::create_dir_all(&folder)?;
    if download(&folder, &names).is_err() {
        // The mirror no longer has what old lists name.
        setup::refresh_package_lists()?;
        download(&folder, &names)?;
    }
    activity.say("unpacking packages");
    unpack(house, &folder, &names)?;
    unpack_xen(house)?;
    fs::write(&stamp, &version)?;
    Ok(Debian {
        root: house.debian_root(),
        version,
    })
}

/// The version that Debian's `linux-image-amd64` stands for, like `6.1.0-56`.
fn kernel_version() -> Result<String> {
    let depends = command::output(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))?;
    let version = depends.lines().find_map(|line| {
        line.trim()
            .strip_prefix("Depends: linux-image-")?
            .strip_suffix("-amd64")
            .map(str::to_owned)
    });
    version.context("apt knows no linux-image-amd64: is this Debian 12 with its main archive?")
}

fn download(folder: &std::path::Path, names: &[String]) -> Result<()> {
    command::output(
        Command::new("apt-get")
            .args(["download", "-q"])
            .args(names)
            .current_dir(folder),
    )
    .map(drop)
}

fn unpack(house: &House, folder: &std::path::Path, names: &[String]) -> Result<()> {
    let mut archives: Vec<PathBuf> = Vec::new();
    for name in names {
        let prefix = format!("{name}_");
        let mut found: Vec<PathBuf> = fs::read_dir(folder)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        archives.push(
            found
                .pop()
                .with_context(|| format!("apt-get downloaded no {name}"))?,
        );
    }
    let root = house.debian_root();
    fs::create_dir_all(&root)?;
    for archive in archives {
        command::output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root))?;
    }
    Ok(())
}

/// QEMU's `-kernel` wants Xen's multiboot ELF unpacked.
fn unpack_xen(house: &House) -> Result<()> {
    let packed = house.target("root/boot/xen-4.17-amd64.gz");
    let file = fs::File::open(&packed).with_context(|| format!("no {}", packed.display()))?;
    let mut elf = fs::File::create(xen_image(house))?;
    let copied = std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut elf)?;
    if copied == 0 {
        bail!("{} is empty", packed.display());
    }
    Ok(())
}

/// Debian's Xen, as QEMU takes it.
pub fn xen_image(house: &House) -> PathBuf {
    house.target("xen-4.17-amd64.elf")
}
