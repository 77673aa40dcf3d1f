//! What an answer, a verdict, a device's properties may say. Pure.

use xcopy::abi::*;

use super::fault::Fault;

/// A fault and what was seen.
pub type Complaint = (Fault, String);

/// What was asked, as far as an answer is judged by it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// XCOPY_CMD_.
    pub op: u16,
    /// Bytes of the command.
    pub bytes: u64,
    /// TOKEN_CREATE: room.
    pub token_size: u32,
}

/// An operation's name.
pub fn op_name(op: u16) -> &'static str {
    match op {
        XCOPY_CMD_COPY => "COPY",
        XCOPY_CMD_ZERO => "ZERO",
        XCOPY_CMD_FLUSH => "FLUSH",
        XCOPY_CMD_READ => "READ",
        XCOPY_CMD_WRITE => "WRITE",
        XCOPY_CMD_TOKEN_CREATE => "TOKEN_CREATE",
        XCOPY_CMD_TOKEN_WRITE => "TOKEN_WRITE",
        XCOPY_CMD_TOKEN_RELEASE => "TOKEN_RELEASE",
        XCOPY_CMD_OPEN => "OPEN",
        XCOPY_CMD_CLOSE => "CLOSE",
        XCOPY_CMD_PROBE => "PROBE",
        _ => "unknown",
    }
}

/// What is wrong with the end of a command.
pub fn answer(asked: &Asked, result: &xcopy_result) -> Vec<Complaint> {
    let mut wrong = Vec::new();
    let op = op_name(asked.op);
    let mut say = |fault, text: String| wrong.push((fault, format!("{op}: {text}")));
    let moves = !matches!(
        asked.op,
        XCOPY_CMD_FLUSH
            | XCOPY_CMD_TOKEN_RELEASE
            | XCOPY_CMD_OPEN
            | XCOPY_CMD_CLOSE
            | XCOPY_CMD_PROBE
    );
    if result.status > 0 || result.status < -4095 {
        say(Fault::BadStatus, format!("status {}", result.status));
    } else if result.status == -libc::EFAULT {
        let text = "-EFAULT says that the plugin stopped a panic of its own";
        say(Fault::Panics, text.into());
    }
    if result.bytes > asked.bytes {
        let text = format!("{} bytes reported of {}", result.bytes, asked.bytes);
        say(Fault::OverReports, text);
    } else if result.status == 0 && moves && result.bytes < asked.bytes {
        let text = format!("success with {} bytes of {}", result.bytes, asked.bytes);
        say(Fault::ShortSuccess, text);
    }
    let known = XCOPY_RESULT_ERR_ON_READ
        | XCOPY_RESULT_ERR_ON_WRITE
        | XCOPY_RESULT_UNTOUCHED
        | XCOPY_RESULT_THROUGH_HOST
        | XCOPY_RESULT_UNSETTLED
        | XCOPY_RESULT_UNSENT;
    let mut bad = |text: String| say(Fault::BadAnswer, text);
    if result.action > XCOPY_ACTION_FATAL {
        bad(format!("action {} is no XCOPY_ACTION_", result.action));
    }
    if result.reason >= XCOPY_REASON_COUNT {
        bad(format!("reason {} is no XCOPY_REASON_", result.reason));
    }
    if result.flags & !known != 0 {
        bad(format!("flags {:#x} are no XCOPY_RESULT_", result.flags));
    }
    if result.sense_len as usize > XCOPY_SENSE_MAX {
        bad(format!(
            "{} bytes of sense data, at most 252",
            result.sense_len
        ));
    } else if result.sense_len > 0 && result.sense.is_null() {
        bad("sense_len without sense".into());
    }
    if result.detail >> XCOPY_DETAIL_DOMAIN_SHIFT > XCOPY_DETAIL_VENDOR {
        bad(format!("detail {:#x} has no known domain", result.detail));
    }
    if result.status != 0 && result.flags & XCOPY_RESULT_UNTOUCHED != 0 && result.bytes > 0 {
        bad("UNTOUCHED, but bytes are known to be copied".into());
    }
    if asked.op == XCOPY_CMD_TOKEN_CREATE
        && result.status == 0
        && !(1..=asked.token_size).contains(&result.token_size)
    {
        let text = format!("{} bytes in {}", result.token_size, asked.token_size);
        say(Fault::BadToken, text);
    }
    wrong
}

/// What is wrong with the properties of a device that was opened.
pub fn properties(props: &xcopy_device_props, native: bool) -> Vec<Complaint> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push((Fault::BadProps, text));
    let block = props.block_size;
    if !native {
        return wrong;
    }
    if !block.is_power_of_two() || block > 1 << 20 {
        say(format!("block_size is {block}"));
    } else {
        for (value, what) in [
            (props.size_bytes, "size_bytes"),
            (props.max_io_bytes, "max_io_bytes"),
            (props.preferred_io_bytes, "preferred_io_bytes"),
        ] {
            if !value.is_multiple_of(u64::from(block)) {
                say(format!(
                    "{what} {value} is no multiple of block_size {block}"
                ));
            }
        }
    }
    if props.size_bytes == 0 {
        say("size_bytes is 0".into());
    }
    if props.read_only > 1 {
        say(format!("read_only is {}", props.read_only));
    }
    wrong
}

/// What is wrong with a verdict. `ranges` is the table's max_ranges.
pub fn verdict(method: &str, verdict: &xcopy_verdict, ranges: u32) -> Vec<Complaint> {
    let mut wrong = Vec::new();
    let mut say = |text: String| wrong.push((Fault::BadVerdict, format!("{method}: {text}")));
    let known = XCOPY_VERDICT_BY_NAME | XCOPY_VERDICT_THROUGH_HOST | XCOPY_VERDICT_FILLS_HOLES;
    if verdict.usable > 1 {
        say(format!("usable is {}", verdict.usable));
    }
    if verdict.reason >= XCOPY_REASON_COUNT {
        say(format!("reason {} is no XCOPY_REASON_", verdict.reason));
    }
    if verdict.flags & !known != 0 {
        say(format!("flags {:#x} are no XCOPY_VERDICT_", verdict.flags));
    }
    if !verdict.text.contains(&0) {
        say("text does not end".into());
    }
    if verdict.usable == 0 {
        if verdict.reason == 0 {
            say("not usable, without a reason".into());
        }
        return wrong;
    }
    let limits = &verdict.limits;
    let text = format!("max_ranges {} of a table with {ranges}", limits.max_ranges);
    if limits.max_ranges > ranges {
        say(text);
    }
    let grain = u64::from(limits.length_granularity.max(1));
    for (value, what) in [
        (limits.max_bytes, "max_bytes"),
        (limits.max_range_bytes, "max_range_bytes"),
    ] {
        if value != 0 && value < grain {
            say(format!(
                "{what} {value} is less than length_granularity {grain}"
            ));
        }
    }
    if limits.max_bytes != 0 && limits.preferred_bytes > limits.max_bytes {
        say("preferred_bytes is above max_bytes".into());
    }
    if limits.contiguous_dst > 1 {
        say(format!("contiguous_dst is {}", limits.contiguous_dst));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(wrong: &[Complaint]) -> Vec<Fault> {
        wrong.iter().map(|complaint| complaint.0).collect()
    }

    #[test]
    fn honest_answers_pass() {
        let asked = Asked {
            op: XCOPY_CMD_COPY,
            bytes: 4096,
            token_size: 0,
        };
        let good = xcopy_result {
            bytes: 4096,
            ..Default::default()
        };
        assert!(answer(&asked, &good).is_empty());
        let failed = xcopy_result {
            status: -libc::EIO,
            bytes: 512,
            reason: XCOPY_REASON_FAILED,
            flags: XCOPY_RESULT_ERR_ON_WRITE,
            ..good
        };
        assert!(answer(&asked, &failed).is_empty());
        let release = Asked {
            op: XCOPY_CMD_TOKEN_RELEASE,
            bytes: 0,
            token_size: 16,
        };
        assert!(answer(&release, &xcopy_result::default()).is_empty());
    }

    #[test]
    fn each_lie_has_its_name() {
        let asked = Asked {
            op: XCOPY_CMD_COPY,
            bytes: 4096,
            token_size: 0,
        };
        let good = xcopy_result {
            bytes: 4096,
            ..Default::default()
        };
        let cases: [(xcopy_result, &[Fault]); 9] = [
            (
                xcopy_result {
                    bytes: 4097,
                    ..good
                },
                &[Fault::OverReports],
            ),
            (xcopy_result { bytes: 0, ..good }, &[Fault::ShortSuccess]),
            (xcopy_result { status: 5, ..good }, &[Fault::BadStatus]),
            (
                xcopy_result {
                    status: -4096,
                    ..good
                },
                &[Fault::BadStatus],
            ),
            (
                xcopy_result {
                    status: -libc::EFAULT,
                    ..good
                },
                &[Fault::Panics],
            ),
            (xcopy_result { action: 9, ..good }, &[Fault::BadAnswer]),
            (xcopy_result { reason: 99, ..good }, &[Fault::BadAnswer]),
            (
                xcopy_result {
                    sense_len: 8,
                    ..good
                },
                &[Fault::BadAnswer],
            ),
            (
                xcopy_result {
                    detail: u64::MAX,
                    ..good
                },
                &[Fault::BadAnswer],
            ),
        ];
        for (result, expected) in cases {
            assert_eq!(faults(&answer(&asked, &result)), expected);
        }
        let token = Asked {
            op: XCOPY_CMD_TOKEN_CREATE,
            bytes: 4096,
            token_size: 512,
        };
        for size in [0, 513] {
            let result = xcopy_result {
                token_size: size,
                ..good
            };
            assert_eq!(faults(&answer(&token, &result)), [Fault::BadToken]);
        }
    }

    #[test]
    fn verdicts_and_properties() {
        let mut usable = xcopy_verdict {
            usable: 1,
            ..Default::default()
        };
        assert!(verdict("m", &usable, 1).is_empty());
        usable.limits.max_ranges = 2;
        assert_eq!(faults(&verdict("m", &usable, 1)), [Fault::BadVerdict]);
        let silent = xcopy_verdict::default();
        assert_eq!(faults(&verdict("m", &silent, 1)), [Fault::BadVerdict]);

        let mut props = xcopy_device_props {
            block_size: 512,
            size_bytes: 1 << 20,
            ..Default::default()
        };
        assert!(properties(&props, true).is_empty());
        props.size_bytes += 1;
        assert_eq!(faults(&properties(&props, true)), [Fault::BadProps]);
        props.block_size = 0;
        assert!(properties(&props, false).is_empty());
        assert_eq!(faults(&properties(&props, true)), [Fault::BadProps]);
    }
}
