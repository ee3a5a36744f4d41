//! Which processors a guest may use, and how much of them.

use super::guest::Settings;
use super::syntax::{Content, Value};
use crate::cpu_list::{self, CpuList};
use crate::failure::Result;
use serde::{Deserialize, Serialize};

/// Lists of processors for a guest's virtual CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// The same for all.
    Together(CpuList),
    /// One for each, from the first on; the others may run anywhere.
    Each(Vec<CpuList>),
}

impl Placement {
    /// The list of this virtual CPU; nothing when it may run anywhere.
    pub fn of(&self, vcpu: u32) -> Option<&CpuList> {
        match self {
            Self::Together(list) => Some(list),
            Self::Each(lists) => lists.get(vcpu as usize),
        }
    }

    /// With another list for this virtual CPU, of `vcpus` there are.
    pub fn with(before: Option<&Self>, vcpu: u32, vcpus: u32, list: CpuList) -> Self {
        let of = |index| before.and_then(|before| before.of(index)).cloned();
        let lists = (0..vcpus).map(|index| match index == vcpu {
            true => list.clone(),
            false => of(index).unwrap_or_else(CpuList::all),
        });
        Self::Each(lists.collect())
    }
}

/// A guest's part in processor time, and where it runs. What is nothing is the hypervisor's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// The name of its CPU pool.
    pub pool: Option<String>,
    /// Where its virtual CPUs may run.
    pub hard: Option<Placement>,
    /// Where they should run.
    pub soft: Option<Placement>,
    /// Its weight.
    pub weight: Option<u16>,
    /// Per cent of one processor; zero for no limit.
    pub cap: Option<u16>,
}

/// The highest cap of a guest with that many virtual CPUs: each can use one processor.
pub fn cap_max(vcpus: u32) -> u16 {
    u16::try_from(vcpus.saturating_mul(100)).unwrap_or(u16::MAX)
}

impl Scheduling {
    pub(super) fn from_settings(settings: &Settings<'_>, max_vcpus: u32) -> Result<Self> {
        let number = |key, least, most: u16| -> Result<Option<u16>> {
            let number = settings.number(key, least, most.into())?;
            Ok(number.and_then(|number| number.try_into().ok()))
        };
        Ok(Self {
            pool: settings.pool()?,
            hard: settings.placement("cpus", max_vcpus)?,
            soft: settings.placement("cpus_soft", max_vcpus)?,
            weight: number("cpu_weight", 1, u16::MAX)?,
            cap: number("cap", 0, cap_max(max_vcpus))?,
        })
    }
}

impl Settings<'_> {
    fn pool(&self) -> Result<Option<String>> {
        match self.text("pool")? {
            Some(("", value)) => {
                let expected = "expected the name of a CPU pool, as `xenolith cpupool-list` shows them";
                Err(value.place.fail("`pool` is empty", expected))
            }
            named => Ok(named.map(|(name, _)| name.to_owned())),
        }
    }

    fn placement(&self, key: &str, max_vcpus: u32) -> Result<Option<Placement>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Content::List(items) = &value.content else {
            return Ok(Some(Placement::Together(cpu_list(key, value)?)));
        };
        if items.is_empty() || items.len() > max_vcpus as usize {
            return Err(value.place.fail(
                format!("`{key}` is a list of {} for {max_vcpus} vCPUs", items.len()),
                "give one string for each vCPU, or one for all without the brackets",
            ));
        }
        let lists = items.iter().map(|item| cpu_list(key, item));
        Ok(Some(Placement::Each(lists.collect::<Result<_>>()?)))
    }
}

fn cpu_list(key: &str, value: &Value) -> Result<CpuList> {
    let text = match &value.content {
        Content::Text(text) => text.clone(),
        Content::Number(number) => number.to_string(),
        Content::List(_) => String::new(),
    };
    text.parse().map_err(|()| {
        let message = format!("`{key}`: `{text}` is no list of CPUs");
        value.place.fail(message, cpu_list::EXPECTED)
    })
}

#[cfg(test)]
mod tests {
    use super::super::GuestConfig;
    use super::super::syntax::parse;
    use super::*;

    fn scheduling(text: &str) -> Result<Scheduling> {
        let text = format!("name='web';kernel='/k';vcpus=2\n{text}");
        Ok(GuestConfig::from_entries(&parse("t.cfg", &text)?, None)?.scheduling)
    }

    fn list(text: &str) -> CpuList {
        text.parse().unwrap()
    }

    #[test]
    fn the_settings_are_xls() {
        assert_eq!(scheduling("").unwrap(), Scheduling::default());
        let read =
            scheduling("cpus='0-3,^2';cpus_soft=['1','all'];cpu_weight=512;cap=150;pool='batch'").unwrap();
        assert_eq!(read.pool.as_deref(), Some("batch"));
        assert_eq!((read.weight, read.cap), (Some(512), Some(150)));
        assert_eq!(read.hard, Some(Placement::Together(list("0-3,^2"))));
        assert_eq!(read.soft, Some(Placement::Each(vec![list("1"), list("all")])));
        let one = scheduling("cpus=[3]").unwrap().hard.unwrap();
        assert_eq!((one.of(0), one.of(1)), (Some(&list("3")), None));
    }

    #[test]
    fn mistakes_name_line_and_expectation() {
        for (line, part, expected) in [
            ("cpu_weight=0", "cannot be 0", "from 1 to 65535"),
            ("cpu_weight=65536", "cannot be 65536", "from 1 to 65535"),
            ("cap=201", "cannot be 201", "from 0 to 200"),
            ("cap='much'", "is no number", "from 0 to 200"),
            ("cpus='x'", "`x` is no list of CPUs", "0-3,^2"),
            ("cpus=''", "is no list of CPUs", "0-3,^2"),
            ("cpus_soft=[]", "a list of 0 for 2 vCPUs", "one string for each"),
            (
                "cpus=['0','1','2']",
                "a list of 3 for 2 vCPUs",
                "one string for each",
            ),
            ("cpus=[['0']]", "is no list of CPUs", "0-3,^2"),
            ("pool=''", "`pool` is empty", "cpupool-list"),
        ] {
            let failure = scheduling(line).unwrap_err();
            assert!(failure.message.starts_with("t.cfg:2: "), "{line}: {failure}");
            assert!(failure.message.contains(part), "{line}: {failure}");
            assert!(failure.advice.unwrap().contains(expected), "{line}");
        }
    }

    #[test]
    fn one_vcpus_list_changes_alone() {
        let before = Placement::Together(list("0"));
        let after = Placement::with(Some(&before), 1, 3, list("2"));
        assert_eq!(after, Placement::Each(vec![list("0"), list("2"), list("0")]));
        assert_eq!(
            Placement::with(None, 0, 2, list("2")),
            Placement::Each(vec![list("2"), list("all")])
        );
    }
}
