//! The pages on the command, one for each subcommand, and its completions.

use super::{MANUAL, Page, SOURCE, roff, title};
use crate::args::Cli;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::path::Path;

/// Where each shell looks, below PREFIX/share.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/xcopy"),
    (Shell::Zsh, "zsh/site-functions/_xcopy"),
    (Shell::Fish, "fish/vendor_completions.d/xcopy.fish"),
];

/// All of them.
pub fn pages(root: &Path, date: &str) -> Result<Vec<Page>, String> {
    let about = about(root)?;
    let mut pages = Vec::new();
    for (shell, path) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "xcopy", &mut text);
        pages.push(Page {
            path: path.to_string(),
            text: utf8(text)?,
        });
    }
    let mut command = Cli::command().disable_help_subcommand(true).about(about);
    command.build();
    let ends = command.get_after_help().map(ToString::to_string);
    let ends = ends.unwrap_or_default();
    let mut every = Vec::new();
    collect(&command, "xcopy", &mut every);
    let names: Vec<String> = every.iter().map(|(name, _)| name.clone()).collect();
    for (name, command) in every {
        let text = page(&name, command, &ends, &names, date)?;
        pages.push(Page::manual(&name, "1", text));
    }
    Ok(pages)
}

/// What the command is, in its own package's words: here the macro sees ours.
fn about(root: &Path) -> Result<String, String> {
    let path = root.join("bindings/cli/Cargo.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let line = text.lines().find_map(|l| l.strip_prefix("description = "));
    let line = line.ok_or_else(|| format!("{} has no description", path.display()))?;
    let line = line.trim_matches('"');
    Ok(line
        .strip_prefix("The xcopy command: ")
        .unwrap_or(line)
        .to_string())
}

/// A command and what is below it, each under the name of its page.
fn collect<'c>(command: &'c Command, name: &str, every: &mut Vec<(String, &'c Command)>) {
    every.push((name.to_string(), command));
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        collect(below, &format!("{name}-{}", below.get_name()), every);
    }
}

fn page(
    name: &str,
    command: &Command,
    ends: &str,
    names: &[String],
    date: &str,
) -> Result<String, String> {
    let command = command
        .clone()
        .after_help("")
        .display_name(name.to_string());
    let man = clap_mangen::Man::new(command.clone())
        .title(name)
        .section("1")
        .date(date)
        .source(SOURCE)
        .manual(MANUAL);
    let mut text = Vec::new();
    let mut render = || -> std::io::Result<()> {
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if command.get_arguments().next().is_some() {
            man.render_options_section(&mut text)?;
        }
        if command.has_subcommands() {
            man.render_subcommands_section(&mut text)?;
        }
        Ok(())
    };
    render().map_err(|e| format!("clap_mangen: {e}"))?;
    let mut out = title(name, "1", date) + &utf8(text)?;
    // "Title: text" is a section in the manual.
    for line in ends.lines() {
        if let Some((heading, words)) = line.split_once(": ") {
            let heading = heading.to_uppercase();
            out.push_str(&format!(
                ".SH {}\n{}\n",
                roff::quoted(&heading),
                roff::escape(words)
            ));
        }
    }
    out.push_str(".SH \"SEE ALSO\"\n");
    for other in names.iter().filter(|n| *n != name) {
        out.push_str(&format!(".BR {} (1),\n", roff::code(other)));
    }
    out.push_str(".BR libxcopy (7)\n");
    Ok(out)
}

fn utf8(text: Vec<u8>) -> Result<String, String> {
    String::from_utf8(text).map_err(|e| format!("not UTF-8: {e}"))
}
