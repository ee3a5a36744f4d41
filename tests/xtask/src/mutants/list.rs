//! The list of mutants, and whether it fits the tree.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::house::House;

/// Where they are listed.
const FOLDER: &str = "tests/mutants";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Mutant>,
}

/// A deliberate bug.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// What it is called.
    pub name: String,
    /// The file that it is in.
    pub file: String,
    /// Why it matters.
    pub why: String,
    /// What is replaced: occurs exactly once.
    pub before: String,
    /// What stands there instead.
    pub after: String,
    /// Words in the name of the known race that finds it: that one is played first.
    pub scene: Option<String>,
    /// Where the simulation does not find it: why not.
    pub survives: Option<String>,
}

/// Reads the whole list.
pub fn read(house: &House) -> Result<Vec<Mutant>> {
    let mut files: Vec<_> = fs::read_dir(house.path(FOLDER))
        .with_context(|| format!("cannot read {FOLDER}"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let file: File =
            toml::from_str(&text).with_context(|| format!("{} is not as expected", file.display()))?;
        all.extend(file.mutant);
    }
    Ok(all)
}

/// Whether each mutant can be applied to the tree as it is.
///
/// # Errors
/// Those that cannot: the list is stale.
pub fn check(house: &House, all: &[Mutant]) -> Result<()> {
    let mut stale = Vec::new();
    let mut names = BTreeSet::new();
    for mutant in all {
        if !names.insert(&mutant.name) {
            stale.push(format!("`{}` is listed twice", mutant.name));
        }
        match fs::read_to_string(house.path(&mutant.file)) {
            Ok(text) => stale.extend(mutant.apply(&text).err().map(|error| error.to_string())),
            Err(error) => stale.push(format!("`{}`: {}: {error}", mutant.name, mutant.file)),
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("{FOLDER} is stale:\n  {}", stale.join("\n  "))
}

impl Mutant {
    /// The file with the bug.
    ///
    /// # Errors
    /// When what is replaced does not occur exactly once.
    pub fn apply(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.before).count();
        if count != 1 || self.before == self.after {
            bail!(
                "`{}`: what it replaces occurs {count} times in {}",
                self.name,
                self.file
            );
        }
        Ok(text.replacen(&self.before, &self.after, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_applies_to_the_tree_as_it_is() {
        let house = House::find().unwrap();
        let all = read(&house).unwrap();
        assert!(all.len() >= 60, "{} mutants", all.len());
        check(&house, &all).unwrap();
    }

    #[test]
    fn a_mutant_replaces_what_occurs_once() {
        let mutant = Mutant {
            name: "one".into(),
            file: "file".into(),
            why: String::new(),
            before: "a < b".into(),
            after: "a <= b".into(),
            scene: None,
            survives: None,
        };
        assert_eq!(mutant.apply("if a < b {").unwrap(), "if a <= b {");
        assert!(mutant.apply("a < b, a < b").is_err());
        assert!(mutant.apply("b < a").is_err());
    }
}
