//! The checking process: whatever the plugin does, it does it to this one.

use std::path::Path;
use std::time::Duration;

use super::fault::Fault;
use super::places::Wishes;
use super::plugin::Stop;
use super::{arena, calls, script, system, wire};
pub use crate::args::Part;
use crate::library;

/// All parts, in order.
pub const PARTS: [(Part, &str); 3] = [
    (Part::Accept, "accept"),
    (Part::Today, "today"),
    (Part::Later, "later"),
];

/// Runs a part. What it finds goes to the parent, line by line.
pub fn run(part: Part, file: &Path, wishes: &Wishes) {
    let Ok(report) = system::take_standard_output() else {
        return;
    };
    wire::open(report);
    system::be_a_child();
    let ready = arena::reserve().and_then(|()| arena::watch_crashes());
    if let Err(error) = ready {
        wire::error(&format!("the check cannot prepare: {error}"));
        return wire::done();
    }
    watch_time(wishes.limit);
    let ended = match part {
        Part::Accept => {
            accept(file);
            Ok(())
        }
        Part::Today => script::run(file, wishes, false),
        Part::Later => script::run(file, wishes, true),
    };
    if let Err(Stop::Machine(text)) = ended {
        wire::error(&text);
    }
    wire::done();
    // Threads of the plugin's may still run: nothing of it is unloaded.
    system::end_now()
}

fn accept(file: &Path) {
    wire::step("accept");
    match calls::slow(&"xcopy_plugin_load", || library::try_plugin(file)) {
        Ok(()) => wire::passed("the core loads it"),
        Err(failure) => wire::fault(Fault::Refused, &failure.to_string()),
    }
}

/// A call that does not return is told by a thread of its own.
fn watch_time(limit: Duration) {
    let watch = move || {
        loop {
            std::thread::sleep(Duration::from_millis(50));
            // Commands that are lost are told by whoever waits for them, with
            // more to say: this is for calls.
            if let Some(call) = calls::overdue(limit * 2) {
                let text = format!(
                    "{call} did not return within {} ms",
                    (limit * 2).as_millis()
                );
                wire::fault(Fault::Hangs, &text);
                system::end_now();
            }
        }
    };
    let watcher = std::thread::Builder::new()
        .name("watch".into())
        .spawn(watch);
    if let Err(error) = watcher {
        wire::error(&format!("no thread to watch the time: {error}"));
    }
}
