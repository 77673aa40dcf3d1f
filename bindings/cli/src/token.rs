//! `xcopy token`: a token file is a bearer secret; nothing here ever prints it.

mod file;
mod words;

use std::path::Path;
use std::time::Instant;

use xcopy::abi::*;

use crate::args::{TokenCommand, TokenCreateArgs, TokenInfoArgs, TokenReleaseArgs, TokenWriteArgs};
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::library::{Context, Request, field};
use crate::methods;
use crate::progress::Bar;
use crate::report::{self, Tally};
use crate::target::{self, Target};
use crate::text::plain;
use crate::transfer::{self, Ended};
use crate::{print, print_json, say};
use file::{Fresh, Stored};
use words::Deed;

/// Runs the subcommand.
pub fn run(command: &TokenCommand) -> Result<()> {
    let (json, outcome) = match command {
        TokenCommand::Create(args) => (args.json, create(args)),
        TokenCommand::Write(args) => (args.json, write(args)),
        TokenCommand::Release(args) => (args.json, release(args)),
        TokenCommand::Info(args) => return info(args),
    };
    if json && let Err(failure @ Failure::Failed { .. }) = &outcome {
        report::print_refused(failure)?;
    }
    match outcome? {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// Err is what was refused before it was begun or cannot be reported as a result;
/// Ok(Some) what went wrong and was printed as one. The same of the others.
fn create(args: &TokenCreateArgs) -> Result<Option<Failure>> {
    let context = Context::new()?;
    let methods = methods::allowed(&context, &[])?;
    let src = target::source(&context, &args.src)?;
    let length = length(args, &src)?;
    // Made first: a token that cannot be kept would only use the array's memory.
    let file = Fresh::make(&args.output)?;
    let token = context.token_create()?;
    let request = Request {
        op: XCOPY_OP_TOKEN_CREATE,
        src: src.device,
        dst: token,
        src_offset: args.src_offset,
        length,
        methods,
        token_lifetime_s: args.lifetime.unwrap_or(0),
        ..Request::default()
    };
    let made = Job::new(&context, token, &args.src, &src, Deed::Create)?.run(&request, length)?;
    if made.error.is_none()
        && let Err(failure) = context
            .token_export(token)
            .and_then(|secret| file.keep(&secret))
    {
        let forget = releasing(token, src.device, methods);
        let forgotten = Job::new(&context, token, &args.src, &src, Deed::Release)
            .and_then(|job| job.run(&forget, 0));
        if !forgotten.is_ok_and(|tally| tally.error.is_none()) {
            say("the device keeps the token that was made until it expires");
        }
        return Err(failure);
    }
    let done = format!(
        "a token for {length} bytes of {} is in {}\n",
        plain(&src.name()),
        plain(&args.output.to_string_lossy())
    );
    show(&context, args.json, &args.src, made, &done)
}

/// Bytes that the token is to stand for.
fn length(args: &TokenCreateArgs, src: &Target) -> Result<u64> {
    let refused = |what: &str| {
        let text = format!("{}: {what}", src.name());
        Err(Failure::failed(libc::EINVAL, text))
    };
    match (args.length, src.size) {
        (Some(length), _) => Ok(length),
        (None, None) => refused("its size is not known; give --length"),
        (None, Some(size)) => match size.checked_sub(args.src_offset) {
            Some(rest) if rest > 0 => Ok(rest),
            _ => refused("has no bytes there; give less --src-offset"),
        },
    }
}

fn write(args: &TokenWriteArgs) -> Result<Option<Failure>> {
    let context = Context::new()?;
    let methods = methods::allowed(&context, &[])?;
    let (_, token, info) = import(&context, &args.file)?;
    check_method(&context, &args.file, &info, methods)?;
    let bytes = info.bytes;
    let rest = bytes.checked_sub(args.src_offset).filter(|rest| *rest > 0);
    let length = match (rest, args.length) {
        (Some(rest), None) => Some(rest),
        (Some(rest), Some(length)) => (length <= rest).then_some(length),
        (None, _) => None,
    };
    let Some(length) = length else {
        return Err(Failure::failed(
            libc::EINVAL,
            format!(
                "{}: stands for {bytes} bytes; give less --src-offset or --length",
                args.file.display()
            ),
        ));
    };
    let dst = target::unclaimed(&context, &args.dst)?;
    let request = Request {
        op: XCOPY_OP_TOKEN_WRITE,
        flags: if args.durable { XCOPY_REQ_DURABLE } else { 0 },
        src: token,
        dst: dst.device,
        src_offset: args.src_offset,
        dst_offset: args.dst_offset,
        length,
        methods,
        ..Request::default()
    };
    let written = Job::new(&context, token, &args.dst, &dst, Deed::Write)?.run(&request, length)?;
    if written.cache_unverified() {
        say(&format!(
            "warning: {}: pages in the cache may be stale; drop them before reading it",
            dst.name()
        ));
    }
    let done = format!("wrote {length} bytes to {}\n", plain(&dst.name()));
    show(&context, args.json, &args.dst, written, &done)
}

fn release(args: &TokenReleaseArgs) -> Result<Option<Failure>> {
    let context = Context::new()?;
    let methods = methods::allowed(&context, &[])?;
    let (stored, token, info) = import(&context, &args.file)?;
    check_method(&context, &args.file, &info, methods)?;
    let device = target::source(&context, &args.device)?;
    let request = releasing(token, device.device, methods);
    let job = Job::new(&context, token, &args.device, &device, Deed::Release)?;
    let mut released = job.run(&request, 0)?;
    if released.error.is_none()
        && let Err(failure) = stored.remove()
    {
        released.fail(&failure);
    }
    let done = format!(
        "the token is released; {} is removed\n",
        plain(&args.file.to_string_lossy())
    );
    show(&context, args.json, &args.device, released, &done)
}

fn releasing(token: u32, device: u32, methods: u32) -> Request {
    Request {
        op: XCOPY_OP_TOKEN_RELEASE,
        src: token,
        dst: device,
        methods,
        ..Request::default()
    }
}

fn info(args: &TokenInfoArgs) -> Result<()> {
    let context = Context::new()?;
    let (_, _, info) = import(&context, &args.file)?;
    if args.json {
        return print_json(&words::described(&context, &info));
    }
    let lifetime = match info.lifetime_s {
        0 => "not known".to_owned(),
        seconds => format!("{seconds} s without use"),
    };
    let age = match words::age(&info) {
        None => "not known".to_owned(),
        Some(seconds) => format!("{seconds} s"),
    };
    let method = words::method(&context, &info);
    print(&format!(
        "bytes: {}\norigin: {}, from byte {}\nmethod: {}\nplugin: {}\ntype: {:#x}\nshows: {}\n\
         age: {age}\nlifetime: {lifetime}\n",
        info.bytes,
        plain(&field(&info.origin)),
        info.origin_offset,
        plain(method.as_deref().unwrap_or("none that is served here")),
        plain(&field(&info.plugin)),
        info.token_type,
        words::shows(info.shows),
    ))
}

/// The token of a file, with its handle and what it is.
fn import(context: &Context, path: &Path) -> Result<(Stored, u32, xcopy_token_info)> {
    let stored = Stored::read(path)?;
    let token = context
        .token_import(&stored.secret)
        .map_err(|failure| target::prefixed(path, failure, "make a new one"))?;
    let info = context.token_info(token)?;
    Ok((stored, token, info))
}

/// Refuses a token whose method the user does not allow.
fn check_method(
    context: &Context,
    path: &Path,
    info: &xcopy_token_info,
    allowed: u32,
) -> Result<()> {
    let bit = 1u32.checked_shl(info.method.into()).unwrap_or(0);
    let Some(method) = words::method(context, info).filter(|_| allowed != 0 && allowed & bit == 0)
    else {
        return Ok(());
    };
    let variable = methods::VARIABLE;
    Err(Failure::failed(
        libc::ENOTSUP,
        format!(
            "{}: a token of {method}, which {variable} leaves out; add it there",
            path.display()
        ),
    ))
}

/// A request about a token that may be given.
struct Job<'a> {
    context: &'a Context,
    info: xcopy_token_info,
    path: &'a Path,
    device: &'a Target,
    deed: Deed,
}

impl<'a> Job<'a> {
    /// `device`, opened as `path`, is the end that is no token.
    fn new(
        context: &'a Context,
        token: u32,
        path: &'a Path,
        device: &'a Target,
        deed: Deed,
    ) -> Result<Self> {
        let info = context.token_info(token)?;
        Ok(Job {
            context,
            info,
            path,
            device,
            deed,
        })
    }

    /// Runs the request on a queue of its own.
    fn run(&self, request: &Request, length: u64) -> Result<Tally> {
        let started = Instant::now();
        let mut queue = self.context.queue(0, 0)?;
        let interrupts = Interrupts::watch()?;
        let bar = Bar::new("token", length, false);
        let ended = transfer::run(&mut queue, request, &interrupts, &bar, 0)
            .map_err(|failure| target::prefixed(self.path, failure, ""))?;
        drop(bar);
        let Ended::Finished(finished) = ended else {
            let text = format!(
                "{}: left; the device may still work on it",
                self.path.display()
            );
            return Err(Failure::failed(libc::ECANCELED, text));
        };
        let mut tally = Tally::default();
        tally.add(&finished);
        tally.elapsed = started.elapsed();
        if finished.completion.res != 0 {
            let message = self
                .deed
                .failed(self.context, self.device, &self.info, &finished);
            tally.fail_with(message, &finished.completion);
        }
        Ok(tally)
    }
}

/// Prints how it ended, `done` if well.
fn show(
    context: &Context,
    json: bool,
    path: &Path,
    tally: Tally,
    done: &str,
) -> Result<Option<Failure>> {
    let failure = tally.error.as_ref().map(|error| {
        Failure::failed(
            error.errno,
            format!("{}: {}", path.display(), error.message),
        )
    });
    let shown = if json {
        tally.json(context).and_then(|report| print_json(&report))
    } else if failure.is_none() {
        print(done)
    } else {
        Ok(())
    };
    Ok(failure.or(shown.err()))
}
