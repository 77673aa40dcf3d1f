//! One request from submit to its end: progress on the way, and what an
//! interrupt does to it.

use std::time::{Duration, Instant};

use xcopy::abi::xcopy_progress;

use crate::failure::Result;
use crate::interrupt::Interrupts;
use crate::library::{Finished, Queue, Request};
use crate::progress::Bar;

/// How often progress is shown and signals are looked for.
const TICK: Duration = Duration::from_millis(100);

/// How a request ended for us.
pub enum Ended {
    /// It is settled.
    Finished(Finished),
    /// The user did not want to wait for it; it may still write.
    Abandoned(xcopy_progress),
}

/// Runs a request. The first interrupt cancels it and waits until it is
/// settled; the second one leaves it. `before` is what the bar has already.
pub fn run(
    queue: &mut Queue<'_>,
    request: &Request,
    interrupts: &Interrupts,
    bar: &Bar,
    before: u64,
) -> Result<Ended> {
    let user_data = queue.submit(request)?;
    let mut cancelled = false;
    let mut last = xcopy_progress::default();
    loop {
        if let Some(finished) = queue.poll(TICK.as_nanos() as i64)? {
            bar.set(before.saturating_add(finished.completion.bytes_copied));
            return Ok(Ended::Finished(finished));
        }
        if let Some(progress) = queue.progress(user_data) {
            bar.set(before.saturating_add(progress.bytes_copied));
            last = progress;
        }
        match interrupts.count() {
            0 => {}
            1 if cancelled => {}
            1 => {
                cancelled = true;
                queue.cancel(user_data)?;
                bar.say(&format!(
                    "{}: waiting for {} commands in flight to end; once more leaves them",
                    interrupts.name(),
                    last.commands_in_flight
                ));
            }
            _ => {
                queue.cancel(user_data)?;
                return Ok(Ended::Abandoned(last));
            }
        }
    }
}

/// Waits until `until`; answers false at once if an interrupt came.
pub fn pause(until: Instant, interrupts: &Interrupts) -> bool {
    loop {
        if interrupts.count() > 0 {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(TICK));
    }
}
