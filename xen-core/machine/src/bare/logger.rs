//! Log lines to the console, until the kernel gives a sink that also remembers them.

pub use log::Record;
use log::{Level, LevelFilter, Log, Metadata};

use super::{clock, console};
use crate::sync::Once;

struct Logger;

static LOGGER: Logger = Logger;
static SINK: Once<fn(&Record<'_>)> = Once::new();

/// Log to the console from now on.
pub fn start() {
    // Fails only when a logger is there already, and this is called once.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

/// Give every further record to `sink` instead of the console. Works once.
pub fn replace_sink(sink: fn(&Record<'_>)) {
    SINK.call_once(|| sink);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        match SINK.get() {
            _ if !self.enabled(record.metadata()) => {}
            Some(sink) => sink(record),
            None => print(record),
        }
    }

    fn flush(&self) {}
}

fn print(record: &Record<'_>) {
    let now = clock::now() / 1_000_000;
    let level = match record.level() {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        _ => "",
    };
    console::print(format_args!(
        "[{:4}.{:03}] {level}{}\n",
        now / 1000,
        now % 1000,
        record.args()
    ));
}
