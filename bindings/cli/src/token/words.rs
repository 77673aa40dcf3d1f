//! What is said of tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use xcopy::abi::*;

use crate::library::{Context, Finished, field, reason};
use crate::report::{self, Ends};
use crate::target::Target;
use crate::{json, methods};

/// What is asked of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Have it made.
    Create,
    /// Write from it.
    Write,
    /// Have it forgotten.
    Release,
}

impl Deed {
    fn ends(self) -> Ends {
        let (reading, writing, place, unknown) = match self {
            Deed::Create => ("reading SRC: ", "", Some(("SRC", true)), ""),
            Deed::Write => (
                "reading the token: ",
                "writing DST: ",
                Some(("DST", false)),
                ", what DST holds after the bytes that are done is not known",
            ),
            Deed::Release => ("", "", None, ", whether the token still lives is not known"),
        };
        Ends {
            reading,
            writing,
            place,
            unknown,
        }
    }

    /// What to do after a failure.
    fn next(self, errno: i32, info: &xcopy_token_info) -> String {
        let next = match (errno, self) {
            (libc::ESTALE, Deed::Create) => "create the token again",
            (libc::ESTALE, Deed::Write) => return of_no_use(info),
            (libc::ESTALE, Deed::Release) => {
                "name the device that made it; if this is the one, the token is dead: remove \
                 the file"
            }
            (libc::EBUSY, _) => "the device is busy with other copies; try again",
            (libc::EBADE, Deed::Write) => "another host has reserved DST; have it released",
            (libc::EBADE, _) => "another host has reserved the device; have it released",
            (libc::EINVAL, Deed::Create) => {
                "check the offset and the length, whole blocks of SRC, and the lifetime; xcopy \
                 info SRC shows its blocks"
            }
            (libc::EINVAL, Deed::Write) => {
                "check the offsets and the length: whole blocks of DST; xcopy info DST shows them"
            }
            (libc::ENOSPC | libc::EDQUOT, Deed::Write) => "make room on DST and write again",
            (libc::EROFS, Deed::Write) => "name a DST that can be written",
            (libc::EACCES | libc::EPERM, _) => "run with the privilege that is named, or as root",
            (libc::ENODEV, _) => "connect it and try again",
            (libc::ENODATA, _) => "the medium has a defect there; see the kernel's log",
            (libc::ENOMEM, _) => "free memory and try again",
            (libc::ECANCELED, Deed::Write) => "write again to finish it",
            _ => "see the kernel's log, and try again",
        };
        next.to_owned()
    }

    /// What a failed request says, and what to do next. `device` is the end that is
    /// no token.
    pub fn failed(
        self,
        context: &Context,
        device: &Target,
        info: &xcopy_token_info,
        finished: &Finished,
    ) -> String {
        let Finished { completion, report } = finished;
        let errno = completion.res.saturating_neg();
        if errno == libc::ENOTSUP && completion.reason != XCOPY_REASON_RESERVED {
            let why = why_none(context, device, info, finished);
            return format!("no method can use tokens here: {why}");
        }
        let said = report::what(completion, report, &self.ends());
        let errno = match completion.reason {
            XCOPY_REASON_RESERVED => libc::EBADE,
            _ => errno,
        };
        let done = match self {
            Deed::Write => format!("; {} bytes are done", completion.bytes_done),
            _ => String::new(),
        };
        format!("{said}; {}{done}", self.next(errno, info))
    }
}

/// Why a device makes and takes no tokens, and what may help.
fn why_none(
    context: &Context,
    device: &Target,
    info: &xcopy_token_info,
    finished: &Finished,
) -> String {
    let Finished { completion, report } = finished;
    let left_out: Vec<String> = report
        .fallbacks
        .iter()
        .take(report.nfallbacks as usize)
        .filter(|fallback| fallback.reason == XCOPY_REASON_NOT_ALLOWED)
        .map(|fallback| context.method_name(fallback.method))
        .collect();
    if !left_out.is_empty() || completion.reason == XCOPY_REASON_NOT_ALLOWED {
        let names = match left_out.is_empty() {
            true => "every method that could".to_owned(),
            false => left_out.join(", "),
        };
        return format!("{} leaves out {names}; add it there", methods::VARIABLE);
    }
    if device.kind == XCOPY_KIND_FILE {
        return "it is a file, and tokens are made by the array behind a SCSI disk; name the \
                disk or a partition of it"
            .to_owned();
    }
    if completion.reason == XCOPY_REASON_NO_PLUGIN {
        return "no loaded plugin makes tokens for this kind of device; xcopy plugins lists what \
                is loaded"
            .to_owned();
    }
    if completion.reason == XCOPY_REASON_TOKEN {
        let maker = field(&info.plugin);
        let why = reason(completion.reason);
        return format!("{why}; name a device of plugin {maker}, which made the token");
    }
    let said = plugin_s_words(context, device, completion.reason).unwrap_or_default();
    let lists = "xcopy plugins lists what is loaded";
    format!("{}{said}; {lists}", reason(completion.reason))
}

/// What the plugin for tokens says of a device by itself, for the same reason.
fn plugin_s_words(context: &Context, device: &Target, why: u16) -> Option<String> {
    let verdicts = context.pair(device.device, device.device).ok()?;
    let odx = verdicts
        .iter()
        .find(|verdict| verdict.method == XCOPY_METHOD_ODX && verdict.reason == why)?;
    let words = field(&odx.text);
    (!words.is_empty() && words != reason(odx.reason)).then(|| format!("; {words}"))
}

/// What is to be done with a token that a device refuses.
fn of_no_use(info: &xcopy_token_info) -> String {
    match (age(info), u64::from(info.lifetime_s)) {
        (Some(age), lives) if lives != 0 && age > lives => {
            format!("it was made {age} s ago and lives {lives} s without use: make a new one")
        }
        _ => "make a new token".to_owned(),
    }
}

/// Seconds since the token was made, if the clocks agree.
pub fn age(info: &xcopy_token_info) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    (info.created_s != 0)
        .then(|| now.checked_sub(info.created_s))
        .flatten()
}

/// What a token shows of a source that changes, for people.
pub fn shows(what: u32) -> &'static str {
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

/// Name of the method that made a token, if it is served here.
pub fn method(context: &Context, info: &xcopy_token_info) -> Option<String> {
    (info.method != XCOPY_METHOD_NONE).then(|| context.method_name(info.method))
}

/// For scripts.
pub fn described(context: &Context, info: &xcopy_token_info) -> json::Token {
    json::Token {
        bytes: info.bytes,
        origin: field(&info.origin),
        origin_offset: info.origin_offset,
        method: method(context, info),
        plugin: field(&info.plugin),
        kind: info.token_type,
        shows: match info.shows {
            XCOPY_TOKEN_SHOWS_SOURCE => "source",
            XCOPY_TOKEN_SHOWS_PAST => "past",
            XCOPY_TOKEN_SHOWS_PAST_UNCHANGED => "past_unchanged",
            XCOPY_TOKEN_SHOWS_ZEROES => "zeroes",
            _ => "unknown",
        },
        created: (info.created_s != 0).then_some(info.created_s),
        lifetime: (info.lifetime_s != 0).then_some(info.lifetime_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::empty_token_info;

    fn made(created_s: u64, lifetime_s: u32) -> xcopy_token_info {
        xcopy_token_info {
            created_s,
            lifetime_s,
            ..empty_token_info()
        }
    }

    #[test]
    fn the_next_step_is_one_that_the_subcommand_has() {
        for deed in [Deed::Create, Deed::Write, Deed::Release] {
            for errno in 0..200 {
                let next = deed.next(errno, &made(0, 0));
                assert!(!next.is_empty() && !next.contains("--"), "{next}");
                assert!(deed == Deed::Write || !next.contains("DST"), "{next}");
            }
        }
    }

    #[test]
    fn a_token_that_outlived_itself_says_so() {
        let next = |info| Deed::Write.next(libc::ESTALE, &info);
        assert!(next(made(1, 30)).contains("lives 30 s without use"));
        assert_eq!(next(made(1, 0)), "make a new token");
        assert_eq!(next(made(u64::MAX, 30)), "make a new token");
    }
}
