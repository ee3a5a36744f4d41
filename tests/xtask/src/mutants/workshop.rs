//! A copy of the checkout, in which bugs are put and taken out again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::list::Mutant;
use crate::command;
use crate::house::House;

const PROFILE: &str = "mutation";

/// The copy, and what is built from it.
pub struct Workshop {
    root: PathBuf,
    target: PathBuf,
}

impl Workshop {
    /// Brings copy `number` up to date with the checkout as it lies there. Files that are the same are left alone, so that
    /// little is built again.
    pub fn open(house: &House, number: usize) -> Result<Workshop> {
        let workshop = Workshop {
            root: house.target(&format!("mutants/work-{number}")),
            target: house.target(&format!("mutants/build-{number}")),
        };
        fs::create_dir_all(&workshop.root)?;
        let mut git = Command::new("git");
        git.current_dir(house.root())
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = command::output(&mut git)?;
        let mut present = BTreeSet::new();
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let (from, into) = (house.path(name), workshop.root.join(name));
            // Listed files may have been deleted.
            if let Ok(bytes) = fs::read(&from) {
                update(&from, &into, &bytes)?;
                present.insert(into);
            }
        }
        remove_others(&workshop.root, &present)?;
        Ok(workshop)
    }

    fn cargo(&self, words: &[&str]) -> Command {
        let mut cargo = command::cargo(&self.root);
        cargo.args(words).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// Builds the simulator.
    ///
    /// # Errors
    /// With the compiler's words.
    pub fn build(&self) -> Result<()> {
        let words = ["build", "--quiet", "--profile", PROFILE, "--package", "simulator"];
        command::output(self.cargo(&words).env("RUSTFLAGS", "--cap-lints warn")).map(drop)
    }

    /// The simulator that was built last.
    pub fn simulator(&self) -> Command {
        let mut simulator = Command::new(self.target.join(PROFILE).join("simulator"));
        simulator.current_dir(&self.root);
        simulator
    }

    /// The unit tests of the core.
    pub fn unit_tests(&self) -> Command {
        self.cargo(&[
            "test",
            "--quiet",
            "--lib",
            "--package",
            "machine",
            "--package",
            "kernel",
        ])
    }

    /// Does something while a bug is there.
    ///
    /// # Errors
    /// When it does not compile, and what `act` says.
    pub fn with<R>(&self, mutant: &Mutant, act: impl FnOnce() -> Result<R>) -> Result<R> {
        let file = self.root.join(&mutant.file);
        let text = fs::read_to_string(&file)?;
        fs::write(&file, mutant.apply(&text)?)?;
        let result = self.build().context("it does not compile").and_then(|()| act());
        fs::write(&file, text)?;
        result
    }
}

/// Removes the files below a folder that are none of these.
fn remove_others(folder: &Path, present: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, present)?;
        } else if !present.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn update(from: &Path, into: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(into).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    if let Some(folder) = into.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(into, bytes)?;
    Ok(fs::set_permissions(into, fs::metadata(from)?.permissions())?)
}
