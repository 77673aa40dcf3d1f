//! The progress bar on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;

const TEMPLATE: &str =
    "{msg} [{bar:30}] {percent}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// A bar on standard error, or nothing when that is no terminal.
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar of `total` bytes; `quiet` is none at all.
    pub fn new(what: &'static str, total: u64, quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Bar {
                bar: ProgressBar::hidden(),
            };
        }
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        bar.tick();
        Bar { bar }
    }

    /// How far it is.
    pub fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Prints a line without tearing the bar.
    pub fn say(&self, message: &str) {
        self.bar.suspend(|| say(message));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
