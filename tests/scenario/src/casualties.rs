//! Guests that come to grief, each in its own way, while `web` goes on.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest::{self, Guest};
use crate::report::Report;
use crate::tools;
use crate::web::Web;

/// All of them.
pub fn play(report: &mut Report, web: &Web) {
    report.step("a guest that panics is reported as crashed", panics);
    report.step("web is well after the panic", || web.is_well());
    report.step("a guest that triple-faults is reported", triple_faults);
    report.step("web is well after the triple fault", || web.is_well());
    report.step("a guest that hangs is destroyed", hangs);
    report.step("web is well after the hang", || web.is_well());
    report.step("a guest that writes garbage in its rings harms nobody", || {
        writes_garbage(web)
    });
}

/// Debian's general kernel, for a change: it is packed in another way than `web`'s.
fn panics() -> Result<()> {
    let guest = Guest::linux("panic", "/boot/vmlinuz", 192, "panic").with("on_crash", "\"preserve\"");
    guest.create()?;
    let seen = guest.await_state("crashed", Duration::from_secs(90));
    let seen = seen.and_then(|seen| {
        ensure!(seen["reason"] == "crash", "the reason is {}", seen["reason"]);
        ensure!(
            guest.said().contains("Kernel panic"),
            "its console tells of no panic"
        );
        Ok(())
    });
    seen.and(guest.destroy())
}

fn triple_faults() -> Result<()> {
    let guest = Guest::new("triple", "/boot/micro/triple_fault", 32).with("on_reboot", "\"preserve\"");
    guest.create()?;
    // On real machines and on Xen a triple fault is a reset.
    let seen = guest
        .await_state("shutdown", Duration::from_secs(30))
        .and_then(|seen| {
            ensure!(seen["reason"] == "reboot", "the reason is {}", seen["reason"]);
            Ok(())
        });
    seen.and(guest.destroy())
}

fn hangs() -> Result<()> {
    let guest = Guest::new("hang", "/boot/micro/hang", 32);
    guest.create()?;
    std::thread::sleep(Duration::from_secs(1));
    let seen = guest
        .await_state("running", Duration::from_secs(5))
        .and_then(|seen| {
            let used = seen["cpu_seconds"].as_f64().unwrap_or(0.0);
            ensure!(used > 0.1, "a guest that spins has used {used} s");
            Ok(())
        });
    seen.and(guest.destroy())
}

/// dom0's daemons must live through it, and go on serving the others.
fn writes_garbage(web: &Web) -> Result<()> {
    let guest = Guest::new("garbage", "/boot/micro/ring_garbage", 32);
    guest.create()?;
    let outcome = (0..5).try_for_each(|_| {
        std::thread::sleep(Duration::from_secs(1));
        tools::output("xenstore-read", &["/local/domain/0/name"])?;
        let names = guest::names()?;
        ensure!(names.iter().any(|name| name == "web"), "list shows {names:?}");
        web.ping()
    });
    outcome.and(guest.destroy()).and_then(|()| web.is_well())
}
