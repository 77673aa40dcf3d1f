//! The pages on the library: one per function, one per type, three overviews.

use super::header::{Header, Item, Kind};
use super::roff::{self, Names};
use super::{Page, title};
use std::collections::{BTreeMap, BTreeSet};

/// Which nouns there are, in order, with the functions that belong to them.
pub type Nouns = Vec<(String, Vec<String>)>;

/// All pages that the headers make.
pub fn pages(headers: &[Header], nouns: &Nouns, date: &str) -> Vec<Page> {
    let all = || headers.iter().flat_map(|h| &h.items);
    let of = |kind| {
        let names = all()
            .filter(move |i| i.kind == kind)
            .map(|i| i.name.clone());
        names.collect::<BTreeSet<_>>()
    };
    let book = Book {
        functions: of(Kind::Function),
        types: of(Kind::Type),
        nouns,
        date,
    };
    let mut pages = Vec::new();
    for header in headers {
        for item in &header.items {
            match item.kind {
                Kind::Function => pages.push(book.function(header, item)),
                Kind::Type if item.fields.is_empty() && item.code.len() == 1 && opaque(item) => {}
                Kind::Type => pages.push(book.of_type(header, item)),
                Kind::Constant => {}
            }
        }
        pages.push(book.overview(header));
    }
    pages
}

/// Declared, but what is in it is the library's.
fn opaque(item: &Item) -> bool {
    item.code[0].starts_with("struct ") && item.code[0].ends_with(';')
}

/// Named here and described in another header.
fn elsewhere(item: &Item) -> bool {
    item.text
        .first()
        .is_some_and(|l| l.starts_with("Described in"))
}

struct Book<'a> {
    functions: BTreeSet<String>,
    types: BTreeSet<String>,
    nouns: &'a Nouns,
    date: &'a str,
}

impl Book<'_> {
    fn names<'n>(&'n self, own: &'n str, arguments: impl Iterator<Item = &'n str>) -> Names<'n> {
        Names {
            own,
            arguments: arguments.collect(),
            functions: &self.functions,
        }
    }

    fn function(&self, header: &Header, item: &Item) -> Page {
        let names = self.names(&item.name, item.parameters.iter().map(|p| p.0.as_str()));
        let mut out = self.head(&item.name, "3", &roff::brief(&item.text));
        out.push_str(&synopsis(header, &wrapped(&item.code)));
        out.push_str(".SH DESCRIPTION\n");
        out.push_str(&roff::prose(&item.text, &names));
        if !item.parameters.is_empty() {
            out.push_str(".SH PARAMETERS\n");
        }
        for (name, text) in &item.parameters {
            out.push_str(&format!(".TP\n.I {}\n", roff::code(name)));
            out.push_str(&roff::prose(&lines(text), &names));
        }
        if !item.returns.is_empty() {
            out.push_str(".SH RETURN VALUE\n");
            out.push_str(&roff::prose(&lines(&item.returns), &names));
            if item.returns.contains("-errno") {
                out.push_str(
                    ".PP\nAfter a failure\n.BR xcopy_last_error (3)\nhas a text for a person.\n",
                );
            }
        }
        out.push_str(&self.see_also(header, item));
        Page::manual(&item.name, "3", out)
    }

    fn of_type(&self, header: &Header, item: &Item) -> Page {
        let names = self.names("", item.fields.iter().map(|f| f.0.as_str()));
        let mut out = self.head(&item.name, "3type", &roff::brief(&item.text));
        out.push_str(&synopsis(header, &item.code));
        out.push_str(".SH DESCRIPTION\n");
        out.push_str(&roff::prose(&item.text, &names));
        if !item.fields.is_empty() {
            out.push_str(".SH FIELDS\n");
        }
        for (name, text) in &item.fields {
            out.push_str(&format!(".TP\n.I {}\n", roff::code(name)));
            out.push_str(&roff::prose(text, &names));
        }
        out.push_str(&self.see_also(header, item));
        Page::manual(&item.name, "3type", out)
    }

    /// The header's own words, and lists of what is in it.
    fn overview(&self, header: &Header) -> Page {
        let (name, what) = match header.file {
            "xcopy.h" => ("libxcopy", "copies data with what the storage offers"),
            "xcopy_plugin.h" => ("libxcopy-plugin", "how a plugin of libxcopy is written"),
            "xcopy_scsi.h" => (
                "libxcopy-scsi",
                "a program's own way to a SCSI logical unit",
            ),
            _ => ("libxcopy-types", "constants and types of libxcopy"),
        };
        let names = self.names(name, std::iter::empty());
        let mut out = self.head(name, "7", what);
        out.push_str(&format!(
            ".SH SYNOPSIS\n.nf\n.B #include <{}>\n",
            header.file
        ));
        if header.file == "xcopy.h" {
            out.push_str(".PP\n.B cc prog.c $(pkg\\-config \\-\\-cflags \\-\\-libs xcopy)\n");
        }
        out.push_str(".fi\n.SH DESCRIPTION\n");
        let mut words = Vec::new();
        for paragraph in header
            .prose
            .split(|l| l.is_empty())
            .filter(|p| !generated(p))
        {
            words.extend_from_slice(paragraph);
            words.push(String::new());
        }
        out.push_str(&roff::prose(&words, &names));
        out.push_str(&self.function_lists(header, &names));
        let types = header
            .items
            .iter()
            .filter(|i| i.kind == Kind::Type && !elsewhere(i));
        out.push_str(&self.list("TYPES", types, &names));
        let constants = header.items.iter().filter(|i| i.kind == Kind::Constant);
        out.push_str(&self.list("CONSTANTS", constants, &names));
        out.push_str(".SH SEE ALSO\n");
        let pages = [
            ("xcopy", "1"),
            ("libxcopy", "7"),
            ("libxcopy-plugin", "7"),
            ("libxcopy-scsi", "7"),
            ("libxcopy-types", "7"),
        ];
        let others = pages.iter().filter(|p| p.0 != name);
        out.push_str(&references(others.map(|p| (p.0.to_string(), p.1))));
        Page::manual(name, "7", out)
    }

    fn function_lists(&self, header: &Header, names: &Names) -> String {
        let by_name: BTreeMap<&str, &Item> = header
            .items
            .iter()
            .filter(|i| i.kind == Kind::Function)
            .map(|i| (i.name.as_str(), i))
            .collect();
        let mut out = String::new();
        for (noun, functions) in self.nouns {
            let known = functions
                .iter()
                .filter_map(|f| by_name.get(f.as_str()).copied());
            let list = self.list("", known, names);
            if !list.is_empty() {
                let noun = format!("{}{}", noun[..1].to_uppercase(), &noun[1..]);
                out.push_str(&format!(".SS {noun}\n{list}"));
            }
        }
        match out.is_empty() {
            true => out,
            false => format!(".SH FUNCTIONS\n{out}"),
        }
    }

    /// A list of items: functions and types in brief, constants in full.
    fn list<'i>(
        &self,
        heading: &str,
        items: impl Iterator<Item = &'i Item>,
        names: &Names,
    ) -> String {
        let mut out = String::new();
        for item in items {
            let (tag, text) = match item.kind {
                Kind::Function => (format!(".BR {} (3)\n", item.name), brief_line(item)),
                Kind::Type if opaque(item) => (format!(".B {}\n", item.name), item.text.clone()),
                Kind::Type => (format!(".BR {} (3type)\n", item.name), brief_line(item)),
                Kind::Constant => (format!(".B {}\n", item.name), item.text.clone()),
            };
            out.push_str(&format!(".TP\n{tag}{}", roff::prose(&text, names)));
        }
        match heading.is_empty() || out.is_empty() {
            true => out,
            false => format!(".SH {heading}\n{out}"),
        }
    }

    fn head(&self, name: &str, section: &str, brief: &str) -> String {
        format!(
            "{}.SH NAME\n{} \\- {}\n",
            title(name, section, self.date),
            roff::code(name),
            roff::escape(brief)
        )
    }

    /// The overview, the types of the declaration, the neighbours by noun.
    fn see_also(&self, header: &Header, item: &Item) -> String {
        let overview = match header.file {
            "xcopy.h" => "libxcopy",
            "xcopy_plugin.h" => "libxcopy-plugin",
            "xcopy_scsi.h" => "libxcopy-scsi",
            _ => "libxcopy-types",
        };
        let code = item.code.join(" ");
        let words: BTreeSet<&str> = code
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        let opaque = [
            "xcopy_context",
            "xcopy_queue",
            "xcopy_host_queue",
            item.name.as_str(),
        ];
        let own = item.kind == Kind::Function && self.types.contains(&item.name);
        let types = self.types.iter().filter(|t| {
            let named = words.contains(t.as_str()) && !opaque.contains(&t.as_str());
            named || own && **t == item.name
        });
        let mut list: Vec<(String, &str)> = types.map(|t| (t.clone(), "3type")).collect();
        let noun = self.nouns.iter().find(|n| n.1.contains(&item.name));
        for other in noun.iter().flat_map(|n| &n.1).filter(|f| **f != item.name) {
            list.push((other.clone(), "3"));
        }
        list.push((overview.to_string(), "7"));
        format!(".SH SEE ALSO\n{}", references(list.into_iter()))
    }
}

fn brief_line(item: &Item) -> Vec<String> {
    vec![roff::brief(&item.text)]
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_string).collect()
}

/// The paragraph for whoever wants to change the header.
fn generated(paragraph: &[String]) -> bool {
    paragraph.is_empty() || paragraph[0].starts_with("Generated from")
}

fn references(pages: impl Iterator<Item = (String, &'static str)>) -> String {
    let pages: Vec<_> = pages.collect();
    let mut out = String::new();
    for (index, (name, section)) in pages.iter().enumerate() {
        let comma = if index + 1 < pages.len() { " ," } else { "" };
        out.push_str(&format!(".BR {} ({section}){comma}\n", roff::code(name)));
    }
    // One argument: the comma stands against the bracket.
    out.replace(") ,", "),")
}

/// A declaration of more than 76 columns gets a line for each parameter.
fn wrapped(code: &[String]) -> Vec<String> {
    let text = code.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ");
    match text.split_once('(') {
        Some((head, rest)) if text.len() > 76 => {
            let mut out = vec![format!("{head}(")];
            let mut rest = rest.split(", ").peekable();
            while let Some(parameter) = rest.next() {
                let comma = if rest.peek().is_some() { "," } else { "" };
                out.push(format!("    {parameter}{comma}"));
            }
            out
        }
        _ => vec![text],
    }
}

fn synopsis(header: &Header, code: &[String]) -> String {
    let mut out = format!(".SH SYNOPSIS\n.nf\n.B #include <{}>\n.PP\n", header.file);
    for line in code {
        let line = line.trim_start_matches("XCOPY_PLUGIN_EXPORT ");
        out.push_str(&format!("\\fB{}\\fP\n", roff::code(line)));
    }
    out.push_str(".fi\n");
    out
}
