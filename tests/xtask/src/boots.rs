//! Boots by GRUB, and boots of machines on which Xenolith cannot start: those must end with one clear line.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::command;
use crate::core_image::Flavour;
use crate::emulator::{Hypervisor, Machine};
use crate::house::House;
use crate::micro;
use crate::serial::{Event, Session};
use crate::setup;
use crate::suite::Outcome;

/// All of them. Each is an outcome of its own, whatever happens to the others.
pub fn test(house: &House) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for protocol in ["multiboot", "multiboot2"] {
        let title = format!("boot by GRUB with {protocol}");
        outcomes.push(or_failure(&title, by_grub(house, protocol, &title)));
    }
    for (title, change, expected) in REFUSALS {
        let title = format!("{title} is refused with a clear line");
        outcomes.push(or_failure(&title, refused(house, *change, expected, &title)));
    }
    outcomes
}

fn or_failure(title: &str, outcome: Result<Outcome>) -> Outcome {
    outcome.unwrap_or_else(|error| Outcome::new(title, false, &format!("{error:#}")))
}

/// The same micro-guest as dom0, from a medium that GRUB boots.
fn by_grub(house: &House, protocol: &str, title: &str) -> Result<Outcome> {
    setup::install_missing(&setup::GRUB)?;
    let mut machine = micro::machine(house, Hypervisor::Xenolith, "hello");
    machine.medium = Some(medium(house, protocol, &machine)?);
    let log = house.target(&format!("run/grub-{protocol}.log"));
    micro::run(house, &machine, title, &log)
}

fn medium(house: &House, protocol: &str, machine: &Machine) -> Result<PathBuf> {
    let folder = house.target(&format!("grub-{protocol}"));
    fs::create_dir_all(folder.join("boot/grub"))?;
    fs::copy(
        house.hypervisor_image(Flavour::Release),
        folder.join("boot/xenolith.elf"),
    )?;
    fs::copy(micro::path(house, "hello"), folder.join("boot/kernel"))?;
    let module = if protocol == "multiboot" {
        "module"
    } else {
        "module2"
    };
    let options = machine.hypervisor_command_line();
    let menu = format!(
        "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\n\
         menuentry Xenolith {{\n  {protocol} /boot/xenolith.elf {options}\n  {module} /boot/kernel\n}}\n"
    );
    fs::write(folder.join("boot/grub/grub.cfg"), menu)?;
    let medium = house.target(&format!("grub-{protocol}.iso"));
    let mut mkrescue = Command::new("grub-mkrescue");
    mkrescue
        .arg("-d")
        .arg("/usr/lib/grub/i386-pc")
        .arg("-o")
        .arg(&medium)
        .arg(&folder);
    command::output(&mut mkrescue)?;
    Ok(medium)
}

/// What is wrong with a machine, how to make it so, and a word that the complaint must contain.
type Refusal = (&'static str, fn(&House, &mut Machine), &'static str);

const REFUSALS: &[Refusal] = &[
    (
        "a machine without a module",
        |_, machine| machine.kernel = None,
        "module",
    ),
    (
        "a module that is no kernel",
        |house, machine| machine.kernel = Some(house.path("README.md")),
        "kernel",
    ),
    (
        "a CPU without SVM",
        |_, machine| machine.cpu_model = Some("EPYC,-svm"),
        "svm",
    ),
    (
        "a CPU without nested paging",
        |_, machine| machine.cpu_model = Some("EPYC,+svm,-npt"),
        "nested",
    ),
    ("too little memory", |_, machine| machine.memory = 128, "memory"),
];

fn refused(house: &House, change: fn(&House, &mut Machine), expected: &str, title: &str) -> Result<Outcome> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut machine = micro::machine(house, Hypervisor::Xenolith, "hello");
    change(house, &mut machine);
    let log = house.target("run/refused.log");
    let mut session = Session::start(machine.command(house)?, &log)?;
    loop {
        match session.next(PATIENCE)? {
            Event::Line(line) => {
                if let Some((_, why)) = line.text.split_once("Xenolith cannot start: ") {
                    let clear = why.to_lowercase().contains(expected);
                    return Ok(Outcome::new(title, clear, why));
                }
            }
            Event::Off => return Ok(Outcome::new(title, false, "the machine went off")),
            Event::Deadline => return Ok(Outcome::new(title, false, "no complaint")),
        }
    }
}
