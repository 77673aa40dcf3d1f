//! `xcopy token`: a token file is a bearer secret; nothing here ever prints it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use xcopy::abi::*;
use zeroize::Zeroizing;

use crate::args::{TokenCommand, TokenCreateArgs, TokenInfoArgs, TokenWriteArgs};
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::library::{Context, Request, field};
use crate::progress::Bar;
use crate::report;
use crate::target::{self, Target};
use crate::transfer::{self, Ended};
use crate::{print, say};

/// Larger files are no tokens: a terabyte in tokens of 512 bytes for each 8 MiB.
const MAX_FILE: u64 = 64 << 20;

/// Runs the subcommand.
pub fn run(command: &TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::Write(args) => write(args),
        TokenCommand::Info(args) => info(args),
    }
}

fn create(args: &TokenCreateArgs) -> Result<()> {
    let context = Context::new()?;
    let src = target::source(&context, &args.src)?;
    let rest = src.size.and_then(|size| size.checked_sub(args.src_offset));
    let length = args
        .length
        .or(rest)
        .filter(|length| *length > 0)
        .ok_or_else(|| {
            Failure::failed(
                libc::EINVAL,
                format!(
                    "{}: has no bytes there; change --src-offset or --length",
                    src.name()
                ),
            )
        })?;
    // Made first: a token that cannot be kept would only use the array's memory.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.output)
        .map_err(|error| cannot(&args.output, &error, "name a file that does not exist"))?;
    let made = fill(&context, &mut file, &src, length, args);
    if made.is_err() {
        let _ = fs::remove_file(&args.output);
    }
    made?;
    print(&format!(
        "a token for {length} bytes of {} is in {}\n",
        src.name(),
        args.output.display()
    ))
}

fn fill(
    context: &Context,
    file: &mut File,
    src: &Target,
    length: u64,
    args: &TokenCreateArgs,
) -> Result<()> {
    let token = context.token_create()?;
    let request = Request {
        op: XCOPY_OP_TOKEN_CREATE,
        src: src.device,
        dst: token,
        src_offset: args.src_offset,
        length,
        token_lifetime_s: args.lifetime.unwrap_or(0),
        ..Request::default()
    };
    perform(context, &request, &args.src, length, src)?;
    let secret = context.token_export(token)?;
    file.write_all(&secret)
        .and_then(|()| file.sync_all())
        .map_err(|error| cannot(&args.output, &error, "make room and create the token again"))
}

fn write(args: &TokenWriteArgs) -> Result<()> {
    let context = Context::new()?;
    let token = context.token_import(&read(&args.file)?)?;
    let info = context.token_info(token)?;
    let bytes = info.bytes;
    let length = args.length.unwrap_or(bytes);
    if length > bytes {
        return Err(Failure::failed(
            libc::EINVAL,
            format!(
                "{}: stands for {bytes} bytes; give less --length",
                args.file.display()
            ),
        ));
    }
    let dst = target::unclaimed(&context, &args.dst)?;
    let request = Request {
        op: XCOPY_OP_TOKEN_WRITE,
        src: token,
        dst: dst.device,
        dst_offset: args.dst_offset,
        length,
        ..Request::default()
    };
    perform(&context, &request, &args.dst, length, &dst).map_err(|failure| match failure {
        Failure::Failed { errno, message } if errno == libc::ESTALE => {
            Failure::failed(errno, message + &refused(&info))
        }
        failure => failure,
    })?;
    print(&format!("wrote {length} bytes to {}\n", dst.name()))
}

fn info(args: &TokenInfoArgs) -> Result<()> {
    let context = Context::new()?;
    let token = context.token_import(&read(&args.file)?)?;
    let info = context.token_info(token)?;
    let lifetime = match info.lifetime_s {
        0 => "not known".to_owned(),
        seconds => format!("{seconds} s without use"),
    };
    let age = match age(&info) {
        None => "not known".to_owned(),
        Some(seconds) => format!("{seconds} s"),
    };
    print(&format!(
        "bytes: {}\norigin: {}, from byte {}\nmethod: {}\nplugin: {}\ntype: {:#x}\nshows: {}\n\
         age: {age}\nlifetime: {lifetime}\n",
        info.bytes,
        field(&info.origin),
        info.origin_offset,
        context.method_name(info.method),
        field(&info.plugin),
        info.token_type,
        shows(info.shows),
    ))
}

/// Seconds since the token was made, if the clocks agree.
fn age(info: &xcopy_token_info) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    (info.created_s != 0)
        .then(|| now.checked_sub(info.created_s))
        .flatten()
}

fn shows(what: u32) -> &'static str {
    match what {
        XCOPY_TOKEN_SHOWS_SOURCE => "the source as it is when the token is written",
        XCOPY_TOKEN_SHOWS_PAST => "the source as it was when the token was made",
        XCOPY_TOKEN_SHOWS_PAST_UNCHANGED => {
            "the source as it was when the token was made; of no use once it changes"
        }
        XCOPY_TOKEN_SHOWS_ZEROES => "zeroes",
        _ => "not known: leave the source alone until the token was written",
    }
}

/// What an operator may conclude from an array that refuses a token.
fn refused(info: &xcopy_token_info) -> String {
    match (age(info), u64::from(info.lifetime_s)) {
        (Some(age), lives) if lives != 0 && age > lives => {
            format!("; it was made {age} s ago and lives {lives} s without use: make a new one")
        }
        _ => "; make a new one".to_owned(),
    }
}

/// Runs one request on a queue of its own; anything but success is a failure.
fn perform(
    context: &Context,
    request: &Request,
    path: &Path,
    length: u64,
    device: &Target,
) -> Result<()> {
    let mut queue = context.queue(0, 0)?;
    let interrupts = Interrupts::watch()?;
    let bar = Bar::new("token", length, false);
    let ended = transfer::run(&mut queue, request, &interrupts, &bar, 0)
        .map_err(|failure| target::prefixed(path, failure, ""))?;
    drop(bar);
    let finished = match ended {
        Ended::Finished(finished) => finished,
        Ended::Abandoned(_) => {
            return Err(Failure::failed(
                libc::ECANCELED,
                format!("{}: left; the device may still work on it", path.display()),
            ));
        }
    };
    match finished.completion.res {
        0 => Ok(()),
        res if res == -libc::ENOTSUP => Err(Failure::failed(
            libc::ENOTSUP,
            format!(
                "{}: no method can use tokens here: {}",
                path.display(),
                why_none(device.kind, finished.completion.reason)
            ),
        )),
        res => Err(Failure::failed(
            res.saturating_neg(),
            format!(
                "{}: {}; {} bytes are done",
                path.display(),
                report::explain(&finished.completion, &finished.report, "see xcopy plugins"),
                finished.completion.bytes_done
            ),
        )),
    }
}

fn why_none(kind: u32, reason: u16) -> String {
    match (kind, reason) {
        (XCOPY_KIND_FILE, _) => {
            "it is a file, and tokens are made by the array behind a SCSI disk; \
                                 name the disk or a partition of it"
                .to_owned()
        }
        (_, XCOPY_REASON_NO_PLUGIN) => "no loaded plugin makes tokens for this kind of device; \
                                        xcopy plugins lists what is loaded"
            .to_owned(),
        (_, reason) => format!(
            "{}; xcopy plugins lists what is loaded",
            crate::library::reason(reason)
        ),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let next = "name a file that xcopy token create has made";
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| cannot(path, &error, next))?;
    let metadata = file
        .metadata()
        .map_err(|error| cannot(path, &error, next))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE || metadata.len() == 0 {
        return Err(Failure::failed(
            libc::EINVAL,
            format!("{}: no token; {next}", path.display()),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        say(&format!(
            "warning: {}: others may read this token and with it the data; chmod 600 it",
            path.display()
        ));
    }
    // All of the room at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(metadata.len())
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(path, &error, next))?;
    Ok(bytes)
}

fn cannot(path: &Path, error: &std::io::Error, next: &str) -> Failure {
    Failure::io(path.display(), error, next)
}
