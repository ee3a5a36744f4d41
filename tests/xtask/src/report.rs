//! What the person sees: short lines, colours where there is a terminal, a spinner where something takes time.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Whether colours and moving lines make sense.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("CI").is_none()
}

/// The text in an ANSI colour when there is a terminal.
pub fn coloured(code: u8, text: &str) -> String {
    if is_terminal() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// One line about what was done.
pub fn note(text: &str) {
    println!("{} {text}", coloured(36, "==>"));
}

/// The error and its causes, on standard error.
pub fn error(error: &anyhow::Error) {
    eprintln!("{} {error:#}", coloured(31, "error:"));
}

/// A spinner with a text on a terminal, a plain line elsewhere; gone when dropped.
pub struct Activity(ProgressBar);

impl Activity {
    /// Starts to show `text`.
    pub fn start(text: &str) -> Activity {
        if !is_terminal() {
            println!("==> {text}");
            return Activity(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
        bar.set_style(style.expect("the template is a constant"));
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Activity(bar)
    }

    /// Changes the text.
    pub fn say(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }

    /// Prints a line above the spinner.
    pub fn line(&self, text: &str) {
        if self.0.is_hidden() {
            println!("{text}")
        } else {
            self.0.println(text)
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
