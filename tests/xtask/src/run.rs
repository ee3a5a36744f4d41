//! `cargo xtask run`: boots the machine, follows the scenario that dom0 plays, and gives its verdict.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::core_image::Flavour;
use crate::emulator::{Hypervisor, Machine};
use crate::figures::{self as kept, Figures};
use crate::house::House;
use crate::micro;
use crate::packages;
use crate::report::{self, Activity, coloured};
use crate::serial::{Event, Line, Session};

/// What a run may be told.
#[derive(Args, Clone)]
pub struct RunArguments {
    /// Who runs dom0: our core, or Debian's Xen 4.17 as the reference.
    #[arg(long, value_enum, default_value_t = Hypervisor::Xenolith)]
    on: Hypervisor,
    /// CPUs of the machine and of dom0 [default: 2, on xen and for fairness 1].
    #[arg(long)]
    smp: Option<u32>,
    /// What dom0 plays: main, control (what operators do about processors), attack (malicious guests), fairness (what a
    /// guest loses beside them), sched (shares and a cap), pv (kernels on pv-drivers), or none (only boots).
    #[arg(long, default_value = "main")]
    scenario: String,
    /// Plays the scenario `pv` with one kernel: `echo` or `web` (which ends with its page, fetched by dom0).
    #[arg(long, value_name = "KERNEL", value_parser = micro::UNIKERNELS)]
    guest: Option<String>,
    /// How long each attacker of `attack` and `fairness` is at it, and shares of `sched` are measured, in the machine's
    /// seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Of those only the micro-guests whose names contain this.
    #[arg(long, default_value = "")]
    attack: String,
    /// Seconds after which a machine without a verdict is switched off.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Play on Xen, too, right after: the table then compares the two.
    #[arg(long)]
    compare: bool,
    /// Power off at the end even on a terminal.
    #[arg(long)]
    batch: bool,
    /// Our core with its own assertions, which audits itself when domains and the machine end.
    #[arg(long)]
    checked: bool,
    /// Count instructions instead of time: slower, repeatable. Each is a nanosecond, or two to the power of the number given.
    /// `attack` and `fairness` always do.
    #[arg(long, num_args = 0..=1, default_missing_value = "0")]
    icount: Option<u8>,
    /// More of dom0's kernel command line.
    #[arg(long, default_value = "")]
    append: String,
    /// Boot what was built last, without building.
    #[arg(long)]
    no_build: bool,
    /// Where log and figures go [default: target/run, on xen target/run/xen].
    #[arg(long)]
    log: Option<PathBuf>,
}

/// The scenarios about malicious guests. Their time is counted in instructions: how long something takes is then neither
/// the emulating machine's doing nor that of who else works on it.
const ATTACK: &str = "attack";
/// This one wants a machine with one CPU: emulated ones take turns, and are not equally fast.
const FAIRNESS: &str = "fairness";
/// Kernels on `pv-drivers`.
const PV: &str = "pv";

/// What is promised of the scheduler, on a whole machine.
pub const SCHED: &str = "sched";

impl RunArguments {
    fn flavour(&self) -> Flavour {
        if self.checked {
            Flavour::Checked
        } else {
            Flavour::Release
        }
    }

    /// Where its log goes.
    fn folder(&self, house: &House) -> PathBuf {
        match &self.log {
            Some(folder) => folder.clone(),
            None if self.checked => house.target("run/checked"),
            // Its figures are not those of the main scenario.
            None if self.scenario() == PV => kept::folder(house, self.on).join(PV),
            None => kept::folder(house, self.on),
        }
    }

    /// The scenarios about malicious guests and the one about the scheduler, as the tests play them.
    pub fn on_ours() -> [RunArguments; 3] {
        [(ATTACK, 0.2), (FAIRNESS, 0.8), (SCHED, 10.0)].map(|(scenario, seconds)| RunArguments {
            scenario: scenario.to_owned(),
            seconds,
            timeout: 900,
            // Its figures are not those of the main scenario.
            log: Some(format!("target/run/{scenario}").into()),
            ..RunArguments::for_test(Hypervisor::Xenolith)
        })
    }

    /// What dom0 plays.
    pub fn scenario(&self) -> &str {
        match self.guest {
            Some(_) => PV,
            None => &self.scenario,
        }
    }

    /// Only that part of it.
    fn part(&self) -> &str {
        self.guest.as_deref().unwrap_or(&self.attack)
    }

    /// The kernels on `pv-drivers`, as the tests play them.
    pub fn pv(on: Hypervisor) -> RunArguments {
        RunArguments {
            scenario: PV.to_owned(),
            ..RunArguments::for_test(on)
        }
    }

    /// How fast PV devices are. Time is counted in instructions, on one CPU: repeatable, and nobody else's work shows in it.
    pub fn pace(on: Hypervisor) -> RunArguments {
        RunArguments {
            scenario: "pace".to_owned(),
            smp: Some(1),
            icount: Some(0),
            timeout: 900,
            log: Some(format!("target/run/pace-{}", on.name()).into()),
            ..RunArguments::for_test(on)
        }
    }

    /// The promises of a scheduler, ours or Xen's: on one CPU, and counted, as [`RunArguments::pace`].
    pub fn sched_on(on: Hypervisor) -> RunArguments {
        RunArguments {
            scenario: SCHED.to_owned(),
            smp: Some(1),
            icount: Some(0),
            seconds: 10.0,
            timeout: 900,
            log: Some(format!("target/run/sched-{}", on.name()).into()),
            ..RunArguments::for_test(on)
        }
    }

    /// The main scenario without a person, as the tests play it.
    pub fn for_test(on: Hypervisor) -> RunArguments {
        RunArguments {
            on,
            smp: None,
            scenario: "main".to_owned(),
            guest: None,
            seconds: 2.0,
            attack: String::new(),
            timeout: 600,
            compare: false,
            batch: true,
            checked: false,
            icount: None,
            append: String::new(),
            no_build: true,
            log: None,
        }
    }
}

/// Builds, boots, plays. True when every step of the scenario passed.
pub fn run(house: &House, arguments: &RunArguments) -> Result<bool> {
    if !arguments.no_build {
        build(house, arguments.on, arguments.flavour())?;
    }
    let mut passed = play(house, arguments)?.failed == 0;
    if arguments.compare && arguments.on == Hypervisor::Xenolith {
        let reference = RunArguments {
            on: Hypervisor::Xen,
            checked: false,
            smp: None,
            batch: true,
            ..arguments.clone()
        };
        passed &= play(house, &reference)?.failed == 0;
    }
    if !arguments.checked && arguments.scenario() != PV {
        print_figures(house);
    }
    let verdict = if passed {
        coloured(32, "PASSED")
    } else {
        coloured(31, "FAILED")
    };
    println!(
        "scenario {} on {}: {verdict}",
        arguments.scenario(),
        arguments.on.name()
    );
    Ok(passed)
}

/// Builds what a usual run needs.
pub fn build_usual(house: &House, on: Hypervisor) -> Result<()> {
    build(house, on, Flavour::Release)
}

fn build(house: &House, on: Hypervisor, flavour: Flavour) -> Result<()> {
    crate::setup::install_missing(&[])?;
    crate::initramfs::build(house)?;
    if on == Hypervisor::Xenolith {
        crate::core_image::build(house, flavour)?;
    }
    Ok(())
}

/// The tables, from the last runs on both.
pub fn print_figures(house: &House) {
    let (ours, xens) = (
        kept::load(house, Hypervisor::Xenolith),
        kept::load(house, Hypervisor::Xen),
    );
    println!("\n{}", kept::times(ours.as_ref(), xens.as_ref()));
    println!("{}", kept::counts(ours.as_ref(), xens.as_ref()));
    println!("{}", kept::core(ours.as_ref()));
}

/// Plays, and saves the figures. Real Xen sometimes stops for good on the emulated machine, whose interrupts it takes at
/// their word: as the reference it gets a second chance, and only for that.
pub fn play(house: &House, arguments: &RunArguments) -> Result<Figures> {
    let (mut figures, mut ending) = boot(house, arguments)?;
    if arguments.on == Hypervisor::Xen && matches!(ending, Ending::Silence) {
        report::note("Xen stopped on the emulated machine: once more");
        (figures, ending) = boot(house, arguments)?;
    }
    if !matches!(ending, Ending::Verdict) {
        figures.failed += 1;
    }
    // What a checked core costs is not what ours costs.
    if arguments.log.is_none() && !arguments.checked && arguments.scenario() != PV {
        figures.save(house, arguments.on)?;
    }
    println!("{} steps passed, {} failed", figures.passed, figures.failed);
    Ok(figures)
}

/// One boot from switching on to the verdict (or the lack of one), and to the shell for a person at a terminal.
fn boot(house: &House, arguments: &RunArguments) -> Result<(Figures, Ending)> {
    let on = arguments.on;
    let interactive = report::is_terminal() && !arguments.batch;
    let machine = machine(house, arguments, interactive)?;
    let log = arguments.folder(house).join("serial.log");
    let mut session = Session::start(machine.command(house)?, &log)?;
    let mut follower = Follower::new(on, machine.cpus);
    let deadline = Duration::from_secs(arguments.timeout);
    // After the verdict come the hypervisor's last words; before a shell there are none.
    let last_words = Duration::from_secs(if interactive { 1 } else { 20 });
    let ending = follower.follow(&mut session, deadline, last_words)?;
    let Follower {
        mut figures,
        doing,
        activity,
        consistent,
        ..
    } = follower;
    drop(activity);
    // A checked core's last words, unless a person goes on with it.
    if arguments.checked && !interactive && !consistent {
        println!(
            "{} the core did not say that it ended consistent; log: {}",
            coloured(31, "FAIL"),
            house.shown(&log)
        );
        figures.failed += 1;
    }
    let complaint = match ending {
        Ending::Verdict => None,
        Ending::Off => Some("the machine went off before the scenario's verdict".to_owned()),
        Ending::Silence => Some(format!("nothing was heard for {} s", SILENCE.as_secs())),
        Ending::Deadline => Some(format!("no verdict within {} s", arguments.timeout)),
    };
    if let Some(complaint) = complaint {
        let doing = doing.as_deref().unwrap_or("dom0 boots");
        println!(
            "{} {complaint}; last step: {doing}; log: {}",
            coloured(31, "FAIL"),
            house.shown(&log)
        );
    }
    if interactive && matches!(ending, Ending::Verdict) {
        hand_over(&mut session)?;
    }
    figures.count_held_memory(machine.memory);
    Ok((figures, ending))
}

fn machine(house: &House, arguments: &RunArguments, interactive: bool) -> Result<Machine> {
    let debian = packages::fetch(house)?;
    let mut machine = Machine::usual(arguments.on, debian.kernel());
    let fairness = arguments.scenario() == FAIRNESS;
    let usual_cpus = if fairness { 1 } else { arguments.on.usual_cpus() };
    machine.cpus = arguments.smp.unwrap_or(usual_cpus);
    machine.dom0_vcpus = machine.cpus;
    machine.flavour = arguments.flavour();
    let counted = fairness || arguments.scenario() == ATTACK;
    machine.counted_time = arguments.icount.or(counted.then_some(0));
    machine.initramfs = Some(house.dom0_image());
    let after = if interactive { "shell" } else { "poweroff" };
    machine.kernel_arguments = format!(
        "console=hvc0 earlyprintk=xen panic=1 xenolith.scenario={} xenolith.after={after} xenolith.vcpus={} \
         xenolith.seconds={} xenolith.attack={} {}",
        arguments.scenario(),
        machine.cpus,
        arguments.seconds,
        arguments.part(),
        arguments.append
    )
    .trim_end()
    .to_owned();
    Ok(machine)
}

/// How following ended.
enum Ending {
    Verdict,
    Off,
    Silence,
    Deadline,
}

/// The longest step says something more often than that.
const SILENCE: Duration = Duration::from_secs(150);

/// Reads the serial port like a person would: who speaks, what step, what came of it.
struct Follower {
    figures: Figures,
    doing: Option<String>,
    verdict: bool,
    /// A checked core has audited itself at its end, and found all in order.
    consistent: bool,
    activity: Activity,
}

impl Follower {
    fn new(on: Hypervisor, cpus: u32) -> Follower {
        let figures = Figures {
            hypervisor: on.name().to_owned(),
            cpus,
            ..Figures::default()
        };
        let activity = Activity::start(&format!("{} boots on {cpus} CPUs", on.name()));
        Follower {
            figures,
            doing: None,
            verdict: false,
            consistent: false,
            activity,
        }
    }

    /// Until the machine is off, or a while after the verdict.
    fn follow(&mut self, session: &mut Session, deadline: Duration, last_words: Duration) -> Result<Ending> {
        let mut limit = deadline;
        loop {
            match session.next(limit.min(session.elapsed() + SILENCE))? {
                Event::Line(line) => self.line(&line),
                Event::Off if self.verdict => return Ok(Ending::Verdict),
                Event::Off => return Ok(Ending::Off),
                Event::Deadline if self.verdict => return Ok(Ending::Verdict),
                Event::Deadline if session.elapsed() < limit => return Ok(Ending::Silence),
                Event::Deadline => return Ok(Ending::Deadline),
            }
            if self.verdict && limit == deadline {
                limit = session.elapsed() + last_words;
            }
        }
    }

    fn line(&mut self, line: &Line) {
        let text = line.text.as_str();
        self.figures.mark("hypervisor", line);
        if text.contains("Linux version") {
            self.figures.mark("dom0-kernel", line);
        }
        if let Some(at) = text.find("dom0: ") {
            self.dom0(&text[at + 6..], line);
        }
        self.figures.read_core(text);
        if text.contains("audit: VIOLATION") {
            self.figures.failed += 1;
        }
        self.consistent |= text.contains("audit: ") && text.ends_with(": consistent");
        if let Some(at) = text.find("scenario: ") {
            self.scenario(&text[at + 10..], line);
        }
        self.show(line);
    }

    fn dom0(&mut self, text: &str, line: &Line) {
        match text.trim() {
            "userspace" => self.figures.mark("dom0-userspace", line),
            "toolstack" => self.figures.mark("dom0-toolstack", line),
            _ => {}
        }
    }

    fn scenario(&mut self, text: &str, line: &Line) {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "step" => {
                self.activity.say(rest);
                self.doing = Some(rest.to_owned());
            }
            "ok" => self.figures.passed += 1,
            "FAIL" => self.figures.failed += 1,
            "mark" => self.figures.mark(rest, line),
            "figure" => {
                if let Some((name, value)) = rest.rsplit_once('=')
                    && let Ok(value) = value.trim().parse()
                {
                    self.figures.counted.insert(name.trim().to_owned(), value);
                }
            }
            "verdict" => self.verdict = true,
            _ => {}
        }
    }

    fn show(&self, line: &Line) {
        let text = &line.text;
        let colour = if text.contains("scenario: ok") {
            32
        } else if text.contains("scenario: FAIL") || text.contains("panic") || text.contains("VIOLATION") {
            31
        } else if text.contains("scenario:") || text.contains("dom0:") {
            36
        } else {
            2
        };
        self.activity.line(&format!(
            "{:8.2} {}",
            line.at.as_secs_f64(),
            coloured(colour, text)
        ));
    }
}

/// Gives keyboard and screen to dom0's shell until it powers off or the person types Ctrl-].
fn hand_over(session: &mut Session) -> Result<()> {
    const LEAVE: u8 = 0x1d;
    println!(
        "{}",
        coloured(36, "dom0's shell; `poweroff -f` or Ctrl-] ends the machine")
    );
    let terminal = std::io::stdin();
    let before = rustix::termios::tcgetattr(&terminal).context("the terminal does not say how it is set")?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &raw)?;
    let left = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&left);
    let mut keyboard = session.keyboard().context("the machine has a keyboard")?;
    std::thread::spawn(move || {
        let mut key = [0];
        while let Ok(1) = std::io::stdin().lock().read(&mut key) {
            if key[0] == LEAVE || keyboard.write_all(&key).is_err() {
                break;
            }
            let _ = keyboard.flush();
        }
        seen.store(true, Ordering::Relaxed);
    });
    let outcome = show_bytes(session, &left);
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &before)?;
    println!();
    outcome
}

fn show_bytes(session: &mut Session, left: &AtomicBool) -> Result<()> {
    let mut screen = std::io::stdout();
    while !left.load(Ordering::Relaxed) {
        let Some(bytes) = session.next_bytes(Duration::from_millis(100))? else {
            break;
        };
        screen.write_all(&bytes)?;
        screen.flush()?;
    }
    Ok(())
}
