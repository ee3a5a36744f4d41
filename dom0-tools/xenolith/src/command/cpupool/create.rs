//! Making, naming and removing CPU pools.

use super::{check_name, done};
use crate::config::Place;
use crate::config::syntax::{self, Content, Entry, Value};
use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::output;
use crate::pool::{self, pool_path};
use crate::processors::Processors;
use crate::uuid::Uuid;
use control::{CpuSet, FIRST_POOL, Scheduler};
use serde_json::json;
use xenolith::cpu_list::{self, CpuList};

/// What a configuration asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    scheduler: Scheduler,
    /// Nothing: all free ones.
    cpus: Option<CpuList>,
}

/// Makes a pool; when that fails, there is none.
pub fn create(machine: &mut Machine, settings: &[String], as_json: bool) -> Result<()> {
    let wanted = Wanted::from_entries(&entries(settings)?)?;
    let _names = machine.records.lock_names()?;
    check_name(machine, &wanted.name)?;
    let free = machine.hypervisor.free_cpus()?;
    let cpus = match &wanted.cpus {
        Some(list) => Processors::load(&machine.hypervisor)?.resolve(list)?,
        None => free.clone(),
    };
    check_free(&cpus, &free)?;
    let id = machine.hypervisor.create_pool(wanted.scheduler)?;
    let result = fill(machine, id, &wanted.name, &cpus);
    if result.is_err() {
        // The first failure is the one to tell.
        let _ = take_apart(machine, id, &cpus);
    }
    result?;
    done(machine, id, "created", as_json)
}

/// Every one must be free, and there must be one.
pub fn check_free(cpus: &CpuSet, free: &CpuSet) -> Result<()> {
    let advice = "take CPUs from a pool that can spare them first: xenolith cpupool-cpu-remove POOL CPUS";
    if cpus.is_empty() {
        return Err(Failure::new("no CPU is free, and a pool needs one").advise(advice));
    }
    let taken = cpus.difference(free);
    if !taken.is_empty() {
        let free = super::show(free);
        return Err(
            Failure::new(format!("CPUs {taken} are not free: they are in another pool"))
                .advise(format!("free: {free}; {advice}")),
        );
    }
    Ok(())
}

fn fill(machine: &mut Machine, pool: u32, name: &str, cpus: &CpuSet) -> Result<()> {
    let uuid = Uuid::random()?.to_string();
    let home = pool_path(pool);
    machine.store.transaction(|store| {
        store.remove(&home)?;
        store.write(&format!("{home}/uuid"), &uuid)?;
        store.write(&format!("{home}/name"), name)
    })?;
    cpus.iter().try_for_each(|cpu| {
        machine
            .hypervisor
            .add_cpu_to_pool(pool, cpu)
            .context(format_args!("CPU {cpu}"))
    })
}

fn take_apart(machine: &mut Machine, pool: u32, cpus: &CpuSet) -> Result<()> {
    for cpu in cpus.iter() {
        let _ = pool::remove_cpu(machine, pool, cpu);
    }
    machine.hypervisor.destroy_pool(pool)?;
    machine.store.remove_branch(&pool_path(pool), "/local")?;
    Ok(())
}

/// Removes a pool.
pub fn destroy(machine: &mut Machine, wanted: &str, as_json: bool) -> Result<()> {
    let found = pool::find(machine, wanted)?;
    let (id, name) = (found.pool.id, found.name);
    if id == FIRST_POOL {
        return Err(
            Failure::new(format!("CPU pool `{name}` cannot be removed: dom0 runs in it"))
                .advise("it stays as long as the machine"),
        );
    }
    if found.pool.domains > 0 {
        let members = pool::members(machine, id)?;
        let names = members.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        return Err(
            Failure::new(format!("CPU pool `{name}` has domains: {}", names.join(", ")))
                .advise("move them first (xenolith cpupool-migrate DOMAIN POOL), or destroy them"),
        );
    }
    let mut removed = Vec::new();
    let result = found.pool.cpus.iter().try_for_each(|cpu| {
        pool::remove_cpu(machine, id, cpu)?;
        removed.push(cpu);
        Ok(())
    });
    let result = result.and_then(|()| machine.hypervisor.destroy_pool(id));
    if let Err(error) = result {
        for cpu in removed {
            let _ = machine.hypervisor.add_cpu_to_pool(id, cpu);
        }
        return Err(error).context(format_args!("CPU pool `{name}`"));
    }
    machine.store.remove_branch(&pool_path(id), "/local")?;
    match as_json {
        true => output::document(&json!({ "name": name, "pool": id, "done": "destroyed" })),
        false => output::line(&format!("{name} (pool {id}): destroyed")),
    }
    Ok(())
}

/// Gives a pool another name, and guests that are made again find it by that.
pub fn rename(machine: &mut Machine, wanted: &str, name: &str, as_json: bool) -> Result<()> {
    let found = pool::find(machine, wanted)?;
    let _names = machine.records.lock_names()?;
    check_name(machine, name)?;
    machine
        .store
        .write(&format!("{}/name", pool_path(found.pool.id)), name)?;
    for record in machine.records.all()? {
        let _lock = machine.records.lock(record.uuid)?;
        let Some(mut record) = machine.records.load(record.uuid)? else {
            machine.records.remove(record.uuid)?;
            continue;
        };
        if record.config.scheduling.pool.as_ref() == Some(&found.name) {
            record.config.scheduling.pool = Some(name.to_owned());
            machine.records.save(&record)?;
        }
    }
    done(machine, found.pool.id, "renamed", as_json)
}

/// The settings of the file, if there is one, and those given beside it. A word without quotes is a string there.
fn entries(settings: &[String]) -> Result<Vec<Entry>> {
    const SOURCE: &str = "command line";
    let mut entries: Vec<Entry> = Vec::new();
    for (index, setting) in settings.iter().enumerate() {
        let new = match setting.split_once('=') {
            None if index == 0 => {
                let text = std::fs::read_to_string(setting).context(format_args!("cannot read {setting}"))?;
                syntax::parse(setting, &text)?
            }
            None => {
                return Err(Failure::new(format!("`{setting}` is no setting"))
                    .advise("expected KEY=VALUE; only the first argument may be a file"));
            }
            Some((_, value)) if value.trim_start().starts_with(['"', '\'', '[']) => {
                syntax::parse(SOURCE, setting)?
            }
            Some((key, value)) => {
                let place = Place {
                    source: SOURCE.to_owned(),
                    line: 1,
                };
                vec![Entry {
                    key: key.trim().to_owned(),
                    value: Value {
                        content: Content::Text(value.trim().to_owned()),
                        place: place.clone(),
                    },
                    place,
                }]
            }
        };
        entries.retain(|entry| new.iter().all(|new| new.key != entry.key));
        entries.extend(new);
    }
    Ok(entries)
}

impl Wanted {
    fn from_entries(entries: &[Entry]) -> Result<Self> {
        let (mut name, mut scheduler, mut cpus) = (None, Scheduler::Credit2, None);
        for Entry { key, value, place } in entries {
            match key.as_str() {
                "name" => name = Some(text(key, value)?.to_owned()),
                "sched" => {
                    let wanted = text(key, value)?;
                    scheduler = Scheduler::from_name(wanted).ok_or_else(|| {
                        place.fail(
                            format!("there is no scheduler `{wanted}`"),
                            "expected \"credit2\", with weights and caps, or \"null\", one vCPU for each CPU",
                        )
                    })?;
                }
                "cpus" => cpus = Some(list(key, value)?),
                _ => {
                    return Err(place.fail(
                        format!("unknown setting `{key}` of a CPU pool"),
                        "expected one of: name, sched, cpus",
                    ));
                }
            }
        }
        let name =
            name.ok_or_else(|| Failure::new("the new CPU pool has no name").advise("add name=\"...\""))?;
        Ok(Self {
            name,
            scheduler,
            cpus,
        })
    }
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str> {
    match &value.content {
        Content::Text(text) => Ok(text),
        _ => Err(value.place.fail(
            format!("`{key}` is no string"),
            format!("expected {key} = \"...\""),
        )),
    }
}

/// A string, or a list of numbers and strings as xl has it here.
fn list(key: &str, value: &Value) -> Result<CpuList> {
    let item = |value: &Value| match &value.content {
        Content::Text(text) => text.clone(),
        Content::Number(number) => number.to_string(),
        Content::List(_) => "[".to_owned(),
    };
    let text = match &value.content {
        Content::List(items) => items.iter().map(item).collect::<Vec<_>>().join(","),
        _ => item(value),
    };
    text.parse().map_err(|()| {
        let message = format!("`{key}`: `{text}` is no list of CPUs");
        value.place.fail(message, cpu_list::EXPECTED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(settings: &[&str]) -> Result<Wanted> {
        let settings = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect::<Vec<_>>();
        Wanted::from_entries(&entries(&settings)?)
    }

    #[test]
    fn settings_need_no_quotes_of_their_own() {
        let expected = Wanted {
            name: "batch".to_owned(),
            scheduler: Scheduler::Null,
            cpus: Some("2-3".parse().unwrap()),
        };
        for settings in [
            ["name=batch", "sched=null", "cpus=2-3"],
            ["name=\"batch\"", "sched='null'", "cpus=\"2-3\""],
        ] {
            assert_eq!(wanted(&settings).unwrap(), expected);
        }
        let listed = wanted(&["name=a", "cpus=['0', 2]"]).unwrap();
        assert_eq!(listed.cpus, Some("0,2".parse().unwrap()));
        assert_eq!(listed.scheduler, Scheduler::Credit2);
    }

    #[test]
    fn mistakes_are_named() {
        for (settings, part) in [
            (&["sched=null"][..], "has no name"),
            (&["name=a", "sched=fair"], "no scheduler `fair`"),
            (&["name=a", "cpus=x"], "`x` is no list of CPUs"),
            (&["name=a", "cpus=[]"], "is no list of CPUs"),
            (&["name=a", "nodes=0"], "unknown setting `nodes`"),
            (&["name=a", "b"], "`b` is no setting"),
            (&["/nowhere/pool.cfg"], "cannot read /nowhere/pool.cfg"),
        ] {
            let failure = wanted(settings).unwrap_err();
            assert!(failure.message.contains(part), "{settings:?}: {failure}");
        }
    }

    #[test]
    fn only_free_cpus_make_a_pool() {
        let set = |cpus: &[u32]| cpus.iter().copied().collect::<CpuSet>();
        assert!(check_free(&set(&[2, 3]), &set(&[1, 2, 3])).is_ok());
        assert!(
            check_free(&set(&[]), &set(&[]))
                .unwrap_err()
                .message
                .contains("no CPU is free")
        );
        let failure = check_free(&set(&[0, 2]), &set(&[2])).unwrap_err();
        assert!(failure.message.contains("CPUs 0 are not free"), "{failure}");
    }
}
