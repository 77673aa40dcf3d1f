//! Has cbindgen translate all sources at once, so that every `struct` keeps its
//! tag, and deals the translated items out to the headers they belong to.

use crate::items::{Items, scan};
use crate::map;
use crate::prose;
use std::path::{Path, PathBuf};

/// A generated file as it should be.
pub struct Output {
    /// Its path in the workspace.
    pub path: &'static str,
    /// Its whole text.
    pub text: String,
}

/// Items that stand in another header than the one of their source: the public
/// functions name the type, and C99 forbids to declare it twice.
const MOVED_TO_TYPES: &[&str] = &["xcopy_plugin_init_fn"];

/// All headers of the workspace at `root` and the linker's map, which lists the
/// functions of xcopy.h.
pub fn outputs(root: &Path) -> Result<Vec<Output>, String> {
    let types = [root.join("core/abi/src/types.rs")];
    let plugin = [root.join("core/abi/src/plugin.rs")];
    let scsi = [root.join("plugins/scsi-protocol/src/native.rs")];
    let capi = rust_files(&root.join("core/src/capi"))?;

    let type_items = scan(&types)?;
    let plugin_items = scan(&plugin)?;
    let scsi_items = scan(&scsi)?;
    let capi_items = scan(&capi)?;
    let sources = types.iter().chain(&plugin).chain(&scsi).chain(&capi);
    let sources: Vec<&PathBuf> = sources.collect();
    let exported = [&type_items, &plugin_items, &scsi_items];
    let blocks = blocks(&translate(&sources, &exported)?);

    let mut in_types = type_items.order.clone();
    in_types.extend(MOVED_TO_TYPES.iter().map(|n| n.to_string()));
    let mut in_plugin = plugin_items.order.clone();
    in_plugin.retain(|n| !MOVED_TO_TYPES.contains(&n.as_str()));

    let types_text = body(&blocks, &in_types, false, &type_items)?;
    let plugin_text = body(&blocks, &in_plugin, false, &plugin_items)?;
    let scsi_text = body(&blocks, &scsi_items.order, false, &scsi_items)?;
    let mut outputs = vec![
        Output {
            path: "include/xcopy_types.h",
            text: prose::types(&types_text),
        },
        Output {
            path: "include/xcopy_plugin.h",
            text: prose::plugin(&plugin_text),
        },
        Output {
            path: "include/xcopy_scsi.h",
            text: prose::scsi(&scsi_text),
        },
    ];
    if !capi_items.functions.is_empty() {
        let mut text = body(&blocks, &capi_items.order, false, &capi_items)?;
        text.push_str(&body(&blocks, &capi_items.functions, true, &capi_items)?);
        outputs.push(Output {
            path: "include/xcopy.h",
            text: prose::surface(&text),
        });
        let frozen = map::frozen(root)?;
        let text = map::text(&capi_items.functions, &frozen, env!("CARGO_PKG_VERSION"))?;
        outputs.push(Output {
            path: "core/xcopy.map",
            text,
        });
    }
    Ok(outputs)
}

/// The Rust files of a directory that are not tests, by name; none if it does not exist.
pub fn rust_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|e| format!("cannot list {}: {e}", directory.display()))?
            .path();
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        if path.extension().is_some_and(|e| e == "rs") && !stem.contains("test") {
            files.push(path);
        }
    }
    // The order of the nouns in the header.
    let rank = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        prose::NOUNS
            .iter()
            .position(|n| *n == stem)
            .unwrap_or(prose::NOUNS.len())
    };
    files.sort_by_key(|p| (rank(p), p.clone()));
    Ok(files)
}

fn translate(sources: &[&PathBuf], exported: &[&Items]) -> Result<String, String> {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Tag,
        no_includes: true,
        usize_is_size_t: true,
        documentation: true,
        documentation_style: cbindgen::DocumentationStyle::C,
        line_length: 100,
        tab_width: 4,
        ..Default::default()
    };
    for items in exported {
        config.export.include.extend(items.order.iter().cloned());
    }
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(source);
    }
    let bindings = builder.generate().map_err(|e| format!("cbindgen: {e}"))?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).map_err(|e| format!("cbindgen: {e}"))
}

/// One item with its comment. A struct and a function may share a name, as
/// `stat` does.
struct Block {
    name: String,
    function: bool,
    text: String,
}

/// cbindgen separates items by blank lines, which comments may hold too.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = Vec::new();
    let mut comment = false;
    for line in text.lines().chain([""]) {
        match line.trim() {
            "/*" => comment = true,
            "*/" => comment = false,
            _ => {}
        }
        if comment || !line.is_empty() {
            lines.push(line);
        } else if !lines.is_empty() {
            let text = lines.join("\n");
            let (name, function) = item_name(&text);
            blocks.push(Block {
                name,
                function,
                text,
            });
            lines.clear();
        }
    }
    blocks
}

/// The name, and whether it is a function's.
fn item_name(block: &str) -> (String, bool) {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let code = block.rfind("*/\n").filter(|_| block.starts_with("/*"));
    let code = match code {
        // A struct has comments inside: its head follows the first one.
        Some(_) => block.split_once("*/\n").map_or(block, |(_, code)| code),
        None => block,
    };
    if let Some(rest) = code.strip_prefix("#define ") {
        return (word(rest), false);
    }
    if let Some(rest) = code.strip_prefix("struct ")
        && let name = word(rest)
        && matches!(
            rest[name.len()..].trim_start().chars().next(),
            Some('{' | ';')
        )
    {
        return (name, false);
    }
    if code.starts_with("typedef ")
        && let Some((_, rest)) = code.split_once("(*")
    {
        return (word(rest), false);
    }
    // A function: the word before its parameters.
    let head = code.split('(').next().unwrap_or("");
    let name = head
        .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next();
    (name.unwrap_or("").to_string(), true)
}

/// The blocks of one header in the order of the sources, constants typed.
fn body(
    blocks: &[Block],
    names: &[String],
    functions: bool,
    items: &Items,
) -> Result<String, String> {
    let mut text = String::new();
    for name in names {
        let block = blocks
            .iter()
            .find(|b| b.name == *name && b.function == functions);
        let block = block.ok_or_else(|| {
            format!("{name} is public in the sources but cbindgen did not translate it")
        })?;
        let mut item = block.text.clone();
        if let Some(kind) = items.constants.get(&block.name) {
            item = typed_define(&item, kind)?;
        } else if item.contains("_opaque[0];") {
            item = opaque(&item, &block.name);
        }
        text.push_str(&comments(&item));
        text.push('\n');
    }
    Ok(text)
}

/// Gives the numbers of a `#define` the width and signedness that they have in
/// Rust, in a form that `#if` understands too.
fn typed_define(block: &str, kind: &str) -> Result<String, String> {
    let (comment, define) = match block.rfind("#define ") {
        Some(at) => block.split_at(at),
        None => return Err(format!("not a #define: {block}")),
    };
    let mut parts = define.splitn(3, ' ');
    let (Some(word), Some(name), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("a #define without a value: {define}"));
    };
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        out.push_str(before);
        match kind {
            // A shift's right side needs no width.
            _ if before.ends_with("<< ") => out.push_str(number),
            "u64" => out.push_str(&format!("UINT64_C({number})")),
            "u32" => out.push_str(&format!("{number}u")),
            _ => out.push_str(number),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(format!("{comment}{word} {name} {out}"))
}

/// An empty array is not C: what it hides becomes a declaration only.
fn opaque(block: &str, name: &str) -> String {
    let comment = block.find("struct ").map_or("", |at| &block[..at]);
    format!("{comment}struct {name};")
}

/// Sets the comments as a person would: on one line where they fit, else with
/// a star before each line. Every line of the result ends in a newline.
fn comments(block: &str) -> String {
    let mut out = String::new();
    let mut lines = block.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() != "/*" {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let body: Vec<&str> = lines
            .by_ref()
            .map(str::trim)
            .take_while(|l| *l != "*/")
            .collect();
        match body.as_slice() {
            [one] if indent.len() + one.len() + 6 <= 100 => {
                out.push_str(&format!("{indent}/* {one} */\n"));
            }
            _ => {
                out.push_str(&format!("{indent}/*\n"));
                for text in body {
                    let text = format!("{indent} * {text}");
                    out.push_str(text.trim_end());
                    out.push('\n');
                }
                out.push_str(&format!("{indent} */\n"));
            }
        }
    }
    out
}
