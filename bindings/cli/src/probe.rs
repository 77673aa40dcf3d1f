//! `xcopy probe`: what each method can do for a pair.

use std::fmt::Write;

use xcopy::abi::{XCOPY_REASON_NONE, xcopy_limits, xcopy_method_info};

use crate::args::ProbeArgs;
use crate::failure::Result;
use crate::library::{self, Context, field};
use crate::text::plain;
use crate::{json, print, print_json, target};

/// Runs the subcommand.
pub fn run(args: &ProbeArgs) -> Result<()> {
    let context = Context::new()?;
    let src = target::source(&context, &args.src)?;
    let dst = target::existing_destination(&context, &args.dst)?;
    let verdicts = context.pair(src.device, dst.device)?;
    let in_words = |info: &xcopy_method_info| {
        words(info).map(|words| dst.in_user_s_words(&src.in_user_s_words(&words)))
    };
    if args.json {
        let verdict = |info| verdict(info, in_words(info));
        return print_json(&json::Probe {
            methods: verdicts.iter().map(verdict).collect(),
        });
    }
    print(&table(&verdicts, &in_words))
}

fn verdict(info: &xcopy_method_info, text: Option<String>) -> json::Verdict {
    let limits = &info.limits;
    json::Verdict {
        name: field(&info.name),
        plugin: field(&info.plugin),
        usable: info.usable != 0,
        reason: (info.reason != XCOPY_REASON_NONE).then(|| library::reason(info.reason)),
        text,
        limits: json::Limits {
            preferred_bytes: limits.preferred_bytes,
            max_bytes: limits.max_bytes,
            max_range_bytes: limits.max_range_bytes,
            src_granularity: limits.src_granularity,
            dst_granularity: limits.dst_granularity,
            length_granularity: limits.length_granularity,
            max_ranges: limits.max_ranges,
            max_concurrent: limits.max_concurrent,
            contiguous_dst: limits.contiguous_dst != 0,
        },
    }
}

/// What a plugin said besides the reason.
fn words(info: &xcopy_method_info) -> Option<String> {
    let words = field(&info.text);
    (!words.is_empty() && words != library::reason(info.reason)).then_some(words)
}

fn table(
    verdicts: &[xcopy_method_info],
    words: &dyn Fn(&xcopy_method_info) -> Option<String>,
) -> String {
    let mut text = format!(
        "{:<16} {:<16} {:<7} {:<9}\n",
        "METHOD", "PLUGIN", "USABLE", "OFFLOADS"
    );
    for info in verdicts {
        let usable = if info.usable != 0 { "yes" } else { "no" };
        let offloads = if info.offloaded != 0 { "yes" } else { "no" };
        let line = format!(
            "{:<16} {:<16} {usable:<7} {offloads:<9}",
            plain(&field(&info.name)),
            plain(&field(&info.plugin))
        );
        text.push_str(line.trim_end());
        text.push('\n');
        if info.reason != XCOPY_REASON_NONE {
            let reason = library::reason(info.reason);
            let _ = match words(info) {
                None => writeln!(text, "    {reason}"),
                Some(words) => writeln!(text, "    {reason}; {}", plain(&words)),
            };
        }
        if info.usable != 0 {
            let _ = writeln!(text, "    {}", limits_text(&info.limits));
        }
    }
    if verdicts.is_empty() {
        text.push_str("no method is known for this pair\n");
    }
    text
}

fn limits_text(limits: &xcopy_limits) -> String {
    let mut parts = Vec::new();
    let mut stated = |value: u64, what: &str| {
        if value > 0 {
            parts.push(format!("{what} {value}"));
        }
    };
    stated(limits.preferred_bytes, "preferred bytes");
    stated(limits.max_bytes, "at most");
    stated(limits.max_range_bytes, "per range");
    stated(limits.max_ranges.into(), "ranges");
    stated(limits.max_concurrent.into(), "at once");
    stated(limits.src_granularity.into(), "source aligned to");
    stated(limits.dst_granularity.into(), "destination aligned to");
    stated(limits.length_granularity.into(), "length in steps of");
    if limits.contiguous_dst != 0 {
        parts.push("one contiguous destination".to_owned());
    }
    if parts.is_empty() {
        "no limits stated".to_owned()
    } else {
        parts.join(", ")
    }
}
