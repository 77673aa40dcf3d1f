//! SIGINT and SIGTERM: counted, so that a copy can end with the truth.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Result};

/// Counts the signals that ask the command to end, from its creation on.
pub struct Interrupts {
    signals: Signals,
    count: u32,
    first: Option<i32>,
}

impl Interrupts {
    /// From here on SIGINT and SIGTERM no longer end the process by themselves.
    pub fn watch() -> Result<Self> {
        let signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|error| Failure::io("signals", &error, "try again"))?;
        Ok(Interrupts {
            signals,
            count: 0,
            first: None,
        })
    }

    /// How many came so far.
    pub fn count(&mut self) -> u32 {
        for signal in self.signals.pending() {
            self.count = self.count.saturating_add(1);
            self.first.get_or_insert(signal);
        }
        self.count
    }

    /// True if one was counted.
    pub fn any(&self) -> bool {
        self.count > 0
    }

    /// Name of the first one, for messages.
    pub fn name(&self) -> &'static str {
        match self.first {
            Some(SIGTERM) => "SIGTERM",
            _ => "SIGINT",
        }
    }
}
