//! What operators get wrong, and a tool that is killed in the middle of its work.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Guest};
use crate::machine;
use crate::report::Report;
use crate::tools::{self, Running};
use crate::web::Web;

/// All of it; each is refused with words, and leaves nothing behind.
pub fn play(report: &mut Report, web: &Web) {
    kernels(report);
    report.step("create of a name that exists is refused", || {
        let said = web.create_again()?;
        ensure!(said.contains("web"), "it says {said}");
        Ok(())
    });
    refusal(
        report,
        "create with too little free memory is refused",
        &plain(100_000),
        "memory",
    );
    configurations(report);
    report.step("destroy of what is not there is refused", || {
        let said = tools::refused(&["destroy", "nobody"])?;
        ensure!(said.contains("nobody"), "it says {said}");
        Ok(())
    });
    report.step("create killed at any moment leaves nothing", killed);
    report.step("web is well after all this", || web.is_well());
}

/// A guest that would run if nothing was wrong with it.
fn plain(memory: u32) -> Guest {
    Guest::linux("wrong", "/boot/vmlinuz-cloud", memory, "idle")
}

/// Refused, with this in what is said, and nothing of it is left.
fn refusal(report: &mut Report, title: &str, guest: &Guest, hint: &str) {
    report.step(title, || {
        let before = machine::free_kib()?;
        let said = guest.create_refused()?;
        ensure!(
            said.to_lowercase().contains(hint),
            "it does not mention `{hint}`: {said}"
        );
        ensure!(guest::find(&guest.name)?.is_none(), "something of it is left");
        tools::wait_until(Duration::from_secs(10), "its memory is back", || {
            Ok(machine::free_kib()? >= before)
        })
    });
}

fn kernels(report: &mut Report) {
    let prepared = (|| -> Result<()> {
        let kernel = fs::read("/boot/vmlinuz-cloud").context("the guests' kernel")?;
        fs::write("/tmp/truncated", &kernel[..kernel.len() / 2])?;
        fs::write("/tmp/text", "not a kernel at all\n".repeat(1000))?;
        Ok(())
    })();
    if let Err(error) = prepared {
        report.fail("bad kernels are prepared", &format!("{error:#}"));
        return;
    }
    let cases = [
        (
            "a kernel that is a text is refused",
            Guest::new("wrong", "/tmp/text", 64),
            "/tmp/text",
        ),
        (
            "a kernel without a PVH entry is refused",
            Guest::new("wrong", "/bin/busybox", 64),
            "pvh",
        ),
        (
            "a truncated kernel is refused",
            Guest::new("wrong", "/tmp/truncated", 128),
            "/tmp/truncated",
        ),
        ("a kernel larger than the memory is refused", plain(12), "memory"),
        (
            "a kernel that is not there is refused",
            Guest::new("wrong", "/boot/nothing", 64),
            "/boot/nothing",
        ),
    ];
    for (title, guest, hint) in cases {
        refusal(report, title, &guest, hint);
    }
}

/// Each names the file and the line.
fn configurations(report: &mut Report) {
    let cases = [
        ("a misspelled key", "memroy = 64", "memroy"),
        ("a value of the wrong kind", "vcpus = \"many\"", "vcpus"),
        (
            "a disk that is not there",
            "disk = [ \"file:/nowhere.img,xvda,w\" ]",
            "/nowhere.img",
        ),
        (
            "a ramdisk that is not there",
            "ramdisk = \"/nowhere.gz\"",
            "/nowhere.gz",
        ),
        (
            "a list that does not end",
            "vif = [ \"bridge=xenbr0\"",
            "wrong.cfg",
        ),
    ];
    for (title, line, hint) in cases {
        report.step(&format!("{title} in a configuration is refused"), || {
            let text = format!("name = \"wrong\"\nkernel = \"/boot/vmlinuz-cloud\"\n\n{line}\n");
            fs::write("/tmp/wrong.cfg", text)?;
            let said = tools::refused(&["create", "/tmp/wrong.cfg"])?;
            ensure!(said.contains(hint), "it does not mention `{hint}`: {said}");
            ensure!(
                said.contains("wrong.cfg") && said.contains('4'),
                "it names no file and line: {said}"
            );
            ensure!(guest::find("wrong")?.is_none(), "something of it is left");
            Ok(())
        });
    }
}

/// SIGKILL after ever longer times: the next command must find nothing, and the memory must be back.
fn killed() -> Result<()> {
    let guest = plain(128);
    let file = guest.write()?;
    let before = machine::free_kib()?;
    for milliseconds in [5, 20, 50, 100, 200, 400, 700, 1000, 1500, 2500, 4000] {
        let create = Running::start("xenolith", &["create", &file.to_string_lossy()])?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        let (_, said) = create.kill()?;
        let context = || format!("killed after {milliseconds} ms ({})", said.words());
        // It is complete, or gone, or just being taken away by those who noticed.
        let mut left = None;
        tools::wait_until(Duration::from_secs(10), "no half-made guest is left", || {
            left = guest::find("wrong")?;
            Ok(left.as_ref().is_none_or(|guest| guest["state"] == "running"))
        })
        .with_context(context)?;
        if left.is_some() {
            guest.destroy().with_context(context)?;
        }
        tools::wait_until(Duration::from_secs(20), "its memory is back", || {
            Ok(machine::free_kib()? >= before)
        })
        .with_context(context)?;
    }
    Ok(())
}
