//! What a copy did, summed over its requests, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use indicatif::HumanBytes;
use xcopy::abi::*;

use crate::failure::{Failure, Result, errno_text};
use crate::library::{self, Context, Finished, field};
use crate::text::plain;
use crate::{json, print_json};

/// The truth so far.
#[derive(Default)]
pub struct Tally {
    /// Longest prefix known to be copied.
    pub bytes_done: u64,
    /// All that is known to be copied.
    pub bytes_copied: u64,
    /// How long it took until it was settled.
    pub elapsed: Duration,
    /// Why it is not complete.
    pub error: Option<json::Error>,
    /// A request was left before it was settled: it may still write.
    pub abandoned: bool,
    shares: BTreeMap<u16, Share>,
    fallbacks: Vec<xcopy_fallback>,
    flags: u32,
}

#[derive(Default)]
struct Share {
    bytes: u64,
    commands: u64,
    offloaded: bool,
}

impl Tally {
    /// Adds a request that follows the ones before without a gap.
    pub fn add(&mut self, finished: &Finished) {
        let Finished { completion, report } = finished;
        if self.error.is_none() {
            self.bytes_done = self.bytes_done.saturating_add(completion.bytes_done);
        }
        self.bytes_copied = self.bytes_copied.saturating_add(completion.bytes_copied);
        self.flags |= completion.flags;
        for share in report.shares.iter().take(report.nshares as usize) {
            let sum = self.shares.entry(share.method).or_insert_with(|| Share {
                offloaded: true,
                ..Share::default()
            });
            sum.bytes = sum.bytes.saturating_add(share.bytes);
            sum.commands = sum.commands.saturating_add(u64::from(share.commands));
            sum.offloaded &= share.offloaded != 0;
        }
        for fallback in report.fallbacks.iter().take(report.nfallbacks as usize) {
            let known =
                |f: &xcopy_fallback| (f.method, f.reason) == (fallback.method, fallback.reason);
            if !self.fallbacks.iter().any(known) {
                self.fallbacks.push(*fallback);
            }
        }
    }

    /// Notes a failure that is no completion's.
    pub fn fail(&mut self, failure: &Failure) {
        let (errno, message) = match failure {
            Failure::Failed { errno, message } => (*errno, message.clone()),
            Failure::Usage(message) => (libc::EINVAL, message.clone()),
        };
        let bytes_done = self.bytes_done;
        self.error.get_or_insert(json::Error {
            errno,
            message,
            detail: None,
            bytes_done,
        });
    }

    /// Notes the failure that a completion tells.
    pub fn fail_with(&mut self, message: String, completion: &xcopy_completion) {
        self.error.get_or_insert(json::Error {
            errno: completion.res.saturating_neg(),
            message,
            detail: library::detail(completion.detail),
            bytes_done: self.bytes_done,
        });
    }

    /// True if cached pages of the destination may be stale.
    pub fn cache_unverified(&self) -> bool {
        self.flags & XCOPY_CPL_CACHE_UNVERIFIED != 0
    }

    fn ordered(&self) -> Vec<(u16, &Share)> {
        let mut shares: Vec<_> = self
            .shares
            .iter()
            .filter(|(_, share)| share.bytes > 0 || share.commands > 0)
            .map(|(method, share)| (*method, share))
            .collect();
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(share.bytes));
        shares
    }

    /// For scripts.
    pub fn json(self, context: &Context) -> Result<json::Copy> {
        let plugins = context.plugins()?;
        let methods = self
            .ordered()
            .into_iter()
            .map(|(method, share)| json::Share {
                name: context.method_name(method),
                plugin: plugin_of(&plugins, method),
                offloaded: share.offloaded,
                bytes: share.bytes,
                commands: share.commands,
            })
            .collect();
        let fallbacks = self
            .fallbacks
            .iter()
            .map(|fallback| json::Fallback {
                method: context.method_name(fallback.method),
                reason: library::reason(fallback.reason),
            })
            .collect();
        let (bytes, seconds) = (self.bytes_copied, self.elapsed.as_millis() as f64 / 1000.0);
        Ok(json::Copy {
            bytes,
            seconds,
            methods,
            fallbacks,
            error: self.error,
        })
    }

    /// For people. `verdicts` are the pair's, for their texts; of methods for other
    /// kinds of devices only those that were `named` are worth a line.
    pub fn summary(&self, context: &Context, verdicts: &[xcopy_method_info], named: u32) -> String {
        let mut text = format!(
            "copied {} in {:.1} s",
            HumanBytes(self.bytes_copied),
            self.elapsed.as_secs_f64()
        );
        let shares = self.ordered();
        for (index, (method, share)) in shares.iter().enumerate() {
            let how = match (*method, share.offloaded) {
                (XCOPY_METHOD_ZERO, _) => "holes and zeroes",
                (_, true) => "offloaded",
                (_, false) => "through the host",
            };
            let separator = if index == 0 { ':' } else { ',' };
            let name = context.method_name(*method);
            let _ = write!(
                text,
                "{separator} {name} {} ({how})",
                HumanBytes(share.bytes)
            );
        }
        text.push('\n');
        for fallback in &self.fallbacks {
            let elsewhere = fallback.reason == XCOPY_REASON_WRONG_DEVICE;
            if elsewhere && named >> (fallback.method & 31) & 1 == 0 {
                continue;
            }
            let used = shares
                .iter()
                .any(|(m, s)| *m == fallback.method && s.bytes > 0);
            let name = context.method_name(fallback.method);
            let how_much = if used { "not used for all" } else { "not used" };
            let reason = library::reason(fallback.reason);
            let _ = write!(text, "  {name} {how_much}: {reason}");
            if let Some(error) = errno_of(fallback) {
                let _ = write!(text, ": {error}");
            }
            let verdict = verdicts
                .iter()
                .find(|v| v.method == fallback.method && v.reason == fallback.reason)
                .map(|v| field(&v.text))
                .filter(|words| !words.is_empty() && *words != reason);
            if let Some(words) = verdict {
                let _ = write!(text, "; {}", plain(&words));
            }
            text.push('\n');
        }
        text
    }
}

/// The error behind a fall-back, in words.
fn errno_of(fallback: &xcopy_fallback) -> Option<String> {
    if fallback.error == 0 {
        return None;
    }
    let words = errno_text(fallback.error.saturating_neg());
    match library::detail(fallback.detail) {
        Some(detail) if !detail.starts_with(words) => Some(format!("{words} ({detail})")),
        _ => Some(words.to_owned()),
    }
}

/// Name of the plugin that serves a method.
fn plugin_of(plugins: &[xcopy_plugin_info], method: u16) -> String {
    let bit = 1u32.checked_shl(u32::from(method)).unwrap_or(0);
    plugins
        .iter()
        .find(|plugin| plugin.methods & bit != 0)
        .map_or_else(|| "core".to_owned(), |plugin| field(&plugin.name))
}

/// What a command calls the two ends of its request.
pub struct Ends {
    /// Told of an error in reading.
    pub reading: &'static str,
    /// Told of an error in writing.
    pub writing: &'static str,
    /// The end whose bytes are told, and whether it is the source; None tells none.
    pub place: Option<(&'static str, bool)>,
    /// Told when what was written is not known.
    pub unknown: &'static str,
}

/// The ends of a copy.
const OF_A_COPY: Ends = Ends {
    reading: "reading SRC: ",
    writing: "writing DST: ",
    place: Some(("DST", false)),
    unknown: ", what DST holds after the bytes that are done is not known",
};

/// What a failed completion says.
pub fn what(completion: &xcopy_completion, report: &xcopy_report, ends: &Ends) -> String {
    let errno = completion.res.saturating_neg();
    let mut text = String::from(match completion.flags {
        flags if flags & XCOPY_CPL_ERR_ON_READ != 0 => ends.reading,
        flags if flags & XCOPY_CPL_ERR_ON_WRITE != 0 => ends.writing,
        _ => "",
    });
    text.push_str(errno_text(errno));
    if completion.reason != XCOPY_REASON_NONE {
        let _ = write!(text, ": {}", library::reason(completion.reason));
    }
    if let Some(detail) = library::detail(completion.detail)
        && !detail.starts_with(errno_text(errno))
    {
        let _ = write!(text, " ({detail})");
    }
    let failed = &report.failed;
    if let Some((end, is_source)) = ends.place
        && failed.length > 0
    {
        let first = match is_source {
            true => failed.src_offset,
            false => failed.dst_offset,
        };
        let last = first.saturating_add(failed.length - 1);
        let _ = write!(text, ", at bytes {first} to {last} of {end}");
    }
    if completion.flags & XCOPY_CPL_INDETERMINATE != 0 {
        text.push_str(ends.unknown);
    }
    text
}

/// What a failed completion of a copy says, and what to do next: `if_none` where no
/// method could be used.
pub fn explain(completion: &xcopy_completion, report: &xcopy_report, if_none: &str) -> String {
    let mut text = what(completion, report, &OF_A_COPY);
    let next = match completion.res.saturating_neg() {
        // The host would meet it too.
        libc::ENOTSUP if completion.reason == XCOPY_REASON_RESERVED => next_step(libc::EBADE),
        libc::ENOTSUP => if_none,
        _ if text.contains("the source ended before its range") => {
            "copy again when nothing changes SRC; of a file of /sys use cat"
        }
        errno => next_step(errno),
    };
    let _ = write!(text, "; {next}");
    text
}

/// Prints what was refused before anything was begun in the shape of any other
/// result: scripts get the same.
pub fn print_refused(failure: &Failure) -> Result<()> {
    let mut tally = Tally::default();
    tally.fail(failure);
    print_json(&json::Copy {
        bytes: 0,
        seconds: 0.0,
        methods: Vec::new(),
        fallbacks: Vec::new(),
        error: tally.error,
    })
}

fn next_step(errno: i32) -> &'static str {
    match errno {
        libc::ENOSPC | libc::EDQUOT => "make room on DST and copy again",
        libc::EFBIG => "choose a DST that takes files of this size",
        libc::EROFS => "remount DST writable, or choose another one",
        libc::EACCES | libc::EPERM => "run with the privilege that is named, or as the owner",
        libc::EBUSY => "unmount or release DST, or give --force if you are sure",
        libc::EBADE => "another host has reserved DST; have it released",
        libc::ENODEV => "connect it and copy again",
        libc::ENODATA => "the medium has a defect there; see the kernel's log",
        libc::EINVAL => "check offsets and length; see xcopy probe for what must be aligned",
        libc::ENOMEM => "free memory, or give a smaller --depth or --chunk",
        libc::ESTALE => "make a new token",
        libc::ECANCELED => "copy again to finish it",
        _ => "see the kernel's log, and copy again or with another --method",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(bytes: u64, shares: &[xcopy_method_share]) -> Finished {
        let mut report = library::empty_report();
        report.nshares = shares.len() as u32;
        report.shares[..shares.len()].copy_from_slice(shares);
        report.nfallbacks = 1;
        report.fallbacks[0].method = XCOPY_METHOD_REFLINK;
        report.fallbacks[0].reason = XCOPY_REASON_CROSS_DEVICE;
        let completion = xcopy_completion {
            bytes_done: bytes,
            bytes_copied: bytes,
            ..xcopy_completion::default()
        };
        Finished {
            completion,
            report: Box::new(report),
        }
    }

    #[test]
    fn pieces_are_summed_and_fallbacks_told_once() {
        let share = |method, bytes, offloaded| xcopy_method_share {
            method,
            offloaded,
            commands: 2,
            bytes,
        };
        let mut tally = Tally::default();
        tally.add(&finished(30, &[share(XCOPY_METHOD_READ_WRITE, 30, 0)]));
        tally.add(&finished(
            50,
            &[
                share(XCOPY_METHOD_READ_WRITE, 20, 0),
                share(XCOPY_METHOD_ODX, 30, 1),
            ],
        ));
        assert_eq!((tally.bytes_done, tally.bytes_copied), (80, 80));
        let ordered = tally.ordered();
        assert_eq!(ordered.len(), 2);
        assert_eq!(
            ordered.iter().map(|(_, share)| share.bytes).sum::<u64>(),
            80
        );
        assert_eq!(
            (ordered[0].0, ordered[0].1.commands),
            (XCOPY_METHOD_READ_WRITE, 4)
        );
        assert!(!ordered[0].1.offloaded && ordered[1].1.offloaded);
        assert_eq!(tally.fallbacks.len(), 1);
    }

    #[test]
    fn the_first_error_stays_and_the_prefix_stops_there() {
        let mut tally = Tally::default();
        tally.add(&finished(10, &[]));
        tally.fail(&Failure::failed(libc::EIO, "first"));
        tally.fail(&Failure::failed(libc::ENOSPC, "second"));
        tally.add(&finished(10, &[]));
        let error = tally.error.expect("noted");
        assert_eq!(
            (error.errno, error.message.as_str(), error.bytes_done),
            (5, "first", 10)
        );
        assert_eq!(tally.bytes_done, 10);
    }

    #[test]
    fn every_errno_has_a_next_step() {
        for errno in 0..200 {
            let completion = xcopy_completion {
                res: -errno,
                ..xcopy_completion::default()
            };
            assert!(explain(&completion, &library::empty_report(), "see").contains("; "));
        }
    }
}
