//! A device and a clock, as the copying sees them.

use std::io;
use std::time::{Duration, Instant};
use xcopy_scsi_protocol::{Data, Lun, Outcome};

/// One logical unit on one path. PT, WUT and RRTI of an operation go the same way.
pub trait Port {
    /// Carries a command out; an error says that it was not sent.
    fn execute(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> io::Result<Outcome>;
    /// Bytes of a logical block.
    fn block_bytes(&self) -> u32;
}

impl Port for Lun {
    fn execute(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> io::Result<Outcome> {
        Lun::execute(self, cdb, data, timeout)
    }

    fn block_bytes(&self) -> u32 {
        self.block_size()
    }
}

/// A monotonic clock to wait by.
pub trait Clock {
    /// Time since some start.
    fn now(&self) -> Duration;
    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The system's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// It starts now.
    pub fn new() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
