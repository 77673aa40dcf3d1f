//! The manual and the completions: from the headers' comments and from the
//! definition of the command line, so that neither can say something else.

mod command;
mod header;
mod pages;
mod roff;

use crate::emit::Output;
use crate::items;
use std::path::Path;

/// A file below PREFIX/share.
pub struct Page {
    path: String,
    text: String,
}

impl Page {
    fn manual(name: &str, section: &str, text: String) -> Page {
        let directory = &section[..1];
        Page {
            path: format!("man/man{directory}/{name}.{section}"),
            text,
        }
    }
}

/// The line that every page begins with.
fn title(name: &str, section: &str, date: &str) -> String {
    format!(
        ".\\\" SPDX-License-Identifier: MIT OR Apache-2.0\n.TH {} {section} {date} {} {}\n",
        roff::quoted(name),
        roff::quoted(SOURCE),
        roff::quoted(MANUAL),
    )
}

const SOURCE: &str = concat!("libxcopy ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "libxcopy manual";

/// Writes all pages below `share`; how many there are.
pub fn write(root: &Path, outputs: &[Output], share: &Path, date: &str) -> Result<usize, String> {
    let mut headers = Vec::new();
    for file in ["xcopy.h", "xcopy_types.h", "xcopy_plugin.h", "xcopy_scsi.h"] {
        let path = format!("include/{file}");
        let output = outputs.iter().find(|o| o.path == path);
        let output = output.ok_or_else(|| format!("{path} was not generated"))?;
        headers.push(header::Header::read(file, &output.text));
    }
    let mut nouns = pages::Nouns::new();
    for file in crate::emit::rust_files(&root.join("core/src/capi"))? {
        let noun = file.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        nouns.push((noun.to_string(), items::scan(&[&file])?.functions));
    }
    let mut all = pages::pages(&headers, &nouns, date);
    all.extend(command::pages(root, date)?);
    for page in &all {
        let path = share.join(&page.path);
        let fail = |e| format!("cannot write {}: {e}", path.display());
        std::fs::create_dir_all(path.parent().unwrap_or(share)).map_err(fail)?;
        std::fs::write(&path, &page.text).map_err(fail)?;
    }
    Ok(all.len())
}
