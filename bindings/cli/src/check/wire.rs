//! What the checking process tells its parent, line by line.

use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::fault::Fault;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A check begins.
    Step(String),
    /// The check came to its end, with what was seen.
    Passed(String),
    /// The check does not apply, and why.
    Skipped(String),
    /// A fault, by its id, and what happened.
    Fault(String, String),
    /// A fact about the plugin.
    About(String, String),
    /// What kept the check itself from going on.
    Error(String),
    /// All checks were made.
    Done,
}

impl Line {
    /// Reads a line; what is none is no fault of the plugin's and passed over.
    pub fn parse(line: &str) -> Option<Line> {
        let (kind, rest) = line.split_once('\t')?;
        let pair = || {
            let (first, second) = rest.split_once('\t')?;
            Some((first.to_owned(), second.to_owned()))
        };
        Some(match kind {
            "step" => Line::Step(rest.to_owned()),
            "passed" => Line::Passed(rest.to_owned()),
            "skipped" => Line::Skipped(rest.to_owned()),
            "fault" => pair().map(|(id, text)| Line::Fault(id, text))?,
            "about" => pair().map(|(key, value)| Line::About(key, value))?,
            "error" => Line::Error(rest.to_owned()),
            "done" => Line::Done,
            _ => return None,
        })
    }
}

/// Where the lines go.
static FD: AtomicI32 = AtomicI32::new(-1);
/// All checks were made: an exit is no surprise any more.
static DONE: AtomicBool = AtomicBool::new(false);
/// Faults that were told already: the first tells most.
static TOLD: Mutex<Option<HashSet<Fault>>> = Mutex::new(None);

/// Sends the lines to this descriptor from now on.
pub fn open(fd: i32) {
    FD.store(fd, Ordering::Release);
}

/// The descriptor.
pub fn fd() -> i32 {
    FD.load(Ordering::Acquire)
}

/// Whether `done` was told.
pub fn is_done() -> bool {
    DONE.load(Ordering::Acquire)
}

fn send(kind: &str, parts: &[&str]) {
    let mut line = kind.to_owned();
    if parts.is_empty() {
        line.push('\t');
    }
    for part in parts {
        line.push('\t');
        for c in part.chars() {
            line.push(if c.is_control() { ' ' } else { c });
        }
    }
    line.push('\n');
    // One call, so that lines of several threads do not mix. A parent that went
    // away needs no report.
    let _ = write_all(line.as_bytes());
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // The descriptor is raw: the crash handler uses it as well.
        match super::system::write(fd(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A check begins.
pub fn step(name: &str) {
    send("step", &[name]);
}

/// The check came to its end.
pub fn passed(text: &str) {
    send("passed", &[text]);
}

/// The check does not apply.
pub fn skipped(why: &str) {
    send("skipped", &[why]);
}

/// A fact about the plugin.
pub fn about(key: &str, value: &str) {
    send("about", &[key, value]);
}

/// A fault; the second and later ones of a kind add nothing.
pub fn fault(fault: Fault, text: &str) {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.get_or_insert_default().insert(fault) {
        return;
    }
    let mut what = text.to_owned();
    if let Some(call) = super::calls::innermost() {
        let _ = write!(what, " (in {call})");
    }
    send("fault", &[fault.id(), &what]);
}

/// What kept the check itself from going on.
pub fn error(text: &str) {
    send("error", &[text]);
}

/// All checks were made.
pub fn done() {
    DONE.store(true, Ordering::Release);
    send("done", &[]);
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines() {
        assert_eq!(Line::parse("step\topen"), Some(Line::Step("open".into())));
        assert_eq!(Line::parse("done\t"), Some(Line::Done));
        let fault = Line::Fault("hangs".into(), "in poll\tand more".into());
        assert_eq!(Line::parse("fault\thangs\tin poll\tand more"), Some(fault));
        for none in ["", "hello", "fault\thangs", "other\tx"] {
            assert_eq!(Line::parse(none), None, "{none}");
        }
    }
}
