//! `xenolith create`

use super::{open, seconds};
use crate::config;
use crate::create::{create, domain_of};
use crate::failure::Result;
use crate::output;
use builder::Step;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Makes a guest.
pub fn run(file: &Path, settings: &[String], paused: bool, as_json: bool) -> Result<()> {
    let started = Instant::now();
    let config = config::load(file, settings)?;
    let mut machine = open()?;
    let bar = if as_json {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    if let Ok(style) = ProgressStyle::with_template("{msg:8} {bar:40} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    let result = create(&mut machine, config, paused, &mut |step| show(&bar, step));
    bar.finish_and_clear();
    let record = result?;
    let time = seconds(started.elapsed());
    let domain = domain_of(&record).map_or(0, |domain| domain.0);
    let state = if paused { "paused" } else { "running" };
    let name = &record.config.name;
    if as_json {
        output::document(&json!({
            "name": name, "domain": domain, "uuid": record.uuid.to_string(), "state": state, "seconds": time,
        }));
    } else {
        output::line(&format!("{name} (domain {domain}): {state} after {time} s"));
    }
    Ok(())
}

fn show(bar: &ProgressBar, step: Step) {
    let (message, done, total) = match step {
        Step::Memory { done, total } => ("memory", done, total),
        Step::Loading { done, total } => ("loading", done, total),
    };
    bar.set_message(message);
    bar.set_length(total);
    bar.set_position(done);
}
