//! Guest kernels on `pv-drivers`, by the ordinary tools and backends: `echo` and `web`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::{self, Guest};
use crate::http;
use crate::machine::Baseline;
use crate::report::Report;
use crate::tools;

/// MiB of each.
const MEMORY: u32 = 16;
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays those whose names contain `which`.
pub fn play(report: &mut Report, which: &str) -> Result<()> {
    let baseline = Baseline::take()?;
    if "echo".contains(which) {
        echo(report);
    }
    if "web".contains(which) {
        web(report);
    }
    baseline.check_restored_quickly(report);
    Ok(())
}

/// Console and store.
fn echo(report: &mut Report) {
    let guest = Guest::new("echo", "/boot/pv/echo", MEMORY);
    let made = report.step("echo says its name from the store", || {
        guest.create()?;
        guest.await_line("ready", PATIENCE)?;
        let name = guest.await_line("echo, and my name is ", PATIENCE)?;
        ensure!(name == "echo", "it says {name}");
        Ok(())
    });
    if !made {
        return;
    }
    report.step("echo hears what is typed", || guest.hears("marco"));
    report.step("echo keeps its count in the store", || {
        let domain = guest::find("echo")?.context("echo is gone")?;
        let path = format!("/local/domain/{}/data/heard", domain["domain"]);
        let heard = tools::output("xenstore-read", &[&path])?;
        ensure!(
            heard.trim().parse::<u32>().is_ok_and(|count| count > 0),
            "it says {heard}"
        );
        Ok(())
    });
    end(report, &guest);
}

const ADDRESS: &str = "10.9.0.3";
const MAC: &str = "00:16:3e:00:00:03";
const DISK: &str = "/tmp/web-kernel.img";

/// Disk and network: dom0 fetches what is on the disk.
fn web(report: &mut Report) {
    if let Err(error) = fs::copy("/boot/pv/web.img", DISK) {
        report.fail("web's disk", &error.to_string());
        return;
    }
    let guest = Guest::new("web", "/boot/pv/web", MEMORY)
        .with("disk", &format!("[ \"file:{DISK},xvda,r\" ]"))
        .with("vif", &format!("[ \"mac={MAC},bridge=xenbr0\" ]"))
        .with("extra", &format!("\"address={ADDRESS}/24 gateway=10.9.0.1\""));
    // A neighbour that is known need not be asked for, once a second.
    let known = tools::output("arp", &["-s", ADDRESS, MAC]);
    let mut first_byte = None;
    let made = report.step("web serves its first page", || {
        known?;
        let started = Instant::now();
        guest.create()?;
        let page = fetch_early(started, &mut first_byte).inspect_err(|_| {
            let said = guest.said();
            println!("web said: {}", said.lines().collect::<Vec<_>>().join(" | "));
        })?;
        for line in String::from_utf8_lossy(&page).lines().take(6) {
            println!("scenario: page {line}");
        }
        ensure!(
            page == fs::read("/boot/pv/www/index.html")?,
            "it is not the page on its disk"
        );
        Ok(())
    });
    if let Some(elapsed) = first_byte {
        report.figure(
            "create to web's first HTTP byte, seconds by dom0's clock",
            elapsed.as_secs_f64(),
        );
    }
    if made {
        report.step("web serves each file as it is on its disk", || {
            for name in ["index.html", "style.css", "numbers.bin"] {
                let fetched = http::fetch(&format!("{ADDRESS}:80"), &format!("/{name}"))?;
                ensure!(
                    fetched == fs::read(format!("/boot/pv/www/{name}"))?,
                    "{name} is another"
                );
            }
            Ok(())
        });
        report.step("web says what it does not have", || {
            let refused = http::fetch(&format!("{ADDRESS}:80"), "/nothing");
            let said = refused.err().context("it has it")?.to_string();
            ensure!(said.contains("404"), "{said}");
            Ok(())
        });
        report.step("web answers pings and many clients", || {
            let threads: Vec<_> = (0..8)
                .map(|_| std::thread::spawn(|| http::fetch(&format!("{ADDRESS}:80"), "/numbers.bin")))
                .collect();
            let expected = fs::read("/boot/pv/www/numbers.bin")?;
            for thread in threads {
                let fetched = thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a client panicked"))??;
                ensure!(fetched == expected, "one got something else");
            }
            let said = tools::output("ping", &["-c", "3", "-i", "0.2", "-W", "3", ADDRESS])?;
            ensure!(said.contains(" 0% packet loss"), "{said}");
            Ok(())
        });
        end(report, &guest);
    } else {
        report.step("web is destroyed, since it did not serve", || guest.destroy());
    }
    let _ = fs::remove_file(DISK);
}

/// Asks again and again until there is an answer; the time of its first byte.
fn fetch_early(started: Instant, first_byte: &mut Option<Duration>) -> Result<Vec<u8>> {
    let address = format!("{ADDRESS}:80").parse()?;
    tools::wait_until(PATIENCE, "web takes a connection", || {
        let Ok(mut connection) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) else {
            return Ok(false);
        };
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        connection.read_exact(&mut [0])?;
        *first_byte = Some(started.elapsed());
        Ok(true)
    })?;
    http::fetch(&format!("{ADDRESS}:80"), "/")
}

/// A request to shut down is followed.
fn end(report: &mut Report, guest: &Guest) {
    let ended = report.step(&format!("{} ends when it is asked to", guest.name), || {
        tools::xenolith(&["shutdown", "--wait", "--timeout", "30", &guest.name])?;
        guest.await_gone(PATIENCE)?;
        guest.await_line("good bye", PATIENCE).map(drop)
    });
    if !ended {
        report.step(
            &format!("{} is destroyed, since it did not end", guest.name),
            || guest.destroy(),
        );
    }
}
