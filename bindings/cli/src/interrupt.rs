//! SIGINT, SIGTERM and SIGHUP: counted, so that a copy can end with the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Result};
use crate::say;

/// Counts the signals that ask the command to end, from its creation on.
pub struct Interrupts {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    count: AtomicU32,
    first: AtomicI32,
}

impl Interrupts {
    /// From here on SIGINT, SIGTERM and, unless nohup had it ignored, SIGHUP only
    /// count. The third one ends the
    /// process from a thread of its own: whatever hangs cannot keep the user.
    pub fn watch() -> Result<Self> {
        let failed = |error: &std::io::Error| Failure::io("signals", error, "try again");
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        let watched = [SIGINT, SIGTERM].into_iter().chain(hangup);
        let mut signals = Signals::new(watched).map_err(|error| failed(&error))?;
        let state = Arc::new(State::default());
        let counted = Arc::clone(&state);
        let watch = move || {
            for signal in signals.forever() {
                match counted.count.load(Ordering::Acquire) {
                    0 => counted.first.store(signal, Ordering::Release),
                    1 => {}
                    _ => {
                        say(
                            "ended at once and without a report: commands may still write; \
                             copy all again",
                        );
                        std::process::exit(1);
                    }
                }
                counted.count.fetch_add(1, Ordering::AcqRel);
            }
        };
        std::thread::Builder::new()
            .name("xcopy-signals".to_owned())
            .spawn(watch)
            .map_err(|error| failed(&error))?;
        Ok(Interrupts { state })
    }

    /// How many came so far.
    pub fn count(&self) -> u32 {
        self.state.count.load(Ordering::Acquire)
    }

    /// Name of the first one, for messages.
    pub fn name(&self) -> &'static str {
        match self.state.first.load(Ordering::Acquire) {
            SIGTERM => "SIGTERM",
            SIGHUP => "SIGHUP",
            _ => "SIGINT",
        }
    }
}

/// Whether whoever started the command had a signal ignored (proc(5): SigIgn).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 != 0)
}
