//! `xcopy copy`.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use xcopy::abi::*;

use crate::args::CopyArgs;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::library::{Context, Queue, Request};
use crate::progress::Bar;
use crate::report::{self, Tally};
use crate::target::{self, Target};
use crate::transfer::{self, Ended};
use crate::{methods, print, print_json, say, verify};

/// Runs the subcommand.
pub fn run(args: &CopyArgs) -> Result<()> {
    let outcome = copy(args);
    if args.json
        && let Err(failure @ Failure::Failed { .. }) = &outcome
    {
        report::print_refused(failure)?;
    }
    match outcome? {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// Copies and prints what happened. Err is what was refused before the copy
/// began, Ok(Some) what went wrong in it and was printed as a result.
fn copy(args: &CopyArgs) -> Result<Option<Failure>> {
    let context = Context::new()?;
    let methods = methods::allowed(&context, &args.method)?;
    let mut src = target::source(&context, &args.src)?;
    if args.verify {
        verify::possible(&src)?;
    }
    check_source(args, &src)?;
    let mut dst = target::destination(&context, &src, &args.dst, args.force)?;
    let outcome = prepared(args, &context, methods, &mut src, &mut dst);
    if outcome.is_err() {
        dst.remove_if_untouched();
    }
    outcome
}

fn prepared(
    args: &CopyArgs,
    context: &Context,
    methods: u32,
    src: &mut Target,
    dst: &mut Target,
) -> Result<Option<Failure>> {
    if src.same_file(dst)? {
        let (from, to, length) = (args.src_offset(), args.dst_offset(), length(args, src)?);
        let apart = from.abs_diff(to) >= length && !args.whole();
        if !apart {
            let next = match args.whole() {
                true => "name another DST",
                false => "give pieces of it that do not overlap",
            };
            return Err(Failure::failed(
                libc::EINVAL,
                format!(
                    "{} and {} are the same file; {next}",
                    src.name(),
                    dst.name()
                ),
            ));
        }
    }
    if args.verify {
        verify::possible(dst)?;
    }
    let mut queue = context.queue(args.depth.unwrap_or(0), args.chunk.unwrap_or(0))?;
    let interrupts = Interrupts::watch()?;
    if src.size.is_none() && args.length.is_none() {
        learn_size(context, &mut queue, src, dst, &interrupts)?;
    }
    let job = Job {
        args,
        methods,
        src: &*src,
        dst: &*dst,
        length: length(args, src)?,
        whole: args.whole(),
    };
    job.check_destination()?;
    job.make_room_for_holes()?;
    let mut tally = Tally::default();
    let started = Instant::now();
    job.transfer(&mut queue, &interrupts, &mut tally, started)
        .map_err(|refused| job.named(refused))?;
    if tally.error.is_none()
        && let Err(failure) = job.finish()
    {
        tally.fail(&failure);
    }
    tally.elapsed = started.elapsed();
    if tally.error.is_none() && args.verify {
        job.verify(&interrupts, &mut tally);
    }
    drop(queue);
    if tally.error.is_some() && tally.bytes_copied == 0 && !tally.abandoned {
        dst.remove_if_untouched();
    }
    show(args, context, (src, dst), methods, tally)
}

fn show(
    args: &CopyArgs,
    context: &Context,
    (src, dst): (&Target, &Target),
    methods: u32,
    tally: Tally,
) -> Result<Option<Failure>> {
    if tally.cache_unverified() {
        say(&format!(
            "warning: {}: pages in the cache may be stale; drop them before reading it",
            dst.name()
        ));
    }
    let failure = tally.error.as_ref().map(|error| {
        let message = format!("{} to {}: {}", src.name(), dst.name(), error.message);
        Failure::failed(error.errno, message)
    });
    let shown = if args.json {
        tally.json(context).and_then(|report| print_json(&report))
    } else if !args.quiet {
        // The texts are decoration, without them the reasons still stand; and
        // whoever left a request does not want to wait for a query.
        let verdicts = match tally.abandoned {
            true => Vec::new(),
            false => context.pair(src.device, dst.device).unwrap_or_default(),
        };
        let summary = tally.summary(context, &verdicts, methods);
        print(&dst.in_user_s_words(&src.in_user_s_words(&summary)))
    } else {
        Ok(())
    };
    Ok(failure.or(shown.err()))
}

/// What can be refused before the destination is touched.
fn check_source(args: &CopyArgs, src: &Target) -> Result<()> {
    if src.size.is_some() {
        length(args, src)?;
    }
    if let (Some(file), Some(0)) = (&src.file, src.size) {
        let mut byte = [0];
        let read = std::os::unix::fs::FileExt::read_at(file, &mut byte, 0);
        if read.is_ok_and(|count| count > 0) {
            return Err(Failure::failed(
                libc::ENOTSUP,
                format!(
                    "{}: claims to be empty and is not (a file of /proc or /sys?); use cat",
                    src.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Bytes to copy.
fn length(args: &CopyArgs, src: &Target) -> Result<u64> {
    let Some(size) = src.size else {
        return args.length.ok_or_else(|| {
            Failure::failed(
                libc::EINVAL,
                format!("{}: its size is not known; give --length", src.name()),
            )
        });
    };
    let beyond = |what: String| {
        let next = format!("it has {size} bytes; give less");
        Err(Failure::failed(
            libc::EINVAL,
            format!("{}: {what}; {next}", src.name()),
        ))
    };
    let Some(rest) = size.checked_sub(args.src_offset()) else {
        return beyond(format!(
            "--src-offset {} lies beyond its end",
            args.src_offset()
        ));
    };
    match args.length {
        Some(length) if length > rest => beyond(format!(
            "--length {length} from byte {} ends beyond it",
            args.src_offset()
        )),
        Some(length) => Ok(length),
        None => Ok(rest),
    }
}

/// Has a plugin's device opened on the queue, so that its size is known.
fn learn_size(
    context: &Context,
    queue: &mut Queue<'_>,
    src: &mut Target,
    dst: &mut Target,
    interrupts: &Interrupts,
) -> Result<()> {
    let request = Request {
        op: XCOPY_OP_PREPARE,
        src: src.device,
        dst: dst.device,
        ..Request::default()
    };
    let bar = Bar::new("preparing", 0, true);
    match transfer::run(queue, &request, interrupts, &bar, 0)? {
        Ended::Finished(finished) if finished.completion.res == 0 => {}
        Ended::Finished(finished) => {
            let next = "see why with xcopy probe";
            let message = report::explain(&finished.completion, &finished.report, next);
            let errno = finished.completion.res.saturating_neg();
            return Err(Failure::failed(errno, format!("{}: {message}", src.name())));
        }
        Ended::Abandoned(_) => {
            let text = format!(
                "{}: left while it was opened; nothing was copied",
                src.name()
            );
            return Err(Failure::failed(libc::ECANCELED, text));
        }
    }
    src.refresh(context)?;
    dst.refresh(context)
}

/// A copy that was looked at and may begin.
struct Job<'a> {
    args: &'a CopyArgs,
    methods: u32,
    src: &'a Target,
    dst: &'a Target,
    length: u64,
    /// The destination's whole content is replaced.
    whole: bool,
}

impl Job<'_> {
    /// A refusal of the library's, with what it is about.
    fn named(&self, refused: Failure) -> Failure {
        match refused {
            Failure::Failed { errno, message } => {
                let (src, dst) = (self.src.name(), self.dst.name());
                Failure::failed(errno, format!("{src} to {dst}: {message}"))
            }
            usage => usage,
        }
    }

    /// What may still be done where no method could be used.
    fn next_if_none(&self, reason: u16) -> &'static str {
        if reason == XCOPY_REASON_LIMITS && self.args.chunk.is_some() {
            return "give a larger --chunk, whole blocks of both devices, or leave it out";
        }
        let limited = self.methods != 0 && self.methods & 1 << XCOPY_METHOD_READ_WRITE == 0;
        match (self.args.no_fallback, limited) {
            (true, true) => {
                "leave out --no-fallback and allow read_write to let the host copy, or see why with \
                 xcopy probe"
            }
            (true, false) => {
                "leave out --no-fallback to let the host copy, or see why with xcopy probe"
            }
            (false, true) => "allow read_write to let the host copy, or see why with xcopy probe",
            (false, false) => "see why with xcopy probe",
        }
    }

    fn check_destination(&self) -> Result<()> {
        let Some(end) = self.args.dst_offset().checked_add(self.length) else {
            return Err(Failure::failed(
                libc::EFBIG,
                format!(
                    "{}: the copy would end beyond 2^64 bytes; give less",
                    self.dst.name()
                ),
            ));
        };
        match self.dst.size {
            _ if self.dst.kind == XCOPY_KIND_FILE && i64::try_from(end).is_err() => {
                Err(Failure::failed(
                    libc::EFBIG,
                    format!(
                        "{}: the copy would end beyond 2^63 bytes, where files end; give less",
                        self.dst.name()
                    ),
                ))
            }
            Some(size) if self.dst.kind != XCOPY_KIND_FILE && end > size => Err(Failure::failed(
                libc::ENOSPC,
                format!(
                    "{}: has {size} bytes and the copy would end at {end}; give --length",
                    self.dst.name()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn flags(&self) -> u32 {
        let files = self.src.kind == XCOPY_KIND_FILE && self.dst.kind == XCOPY_KIND_FILE;
        let chosen = [
            (self.args.no_fallback, XCOPY_REQ_NO_FALLBACK),
            (self.args.durable, XCOPY_REQ_DURABLE),
            (self.args.set_host_behavior, XCOPY_REQ_SET_HOST_BEHAVIOR),
            (files, XCOPY_REQ_KEEP_HOLES),
        ];
        chosen
            .iter()
            .filter(|(on, _)| *on)
            .fold(0, |flags, (_, flag)| flags | flag)
    }

    /// Copies: one request, or with a rate one piece after the other. Err is a
    /// refusal before any byte; what goes wrong later is in the tally.
    /// Makes the copy of a sparse file as long as it will be: file systems set
    /// blocks aside behind the end of a file that grows, and would keep them in
    /// its holes.
    fn make_room_for_holes(&self) -> Result<()> {
        let (Some(src), Some(dst)) = (&self.src.file, &self.dst.file) else {
            return Ok(());
        };
        let is_sparse = src
            .metadata()
            .is_ok_and(|found| found.blocks() < found.len().div_ceil(512));
        if self.whole && is_sparse && dst.metadata().is_ok_and(|found| found.len() < self.length) {
            dst.set_len(self.length).map_err(|error| {
                Failure::io(
                    self.dst.path.display(),
                    &error,
                    "nothing is copied; a shorter file may fit",
                )
            })?;
        }
        Ok(())
    }

    fn transfer(
        &self,
        queue: &mut Queue<'_>,
        interrupts: &Interrupts,
        tally: &mut Tally,
        started: Instant,
    ) -> Result<()> {
        let bar = Bar::new("copying", self.length, self.args.quiet);
        let mut done = 0;
        while done < self.length && tally.error.is_none() {
            let length = match self.args.rate {
                Some(rate) => piece(rate, self.args.dst_offset() + done, self.length - done),
                None => self.length,
            };
            let request = Request {
                op: XCOPY_OP_COPY,
                flags: self.flags(),
                src: self.src.device,
                dst: self.dst.device,
                src_offset: self.args.src_offset() + done,
                dst_offset: self.args.dst_offset() + done,
                length,
                methods: self.methods,
                token_lifetime_s: 0,
            };
            match transfer::run(queue, &request, interrupts, &bar, done) {
                Ok(ended) => self.account(&ended, interrupts, tally),
                Err(refused) if done == 0 => return Err(refused),
                Err(failed) => tally.fail(&failed),
            }
            done += length;
            if let Some(rate) = self.args.rate
                && tally.error.is_none()
            {
                let due = Duration::try_from_secs_f64(done as f64 / rate as f64)
                    .ok()
                    .and_then(|due| started.checked_add(due));
                let waited = due.is_none_or(|due| transfer::pause(due, interrupts));
                if !waited && done < self.length {
                    tally.fail(&Failure::failed(
                        libc::ECANCELED,
                        format!("ended by {}; copy again to finish it", interrupts.name()),
                    ));
                }
            }
        }
        Ok(())
    }

    fn account(&self, ended: &Ended, interrupts: &Interrupts, tally: &mut Tally) {
        match ended {
            Ended::Finished(finished) => {
                tally.add(finished);
                let completion = &finished.completion;
                if completion.res == 0 {
                    return;
                }
                let ours = completion.res == -libc::ECANCELED && interrupts.count() > 0;
                let message = if ours {
                    format!("ended by {}; copy again to finish it", interrupts.name())
                } else {
                    report::explain(
                        completion,
                        &finished.report,
                        self.next_if_none(completion.reason),
                    )
                };
                tally.fail_with(message, completion);
            }
            Ended::Abandoned(progress) => {
                tally.abandoned = true;
                tally.fail(&Failure::failed(
                    libc::ECANCELED,
                    format!(
                        "left by a second {} with {} commands in flight, which may still write; {} \
                     bytes of the request that was left are not counted; copy all again",
                        interrupts.name(),
                        progress.commands_in_flight,
                        progress.bytes_copied
                    ),
                ));
            }
        }
    }

    /// Gives the file its size, and makes its name durable.
    fn finish(&self) -> Result<()> {
        let Some(file) = &self.dst.file else {
            return Ok(());
        };
        let failed = |error: &std::io::Error| {
            Failure::io(
                self.dst.path.display(),
                error,
                "the data is copied; check DST's size",
            )
        };
        let size = file.metadata().map_err(|error| failed(&error))?.len();
        if self.whole && size != self.length {
            file.set_len(self.length).map_err(|error| failed(&error))?;
            if self.args.durable {
                file.sync_all().map_err(|error| failed(&error))?;
            }
        }
        if self.args.durable && self.dst.created {
            file.sync_all().map_err(|error| failed(&error))?;
            let parent = match self.dst.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            File::open(parent)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    fn verify(&self, interrupts: &Interrupts, tally: &mut Tally) {
        let region = verify::Region {
            src_offset: self.args.src_offset(),
            dst_offset: self.args.dst_offset(),
            length: self.length,
        };
        let bar = Bar::new("verifying", self.length, self.args.quiet);
        if let Err(verify::Broken { failure, matched }) =
            verify::compare(self.src, self.dst, region, interrupts, &bar)
        {
            tally.bytes_done = matched;
            tally.fail(&failure);
        }
    }
}

/// Bytes of the next piece of a copy with a rate: a tenth of a second's worth,
/// in steps that offloads can take, and up to a boundary of DST.
fn piece(rate: u64, dst_offset: u64, left: u64) -> u64 {
    let tenth = rate / 10;
    let step = match tenth {
        0x10_0000.. => 0x10_0000,
        0x1_0000.. => 0x1_0000,
        _ => 0x1000,
    };
    let size = (tenth / step).max(1) * step;
    (size - dst_offset % step).min(left)
}

#[cfg(test)]
mod tests {
    use super::piece;

    #[test]
    fn pieces_end_on_boundaries_and_never_stand_still() {
        for rate in [1, 4096, 100_000, 10 << 20, 1 << 33, u64::MAX] {
            let (mut at, end) = (1234, 1234 + 50_000);
            while at < end {
                let size = piece(rate, at, end - at);
                assert!(size > 0 && size <= end - at);
                at += size;
                assert!(at == end || at % 4096 == 0);
            }
        }
        assert_eq!(piece(50 << 20, 0, 1 << 30), 5 << 20);
    }
}
