//! Panics of the core's, kept in words instead of printed: they are findings.

use machine::fake::failure::{self, Source};

thread_local! {
    static PANIC: core::cell::RefCell<Option<String>> = const { core::cell::RefCell::new(None) };
}

/// Keep what panics say, and where, instead of printing it. Once for the program.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|information| {
        // Whatever a message needs must not fail as well.
        failure::disarm(Source::Heap);
        let place = information.location().map_or_else(String::new, |place| {
            format!("{}:{}: ", place.file(), place.line())
        });
        let words = information.payload_as_str().unwrap_or("");
        let message = format!("{place}{words}");
        if std::env::var_os("SIMULATOR_BACKTRACE").is_some() {
            eprintln!("{message}\n{}", std::backtrace::Backtrace::force_capture());
        }
        PANIC.with_borrow_mut(|last| *last = Some(message));
    }));
}

/// What the last panic said.
pub fn last_panic(payload: &(dyn core::any::Any + Send)) -> String {
    let said = || {
        payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()))
    };
    PANIC
        .with_borrow_mut(Option::take)
        .or_else(said)
        .unwrap_or_else(|| "without a message".into())
}
