//! `xcopy plugins`: what is registered, and where it came from; with `--check`
//! whether one keeps the contract.

use std::fmt::Write;

use xcopy::abi::*;

use crate::args::PluginsArgs;
use crate::failure::Result;
use crate::library::{Context, field};
use crate::text::plain;
use crate::{check, json, print, print_json};

/// Runs the subcommand.
pub fn run(args: &PluginsArgs) -> Result<()> {
    if let Some(file) = &args.check {
        return check::run(args, file);
    }
    let context = Context::new()?;
    let infos = context.plugins()?;
    let plugins: Vec<_> = infos.iter().map(|info| describe(&context, info)).collect();
    if args.json {
        return print_json(&json::Plugins { plugins });
    }
    let mut text = String::new();
    for plugin in &plugins {
        let _ = writeln!(
            text,
            "{} {} ({}, interface {}): {}\n    methods: {}\n    from: {}",
            plain(&plugin.name),
            plain(&plugin.version),
            plugin.model,
            plugin.abi,
            plain(&plugin.description),
            if plugin.methods.is_empty() {
                "none".to_owned()
            } else {
                plain(&plugin.methods.join(", ")).into_owned()
            },
            plain(plugin.path.as_deref().unwrap_or("built in")),
        );
    }
    print(&text)
}

fn describe(context: &Context, info: &xcopy_plugin_info) -> json::Plugin {
    let path = field(&info.path);
    json::Plugin {
        name: field(&info.name),
        version: field(&info.version),
        description: field(&info.description),
        path: (!path.is_empty()).then_some(path),
        methods: (0..XCOPY_METHOD_MAX as u16)
            .filter(|method| info.methods >> method & 1 != 0)
            .map(|method| context.method_name(method))
            .collect(),
        model: match info.model {
            XCOPY_MODEL_POLLED => "polled",
            XCOPY_MODEL_THREADED => "threaded",
            XCOPY_MODEL_BLOCKING => "blocking",
            XCOPY_MODEL_AFFINE => "affine",
            _ => "unknown",
        },
        abi: format!("{}.{}", info.abi_version >> 16, info.abi_version & 0xffff),
    }
}
