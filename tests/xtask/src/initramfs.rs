//! dom0's initramfs and the guests' one inside it.
//!
//! The same image runs on Xenolith and on Xen: busybox, the kernel modules of Debian's kernel that a control domain
//! needs, our tools, the player of scenarios, Debian's clients of the store (to check that ours speaks their protocol),
//! and in `/boot` what guests are made of.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::cpio::Archive;
use crate::house::House;
use crate::kernel_modules;
use crate::micro;
use crate::packages::{self, Debian};
use crate::report::Activity;
use crate::web_disk;

/// What dom0's kernel needs to control guests and to serve their devices.
const DOM0_MODULES: [&str; 9] = [
    "xen-gntdev",
    "xen-gntalloc",
    "xen-evtchn",
    "xen-privcmd",
    "xenfs",
    "xen-blkback",
    "xen-netback",
    "loop",
    "bridge",
];

/// What a guest's kernel needs to use them.
const GUEST_MODULES: [&str; 2] = ["xen-blkfront", "xen-netfront"];

/// Our programs in dom0, all static.
const TOOLS: [&str; 4] = ["xenolith", "xenstored", "consoled", "scenario"];

/// Programs of the tests for guests; a package of the same build has them.
const GUEST_TOOLS: [&str; 1] = ["bystander"];

const MUSL: &str = "x86_64-unknown-linux-musl";

/// Builds `target/dom0.cpio.gz` and all that goes into it.
pub fn build(house: &House) -> Result<()> {
    let debian = packages::fetch(house)?;
    build_tools(house)?;
    let micro_guests = micro::build_guests(house)?;
    let unikernels = micro::build_unikernels(house)?;
    let _activity = Activity::start("writing the images of dom0 and of the guests");
    let guest = guest_image(house, &debian)?;
    let image = house.dom0_image();
    let half_written = image.with_extension("new");
    let mut archive = Archive::new(BufWriter::new(File::create(&half_written)?));
    skeleton(&mut archive, &debian)?;
    archive.copy("init", 0o755, &house.path("tests/images/dom0-init"))?;
    modules(&mut archive, &debian.modules(), "lib/modules", &DOM0_MODULES)?;
    for tool in TOOLS {
        archive.copy(&format!("sbin/{tool}"), 0o755, &house.built(MUSL, "tools", tool))?;
    }
    store_clients(&mut archive, &debian)?;
    archive.copy("boot/vmlinuz", 0o644, &debian.kernel())?;
    archive.copy("boot/vmlinuz-cloud", 0o644, &debian.cloud_kernel())?;
    archive.copy("boot/guest.cpio.gz", 0o644, &guest)?;
    for (folder, guests) in [("micro", micro_guests), ("pv", unikernels)] {
        for guest in guests {
            let name = guest
                .file_name()
                .context("a guest's kernel has a name")?
                .to_string_lossy()
                .into_owned();
            archive.copy(&format!("boot/{folder}/{name}"), 0o644, &guest)?;
        }
    }
    web_disk::write(house)?;
    archive.copy("boot/pv/web.img", 0o644, &web_disk::image(house))?;
    for (name, file) in web_disk::files(house)? {
        archive.file(&format!("boot/pv/www/{name}"), 0o644, &file)?;
    }
    archive.finish()?.into_inner()?.sync_all()?;
    fs::rename(half_written, image)?;
    Ok(())
}

fn build_tools(house: &House) -> Result<()> {
    let mut cargo = command::cargo(house.root());
    cargo.args(["build", "--profile", "tools", "--target", MUSL]);
    for tool in TOOLS {
        cargo.args(["--package", tool]);
    }
    command::run(&mut cargo).context("dom0's tools do not build")
}

/// The guests' initramfs: one for every role and for both kernels; the command line chooses (`role=`).
fn guest_image(house: &House, debian: &Debian) -> Result<PathBuf> {
    let image = house.target("guest.cpio.gz");
    let mut archive = Archive::new(BufWriter::new(File::create(&image)?));
    skeleton(&mut archive, debian)?;
    archive.copy("init", 0o755, &house.path("tests/images/guest-init"))?;
    // The kernel runs this when dom0 asks for a shutdown. busybox would tell init, which here is a script.
    archive.file(
        "sbin/poweroff",
        0o755,
        b"#!/bin/sh\nsync\nexec /bin/busybox poweroff -f\n",
    )?;
    archive.file(
        "sbin/reboot",
        0o755,
        b"#!/bin/sh\nsync\nexec /bin/busybox reboot -f\n",
    )?;
    for tool in GUEST_TOOLS {
        archive.copy(&format!("sbin/{tool}"), 0o755, &house.built(MUSL, "tools", tool))?;
    }
    for folder in [debian.modules(), debian.cloud_modules()] {
        let version = folder
            .file_name()
            .context("modules lie in a folder of their version")?
            .to_string_lossy();
        modules(
            &mut archive,
            &folder,
            &format!("lib/modules/{version}"),
            &GUEST_MODULES,
        )?;
    }
    archive.finish()?.into_inner()?.sync_all()?;
    Ok(image)
}

/// Folders, the console and busybox under all its names.
fn skeleton<W: std::io::Write>(archive: &mut Archive<W>, debian: &Debian) -> Result<()> {
    for folder in [
        "proc", "sys", "dev", "run", "tmp", "etc", "root", "sbin", "var/log", "var/lib",
    ] {
        archive.folder(folder)?;
    }
    archive.device("dev/console", 5, 1)?;
    archive.link("var/run", "/run")?;
    let busybox = debian.file("bin/busybox");
    archive.copy("bin/busybox", 0o755, &busybox)?;
    for name in command::output(Command::new(&busybox).arg("--list"))?.lines() {
        if name != "busybox" {
            archive.link(&format!("bin/{name}"), "busybox")?;
        }
    }
    Ok(())
}

/// The modules, and the file `order` that tells init what to load in which order.
fn modules<W: std::io::Write>(
    archive: &mut Archive<W>,
    from: &Path,
    to: &str,
    wanted: &[&str],
) -> Result<()> {
    let mut order = String::new();
    for module in kernel_modules::in_load_order(from, wanted)? {
        let name = module
            .file_name()
            .context("a module is a file")?
            .to_string_lossy()
            .into_owned();
        archive.copy(&format!("{to}/{name}"), 0o644, &module)?;
        order.push_str(&name);
        order.push('\n');
    }
    archive.file(&format!("{to}/order"), 0o644, order.as_bytes())
}

/// Debian's own clients of the store, with the libraries they are linked against.
fn store_clients<W: std::io::Write>(archive: &mut Archive<W>, debian: &Debian) -> Result<()> {
    archive.copy("usr/bin/xenstore", 0o755, &debian.file("usr/bin/xenstore"))?;
    for name in ["ls", "read", "write", "list", "exists", "rm", "chmod", "watch"] {
        archive.link(&format!("usr/bin/xenstore-{name}"), "xenstore")?;
    }
    let libraries = "lib/x86_64-linux-gnu";
    archive.copy(
        "lib64/ld-linux-x86-64.so.2",
        0o755,
        &debian.file(&format!("{libraries}/ld-linux-x86-64.so.2")),
    )?;
    archive.copy(
        &format!("{libraries}/libc.so.6"),
        0o755,
        &debian.file(&format!("{libraries}/libc.so.6")),
    )?;
    for library in ["libxenstore.so.4", "libxentoolcore.so.1"] {
        let from = debian.file(&format!("usr/{libraries}/{library}"));
        archive.copy(&format!("{libraries}/{library}"), 0o755, &from)?;
    }
    Ok(())
}
