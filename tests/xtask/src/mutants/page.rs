//! What is told of the trials: a line for each, a summary, and the page.

use std::collections::BTreeMap;

use super::list::Mutant;
use super::trial::{Found, Verdict};

/// Most characters of what was said.
const LONGEST: usize = 110;

/// One trial in a line.
pub fn line(mutant: &Mutant, verdict: &Verdict) -> String {
    let result = match &verdict.found {
        Some(found) => format!("found by {}: {}", found.by, shown(found)),
        None => "SURVIVES".into(),
    };
    format!(
        "{:<52} {result} (after {} hypercalls)",
        mutant.name, verdict.hypercalls
    )
}

/// What was said, without the numbers of this run.
fn shown(found: &Found) -> String {
    // An audit that the core itself makes ends in a panic.
    let message = found
        .message
        .split_once("VIOLATION: ")
        .map_or(&*found.message, |(_, rest)| rest);
    let mut parts = message.split(": ");
    let first = parts.next().unwrap_or_default();
    let second = parts.next().unwrap_or_default();
    let third = if first == "panic" { parts.next() } else { None };
    let mut text = [Some(first), Some(second), third]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str("...");
    }
    text.replace('|', "/")
}

/// How many were found, and by what.
pub fn summary(tried: &[(&Mutant, &Verdict)]) -> String {
    let count =
        |wanted: &dyn Fn(&Verdict) -> bool| tried.iter().filter(|(_, verdict)| wanted(verdict)).count();
    let simulation = count(&Verdict::by_simulation);
    let any = count(&|verdict| verdict.found.is_some());
    let percent = |part: usize| part as f64 * 100.0 / tried.len().max(1) as f64;
    let simulated = format!(
        "{simulation} of {} caught by the simulation ({:.1} %)",
        tried.len(),
        percent(simulation)
    );
    // Where they were left out, nothing is said of them.
    if count(&|verdict| !verdict.by_simulation() && !verdict.unit_tests) != 0 {
        return simulated;
    }
    format!("{simulated}, {any} with the unit tests ({:.1} %)", percent(any))
}

/// The kind of check that found it: the first word or two of what was said.
fn kind(found: &Found) -> String {
    match found.message.split(": ").next() {
        _ if found.by == "exhaustion" => "exhaustion: an allocation that fails".into(),
        _ if found.by == "interleavings" => "interleavings of known races".into(),
        Some("model") => "the model".into(),
        Some("panic") if found.message.contains("VIOLATION: ") => "the audits".into(),
        Some("panic") => "an assertion of the core's".into(),
        Some("isolation") => "isolation".into(),
        Some("bound") => "bounds of stays in the core".into(),
        Some("lock order") => "the order of locks".into(),
        Some(word @ ("deadlock" | "translations" | "end" | "hang")) => word.to_owned(),
        Some(word) if word.starts_with("died") || word.starts_with("the worker died") => {
            "the core's death".into()
        }
        _ => "the audits".into(),
    }
}

/// `docs/MUTANTS.md`; `listed`: how many there are.
pub fn page(tried: &[(&Mutant, &Verdict)], listed: usize) -> String {
    let mut text = String::from(
        "# Deliberate bugs\n\nWritten by `cargo xtask mutants`. Each bug of [the list](../tests/mutants) is put into the core, alone; the \
         simulator\nattacks that core: 1500 scenarios, 200 seeds of core and model side by side, known races under all interleavings with \
         few\npreemptions, and every allocation of three scenarios fails. What survives is tried with the unit tests of `machine` and \
         `kernel`.\n\n",
    );
    text.push_str(&format!("**{}.**\n\n", summary(tried)));
    if tried.len() < listed {
        text.push_str(&format!(
            "{} more are listed and have not been tried yet: `cargo xtask mutants --rest`.\n\n",
            listed - tried.len()
        ));
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (_, verdict) in tried {
        if let Some(found) = verdict.found.as_ref().filter(|_| verdict.by_simulation()) {
            *kinds.entry(kind(found)).or_default() += 1;
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    text.push_str("| found by | bugs |\n|---|---|\n");
    for (kind, count) in kinds {
        text.push_str(&format!("| {kind} | {count} |\n"));
    }
    let missed: Vec<_> = tried
        .iter()
        .filter(|(_, verdict)| !verdict.by_simulation())
        .collect();
    text.push_str("\n## Not found by the simulation\n\n");
    if missed.is_empty() {
        text.push_str("None.\n");
    }
    for (mutant, verdict) in missed {
        let tests = match &verdict.found {
            Some(found) => format!("Found by the unit test `{}`.", found.message),
            None if verdict.unit_tests => "No unit test finds it either.".into(),
            None => "The unit tests have not been tried.".into(),
        };
        let reason = mutant.survives.as_deref().unwrap_or("Not explained yet.");
        text.push_str(&format!(
            "- **{}**: {}. {tests} {reason}\n",
            mutant.name, mutant.why
        ));
    }
    text.push_str(
        "\n## All\n\n| bug | what it would mean | found by | after hypercalls |\n|---|---|---|---|\n",
    );
    for (mutant, verdict) in tried {
        let found = match &verdict.found {
            Some(found) if verdict.by_simulation() => shown(found),
            Some(found) => format!("unit tests only: {}", found.message),
            None if verdict.unit_tests => "nobody".into(),
            None => "not the simulation".into(),
        };
        text.push_str(&format!(
            "| {} | {} | {found} | {} |\n",
            mutant.name, mutant.why, verdict.hypercalls
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        let found = |message: &str| Found {
            by: "simulation".into(),
            message: message.into(),
        };
        let audit = found("grants: an entry holds its page: entry 14 of d0 has 12 readers");
        assert_eq!(shown(&audit), "grants: an entry holds its page");
        assert_eq!(kind(&audit), "the audits");
        let own = found(
            "panic: xen-core/kernel/src/audit/points.rs:61: audit: VIOLATION: domains: it is gone: d1 is there",
        );
        assert_eq!(
            (shown(&own), kind(&own)),
            ("domains: it is gone".into(), "the audits".into())
        );
        let panic = found("panic: xen-core/kernel/src/schedule.rs:500: unpaused more often than paused");
        assert_eq!(
            shown(&panic),
            "panic: xen-core/kernel/src/schedule.rs:500: unpaused more often than paused"
        );
        assert_eq!(
            kind(&found("model: the core answers 0x0, the model EPERM")),
            "the model"
        );
    }
}
