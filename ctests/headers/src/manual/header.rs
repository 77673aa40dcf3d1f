//! A generated header taken apart: its prose, and its items with their comments.

/// One header.
pub struct Header {
    /// Its file name.
    pub file: &'static str,
    /// The words at its top, without the title line's file name.
    pub prose: Vec<String>,
    /// What it declares, in order.
    pub items: Vec<Item>,
}

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Constant,
    Function,
    Type,
}

/// A declaration and what is said of it.
pub struct Item {
    pub kind: Kind,
    pub name: String,
    /// Lines; an empty one separates paragraphs.
    pub text: Vec<String>,
    /// Parameters with their words, of a function.
    pub parameters: Vec<(String, String)>,
    /// What a function answers.
    pub returns: String,
    /// Fields with their words, of a struct.
    pub fields: Vec<(String, Vec<String>)>,
    /// The declaration without comments.
    pub code: Vec<String>,
}

impl Header {
    /// Reads a header that this program wrote.
    pub fn read(file: &'static str, text: &str) -> Header {
        let mut header = Header {
            file,
            prose: Vec::new(),
            items: Vec::new(),
        };
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if !line.starts_with("/*") {
                continue;
            }
            let comment = comment(line, &mut lines);
            if header.prose.is_empty() && comment.iter().any(|l| l.starts_with(file)) {
                header.prose = comment;
                continue;
            }
            let mut code = Vec::new();
            while let Some(line) = lines.next_if(|l| !l.is_empty() && !l.starts_with("/*")) {
                code.push(line);
            }
            header.items.extend(item(comment, &code));
        }
        header
    }
}

/// The lines of a comment that begins with `first`.
fn comment<'a>(first: &str, rest: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let first = first.trim();
    if let Some(one) = first.strip_prefix("/*").and_then(|l| l.strip_suffix("*/")) {
        return vec![one.trim().to_string()];
    }
    rest.map(str::trim)
        .take_while(|l| *l != "*/")
        .map(|l| l.strip_prefix('*').unwrap_or(l).trim_start().to_string())
        .collect()
}

fn item(comment: Vec<String>, code: &[&str]) -> Option<Item> {
    let head = *code.first()?;
    let (kind, name) = if let Some(rest) = head.strip_prefix("#define ") {
        (Kind::Constant, word(rest))
    } else if head.starts_with('#') {
        return None;
    } else if let Some((_, rest)) = head
        .split_once("(*")
        .filter(|_| head.starts_with("typedef "))
    {
        (Kind::Type, word(rest))
    } else if let Some(rest) = head.strip_prefix("struct ").filter(|r| !r.contains('(')) {
        (Kind::Type, word(rest))
    } else {
        let name = head.split_once('(')?.0.rsplit([' ', '*']).next()?;
        (Kind::Function, name.to_string())
    };
    let mut item = Item {
        kind,
        name,
        text: Vec::new(),
        parameters: Vec::new(),
        returns: String::new(),
        fields: Vec::new(),
        code: Vec::new(),
    };
    match kind {
        Kind::Function => speech(&mut item, &comment),
        _ => item.text = comment,
    }
    declaration(&mut item, code);
    Some(item)
}

/// Splits a function's comment at `@param` and `@return`.
fn speech(item: &mut Item, comment: &[String]) {
    enum At {
        Text,
        Parameter,
        Return,
    }
    let mut at = At::Text;
    for line in comment {
        if let Some(rest) = line.strip_prefix("@param ") {
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            item.parameters.push((name.to_string(), text.to_string()));
            at = At::Parameter;
        } else if let Some(rest) = line.strip_prefix("@return ") {
            item.returns = rest.to_string();
            at = At::Return;
        } else {
            let more = |text: &mut String| {
                text.push('\n');
                text.push_str(line);
            };
            match at {
                At::Text => item.text.push(line.clone()),
                At::Parameter => item
                    .parameters
                    .last_mut()
                    .map(|p| more(&mut p.1))
                    .unwrap_or(()),
                At::Return => more(&mut item.returns),
            }
        }
    }
    while item.text.last().is_some_and(String::is_empty) {
        item.text.pop();
    }
}

/// Parts the code of an item from the comments within it.
fn declaration(item: &mut Item, code: &[&str]) {
    let mut said = Vec::new();
    let mut whole = String::new();
    let mut lines = code.iter().copied();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("/*") {
            said = comment(line, &mut lines);
            continue;
        }
        item.code.push(line.to_string());
        if !line.starts_with("    ") || item.kind != Kind::Type {
            continue;
        }
        whole.push_str(line);
        if line.ends_with(';') {
            // A function's name stands behind "(*", any other is the last word.
            let name = match whole.split_once("(*") {
                Some((_, rest)) => word(rest),
                None => {
                    let plain = whole.trim_end_matches(';').split('[').next().unwrap_or("");
                    plain.rsplit([' ', '*']).next().unwrap_or("").to_string()
                }
            };
            item.fields.push((name, std::mem::take(&mut said)));
            whole.clear();
        }
    }
}

fn word(rest: &str) -> String {
    rest.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}
