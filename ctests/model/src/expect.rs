//! What a request must come to: by the contract's words, not by the library's code.

use crate::api::{Ended, Job};
use crate::object::Object;
use xcopy::abi::*;

/// Ranges at most that are checked at submit.
const SMALL_LIST: usize = 16;

/// What the contract says of a request before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is done.
    Done,
    /// Refused at submit with this errno.
    Refused(i32),
    /// Accepted, and completed with this errno and nothing done.
    Undone(i32),
    /// -ENOTSUP after some part, or none.
    Unsupported,
    /// One of `Done` and `Unsupported`: ends of files may be offloaded out of line.
    Either,
}

impl Verdict {
    /// Which of two it was.
    pub fn decide(self, res: i32) -> Verdict {
        match (self, res) {
            (Verdict::Either, 0) => Verdict::Done,
            (Verdict::Either, _) => Verdict::Unsupported,
            (other, _) => other,
        }
    }
}

/// Judges the ranges of a copy; `same` if both ends are one object.
pub fn ranges_overlap(ranges: &[xcopy_range], same: bool) -> bool {
    let meets = |a: u64, b: u64, a_len: u64, b_len: u64| a < b + b_len && b < a + a_len;
    ranges.iter().enumerate().any(|(i, a)| {
        ranges.iter().enumerate().any(|(j, b)| {
            (i != j && meets(a.dst_offset, b.dst_offset, a.length, b.length))
                || (same && meets(a.src_offset, b.dst_offset, a.length, b.length))
        })
    })
}

/// What the contract says of a list that overlaps.
pub fn refusal(ranges: usize) -> Verdict {
    match ranges <= SMALL_LIST {
        true => Verdict::Refused(libc::EINVAL),
        false => Verdict::Undone(libc::EINVAL),
    }
}

/// Sum of the lengths.
pub fn total(job: &Job) -> u64 {
    job.ranges.iter().map(|range| range.length).sum()
}

/// Checks a completion against its report and the verdict; not the bytes.
pub fn check(job: &Job, verdict: Verdict, ended: &Result<Ended, i32>) -> Result<(), String> {
    let ended = match (verdict, ended) {
        (Verdict::Refused(errno), Err(found)) if errno == *found => return Ok(()),
        (Verdict::Refused(errno), _) => return Err(format!("not refused with {errno}")),
        (_, Err(errno)) => {
            return Err(format!(
                "refused with {errno}: {}",
                crate::api::last_error()
            ));
        }
        (_, Ok(ended)) => ended,
    };
    let (completion, report) = (&ended.completion, &ended.report);
    let verdict = verdict.decide(completion.res);
    let total = total(job);
    let expected = match verdict {
        Verdict::Done => 0,
        Verdict::Undone(errno) => -errno,
        _ => -libc::ENOTSUP,
    };
    let told = |what: &str| Err(format!("{what}: {completion:?}"));
    if completion.res != expected {
        return told(&format!("res is not {expected}"));
    }
    if job.op == XCOPY_OP_FLUSH {
        return Ok(());
    }
    let shares = &report.shares[..report.nshares as usize];
    let copied: u64 = shares.iter().map(|share| share.bytes).sum();
    let offloaded: u64 = shares
        .iter()
        .filter(|share| share.offloaded != 0)
        .map(|share| share.bytes)
        .sum();
    if copied != completion.bytes_copied {
        return told(&format!("shares sum to {copied}"));
    }
    // A method of which one command passed through the host is not offloaded.
    if offloaded > completion.bytes_offloaded {
        return told(&format!("shares claim {offloaded} offloaded bytes"));
    }
    for share in shares {
        let zero = share.method == XCOPY_METHOD_ZERO && job.flags & XCOPY_REQ_KEEP_HOLES != 0;
        let allowed = job.methods == 0 || job.methods >> share.method & 1 == 1 || zero;
        if !allowed && job.op == XCOPY_OP_COPY {
            return told(&format!("method {} was not allowed", share.method));
        }
    }
    let by_name = [XCOPY_METHOD_SENDFILE];
    if job.methods == 0 && shares.iter().any(|share| by_name.contains(&share.method)) {
        return told("a method that is used by name only");
    }
    if job.flags & XCOPY_REQ_NO_FALLBACK != 0
        && completion.bytes_offloaded != completion.bytes_copied
    {
        return told("bytes passed through the host");
    }
    let says = completion.flags & (XCOPY_CPL_OFFLOADED | XCOPY_CPL_EMULATED);
    let must = match (completion.bytes_copied, completion.bytes_offloaded) {
        (0, _) => 0,
        (all, offloaded) if all == offloaded => XCOPY_CPL_OFFLOADED,
        _ => XCOPY_CPL_EMULATED,
    };
    if says != must {
        return told("OFFLOADED and EMULATED do not fit the bytes");
    }
    match verdict {
        Verdict::Done => {
            if completion.bytes_done != total || completion.bytes_copied != total {
                return told(&format!("not all {total} bytes"));
            }
            if report.failed.length != 0 || completion.flags & XCOPY_CPL_INDETERMINATE != 0 {
                return told("a success with a failed range or unknown bytes");
            }
        }
        Verdict::Undone(_) => {
            if completion.bytes_done != 0 || completion.bytes_copied != 0 {
                return told("bytes of a refused request");
            }
            if report.untouched_from != 0 || completion.reason != XCOPY_REASON_OVERLAP {
                return told("an overlap must leave everything untouched");
            }
        }
        _ => {
            if completion.bytes_done > completion.bytes_copied
                || completion.bytes_done > report.untouched_from
            {
                return told(&format!("untouched from {}", report.untouched_from));
            }
        }
    }
    Ok(())
}

/// Brings the model of `dst` to where a request that was not wholly done left
/// it: what is known must be so, what is not known is looked at.
pub fn settle(job: &Job, ended: &Ended, source: &[u8], dst: &mut Object) -> Result<(), String> {
    let (done, untouched) = (ended.completion.bytes_done, ended.report.untouched_from);
    let most = dst.size().max(crate::object::CAP);
    let found = dst.read(most).ok_or("the destination cannot be read")?;
    let mut position = 0;
    for range in &job.ranges {
        for at in 0..range.length {
            let (new, place) = (
                source[(range.src_offset + at) as usize],
                (range.dst_offset + at) as usize,
            );
            let old = dst.model.get(place).copied();
            let is = found.get(place).copied();
            let right = match position {
                p if p < done => is == Some(new),
                p if p >= untouched => is.unwrap_or(0) == old.unwrap_or(0),
                _ => is == Some(new) || is == old || is == Some(0) || old.is_none(),
            };
            if !right {
                return Err(format!(
                    "byte {position} of a request with {done} done and the rest untouched from \
                     {untouched} is neither old nor new"
                ));
            }
            position += 1;
        }
    }
    // Outside the ranges nothing may have changed; `verify` looks at that.
    for range in &job.ranges {
        let (from, to) = (
            range.dst_offset as usize,
            (range.dst_offset + range.length) as usize,
        );
        let to = to.min(found.len());
        if from < to {
            let bytes = found[from..to].to_vec();
            dst.put(from as u64, &bytes);
        }
    }
    dst.model.resize(found.len().max(dst.model.len()), 0);
    Ok(())
}
