//! Whether a completion, its report and the bytes agree.

use xcopy::abi::*;

/// What a copy was asked to do, and what was there before.
pub struct Expected<'a> {
    /// Content of the source.
    pub src: &'a [u8],
    /// Content of the destination before.
    pub before: &'a [u8],
    /// Ranges in absolute bytes.
    pub ranges: &'a [xcopy_range],
    /// One command more than the methods had: the flush of a durable copy.
    pub flushes: bool,
}

/// An ext and its report, to be kept in place until the completion.
pub struct Extra {
    /// The ext.
    pub ext: xcopy_ext,
    /// The report.
    pub report: Box<xcopy_report>,
    ranges: Vec<xcopy_range>,
}

impl Extra {
    /// With these ranges, or none for the request's own.
    pub fn new(ranges: Vec<xcopy_range>) -> Box<Extra> {
        // SAFETY: plain data, for which zeroes are valid.
        let mut report: Box<xcopy_report> = Box::new(unsafe { std::mem::zeroed() });
        report.size = size_of::<xcopy_report>() as u32;
        let mut extra = Box::new(Extra {
            ext: xcopy_ext {
                size: size_of::<xcopy_ext>() as u32,
                reserved: 0,
                ranges: std::ptr::null(),
                nranges: ranges.len() as u64,
                report: std::ptr::null_mut(),
                token_lifetime_s: 0,
                token_type: 0,
            },
            report,
            ranges,
        });
        if !extra.ranges.is_empty() {
            extra.ext.ranges = extra.ranges.as_ptr();
        }
        extra.ext.report = &raw mut *extra.report;
        extra
    }
}

impl Expected<'_> {
    fn total(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }

    /// Checks everything that a completion claims against the destination as it
    /// is now; a text says what is wrong.
    pub fn check(
        &self,
        done: &xcopy_completion,
        report: Option<&xcopy_report>,
        now: &[u8],
    ) -> Result<(), String> {
        let total = self.total();
        let fail = |text: String| Err(format!("{text}\n{done:?}"));
        if done.res > 0 {
            return fail("a positive result".into());
        }
        if done.res == 0 && (done.bytes_done, done.bytes_copied) != (total, total) {
            return fail(format!("success without all {total} bytes"));
        }
        if done.bytes_done > done.bytes_copied || done.bytes_copied > total {
            return fail(format!("sums are out of order, total {total}"));
        }
        if done.bytes_offloaded > done.bytes_copied {
            return fail("more offloaded than copied".into());
        }
        let mut untouched = total;
        if let Some(report) = report {
            untouched = report.untouched_from;
            self.check_report(done, report)?;
        }
        let mut model = self.before.to_vec();
        let mut free = vec![false; if done.res == 0 { 0 } else { model.len() }];
        let mut position = 0;
        for range in self.ranges {
            let known = done.bytes_done.saturating_sub(position).min(range.length) as usize;
            let touched = untouched.saturating_sub(position).min(range.length) as usize;
            let (src, dst) = (range.src_offset as usize, range.dst_offset as usize);
            model[dst..dst + known].copy_from_slice(&self.src[src..src + known]);
            if touched > known {
                free[dst + known..dst + touched].fill(true);
            }
            position += range.length;
        }
        if free.is_empty() {
            if model != now {
                return fail(format!(
                    "content differs at {:?}",
                    first_difference(&model, now)
                ));
            }
            return Ok(());
        }
        let at = model
            .iter()
            .zip(now)
            .zip(&free)
            .position(|((a, b), free)| a != b && !free);
        match at {
            Some(at) => fail(format!(
                "byte {at} is neither copied nor left alone: untouched from {untouched}, ranges \
                 {:?}, as before: {}",
                &self.ranges[..self.ranges.len().min(4)],
                self.before[at] == now[at]
            )),
            None => Ok(()),
        }
    }

    fn check_report(&self, done: &xcopy_completion, report: &xcopy_report) -> Result<(), String> {
        let shares = &report.shares[..report.nshares as usize];
        let bytes: u64 = shares.iter().map(|share| share.bytes).sum();
        let offloaded: u64 = shares
            .iter()
            .filter(|share| share.offloaded != 0)
            .map(|share| share.bytes)
            .sum();
        let commands: u32 = shares.iter().map(|share| share.commands).sum();
        let wrong = |text: &str| Err(format!("{text}: {shares:?}\n{done:?}"));
        if bytes != done.bytes_copied {
            return wrong("shares do not sum to bytes_copied");
        }
        if offloaded != done.bytes_offloaded {
            return wrong("shares do not sum to bytes_offloaded");
        }
        let flushes = u32::from(self.flushes);
        if done.flags & XCOPY_CPL_UNSETTLED == 0
            && !(commands..=commands + flushes).contains(&done.commands)
        {
            return wrong("shares do not sum to commands");
        }
        let mut methods: Vec<_> = shares.iter().map(|share| share.method).collect();
        methods.sort_unstable();
        methods.dedup();
        if methods.len() != shares.len() {
            return wrong("a method has two shares");
        }
        if report.untouched_from < done.bytes_done {
            return wrong("bytes that are done count as untouched");
        }
        Ok(())
    }
}

/// Where two contents begin to differ.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a.len() != b.len() {
        return Some(a.len().min(b.len()));
    }
    a.iter().zip(b).position(|(a, b)| a != b)
}
