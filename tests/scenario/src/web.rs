//! The guest `web`: disk, network and console, proven from both sides.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Guest};
use crate::http;
use crate::machine::{self, Baseline};
use crate::report::Report;
use crate::tools;

const MIB: usize = 1 << 20;
const DISK: &str = "/tmp/web.img";
const MEMORY: u32 = 256;
const ADDRESS: &str = "10.9.0.2";

/// The guest, and what dom0 knows of what it should find.
pub struct Web {
    guest: Guest,
    vcpus: u32,
    /// Whether it is worth waiting for what it says.
    lives: bool,
    disk_sum: String,
    page_sum: String,
}

impl Web {
    /// A disk of random bytes, a page to fetch, the configuration.
    pub fn prepare(vcpus: u32) -> Result<Web> {
        let mut random = File::open("/dev/urandom")?;
        let mut bytes = vec![0; 8 * MIB];
        random.read_exact(&mut bytes)?;
        let disk_sum = sum_of(&bytes)?;
        let disk = File::create(DISK)?;
        disk.write_all_at(&bytes, 0)?;
        disk.set_len(16 * MIB as u64)?;
        let page = bytes[..256 * 1024].to_vec();
        let page_sum = sum_of(&page)?;
        http::serve("10.9.0.1:80", page)?;
        let guest = Guest::linux("web", "/boot/vmlinuz-cloud", MEMORY, "web")
            .with("vcpus", &vcpus.to_string())
            .with("disk", &format!("[ \"file:{DISK},xvda,w\" ]"))
            .with("vif", "[ \"mac=00:16:3e:00:00:01,bridge=xenbr0\" ]");
        Ok(Web {
            guest,
            vcpus,
            lives: false,
            disk_sum,
            page_sum,
        })
    }

    /// Makes it and waits for its userspace.
    pub fn create(&mut self, report: &mut Report, baseline: &Baseline) {
        let started = Instant::now();
        report.mark("create-begin");
        let created = report.step("create web", || {
            let made = self.guest.create()?;
            ensure!(
                made["name"] == "web" && made["state"] == "running",
                "it says {made}"
            );
            Ok(())
        });
        report.mark("create-end");
        report.figure(
            "create until it returns, seconds by dom0's clock",
            started.elapsed().as_secs_f64(),
        );
        if !created {
            return;
        }
        let beside_own = baseline.free_kib.checked_sub(machine::free_kib().unwrap_or(0));
        self.lives = report.step("web boots to userspace", || {
            self.guest.await_line("userspace", Duration::from_secs(90))?;
            report_now("guest-userspace");
            Ok(())
        });
        if let Some(taken) = beside_own {
            let own = u64::from(MEMORY) * 1024;
            report.figure(
                "memory held for a 256 MiB guest beside its own, KiB",
                taken as f64 - own as f64,
            );
        }
    }

    /// Disk, network, console, list.
    pub fn prove(&self, report: &mut Report) {
        if !self.lives {
            report.fail("web's disk, network and console", "it does not live");
            return;
        }
        let guest = &self.guest;
        report.step(&format!("web has its {} vCPUs", self.vcpus), || {
            let role = guest.await_line("role web, ", Duration::from_secs(20))?;
            ensure!(
                role.starts_with(&format!("{} CPUs", self.vcpus)),
                "it says {role}"
            );
            Ok(())
        });
        report.step("list shows both", || {
            let names = guest::names()?;
            ensure!(names.len() == 2 && names[1] == "web", "it shows {names:?}");
            let web = guest::find("web")?.context("web is gone")?;
            ensure!(
                web["state"] == "running" && web["vcpus"] == self.vcpus,
                "it shows {web}"
            );
            Ok(())
        });
        report.step("web reads what dom0 wrote on its disk", || {
            let read = guest.await_line("disk read ", Duration::from_secs(60))?;
            ensure!(
                read == self.disk_sum,
                "web read {read}, dom0 wrote {}",
                self.disk_sum
            );
            Ok(())
        });
        report.step("dom0 reads what web wrote on its disk", || {
            let written = guest.await_line("disk written ", Duration::from_secs(60))?;
            let mut bytes = vec![0; 4 * MIB];
            File::open(DISK)?.read_exact_at(&mut bytes, 8 * MIB as u64)?;
            let found = sum_of(&bytes)?;
            ensure!(found == written, "web wrote {written}, dom0 finds {found}");
            Ok(())
        });
        report.step("web pings dom0", || {
            let lost = guest.await_line("ping ", Duration::from_secs(60))?;
            ensure!(lost == "0% lost", "{lost}");
            Ok(())
        });
        report.step("web fetches dom0's page", || {
            let fetched = guest.await_line("http ", Duration::from_secs(60))?;
            ensure!(
                fetched == self.page_sum,
                "web got {fetched}, dom0 served {}",
                self.page_sum
            );
            Ok(())
        });
        report.step("dom0 pings web", || self.ping());
        report.step("dom0 fetches web's page", || {
            let serves = guest.await_line("serves ", Duration::from_secs(60))?;
            guest.await_line("ready", Duration::from_secs(20))?;
            let fetched = sum_of(&http::fetch(&format!("{ADDRESS}:80"), "/page")?)?;
            ensure!(fetched == serves, "web serves {serves}, dom0 got {fetched}");
            Ok(())
        });
        report.step("what is typed on web's console comes back", || {
            guest.hears("marco")
        });
    }

    /// Does it still answer? Others' misfortunes must not reach it.
    pub fn ping(&self) -> Result<()> {
        let said = tools::output("ping", &["-c", "3", "-i", "0.2", "-W", "3", ADDRESS])?;
        ensure!(
            said.contains(" 0% packet loss"),
            "{}",
            said.lines().rev().nth(1).unwrap_or_default()
        );
        Ok(())
    }

    /// It answers, and serves its page.
    pub fn is_well(&self) -> Result<()> {
        ensure!(self.lives, "web never lived");
        self.ping().context("web no longer answers")?;
        let page = http::fetch(&format!("{ADDRESS}:80"), "/page").context("web no longer serves")?;
        ensure!(
            Some(sum_of(&page)?) == self.guest.line("serves "),
            "web serves something else"
        );
        Ok(())
    }

    /// Stops and continues it.
    pub fn pause(&self, report: &mut Report) {
        if !self.lives {
            return;
        }
        report.step("web is paused and continues", || {
            tools::xenolith(&["pause", "web"])?;
            self.guest.await_state("paused", Duration::from_secs(5))?;
            let silent = tools::run("ping", &["-c", "1", "-W", "1", ADDRESS])?;
            ensure!(silent.status != Some(0), "a paused guest answers");
            tools::xenolith(&["unpause", "web"])?;
            self.guest.await_state("running", Duration::from_secs(5))?;
            self.is_well()
        });
    }

    /// Its operator restarts it: it is made anew, and comes back.
    pub fn reboot(&self, report: &mut Report) {
        if !self.lives {
            return;
        }
        report.step("web reboots", || {
            let readiness = || self.guest.said().matches("guest: ready").count();
            let before = readiness();
            tools::xenolith(&["reboot", "--wait", "--timeout", "60", "web"])?;
            tools::wait_until(Duration::from_secs(90), "web is ready again", || {
                Ok(readiness() > before)
            })?;
            self.is_well()
        });
    }

    /// Its name is taken: creating it again is refused.
    pub fn create_again(&self) -> Result<String> {
        self.guest.create_refused()
    }

    /// A clean end.
    pub fn shut_down(&self, report: &mut Report) {
        report.step("web shuts down cleanly", || {
            tools::xenolith(&["shutdown", "--wait", "--timeout", "60", "web"])?;
            self.guest.await_gone(Duration::from_secs(20))?;
            ensure!(
                !self.guest.said().contains("Kernel panic"),
                "it panicked on its way"
            );
            Ok(())
        });
        if guest::find("web").is_ok_and(|web| web.is_some()) {
            report.step("web is destroyed, since it did not end", || self.guest.destroy());
        }
        // dom0's memory is not the machine's, but a shell may come after us.
        let _ = fs::remove_file(DISK);
    }
}

/// The milestone inside a step, whose closure cannot borrow the report.
fn report_now(name: &str) {
    println!("scenario: mark {name}");
}

/// SHA-256 by busybox, the program that the guest uses, too.
fn sum_of(bytes: &[u8]) -> Result<String> {
    let file = "/tmp/scenario-sum";
    fs::write(file, bytes)?;
    let said = tools::output("sha256sum", &[file])?;
    fs::remove_file(file)?;
    Ok(said
        .split_whitespace()
        .next()
        .context("sha256sum says nothing")?
        .to_owned())
}
