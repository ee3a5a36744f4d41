//! What must be on the machine before anything can be built: rustup's targets and a few of Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::report::{self, Activity};

/// Targets that rustup must have.
const RUST_TARGETS: [&str; 2] = ["x86_64-unknown-none", "x86_64-unknown-linux-musl"];

/// What of Debian is needed, by the file that shows that it is there.
const DEBIAN: [(&str, &str); 4] = [
    ("gcc", "/usr/bin/cc"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("libxen-dev", "/usr/include/xenctrl.h"),
];

/// What the boots by GRUB need besides.
pub const GRUB: [(&str, &str); 4] = [
    ("grub-common", "/usr/bin/grub-mkrescue"),
    ("grub-pc-bin", "/usr/lib/grub/i386-pc/multiboot2.mod"),
    ("xorriso", "/usr/bin/xorriso"),
    ("mtools", "/usr/bin/mcopy"),
];

/// Installs what is missing of the usual and of `more`, and says so. As an ordinary user it names the command that a
/// person must type.
pub fn install_missing(more: &[(&'static str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> = DEBIAN
        .iter()
        .chain(more)
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    install_rust_targets()
}

fn install_packages(missing: &[&str]) -> Result<()> {
    let wanted = missing.join(" ");
    if !command::exists("apt-get") {
        bail!("this machine lacks what Debian calls `{wanted}`, and has no apt-get to install it with");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("this machine lacks `{wanted}`: run `sudo apt-get install {wanted}`, then repeat");
    }
    ensure_package_lists()?;
    report::note(&format!("installing {wanted}"));
    command::run(
        Command::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// apt can only find packages after `apt-get update` has run at least once.
pub fn ensure_package_lists() -> Result<()> {
    let lists = std::fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    if lists
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().contains("_Packages"))
    {
        return Ok(());
    }
    refresh_package_lists()
}

/// `apt-get update`, where we may.
pub fn refresh_package_lists() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("apt's package lists are missing or old: run `sudo apt-get update`, then repeat");
    }
    let _activity = Activity::start("apt-get update");
    command::output(Command::new("apt-get").args(["update", "-q"])).map(drop)
}

fn install_rust_targets() -> Result<()> {
    if !command::exists("rustup") {
        return Ok(()); // Debian's or another's Rust: cargo itself will say what it lacks.
    }
    let installed = command::output(Command::new("rustup").args(["target", "list", "--installed"]))?;
    let missing: Vec<_> = RUST_TARGETS
        .into_iter()
        .filter(|target| !installed.lines().any(|line| line == *target))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    report::note(&format!("rustup target add {}", missing.join(" ")));
    command::run(Command::new("rustup").args(["target", "add"]).args(&missing))
        .context("rustup cannot add targets")
}

/// The toolchain for what the stable one cannot do: libFuzzer's instrumentation, and Miri.
const NIGHTLY: &str = "nightly";

/// Installs the nightly toolchain and one of its components, where they are missing.
pub fn install_nightly(component: &str) -> Result<()> {
    if !command::exists("rustup") {
        bail!("this needs rustup, for the nightly toolchain: see https://rustup.rs");
    }
    let toolchains = command::output(Command::new("rustup").args(["toolchain", "list"]))?;
    if !toolchains.lines().any(|line| line.starts_with(NIGHTLY)) {
        report::note("rustup toolchain install nightly");
        command::run(Command::new("rustup").args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]))?;
    }
    let listed = ["component", "list", "--installed", "--toolchain", NIGHTLY];
    let installed = command::output(Command::new("rustup").args(listed))?;
    if !installed.lines().any(|line| line.starts_with(component)) {
        report::note(&format!(
            "rustup component add {component} for the nightly toolchain"
        ));
        command::run(Command::new("rustup").args(["component", "add", "--toolchain", NIGHTLY, component]))?;
    }
    Ok(())
}

/// The nightly toolchain's cargo, in the checkout.
pub fn nightly_cargo(root: &Path) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", NIGHTLY, "cargo"]).current_dir(root);
    // What the stable cargo that runs us tells its children is not for this one.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name == "CARGO"
            || name == "RUSTUP_TOOLCHAIN"
            || name.starts_with("CARGO_PKG_")
            || name == "CARGO_MANIFEST_DIR"
        {
            rustup.env_remove(&*name);
        }
    }
    rustup
}
