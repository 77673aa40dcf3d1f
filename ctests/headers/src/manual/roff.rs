//! Text as man(7) wants it: what is escaped, what is bold, what is a reference.

use std::collections::BTreeSet;

/// What names mean in the text of one page.
pub struct Names<'a> {
    /// The page's own name.
    pub own: &'a str,
    /// Parameters or fields, which are set in italics.
    pub arguments: BTreeSet<&'a str>,
    /// Functions with a page in section 3.
    pub functions: &'a BTreeSet<String>,
}

/// Escapes what roff would take for its own.
pub fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

/// Escapes code: a hyphen is a minus there, and straight quotes stay straight.
pub fn code(text: &str) -> String {
    escape(text)
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
}

/// One argument of a macro.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", escape(text).replace('"', "\\(dq"))
}

/// Lines of prose with their markup; an empty line begins a paragraph.
pub fn prose(lines: &[String], names: &Names) -> String {
    let mut out = String::new();
    let mut open = false;
    for line in lines {
        if line.is_empty() {
            open = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut open) {
            out.push_str(".PP\n");
        }
        let set = inline(line, names);
        if set.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        out.push_str(&set);
        out.push('\n');
    }
    out
}

/// Marks up one line.
fn inline(line: &str, names: &Names) -> String {
    let mut out = String::new();
    let mut rest = line;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if first == '`'
            && let Some((span, after)) = rest[1..].split_once('`')
        {
            let font = if names.arguments.contains(word(span)) {
                'I'
            } else {
                'B'
            };
            out.push_str(&format!("\\f{font}{}\\fP", code(span)));
            rest = after;
            before = '`';
            continue;
        }
        let fresh = !before.is_alphanumeric() && before != '_';
        if first == '-' && fresh {
            let error = word(&rest[1..]);
            if error.starts_with('E') && error.len() > 2 {
                out.push_str(&format!("\\fB\\-{error}\\fP"));
                rest = &rest[1 + error.len()..];
                before = 'E';
                continue;
            }
            if !error.is_empty() {
                out.push_str("\\-");
                rest = &rest[1..];
                before = '-';
                continue;
            }
        }
        let name = word(rest);
        if fresh && !name.is_empty() {
            let mut after = &rest[name.len()..];
            if names.functions.contains(name) && !out.ends_with("struct ") && !member(after) {
                after = after.strip_prefix("()").unwrap_or(after);
                let tail = if name == names.own { "()" } else { "(3)" };
                out.push_str(&format!("\\fB{name}\\fP{tail}"));
            } else if name.starts_with("XCOPY_") || name.starts_with("xcopy_") {
                out.push_str(&format!("\\fB{name}\\fP"));
            } else {
                out.push_str(name);
            }
            rest = after;
            before = 'a';
            continue;
        }
        match first {
            '\\' => out.push_str("\\e"),
            _ => out.push(first),
        }
        before = first;
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// Whether what follows a name takes a member of it.
fn member(after: &str) -> bool {
    after
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The first statement of a text, for the line after the name.
pub fn brief(lines: &[String]) -> String {
    let text = lines.iter().take_while(|l| !l.is_empty());
    let text = text.map(String::as_str).collect::<Vec<_>>().join(" ");
    let end = [". ", ": ", "; "].iter().filter_map(|s| text.find(s)).min();
    let text = text[..end.unwrap_or(text.len())]
        .trim_end_matches('.')
        .replace('`', "");
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            format!("{}{}", first.to_lowercase(), &text[first.len_utf8()..])
        }
        _ => text,
    }
}
