//! Lists of processors as operators write them, in xl's grammar: `0-3,^2`, `all`, `node:1`, `nodes:0-1,^5`.
//!
//! A list is read before it is known which processors and nodes the machine has; [`CpuList::resolve`] finds out.

use control::{CPU_MAX, CpuSet};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is expected where a list is no list.
pub const EXPECTED: &str = "expected `all`, or numbers and ranges separated by commas, with `^` before those to leave out: 0-3,^2,node:1";

/// A list of processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuList {
    terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    /// `^`: these are left out.
    without: bool,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    All,
    /// First and last.
    Cpus(u32, u32),
    /// First and last.
    Nodes(u32, u32),
}

/// Why a list names no processors of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// Processors that there are not.
    NoSuchCpu(u32),
    /// A node without processors.
    NoSuchNode(u32),
    /// Nothing is left.
    Empty,
}

impl CpuList {
    /// All processors.
    pub fn all() -> Self {
        Self {
            terms: vec![Term {
                without: false,
                what: What::All,
            }],
        }
    }

    /// The processors that it names, of `all` there are; `node` answers with a node's.
    pub fn resolve(&self, all: &CpuSet, node: impl Fn(u32) -> CpuSet) -> Result<CpuSet, Unresolved> {
        let mut cpus = CpuSet::new();
        for term in &self.terms {
            let named = match term.what {
                What::All => all.clone(),
                What::Cpus(first, last) => {
                    let named: CpuSet = (first..=last).collect();
                    let missing = named.difference(all);
                    match missing.iter().next() {
                        Some(cpu) if !term.without => return Err(Unresolved::NoSuchCpu(cpu)),
                        _ => named,
                    }
                }
                What::Nodes(first, last) => {
                    let mut named = CpuSet::new();
                    for number in first..=last {
                        let cpus = node(number);
                        if cpus.is_empty() && !term.without {
                            return Err(Unresolved::NoSuchNode(number));
                        }
                        named = named.union(&cpus);
                    }
                    named
                }
            };
            cpus = match term.without {
                true => cpus.difference(&named),
                false => cpus.union(&named),
            };
        }
        match cpus.is_empty() {
            true => Err(Unresolved::Empty),
            false => Ok(cpus),
        }
    }
}

impl FromStr for CpuList {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let terms = text.split(',').map(|term| term.trim().parse());
        Ok(Self {
            terms: terms.collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for Term {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (without, text) = match text.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let node = text.strip_prefix("nodes:").or_else(|| text.strip_prefix("node:"));
        let what = match (text, node) {
            ("all", _) | (_, Some("all")) => What::All,
            (_, Some(numbers)) => {
                let (first, last) = range(numbers)?;
                What::Nodes(first, last)
            }
            _ => {
                let (first, last) = range(text)?;
                What::Cpus(first, last)
            }
        };
        Ok(Self { without, what })
    }
}

fn range(text: &str) -> Result<(u32, u32), ()> {
    // `parse` alone would take a plus sign.
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().filter(|number| *number <= CPU_MAX).ok_or(()),
        false => Err(()),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(());
    }
    Ok((first, last))
}

impl fmt::Display for CpuList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let caret = if term.without { "^" } else { "" };
            let (kind, range) = match term.what {
                What::All => ("all", None),
                What::Cpus(first, last) => ("", Some((first, last))),
                What::Nodes(first, last) => ("nodes:", Some((first, last))),
            };
            write!(formatter, "{comma}{caret}{kind}")?;
            match range {
                Some((first, last)) if first == last => write!(formatter, "{first}")?,
                Some((first, last)) => write!(formatter, "{first}-{last}")?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of eight processors in two nodes.
    fn resolve(text: &str) -> Result<String, Unresolved> {
        let list: CpuList = text.parse().expect(text);
        let node = |node| match node {
            0 => CpuSet::first(4),
            1 => CpuSet::first(8).difference(&CpuSet::first(4)),
            _ => CpuSet::new(),
        };
        list.resolve(&CpuSet::first(8), node).map(|cpus| cpus.to_string())
    }

    #[test]
    fn lists_are_read_as_xl_reads_them() {
        for (text, cpus) in [
            ("all", "0-7"),
            ("3", "3"),
            ("0-3", "0-3"),
            ("0-3,^2", "0-1,3"),
            ("0-3, 5 ,^1", "0,2-3,5"),
            ("all,^0", "1-7"),
            ("node:1", "4-7"),
            ("nodes:0-1,^3", "0-2,4-7"),
            ("all,^node:0", "4-7"),
            ("0-7,^nodes:1,6", "0-3,6"),
            ("node:all", "0-7"),
            // One left out that is not there hurts nobody.
            ("0-1,^70", "0-1"),
        ] {
            assert_eq!(resolve(text).as_deref(), Ok(cpus), "{text}");
        }
    }

    #[test]
    fn what_the_machine_has_not_is_named() {
        assert_eq!(resolve("0-9"), Err(Unresolved::NoSuchCpu(8)));
        assert_eq!(resolve("node:2"), Err(Unresolved::NoSuchNode(2)));
        for nothing in ["^0", "2,^2", "0-3,^node:0", "^all"] {
            assert_eq!(resolve(nothing), Err(Unresolved::Empty), "{nothing}");
        }
    }

    #[test]
    fn nonsense_is_no_list() {
        for text in [
            "",
            ",",
            "1,",
            "-",
            "1-",
            "-1",
            "3-1",
            "a",
            "^",
            "^^1",
            "0x3",
            "+1",
            "node:",
            "node:x",
            "node0",
            "1 2",
            "4096",
            "0-99999999999",
        ] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        for text in ["all", "0-3,^2", "nodes:0-1,^5", "7"] {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), text);
        }
    }
}
