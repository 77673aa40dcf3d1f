//! `xcopy info`: what a device is.

use std::fmt::Write;

use xcopy::abi::*;

use crate::args::InfoArgs;
use crate::failure::Result;
use crate::library::{Context, field};
use crate::text::plain;
use crate::{json, print, print_json, target};

/// Runs the subcommand.
pub fn run(args: &InfoArgs) -> Result<()> {
    let context = Context::new()?;
    let device = target::source(&context, &args.device)?;
    let found = context.device_description(device.device)?;
    let found = findings(&device.in_user_s_words(&found));
    let info = describe(&context.device_info(device.device)?, device.name(), &found);
    if args.json {
        return print_json(&info);
    }
    let mut text = format!("name: {}\nkind: {}\n", plain(&info.name), info.kind);
    let _ = match info.size {
        Some(size) => writeln!(text, "size: {size} bytes"),
        None => writeln!(text, "size: not known before its first use"),
    };
    let _ = writeln!(text, "block size: {}", info.block_size);
    let _ = writeln!(text, "physical block size: {}", info.physical_block_size);
    let _ = writeln!(text, "device: {}", info.device);
    if let Some(disk) = &info.disk {
        let _ = writeln!(text, "disk: {disk}, from byte {}", info.disk_offset);
    }
    let mut plugin = "";
    for (by, key, value) in &found {
        if plugin != by {
            let _ = writeln!(text, "by plugin {by}:");
            plugin = by;
        }
        let _ = writeln!(text, "  {key}: {value}");
    }
    print(&text)
}

/// Plugin, key and value of each line that a plugin has to say.
fn findings(text: &str) -> Vec<(String, String, String)> {
    text.lines()
        .filter_map(|line| {
            let (plugin, rest) = line.split_once(": ")?;
            let (key, value) = rest.split_once(": ")?;
            Some((plugin.to_owned(), key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn describe(
    info: &xcopy_device_info,
    opened: String,
    found: &[(String, String, String)],
) -> json::Info {
    let mut plugins = json::Findings::new();
    for (plugin, key, value) in found {
        let keys = plugins.entry(plugin.clone()).or_default();
        keys.entry(key.clone()).or_default().push(value.clone());
    }
    let disk = (info.disk_major, info.disk_minor);
    // A file is opened through its descriptor: the library cannot know its path.
    let name = match info.kind {
        XCOPY_KIND_FILE => opened,
        _ => field(&info.name),
    };
    json::Info {
        name,
        kind: kind(info.kind),
        size: (info.size_known != 0).then_some(info.size_bytes),
        block_size: info.block_size,
        physical_block_size: info.physical_block_size,
        device: format!("{}:{}", info.dev_major, info.dev_minor),
        disk: (disk != (0, 0)).then(|| format!("{}:{}", disk.0, disk.1)),
        disk_offset: info.disk_offset,
        plugins,
    }
}

fn kind(kind: u32) -> &'static str {
    match kind {
        XCOPY_KIND_FILE => "file",
        XCOPY_KIND_DISK => "disk",
        XCOPY_KIND_PARTITION => "partition",
        XCOPY_KIND_STACKED => "stacked",
        XCOPY_KIND_CHAR => "char",
        XCOPY_KIND_NATIVE => "native",
        _ => "unknown",
    }
}
