//! Processor time as operators govern it: shares, affinity, vCPUs, pools, and what `top` shows.

mod refusals;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::guest::Guest;
use crate::report::Report;
use crate::tools;

/// Two vCPUs at most, of which the first is never idle.
const BUSY: &str = "busy";

/// All of it, beside whatever else runs.
pub fn play(report: &mut Report, vcpus: u32) {
    report.step("vcpu-list shows dom0's vCPUs", || dom0s_vcpus(vcpus));
    report.step("sched shows dom0's share", dom0s_share);
    let guest = Guest::new(BUSY, "/boot/micro/hang", 32)
        .with("vcpus", "1")
        .with("maxvcpus", "2");
    let wishes = [
        ("cpus", "\"0\""),
        ("cpus_soft", "[ \"all\", \"0\" ]"),
        ("cpu_weight", "512"),
        ("cap", "40"),
        ("pool", "\"Pool-0\""),
    ];
    let wishful = wishes
        .iter()
        .fold(guest, |guest, (key, value)| guest.with(key, value));
    report.step("a guest gets the share and the CPUs of its configuration", || {
        created_as_wished(&wishful)
    });
    report.step("vcpu-list shows what its configuration says", listed_as_wished);
    report.step("a weight and a cap are set and read back", shares);
    report.step("a vCPU is pinned and let go", pinned);
    report.step("vcpu-set asks for vCPUs", vcpus_asked_for);
    report.step("top shows who uses the CPUs", top);
    report.step("the scheduler's rate limit is set and read back", rate_limit);
    report.step("cpupool-list shows the pool of all CPUs", || first_pool(vcpus));
    refusals::play(report);
    if vcpus > 1 {
        report.step("a pool is made, a guest moved there and back", || pools(vcpus));
    }
    report.step("the busy guest is destroyed", || wishful.destroy());
    report.step("a running Linux gains a vCPU and loses it", hot_plug);
}

/// Gives a guest a weight that a restart is to keep.
pub fn mark(report: &mut Report, name: &str) {
    report.step(&format!("{name} gets a weight"), || {
        tools::xenolith(&["sched", "-d", name, "-w", MARK])?;
        Ok(())
    });
}

/// After the restart.
pub fn check_mark(report: &mut Report, name: &str) {
    report.step(&format!("{name} kept its weight over the restart"), || {
        let (weight, _) = share(name)?;
        ensure!(weight.to_string() == MARK, "it is {weight}");
        Ok(())
    });
}

const MARK: &str = "300";

fn array(arguments: &[&str]) -> Result<Vec<Value>> {
    match tools::xenolith(arguments)? {
        Value::Array(items) => Ok(items),
        other => bail!("`xenolith {}` is no array: {other}", arguments.join(" ")),
    }
}

fn dom0s_vcpus(vcpus: u32) -> Result<()> {
    let listed = array(&["vcpu-list", "0"])?;
    ensure!(listed.len() == vcpus as usize, "it shows {listed:?}");
    for vcpu in &listed {
        let may = vcpu["hard_affinity"].as_array().map_or(0, Vec::len);
        ensure!(
            vcpu["state"] != "offline" && vcpu["cpu"].is_u64() && may > 0,
            "it shows {vcpu}"
        );
    }
    ensure!(
        listed.iter().any(|vcpu| vcpu["state"] == "running"),
        "nobody runs, and yet it was asked: {listed:?}"
    );
    let text = tools::output("xenolith", &["vcpu-list"])?;
    ensure!(text.contains("MAY RUN ON") && text.contains("Domain-0"), "{text}");
    Ok(())
}

/// The weight and the cap of a domain.
fn share(domain: &str) -> Result<(u64, u64)> {
    let shown = tools::xenolith(&["sched", "-d", domain])?;
    let number = |key: &str| shown[key].as_u64().with_context(|| format!("it shows {shown}"));
    Ok((number("weight")?, number("cap")?))
}

fn dom0s_share() -> Result<()> {
    let found = share("Domain-0")?;
    ensure!(found == (256, 0), "weight and cap are {found:?}");
    let text = tools::output("xenolith", &["sched", "--cpupool", "0"])?;
    ensure!(text.contains("credit") && text.contains("256"), "{text}");
    Ok(())
}

/// Leaves nothing when it cannot be made.
fn created_as_wished(guest: &Guest) -> Result<()> {
    guest.create()?;
    let found = share(BUSY)?;
    ensure!(found == (512, 40), "weight and cap are {found:?}");
    Ok(())
}

fn listed_as_wished() -> Result<()> {
    let listed = array(&["vcpu-list", BUSY])?;
    ensure!(listed.len() == 2, "it shows {listed:?}");
    ensure!(
        listed[0]["hard_affinity"] == json!([0]) && listed[1]["hard_affinity"] == json!([0]),
        "hard affinity: {listed:?}"
    );
    ensure!(
        listed[1]["soft_affinity"] == json!([0]),
        "soft affinity: {listed:?}"
    );
    ensure!(listed[1]["state"] == "offline", "{}", listed[1]);
    Ok(())
}

fn shares() -> Result<()> {
    // Where there is one CPU, dom0 has to live beside it: much weight goes with a low cap.
    for (set, expected) in [
        (&["-w", "1024", "-c", "30"][..], (1024, 30)),
        (&["-w", "65535"], (65535, 30)),
        (&["-w", "1", "-c", "0"], (1, 0)),
        (&["-c", "200"], (1, 200)),
        (&["-w", "64", "-c", "40"], (64, 40)),
    ] {
        tools::xenolith(&[&["sched", "-d", BUSY], set].concat())?;
        let found = share(BUSY)?;
        ensure!(found == expected, "after {set:?}: {found:?}");
    }
    ensure!(share("0")? == (256, 0), "dom0's changed with it");
    Ok(())
}

fn affinity(vcpu: usize) -> Result<(Value, Value)> {
    let listed = array(&["vcpu-list", BUSY])?;
    let vcpu = listed.get(vcpu).with_context(|| format!("{listed:?}"))?;
    Ok((vcpu["hard_affinity"].clone(), vcpu["soft_affinity"].clone()))
}

fn pinned() -> Result<()> {
    let all = tools::xenolith(&["info"])?["cpus"].as_u64().context("no CPUs")?;
    let all = json!((0..all).collect::<Vec<_>>());
    tools::xenolith(&["vcpu-pin", BUSY, "0", "0", "0"])?;
    ensure!(affinity(0)? == (json!([0]), json!([0])), "{:?}", affinity(0)?);
    tools::xenolith(&["vcpu-pin", BUSY, "all", "all", "-"])?;
    ensure!(affinity(0)? == (all.clone(), json!([0])), "{:?}", affinity(0)?);
    ensure!(affinity(1)?.0 == all, "{:?}", affinity(1)?);
    tools::xenolith(&["vcpu-pin", BUSY, "0", "-", "all"])?;
    ensure!(affinity(0)? == (all.clone(), all), "{:?}", affinity(0)?);
    Ok(())
}

/// The guest does not answer; that it was asked is seen in the store.
fn vcpus_asked_for() -> Result<()> {
    let number = tools::xenolith(&["info", BUSY])?["domain"].to_string();
    let path = format!("/local/domain/{number}/cpu/1/availability");
    for (count, expected) in [("2", "online"), ("1", "offline")] {
        tools::xenolith(&["vcpu-set", "--ignore-host", BUSY, count])?;
        let found = tools::output("xenstore-read", &[&path])?;
        ensure!(found.trim() == expected, "after {count}: {found}");
    }
    Ok(())
}

/// By what the hypervisor says of its vCPUs.
fn hot_plug() -> Result<()> {
    let guest = Guest::linux("grows", "/boot/vmlinuz-cloud", 128, "grow")
        .with("vcpus", "1")
        .with("maxvcpus", "2");
    guest.create()?;
    let grown = (|| {
        guest.await_line("userspace", Duration::from_secs(90))?;
        for count in ["1", "2", "1"] {
            let wait = ["vcpu-set", "--wait", "--timeout", "60", "--ignore-host"];
            tools::xenolith(&[&wait[..], &[&guest.name, count]].concat()).with_context(|| {
                format!(
                    "its console: {:?}",
                    guest.said().lines().rev().take(4).collect::<Vec<_>>()
                )
            })?;
            let listed = array(&["vcpu-list", &guest.name])?;
            let online = listed.iter().filter(|vcpu| vcpu["state"] != "offline").count();
            ensure!(online.to_string() == count, "{count} were asked for: {listed:?}");
        }
        Ok(())
    })();
    grown.and(guest.destroy())
}

fn top() -> Result<()> {
    // It runs as soon as it may, but what it used is not told at once.
    let mut shown = Value::Null;
    tools::wait_until(
        Duration::from_secs(20),
        "the busy guest is seen to be busy",
        || {
            shown = tools::xenolith(&["top", "--once", "--delay", "0.5"])?;
            let domains = shown["domains"].as_array().context("no domains")?;
            let busy = domains
                .iter()
                .find(|domain| domain["name"] == BUSY)
                .context("it is not shown")?;
            ensure!(busy["vcpus"].as_array().map(Vec::len) == Some(2), "{busy}");
            ensure!(busy["memory_mib"].as_u64() >= Some(32), "{busy}");
            let used = |domain: &Value| domain["cpu_percent"].as_f64();
            // Both come from the same counters, which not every hypervisor has.
            ensure!(
                busy["steal_percent"].is_null() == busy["exits_per_second"].is_null(),
                "only half of what is counted is told: {busy}"
            );
            // The machine is not always as fast as its clock says: only that it is no small part.
            Ok(used(busy) > Some(10.0) && used(busy) <= Some(105.0))
        },
    )
    .with_context(|| shown.to_string())?;
    let dom0 = &shown["domains"][0];
    ensure!(dom0["steal_percent"].is_f64(), "dom0 tells of no steal: {dom0}");
    ensure!(
        shown["cpus"].as_array().is_some_and(|cpus| !cpus.is_empty()),
        "no CPUs: {shown}"
    );
    let text = tools::output(
        "xenolith",
        &["top", "--count", "2", "--delay", "0.1", "--vcpus", "--exits"],
    )?;
    ensure!(
        text.matches("STEAL%").count() == 2 && text.contains("vCPU 1"),
        "{text}"
    );
    Ok(())
}

fn rate_limit() -> Result<()> {
    let read = || -> Result<u64> {
        let shown = array(&["sched", "--schedparam", "--cpupool", "0"])?;
        let limit = shown.first().and_then(|pool| pool["rate_limit_us"].as_u64());
        limit.with_context(|| format!("{shown:?}"))
    };
    let before = read()?;
    tools::xenolith(&["sched", "-s", "-r", "2000"])?;
    let found = read()?;
    tools::xenolith(&["sched", "-s", "-r", &before.to_string()])?;
    ensure!(found == 2000, "it is {found}");
    ensure!(read()? == before, "it is not as before: {}", read()?);
    Ok(())
}

fn first_pool(vcpus: u32) -> Result<()> {
    let pools = array(&["cpupool-list"])?;
    ensure!(pools.len() == 1, "{pools:?}");
    let cpus = pools[0]["cpus"].as_array().map_or(0, Vec::len);
    ensure!(
        pools[0]["pool"] == 0 && cpus >= vcpus as usize && pools[0]["domains"].as_u64() >= Some(2),
        "{}",
        pools[0]
    );
    let text = tools::output("xenolith", &["cpupool-list", "-c", "Pool-0"])?;
    ensure!(text.contains("CPU LIST"), "{text}");
    Ok(())
}

/// The last CPU gets a pool of its own, and the guest runs there.
fn pools(vcpus: u32) -> Result<()> {
    let last_cpu = vcpus - 1;
    let last = last_cpu.to_string();
    tools::xenolith(&["cpupool-cpu-remove", "Pool-0", &last])?;
    let moved = pool_of_its_own(last_cpu);
    // Whatever came of it: as before for those who come after us.
    let _ = tools::run("xenolith", &["cpupool-migrate", BUSY, "Pool-0"]);
    let destroyed = tools::xenolith(&["cpupool-destroy", "own"]);
    let returned = tools::xenolith(&["cpupool-cpu-add", "Pool-0", &last]);
    moved?;
    destroyed?;
    returned?;
    first_pool(vcpus)
}

fn pool_of_its_own(cpu: u32) -> Result<()> {
    let made = tools::xenolith(&["cpupool-create", "name=new", "sched=null", &format!("cpus={cpu}")])?;
    ensure!(made["name"] == "new" && made["scheduler"] == "null", "{made}");
    tools::xenolith(&["cpupool-rename", "new", "own"])?;
    // Its first vCPU may run anywhere since it was let go; its second is bound to CPU 0.
    tools::xenolith(&["vcpu-pin", BUSY, "all", "all", "all"])?;
    tools::xenolith(&["cpupool-migrate", BUSY, "own"])?;
    let pools = array(&["cpupool-list"])?;
    ensure!(
        pools.len() == 2 && pools[1]["name"] == "own" && pools[1]["domains"] == 1,
        "{pools:?}"
    );
    let said = tools::refused(&["sched", "-d", BUSY, "-w", "100"])?;
    ensure!(
        said.contains("null"),
        "a weight in a pool without weights: {said}"
    );
    let said = tools::refused(&["cpupool-destroy", "own"])?;
    ensure!(said.contains(BUSY), "a pool with a domain: {said}");
    let used = || -> Result<f64> {
        let listed = array(&["vcpu-list", BUSY])?;
        ensure!(listed[0]["cpu"] == cpu, "it is on another CPU: {}", listed[0]);
        listed[0]["cpu_seconds"].as_f64().context("no seconds")
    };
    let mut before = None;
    tools::wait_until(Duration::from_secs(10), "the guest runs in its pool", || {
        let now = used()?;
        Ok(now > *before.get_or_insert(now))
    })
}
