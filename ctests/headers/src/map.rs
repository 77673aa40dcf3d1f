//! The linker's version script: a node for each minor version, nothing else visible.

use std::collections::BTreeSet;
use std::path::Path;

/// Major and minor, in the order in which versions follow.
type Version = (u32, u32);

/// What earlier versions froze in `ctests/abi/VERSION/symbols`, oldest first.
pub fn frozen(root: &Path) -> Result<Vec<(Version, String)>, String> {
    let directory = root.join("ctests/abi");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        return Ok(Vec::new());
    };
    let mut lists = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|e| format!("cannot list {}: {e}", directory.display()))?
            .path();
        let Some(version) = path.file_name().and_then(|n| n.to_str()).and_then(parse) else {
            continue;
        };
        let symbols = path.join("symbols");
        let text = std::fs::read_to_string(&symbols)
            .map_err(|e| format!("cannot read {}: {e}", symbols.display()))?;
        lists.push((version, text));
    }
    lists.sort_unstable();
    Ok(lists)
}

/// Gives each function the node of the version that froze it, or of this one.
pub fn text(
    functions: &[String],
    frozen: &[(Version, String)],
    version: &str,
) -> Result<String, String> {
    let current = parse(version).ok_or_else(|| format!("{version} is no version"))?;
    let mut left: BTreeSet<&str> = functions.iter().map(String::as_str).collect();
    let mut text = String::from(
        "# Symbols of libxcopy.so.0. A released node is frozen: new functions get a new one.\n\
         # Generated from core/src/capi by `cargo run -p xcopy-headers`.\n",
    );
    let mut before = String::new();
    let mut node = |(major, minor): Version, names: BTreeSet<&str>, hide: bool| {
        let name = format!("LIBXCOPY_{major}.{minor}");
        text.push_str(&format!("{name} {{\n"));
        if !names.is_empty() {
            text.push_str("    global:\n");
        }
        for function in names {
            text.push_str(&format!("        {function};\n"));
        }
        if hide {
            text.push_str("    local:\n        *;\n");
        }
        text.push_str(&format!("}}{before};\n"));
        before = format!(" {name}");
    };
    let mut hide = true;
    for (version, list) in frozen.iter().filter(|(version, _)| *version < current) {
        let own = format!("LIBXCOPY_{}.{}", version.0, version.1);
        let mut names = BTreeSet::new();
        for line in list.lines() {
            if let Some((function, _)) = line.split_once(' ').filter(|(_, node)| *node == own) {
                if !left.remove(function) {
                    return Err(format!(
                        "{function} of {own} is gone; a function stays for ever"
                    ));
                }
                names.insert(function);
            }
        }
        node(*version, names, std::mem::take(&mut hide));
    }
    node(current, left, hide);
    Ok(text)
}

/// `0.1`, or `0.1.0`.
fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn one_version_has_one_node() {
        let map = text(&names(&["xcopy_b", "xcopy_a"]), &[], "0.1.0").unwrap();
        let nodes = map
            .lines()
            .filter(|l| !l.starts_with('#'))
            .collect::<Vec<_>>();
        let wanted = [
            "LIBXCOPY_0.1 {",
            "    global:",
            "        xcopy_a;",
            "        xcopy_b;",
            "    local:",
            "        *;",
            "};",
        ];
        assert_eq!(nodes, wanted);
        // The list of the version itself does not count: it is still written.
        let own = [((0, 1), "xcopy_a LIBXCOPY_0.1\n".to_string())];
        assert_eq!(
            text(&names(&["xcopy_b", "xcopy_a"]), &own, "0.1.7").unwrap(),
            map
        );
    }

    #[test]
    fn what_was_frozen_keeps_its_node() {
        let frozen = [
            ((0, 1), "xcopy_a LIBXCOPY_0.1\n".to_string()),
            (
                (0, 2),
                "xcopy_a LIBXCOPY_0.1\nxcopy_b LIBXCOPY_0.2\n".to_string(),
            ),
        ];
        let map = text(
            &names(&["xcopy_c", "xcopy_b", "xcopy_a"]),
            &frozen,
            "0.10.0",
        )
        .unwrap();
        let at = |part: &str| map.find(part).unwrap();
        assert!(at("LIBXCOPY_0.1 {") < at("xcopy_a;") && at("xcopy_a;") < at("LIBXCOPY_0.2 {"));
        assert!(at("xcopy_b;") < at("} LIBXCOPY_0.1;") && at("} LIBXCOPY_0.1;") < at("xcopy_c;"));
        assert!(
            map.ends_with("        xcopy_c;\n} LIBXCOPY_0.2;\n"),
            "{map}"
        );
        assert_eq!(map.matches("local:").count(), 1);
        let error = text(&names(&["xcopy_b"]), &frozen, "0.3.0").unwrap_err();
        assert!(error.contains("xcopy_a of LIBXCOPY_0.1 is gone"), "{error}");
    }
}
