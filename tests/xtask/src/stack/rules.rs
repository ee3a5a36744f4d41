//! What cannot be read from instructions: what computed calls can reach, how long recursions can get, where stacks begin.

use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::house::House;

/// Where they are kept.
pub const FILE: &str = "tests/budgets/stack.toml";

/// The rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What runs on which stack.
    pub root: Vec<Root>,
    /// What a panic runs.
    pub panic: Panic,
    /// What computed calls reach.
    pub call: Vec<Call>,
    /// How long recursions can get.
    pub recursion: Vec<Recursion>,
}

/// A function that a stack begins with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// What it is.
    pub name: String,
    /// The function.
    pub function: String,
    /// The constant with the stack's size.
    pub stack: String,
    /// The file with that constant.
    pub file: String,
    /// Bytes that are on the stack before the function begins.
    #[serde(default)]
    pub before: u64,
    /// Whether it goes on when boot is over, and boots nothing itself.
    #[serde(default)]
    pub after_boot: bool,
}

/// What a panic runs. It is no part of the ways: one at the deepest place is added to each stack.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panic {
    /// The pattern of the function.
    pub function: String,
    /// Why it is added once.
    #[allow(dead_code, reason = "for who reads the file")]
    pub why: String,
}

/// What the computed calls of some functions reach.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Patterns of the functions that call.
    pub from: Vec<String>,
    /// Patterns of the functions that are called: of those whose address is somewhere in the program.
    pub to: Vec<String>,
    /// Where the address must come from for the rule to hold, as messages name it: `word 32` for the second method of a
    /// trait object, `unknown` for what came as an argument or lay on the stack. Empty: wherever it comes from.
    #[serde(default)]
    pub source: Vec<String>,
    /// Why these and no others.
    #[allow(dead_code, reason = "for who reads the file")]
    pub why: String,
}

/// How long a chain of calls within a set of functions that call each other can get.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recursion {
    /// Patterns of these functions.
    pub functions: Vec<String>,
    /// The most of them that can be on the stack at once.
    pub chain: usize,
    /// Large ones among them that are on it less often.
    pub seldom: Option<Seldom>,
    /// Why.
    #[allow(dead_code, reason = "for who reads the file")]
    pub why: String,
}

/// Functions of a recursion that are on the stack only so many times.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seldom {
    /// Patterns of these functions.
    pub functions: Vec<String>,
    /// How many of them there are at once.
    pub chain: u64,
}

impl Rules {
    /// Reads them.
    pub fn read(house: &House) -> Result<Rules> {
        let text = fs::read_to_string(house.path(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        toml::from_str(&text).with_context(|| format!("{FILE} is not as expected"))
    }
}

impl Root {
    /// The stack's size, as its source says.
    pub fn size(&self, house: &House) -> Result<u64> {
        let text = fs::read_to_string(house.path(&self.file))
            .with_context(|| format!("cannot read {}", self.file))?;
        let mark = format!("const {}:", self.stack);
        let line = text.lines().find(|line| line.contains(&mark));
        let value = line
            .and_then(|line| line.split_once('='))
            .map(|(_, value)| value.trim().trim_end_matches(';'));
        let Some((number, shift)) = value.and_then(|value| value.split_once("<<")) else {
            bail!("no `{mark} ... = N << M` in {}", self.file);
        };
        Ok(number.trim().parse::<u64>()? << shift.trim().parse::<u32>()?)
    }
}

/// Whether a name fits one of the patterns; `*` stands for anything.
pub fn fits(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| fits_one(pattern, name))
}

fn fits_one(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::fits_one;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, expected) in [
            ("core::fmt::write", "core::fmt::write", true),
            ("core::fmt::write", "core::fmt::write_fmt", false),
            ("*core::fmt::*", "<&T as core::fmt::Debug>::fmt", true),
            ("<* as core::fmt::*>::fmt", "<&T as core::fmt::Debug>::fmt", true),
            (
                "<* as core::fmt::*>::fmt",
                "<&T as core::fmt::Debug>::fmt.187",
                false,
            ),
            ("iced*", "iced", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(fits_one(pattern, name), expected, "{pattern} and {name}");
        }
    }
}
