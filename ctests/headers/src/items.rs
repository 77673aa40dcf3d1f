//! Which public items a source file declares, so that each header holds the
//! items of its own sources and only refers to the others.

use std::collections::BTreeMap;
use std::path::Path;

/// Names of a set of source files.
#[derive(Default)]
pub struct Items {
    /// Structs, function types and constants, in the order of the sources.
    pub order: Vec<String>,
    /// Constants with their Rust type.
    pub constants: BTreeMap<String, String>,
    /// Functions of the C surface, in the order of the sources.
    pub functions: Vec<String>,
}

/// Reads the items that stand at column 0, as rustfmt writes them.
pub fn scan(files: &[impl AsRef<Path>]) -> Result<Items, String> {
    let mut items = Items::default();
    for file in files {
        let file = file.as_ref();
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub ") else {
                continue;
            };
            let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
            if let Some(rest) = rest.strip_prefix("extern \"C\" fn ") {
                items.functions.push(name(rest));
            } else if let Some(rest) = rest.strip_prefix("const ") {
                let kind = rest
                    .split([':', '='])
                    .nth(1)
                    .unwrap_or("")
                    .trim()
                    .to_string();
                items.order.push(name(rest));
                items.constants.insert(name(rest), kind);
            } else if let Some(rest) = ["struct ", "type ", "union "]
                .iter()
                .find_map(|p| rest.strip_prefix(p))
            {
                items.order.push(name(rest));
            }
        }
    }
    Ok(items)
}

fn name(rest: &str) -> String {
    rest.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}
