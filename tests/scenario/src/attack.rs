//! The scenarios `attack` and `fairness`: malicious guests, one after the other, beside one that works.
//!
//! Each is at it for a while and then taken away, unless it has ended itself. Afterwards everything must be as before: the
//! bystander's work right to the byte, dom0 and its daemons well, the machine's memory back, nothing alarming in the
//! hypervisor's log.
//!
//! What the bystander gets done beside each is put beside what it gets done next to a guest that only computes, with as many
//! vCPUs: that is its fair share, of which an attacker may take no more than a twentieth. Only `fairness` judges that: it
//! plays on one CPU. Several emulated CPUs take turns on one thread, and are not equally fast. The time of both is counted in
//! instructions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bystander::Bystander;
use crate::guest::{self, Guest};
use crate::machine::{self, Baseline};
use crate::report::Report;
use crate::tools;

/// Attackers are two, so that one can change what the other one uses; so is the neighbour that they are measured by.
const VCPUS: &str = "2";

/// What an attack is looked at for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whether anybody is harmed: all attackers.
    Harm,
    /// Whether anybody loses its share of the processor, too: those attackers that last.
    Share,
}

/// What a bystander may lose of its fair share.
const MOST_LOST: f64 = 0.05;

/// How an attack ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// When somebody destroys it: it must still be at it.
    Destroyed,
    /// By itself, at once: that is what it is for.
    ByItself,
    /// Either: it may hit itself by chance, and is made anew for as long as the attack lasts.
    Either,
}

/// An attacker: the micro-guest's name, what to say of it, its command line, how it ends.
struct Attack(&'static str, &'static str, &'static str, End);

const ATTACKS: &[Attack] = &[
    Attack(
        "attack_hypercalls",
        "hypercalls with garbage in every register",
        "",
        End::Either,
    ),
    Attack("attack_ports", "all ports, read and written", "", End::Destroyed),
    Attack(
        "attack_registers",
        "all model-specific registers, read and written",
        "",
        End::Destroyed,
    ),
    Attack(
        "attack_holes",
        "accesses to holes and devices",
        "",
        End::Destroyed,
    ),
    Attack(
        "attack_interrupts",
        "storms of interrupts and timers",
        "",
        End::Destroyed,
    ),
    Attack(
        "attack_interrupts",
        "a guest that sleeps and is woken all the time",
        "way=sleep",
        End::Destroyed,
    ),
    Attack(
        "attack_events",
        "storms on others' event channels",
        "",
        End::Destroyed,
    ),
    Attack("attack_grants", "floods of grants", "", End::Either),
    Attack("attack_virtualisation", "VMRUN and its kin", "", End::Destroyed),
    Attack(
        "attack_control",
        "control, debug and extended registers",
        "",
        End::Either,
    ),
    Attack(
        "attack_exceptions",
        "exceptions that raise each other without end",
        "",
        End::Destroyed,
    ),
    Attack(
        "attack_code",
        "code that changes under the decoder",
        "",
        End::Either,
    ),
    Attack(
        "attack_balloon",
        "memory that goes while it is used",
        "",
        End::Either,
    ),
    Attack("attack_end", "code in a hole", "way=code", End::ByItself),
    Attack("attack_end", "code in a device", "way=code device", End::ByItself),
    Attack("attack_end", "page tables in a hole", "way=tables", End::ByItself),
    Attack(
        "attack_end",
        "page tables in a device",
        "way=tables device",
        End::ByItself,
    ),
    Attack("attack_end", "a stack in a hole", "way=stack", End::ByItself),
    Attack(
        "attack_end",
        "a stack in a device",
        "way=stack device",
        End::ByItself,
    ),
    Attack(
        "attack_end",
        "descriptor tables in a device",
        "way=descriptors device",
        End::ByItself,
    ),
    Attack(
        "attack_end",
        "a guest that gives all its memory away",
        "way=balloon",
        End::ByItself,
    ),
    Attack("triple_fault", "a triple fault", "", End::ByItself),
    Attack("hang", "a loop with interrupts off", "", End::Destroyed),
];

/// All of it; each attack for `milliseconds` of the bystander's time.
pub fn play(report: &mut Report, vcpus: u32, purpose: Purpose, milliseconds: u64, which: &str) -> Result<()> {
    machine::check(report, vcpus);
    let baseline = Baseline::take()?;
    let mut bystander = None;
    report.step("a bystander works", || {
        bystander = Some(Bystander::create(vcpus)?);
        Ok(())
    });
    let Some(bystander) = bystander else {
        bail!("there is no bystander");
    };
    let mut alone = 0.0;
    report.step("it works alone", || {
        alone = bystander.work_for(milliseconds)?;
        Ok(())
    });
    report.figure("bystander alone, units a second", alone);
    let mut fair = 0.0;
    report.step("it works beside a busy neighbour", || {
        fair = beside_a_neighbour(&bystander, milliseconds)?;
        Ok(())
    });
    report.figure("bystander beside a busy neighbour, units a second", fair);
    let wanted = |attack: &&Attack| {
        attack.0.contains(which) && (purpose == Purpose::Harm || attack.3 != End::ByItself)
    };
    for attack in ATTACKS.iter().filter(wanted) {
        let mut figures = Figures::default();
        report.step(attack.1, || {
            let free = machine::free_kib()?;
            let played = attack.play(&bystander, milliseconds, &mut figures);
            let after = all_is_well(&bystander, free);
            played.and(after)?;
            let share = figures.rate / fair;
            ensure!(
                purpose == Purpose::Harm || share >= 1.0 - MOST_LOST,
                "the bystander gets {:.1} % of its fair share",
                100.0 * share
            );
            Ok(())
        });
        figures.tell(report, attack, fair);
    }
    report.step("the bystander's disk holds what it wrote", || bystander.destroy());
    baseline.check_restored_quickly(report);
    Ok(())
}

/// A guest that computes, with nothing in mind: the measure of what is fair.
fn beside_a_neighbour(bystander: &Bystander, milliseconds: u64) -> Result<f64> {
    let neighbour = Guest::new("neighbour", "/boot/micro/busy", 32).with("vcpus", VCPUS);
    neighbour.create()?;
    let work = bystander.work_for(milliseconds);
    neighbour.destroy()?;
    work
}

/// What came of an attack in numbers.
#[derive(Default)]
struct Figures {
    /// The bystander's units a second.
    rate: f64,
    operations: u64,
    milliseconds: u64,
    lives: u32,
}

impl Figures {
    fn tell(&self, report: &Report, attack: &Attack, fair: f64) {
        let name = attack.1;
        if self.milliseconds > 0 {
            let second = self.operations as f64 * 1000.0 / self.milliseconds as f64;
            report.figure(&format!("{name}: operations a second"), second);
        }
        if self.lives > 1 {
            report.figure(&format!("{name}: lives"), f64::from(self.lives));
        }
        if self.rate > 0.0 && fair > 0.0 {
            report.figure(
                &format!("{name}: bystander's part of its fair share, %"),
                100.0 * self.rate / fair,
            );
        }
    }
}

impl Attack {
    fn guest(&self) -> Guest {
        Guest::new("attacker", &format!("/boot/micro/{}", self.0), 32)
            .with("vcpus", VCPUS)
            .with("extra", &format!("\"{}\"", self.2))
            .with("on_crash", "\"preserve\"")
            .with("on_reboot", "\"preserve\"")
            .with("on_poweroff", "\"preserve\"")
    }

    fn play(&self, bystander: &Bystander, milliseconds: u64, figures: &mut Figures) -> Result<()> {
        let guest = self.guest();
        guest.create()?;
        figures.lives = 1;
        let outcome = match self.3 {
            End::ByItself => ended(&guest).map(drop),
            End::Destroyed => {
                let work = bystander.work_for(milliseconds);
                still_there(&guest).and(work).map(|rate| figures.rate = rate)
            }
            End::Either => self.again_and_again(&guest, bystander, milliseconds, figures),
        };
        count(&guest, figures);
        let said = guest.line("got through: ");
        guest.destroy()?;
        outcome?;
        match said {
            Some(what) => bail!("it got through: {what}"),
            None => Ok(()),
        }
    }

    /// An attacker that may hit itself gets as many lives as the time allows. The bystander is watched while one lives.
    fn again_and_again(
        &self,
        guest: &Guest,
        bystander: &Bystander,
        milliseconds: u64,
        figures: &mut Figures,
    ) -> Result<()> {
        const PIECE: u64 = 200;
        let (mut units, mut pieces) = (0.0, 0);
        let mut left = milliseconds;
        while left > 0 {
            units += bystander.work_for(PIECE)?;
            pieces += 1;
            left = left.saturating_sub(PIECE);
            if left > 0 && !is_running(guest)? {
                count(guest, figures);
                if let Some(what) = guest.line("got through: ") {
                    bail!("it got through: {what}");
                }
                guest.destroy()?;
                guest.create()?;
                figures.lives += 1;
            }
        }
        figures.rate = units / f64::from(pieces);
        Ok(())
    }
}

/// Adds what the attacker says that it did.
fn count(guest: &Guest, figures: &mut Figures) {
    let numbers: Vec<u64> = guest
        .line("attacked ")
        .unwrap_or_default()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    if let [operations, milliseconds] = numbers[..] {
        figures.operations = figures.operations.saturating_add(operations);
        figures.milliseconds = figures.milliseconds.saturating_add(milliseconds);
    }
}

fn is_running(guest: &Guest) -> Result<bool> {
    let found = guest::find(&guest.name)?.context("the attacker is gone")?;
    Ok(matches!(found["state"].as_str(), Some("running" | "blocked")))
}

fn still_there(guest: &Guest) -> Result<()> {
    if is_running(guest)? {
        return Ok(());
    }
    let said = guest.said();
    let last: Vec<&str> = said.lines().rev().take(2).collect();
    bail!("it has ended itself; its last lines: {last:?}")
}

/// Waits until it has ended itself; how.
fn ended(guest: &Guest) -> Result<String> {
    let mut state = String::new();
    tools::wait_until(Duration::from_secs(30), "it ends itself", || {
        let found = guest::find(&guest.name)?.context("it is gone")?;
        state = found["state"].as_str().unwrap_or("?").to_owned();
        Ok(matches!(state.as_str(), "crashed" | "shutdown"))
    })?;
    Ok(state)
}

/// What the hypervisor says when it is in trouble itself.
const ALARMING: [&str; 3] = ["Xenolith crash", "Xenolith panic", "the processor refused"];

/// After an attack.
fn all_is_well(bystander: &Bystander, free_before: u64) -> Result<()> {
    bystander.is_well().context("the bystander")?;
    let names = guest::names()?;
    ensure!(
        names.len() == 2 && names[1] == "bystander",
        "list shows {names:?}"
    );
    let asked = Instant::now();
    tools::output("xenstore-read", &["/local/domain/0/name"]).context("the store")?;
    ensure!(
        asked.elapsed() < Duration::from_secs(20),
        "the store took {:?}",
        asked.elapsed()
    );
    let log = tools::xenolith(&["dmesg"])?;
    let log = log["log"].as_str().context("the hypervisor has no log")?;
    let alarming = log
        .lines()
        .find(|line| ALARMING.iter().any(|word| line.contains(word)));
    ensure!(alarming.is_none(), "the hypervisor says {alarming:?}");
    let waited = tools::wait_until(Duration::from_secs(20), "free memory is as before", || {
        Ok(machine::free_kib()? + machine::KEPT_KIB >= free_before)
    });
    waited.with_context(|| format!("{free_before} KiB free before, {:?} KiB now", machine::free_kib()))
}
