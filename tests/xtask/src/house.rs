//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::core_image::Flavour;

/// The checkout and its build folder.
pub struct House {
    root: PathBuf,
    cargo_target: PathBuf,
}

impl House {
    /// The checkout this command was built from.
    pub fn find() -> Result<House> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .context("the checkout that this command was built from is gone")?;
        let cargo_target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::env::current_dir()?.join(folder),
            None => root.join("target"),
        };
        Ok(House { root, cargo_target })
    }

    /// The checkout itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the checkout.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path below the checkout's `target`, where images, logs and figures go whatever cargo is told.
    pub fn target(&self, relative: &str) -> PathBuf {
        self.root.join("target").join(relative)
    }

    /// What cargo built: `triple/profile/name`.
    pub fn built(&self, triple: &str, profile: &str, name: &str) -> PathBuf {
        self.cargo_target.join(triple).join(profile).join(name)
    }

    /// The bootable hypervisor, as `qemu-system-x86_64 -kernel` takes it.
    pub fn hypervisor_image(&self, flavour: Flavour) -> PathBuf {
        self.target(match flavour {
            Flavour::Release => "xenolith.elf",
            Flavour::Checked => "xenolith-checked.elf",
        })
    }

    /// dom0's initramfs: the same on Xenolith and on Xen.
    pub fn dom0_image(&self) -> PathBuf {
        self.target("dom0.cpio.gz")
    }

    /// Where Debian's packages are unpacked; nothing in there is ever installed.
    pub fn debian_root(&self) -> PathBuf {
        self.target("root")
    }

    /// A path as a person in the checkout would type it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}
